/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_DESCRIPTORS_H
#define XENMSG_BASE_DESCRIPTORS_H

/*
 * How many descriptors this process may have open, and how many of them are for programs and peers. The rest
 * is the daemon's own: devices, XenStore, the loop and the socket, the files that it reads now and then, and
 * the connection of a program that must be told that it can't have one.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Raises the process's limit to the most that is allowed, and returns how many are for programs and peers. */
uint64_t descriptors_pool(void);
/* Whether the process may open so many more. It looks at each that is open. */
bool descriptors_are_left(uint64_t count);
/* The same for a few, at most DESCRIPTORS_FEW: it tries. */
bool descriptors_can_be_made(unsigned count);
#define DESCRIPTORS_FEW 16u
/* So many go with one message: the kernel takes 253 (SCM_MAX_FD), musl's sendmsg() 1024 bytes with the
 * head. */
#define DESCRIPTORS_AT_ONCE 252u

/* Sends these bytes over a Unix socket, with up to DESCRIPTORS_AT_ONCE descriptors, which stay open here;
 * `flags` are those of send(2), and raise no signal. Returns how many bytes have gone, or a negative
 * errno. */
ssize_t descriptors_send(int socket, const void *data, size_t size, const int *fds, unsigned count,
			 int flags);
/* Whether a call that failed with this errno may succeed a moment later, though nothing tells when: what the
 * kernel lacks, or this process. It ends nobody. */
static inline bool lack_passes(int error)
{
	return error == ENOMEM || error == ENOBUFS || error == EMFILE || error == ENFILE ||
	       error == ETOOMANYREFS;
}
#define LACK_MS 10 /* until it is tried again */
/* Closes those that are there: negative ones aren't. */
void descriptors_close(const int *fds, unsigned count);

#endif
