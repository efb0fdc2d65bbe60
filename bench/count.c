/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Preloaded into programs whose costs are counted, by bench/guard and tests/integration/test_steady.py: the
 * counts are a `struct counts` in $COUNT_DIR/PID, which others read while the program runs. At SIGUSR2 a
 * program that runs under callgrind writes what it has executed since the last time.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <xenevtchn.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_DUMP_STATS
#endif

/* bench/guard and test_steady.py read these in this order. */
struct counts {
	uint64_t allocations;
	uint64_t calls;		/* of the system */
	uint64_t notifications; /* of a peer, by an event channel */
	uint64_t copied;	/* bytes, by memcpy() */
	uint64_t held;		/* allocations that weren't freed */
};

static struct counts before_main, *counts = &before_main;

#define COUNT(what, n) __atomic_add_fetch(&counts->what, n, __ATOMIC_RELAXED)
#define SHOWN	       __attribute__((visibility("default")))

/* ---- allocations ----------------------------------------------------------------------------- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static void *counted(void *memory)
{
	COUNT(allocations, 1);
	if (memory)
		COUNT(held, 1);
	return memory;
}

SHOWN void free(void *memory)
{
	if (memory)
		COUNT(held, -1);
	__libc_free(memory);
}

SHOWN void *malloc(size_t size)
{
	return counted(__libc_malloc(size));
}

SHOWN void *calloc(size_t number, size_t size)
{
	return counted(__libc_calloc(number, size));
}

SHOWN void *realloc(void *memory, size_t size)
{
	void *other;

	if (!memory)
		return malloc(size);
	COUNT(allocations, 1);
	other = __libc_realloc(memory, size);
	if (!other && !size)
		COUNT(held, -1);
	return other;
}

SHOWN void *memalign(size_t alignment, size_t size)
{
	return counted(__libc_memalign(alignment, size));
}

SHOWN void *aligned_alloc(size_t alignment, size_t size)
{
	return memalign(alignment, size);
}

SHOWN int posix_memalign(void **memory, size_t alignment, size_t size)
{
	*memory = memalign(alignment, size);
	return *memory ? 0 : ENOMEM;
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* memmove() does what memcpy() does, and isn't replaced here. */
SHOWN void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
	COUNT(copied, size);
	return memmove(to, from, size);
}

/* ---- system calls and notifications ---------------------------------------------------------- */

/* Defines a function that counts, and then does what it does without this library. It may be called before
 * main(), when nothing else is ready. */
#define COUNTED(what, type, name, parameters, arguments)                                                     \
	SHOWN type name parameters                                                                           \
	{                                                                                                    \
		static type(*original) parameters;                                                           \
                                                                                                             \
		if (!original)                                                                               \
			original = (type(*) parameters)dlsym(RTLD_NEXT, #name);                              \
		COUNT(what, 1);                                                                              \
		return original arguments;                                                                   \
	}

COUNTED(calls, ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
COUNTED(calls, ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
COUNTED(calls, ssize_t, readv, (int fd, const struct iovec *pieces, int count), (fd, pieces, count))
COUNTED(calls, ssize_t, writev, (int fd, const struct iovec *pieces, int count), (fd, pieces, count))
COUNTED(calls, ssize_t, preadv64v2, (int fd, const struct iovec *pieces, int count, off64_t at, int flags),
	(fd, pieces, count, at, flags))
COUNTED(calls, ssize_t, recv, (int fd, void *data, size_t size, int flags), (fd, data, size, flags))
COUNTED(calls, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
COUNTED(calls, ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
COUNTED(calls, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
COUNTED(calls, int, poll, (struct pollfd * what, nfds_t count, int timeout), (what, count, timeout))
COUNTED(calls, int, ppoll,
	(struct pollfd * what, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
	(what, count, timeout, mask))
COUNTED(calls, int, epoll_wait, (int fd, struct epoll_event *events, int count, int timeout),
	(fd, events, count, timeout))
COUNTED(calls, int, epoll_ctl, (int fd, int what, int of, struct epoll_event *event), (fd, what, of, event))
COUNTED(calls, int, timerfd_settime,
	(int fd, int flags, const struct itimerspec *time, struct itimerspec *before),
	(fd, flags, time, before))
COUNTED(calls, int, close, (int fd), (fd))
COUNTED(calls, int, sched_yield, (void), ())
COUNTED(calls, int, madvise, (void *memory, size_t size, int advice), (memory, size, advice))
COUNTED(notifications, int, xenevtchn_notify, (xenevtchn_handle * handle, evtchn_port_t port), (handle, port))

/* ---- the page -------------------------------------------------------------------------------- */

static void write_instructions(int number)
{
	CALLGRIND_DUMP_STATS;
}

static void __attribute__((constructor)) begin(void)
{
	struct sigaction action = {.sa_handler = write_instructions, .sa_flags = SA_RESTART};
	const char *directory = getenv("COUNT_DIR");
	char path[4096];
	void *shared;
	int fd;

	sigaction(SIGUSR2, &action, NULL);
	snprintf(path, sizeof(path), "%s/%d", directory ? directory : ".", (int)getpid());
	fd = directory ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	if (fd < 0)
		return;
	if (ftruncate(fd, sizeof(*counts)) == 0) {
		shared = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (shared != MAP_FAILED) {
			counts = shared;
			counts->held = before_main.held;
		}
	}
	close(fd);
}
