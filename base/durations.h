/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_DURATIONS_H
#define XENMSG_BASE_DURATIONS_H

/*
 * A histogram of how long something took. Its bounds are fixed, so that those of all links, endpoints and
 * times can be added up. A struct durations begins zeroed.
 */

#include <stdint.h>

/* The upper bounds of its buckets, in ns. A longer time than the last one is counted in `count` only. */
static const uint64_t duration_bounds[] = {
	25000,	 50000,	   100000,   250000,	500000,	    1000000,	 2500000,
	5000000, 10000000, 50000000, 250000000, 1000000000, 10000000000, 60000000000,
};
#define DURATION_BOUNDS (sizeof(duration_bounds) / sizeof(duration_bounds[0]))

struct durations {
	uint64_t buckets[DURATION_BOUNDS]; /* those up to the bound, and above the one before */
	uint64_t count, sum_ns;		   /* of all */
};

static inline void durations_add(struct durations *durations, uint64_t ns)
{
	unsigned i = 0;

	while (i < DURATION_BOUNDS && ns > duration_bounds[i])
		i++;
	if (i < DURATION_BOUNDS)
		durations->buckets[i]++;
	durations->count++;
	durations->sum_ns += ns;
}

#endif
