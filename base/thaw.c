/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/thaw.h"

#define READINGS 16 /* the process may stand still between two clocks */

/* Finds between what the boot time less the monotonic time lies. */
static void see_boot(int64_t *least, int64_t *most)
{
	*least = INT64_MIN;
	*most = INT64_MAX;
	for (int i = 0; i < READINGS; i++) {
		int64_t before = thaw_ns(CLOCK_MONOTONIC), boot = thaw_ns(CLOCK_BOOTTIME),
			after = thaw_ns(CLOCK_MONOTONIC);

		if (boot - after > *least)
			*least = boot - after;
		if (boot - before < *most)
			*most = boot - before;
	}
}

void thaw_init(struct thaw *thaw)
{
	int64_t least;

	*thaw = (struct thaw){.day_ns = thaw_day_ns()};
	see_boot(&least, &thaw->boot_most_ns);
}

unsigned thaw_look_closer(struct thaw *thaw, int64_t day_ns)
{
	int64_t least, most;

	see_boot(&least, &most);
	thaw->day_ns = day_ns;
	if (least > thaw->boot_most_ns)
		thaw->count++;
	thaw->boot_most_ns = most > least ? most : least;
	return thaw->count;
}
