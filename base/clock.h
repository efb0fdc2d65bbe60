/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_CLOCK_H
#define XENMSG_BASE_CLOCK_H

/* The clock of deadlines and ages, which only goes forward and begins anywhere; and the CPU time that this
 * thread has used. */

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

/* A system call, where clock_ns() is none. */
static inline uint64_t clock_thread_ns(void)
{
	return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

static inline uint64_t clock_ms_of(uint64_t ns)
{
	return ns / 1000000;
}

static inline uint64_t clock_ms(void)
{
	return clock_ms_of(clock_ns());
}

/* How long ago `then` was, a time of clock_ms(). Comparing with a `now` that was read earlier
 * would underflow for anything noted since. */
static inline uint64_t clock_ms_since(uint64_t then)
{
	return clock_ms() - then;
}

#endif
