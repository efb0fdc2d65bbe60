/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/restore_clock.h"

#define READINGS 16 /* the process may stand still between two clocks */

/* Finds between what the boot time less the monotonic time lies. */
static void see_boot(int64_t *least, int64_t *most)
{
	*least = INT64_MIN;
	*most = INT64_MAX;
	for (int i = 0; i < READINGS; i++) {
		int64_t before = (int64_t)clock_read(CLOCK_MONOTONIC),
			boot = (int64_t)clock_read(CLOCK_BOOTTIME),
			after = (int64_t)clock_read(CLOCK_MONOTONIC);

		if (boot - after > *least)
			*least = boot - after;
		if (boot - before < *most)
			*most = boot - before;
	}
}

void restore_clock_init(struct restore_clock *clock)
{
	int64_t least;

	*clock = (struct restore_clock){.day_ns = restore_clock_day_ns()};
	see_boot(&least, &clock->boot_most_ns);
}

unsigned restore_clock_look_closer(struct restore_clock *clock)
{
	int64_t least, most, day_ns = restore_clock_day_ns();

	see_boot(&least, &most);
	clock->day_ns = day_ns;
	if (least > clock->boot_most_ns)
		clock->count++;
	clock->boot_most_ns = most > least ? most : least;
	return clock->count;
}
