/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ROUND_TRIPS_H
#define XENMSG_DAEMON_ROUND_TRIPS_H

/*
 * A histogram of how long a peer's daemon took to answer pings. Its bounds are fixed, so that those of all
 * links and of all times can be added up. A struct round_trips begins zeroed.
 */

#include <stdint.h>

/* The upper bounds of its buckets, in ns. What is above the last one is counted in `count` only. */
static const uint64_t round_trip_bounds[] = {25000,   50000,   100000,	 250000,   500000,    1000000,
					     2500000, 5000000, 10000000, 50000000, 250000000, 1000000000};
#define ROUND_TRIP_BOUNDS (sizeof(round_trip_bounds) / sizeof(round_trip_bounds[0]))

struct round_trips {
	uint64_t buckets[ROUND_TRIP_BOUNDS]; /* those up to the bound, and above the one before */
	uint64_t count, sum_ns;		     /* of all */
};

static inline void round_trips_add(struct round_trips *trips, uint64_t ns)
{
	unsigned i = 0;

	while (i < ROUND_TRIP_BOUNDS && ns > round_trip_bounds[i])
		i++;
	if (i < ROUND_TRIP_BOUNDS)
		trips->buckets[i]++;
	trips->count++;
	trips->sum_ns += ns;
}

#endif
