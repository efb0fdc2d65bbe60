/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A restore, as the clocks show it. */
#include "tests/unit/unit.h"

#include "base/restore_clock.h"

#define MS INT64_C(1000000)

static int64_t monotonic_ns, day_ns, boot_ns, tick_ns, readings, look_takes_ns;
static int64_t restore_at; /* before this reading */

static void restore(int64_t ms)
{
	day_ns += ms * MS;
	boot_ns += ms * MS;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	int64_t ns = monotonic_ns += look_takes_ns;

	if (++readings == restore_at)
		restore(200);
	if (id == CLOCK_MONOTONIC_COARSE || id == CLOCK_REALTIME_COARSE)
		ns -= ns % tick_ns;
	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
		ns += day_ns;
	else if (id == CLOCK_BOOTTIME)
		ns += boot_ns;
	*now = (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	return 0;
}

static int start(void **state)
{
	monotonic_ns = 123 * MS;
	day_ns = INT64_C(1800000000) * 1000 * MS;
	boot_ns = 5 * MS;
	tick_ns = 4 * MS;
	look_takes_ns = 20;
	readings = restore_at = 0;
	return 0;
}

TEST_WITH(nothing_happens_for_a_long_time, start, NULL)
{
	struct restore_clock clock;

	restore_clock_init(&clock);
	look_takes_ns = 300007; /* so ticks come in between, too */
	for (int i = 0; i < 100000; i++)
		assert_int_equal(restore_clock_count(&clock), 0);
	assert_in_range(readings, 100000, 200000); /* mostly one is enough */
}

TEST_WITH(each_restore_counts_once, start, NULL)
{
	struct restore_clock clock;

	restore_clock_init(&clock);
	for (unsigned i = 1; i < 10; i++) {
		restore(i == 1 ? 1 : 146);
		assert_int_equal(restore_clock_count(&clock), i);
		assert_int_equal(restore_clock_count(&clock), i);
	}
}

TEST_WITH(who_sets_the_clock_has_restored_nothing, start, NULL)
{
	struct restore_clock clock;

	restore_clock_init(&clock);
	for (int i = 0; i < 10; i++) {
		day_ns += (i % 2 ? -3 : 2) * 3600 * 1000 * MS;
		assert_int_equal(restore_clock_count(&clock), 0);
	}
	restore(200);
	assert_int_equal(restore_clock_count(&clock), 1);
}

/* Whoever looks after that sees it, wherever it was. */
TEST_WITH(restore_amid_a_look_is_seen_by_the_next_one_at_the_latest, start, NULL)
{
	for (int64_t at = 1; at < 200; at++) {
		struct restore_clock clock;

		start(NULL);
		restore_clock_init(&clock);
		if (at % 2) { /* with a closer look */
			day_ns += MS;
			assert_int_equal(restore_clock_count(&clock), 0);
			day_ns += MS;
		}
		restore_at = readings + at;
		while (readings < restore_at)
			restore_clock_count(&clock);
		assert_int_equal(restore_clock_count(&clock), 1);
		day_ns += MS;
		assert_int_equal(restore_clock_count(&clock), 1);
	}
}

static uint32_t incarnation;

static uint32_t xen_says(void)
{
	return incarnation;
}

/* The destination's clock is behind, or was set back: the difference of the clocks is as before. */
TEST_WITH(xen_tells_of_a_restore_that_no_clock_shows, start, NULL)
{
	struct restore_clock clock;

	restore_clock_init(&clock);
	clock.incarnation_of = xen_says;
	for (unsigned i = 1; i < 10; i++) {
		incarnation++;
		monotonic_ns += tick_ns; /* they were brought up to the moment in which it was frozen */
		assert_int_equal(restore_clock_count(&clock), i);
		assert_int_equal(restore_clock_count(&clock), i);
	}
}
