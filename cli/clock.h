/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_CLOCK_H
#define XENMSG_CLI_CLOCK_H

/* The clock of the commands' deadlines and rates, which only goes forward and begins anywhere. */

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

#endif
