/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_LIBC_H
#define XENMSG_WIRE_LIBC_H

/*
 * Calls of the kernel that glibc has functions for, and musl (1.2.3; of some, still) hasn't: the same
 * functions, where configure hasn't found them. A file that uses one includes this instead of the header
 * that has it in glibc.
 */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef HAVE_SYS_PIDFD_H
#include <sys/pidfd.h>
#else
static inline int pidfd_open(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static inline int pidfd_getfd(int pidfd, int fd, unsigned flags)
{
	return (int)syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}
#endif

#ifndef HAVE_CLOSE_RANGE
static inline int close_range(unsigned first, unsigned last, int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}
#endif

#ifndef HAVE_CLOSEFROM
static inline void closefrom(int first)
{
	close_range((unsigned)first, ~0u, 0);
}
#endif

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef HAVE_PREADV2
/* The kernel puts an offset together from two words, of which the second one is for those of 32 bits. */
static inline ssize_t preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
	return syscall(SYS_preadv2, fd, pieces, count, (long)offset, (long)(offset >> 31 >> 1), flags);
}
#endif

#ifndef HAVE_STRERRORNAME_NP
#include "wire/outcomes.h"

/* Those that messages, calls and streams end with; NULL: another one. */
static inline const char *strerrorname_np(int error)
{
	switch (error) {
#define NAME(number, status, words)                                                                          \
	case number:                                                                                         \
		return #number;
		OUTCOMES(NAME)
#undef NAME
	case EBUSY:
		return "EBUSY";
	case EPIPE:
		return "EPIPE";
	case EINTR:
		return "EINTR";
	}
	return NULL;
}
#endif

#endif
