/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_THAW_H
#define XENMSG_BASE_THAW_H

/*
 * How often this domain was saved and restored, as its clocks show it at once, before XenStore says a word.
 * The monotonic clock stands still meanwhile, and those of the day and of the boot time go on. So the
 * difference of two clocks tells; that of the coarse ones costs 8.5 ns. It also jumps when somebody sets the
 * clock of the day, so the boot time has the last word, for which no clock is coarse (67 ns). Measured on Xen
 * 4.17 (PV and PVH; save, checkpoint, migration, failed save): both jump each time, by 146 ms at least;
 * neither does if the host's clock was set back by as much meanwhile.
 */

#include <stdint.h>
#include <time.h>

struct thaw {
	int64_t day_ns;	      /* the day less the monotonic time, by the coarse clocks */
	int64_t boot_most_ns; /* the boot time less the monotonic time is at most this */
	unsigned count;
};

void thaw_init(struct thaw *thaw);
/* Looks at the boot time, since the day has jumped. Returns the count. */
unsigned thaw_look_closer(struct thaw *thaw, int64_t day_ns);

static inline int64_t thaw_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The coarse clocks tick together, so their difference is exact if there was no tick between. */
static inline int64_t thaw_day_ns(void)
{
	int64_t before, day, after = thaw_ns(CLOCK_MONOTONIC_COARSE);

	do {
		before = after;
		day = thaw_ns(CLOCK_REALTIME_COARSE);
		after = thaw_ns(CLOCK_MONOTONIC_COARSE);
	} while (before != after);
	return day - after;
}

/* Returns how often the domain was restored since thaw_init(). What was read before the call, and is followed
 * by the same count as at the beginning, was read before a restore. */
static inline unsigned thaw_count(struct thaw *thaw)
{
	int64_t day_ns = thaw_day_ns();

	return __builtin_expect(day_ns == thaw->day_ns, 1) ? thaw->count : thaw_look_closer(thaw, day_ns);
}

#endif
