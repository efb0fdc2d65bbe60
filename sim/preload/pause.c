/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * On Xen no process notices that its domain is paused. Here the processes are stopped, and Linux ends
 * epoll_wait with EINTR when they go on (poll, select and reads go on waiting). So epoll's functions wait
 * once more then, unless `xensim fault interrupt-pause` lets the programs see it. How often the domain went
 * on stands in a file that the hypervisor process writes.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const struct sim_signs *signs;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_signs(void)
{
	static const struct sim_signs none;
	const char *root = sim_env(SIM_ENV_ROOT);
	char path[PATH_MAX];
	void *page = MAP_FAILED;
	int fd = -1;

	if (root && snprintf(path, sizeof(path), "%s/../signs", root) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		page = mmap(NULL, sizeof(*signs), PROT_READ, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	signs = page == MAP_FAILED ? &none : page;
}

const struct sim_signs *sim_signs(void)
{
	pthread_once(&once, open_signs);
	return signs;
}

static uint32_t pauses(void)
{
	return __atomic_load_n(&sim_signs()->pauses, __ATOMIC_RELAXED);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Whether a wait that has ended is to go on, and for how long: *left counts nanoseconds, below 0 for ever. */
static bool pause_goes_on(int r, uint32_t *before, int64_t *left, int64_t begun)
{
	uint32_t now = pauses();

	if (r >= 0 || errno != EINTR || now == *before)
		return false;
	*before = now;
	if (*left >= 0) {
		*left -= now_ns() - begun;
		*left = *left < 0 ? 0 : *left;
	}
	return true;
}

static int to_ms(int64_t left)
{
	return left < 0 ? -1 : (int)((left + 999999) / 1000000);
}

/* Repeats a call as long as it has to go on. */
#define WAIT(timeout_ns, call)                                                                               \
	({                                                                                                   \
		uint32_t before = pauses();                                                                  \
		int64_t left = (timeout_ns), begun;                                                          \
		int r;                                                                                       \
                                                                                                             \
		do {                                                                                         \
			begun = left > 0 ? now_ns() : 0;                                                     \
			r = (call);                                                                          \
		} while (pause_goes_on(r, &before, &left, begun));                                           \
		r;                                                                                           \
	})

SIM_EXPORT int epoll_pwait(int fd, struct epoll_event *events, int count, int timeout,
			   const sigset_t *signals)
{
	static _Atomic(void *) next;
	__typeof__(&epoll_pwait) function = (__typeof__(&epoll_pwait))sim_next_function(&next, "epoll_pwait");

	return WAIT(timeout < 0 ? -1 : timeout * INT64_C(1000000),
		    function(fd, events, count, to_ms(left), signals));
}

SIM_EXPORT int epoll_wait(int fd, struct epoll_event *events, int count, int timeout)
{
	static _Atomic(void *) next;
	__typeof__(&epoll_wait) function = (__typeof__(&epoll_wait))sim_next_function(&next, "epoll_wait");

	return WAIT(timeout < 0 ? -1 : timeout * INT64_C(1000000), function(fd, events, count, to_ms(left)));
}

SIM_EXPORT int epoll_pwait2(int fd, struct epoll_event *events, int count, const struct timespec *timeout,
			    const sigset_t *signals)
{
	static _Atomic(void *) next;
	__typeof__(&epoll_pwait2) function =
		(__typeof__(&epoll_pwait2))sim_next_function(&next, "epoll_pwait2");
	struct timespec rest;

	return WAIT(timeout ? timeout->tv_sec * INT64_C(1000000000) + timeout->tv_nsec : -1,
		    (rest = (struct timespec){.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000},
		     function(fd, events, count, timeout ? &rest : NULL, signals)));
}
