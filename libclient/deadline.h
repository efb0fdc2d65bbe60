/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_DEADLINE_H
#define XENMSG_LIBCLIENT_DEADLINE_H

/* Points in time: milliseconds of CLOCK_MONOTONIC; a negative one is never reached. */

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include "wire/retry.h"

static inline int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline int64_t deadline_in(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : now_ms() + timeout_ms;
}

/* Returns the milliseconds until the deadline, at least 0, or -1 for ever, as poll() takes them. */
static inline int deadline_left(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - now_ms();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* Returns the pause before another try to reach a daemon, behind this one (0: there was none). */
static inline int pause_grown(int pause_ms)
{
	return (int)retry_pause(RETRY_HERE, (uint32_t)pause_ms);
}

/* Returns a part of a pause, half of it at least, of this process's own: many programs look for a daemon at
 * once, and needn't all come at once. */
static inline int pause_with_jitter(int pause_ms)
{
	return pause_ms / 2 + (int)((unsigned)getpid() * 2654435761u % (unsigned)(pause_ms / 2 + 1));
}

#define AGAIN_LEAST_MS	  10
#define AGAIN_PATIENCE_MS 30000 /* longer than a restart of domain 0's daemon */

/* Says when to try again what a policy couldn't decide because a name is unknown (-ENODATA). The pauses grow,
 * until the deadline, or for a limited time where there is none, since the name may never become known. All
 * zero: there was no try yet. */
struct again {
	int64_t until;
	int pause_ms; /* the last pause */
};

/* Returns the milliseconds until the next try, or -ENODATA if that would be too late. */
static inline int again_pause(struct again *again, int64_t deadline)
{
	int64_t now = now_ms();

	if (again->pause_ms == 0)
		again->until = deadline < 0 ? now + AGAIN_PATIENCE_MS : deadline;
	again->pause_ms = pause_grown(again->pause_ms);
	/* A shorter pause leaves time for the try itself. */
	if (again->pause_ms > (again->until - now) / 2)
		again->pause_ms = (int)((again->until - now) / 2);
	return again->pause_ms < AGAIN_LEAST_MS ? -ENODATA : again->pause_ms;
}

#endif
