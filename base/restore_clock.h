/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_RESTORE_CLOCK_H
#define XENMSG_BASE_RESTORE_CLOCK_H

/*
 * How often this domain was saved and restored, as its clocks show it at once, before XenStore says a word.
 * The monotonic clock stands still meanwhile, and those of the day and of the boot time run. So the
 * difference of two clocks tells; that of the coarse ones costs 8.5 ns, and in a tick of the day's one is
 * enough. It also jumps when somebody sets the day's, so the boot time has the last word, for which no clock
 * is coarse (67 ns). Measured on Xen 4.17 (PV and PVH; save, checkpoint, migration, failed save): both jump
 * each time, by 146 ms at least; neither does if the host's clock was set back by as much meanwhile, or
 * the destination's is behind. So once in each tick Xen itself is asked, too: a leaf of CPUID says how often
 * the domain was restored, "guest tsc incarnation (migration count)" (xen/arch-x86/cpuid.h). Before it
 * freezes Linux brings its clocks up to that moment, so that even where they stood still a process finds
 * another tick afterwards.
 */

#include "base/clock.h"

struct restore_clock {
	int64_t seen_ns;      /* the coarse clock of the day at the last look */
	int64_t day_ns;	      /* it less the monotonic time, by the coarse clocks */
	int64_t boot_most_ns; /* the boot time less the monotonic time is at most this */
	unsigned count;
	uint32_t (*incarnation_of)(void); /* asks Xen; NULL: it can't be asked */
	uint32_t incarnation;
};

void restore_clock_init(struct restore_clock *clock);
/* Looks at all there is, in another tick of the day. Returns the count. */
unsigned restore_clock_look(struct restore_clock *clock, int64_t day_ns);

/* The coarse clocks tick together, so their difference is exact if there was no tick between. */
static inline int64_t restore_clock_day_ns(void)
{
	int64_t before, day, after = (int64_t)clock_read(CLOCK_MONOTONIC_COARSE);

	do {
		before = after;
		day = (int64_t)clock_read(CLOCK_REALTIME_COARSE);
		after = (int64_t)clock_read(CLOCK_MONOTONIC_COARSE);
	} while (before != after);
	return day - after;
}

/* Returns how often the domain was restored since restore_clock_init(). What was read before the call, and is
 * followed by the same count as at the beginning, was read before a restore. */
static inline unsigned restore_clock_count(struct restore_clock *clock)
{
	int64_t day_ns = (int64_t)clock_read(CLOCK_REALTIME_COARSE);

	if (__builtin_expect(day_ns == clock->seen_ns, 1))
		return clock->count;
	return restore_clock_look(clock, day_ns);
}

#endif
