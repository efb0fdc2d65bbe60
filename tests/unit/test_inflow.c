/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What comes from the network is taken in turns of the hosts that send it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <event2/event.h>

#include "base/turns.h"
#include "gateway/inflow.h"

#define MANY 10000u

static char loud[MANY], quiet; /* messages are places in here */

static struct scene {
	struct event_base *base;
	struct inflow *inflow;
	unsigned taken, of_quiet, dropped;
	unsigned quiet_after; /* so many others were taken before the quiet host's message */
	bool is_in_order;
} scene;

static void on_take(void *userdata, void *message)
{
	if (message == &quiet) {
		scene.of_quiet++;
		scene.quiet_after = scene.taken;
		return;
	}
	scene.is_in_order &= message == &loud[scene.taken];
	scene.taken++;
}

static void on_drop(void *userdata, void *message)
{
	scene.dropped++;
}

static int setup(void **state)
{
	scene = (struct scene){.is_in_order = true};
	scene.base = event_base_new();
	assert_non_null(scene.base);
	return inflow_new(&scene.inflow, scene.base, on_take, NULL);
}

static int teardown(void **state)
{
	inflow_clear(scene.inflow, on_drop, NULL);
	inflow_free(scene.inflow);
	event_base_free(scene.base);
	return 0;
}

static void put_loud(size_t size)
{
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(inflow_put(scene.inflow, "loud", &loud[i], size), 0);
}

TEST_WITH(what_a_host_sends_waits_for_one_turn_of_another, setup, teardown)
{
	put_loud(0);
	assert_int_equal(inflow_put(scene.inflow, "quiet", &quiet, 0), 0);
	while (!scene.of_quiet)
		event_base_loop(scene.base, EVLOOP_ONCE);
	assert_in_range(scene.quiet_after, 1, TURNS_QUANTUM / COST_MESSAGE + 1);
}

TEST_WITH(a_message_of_many_bytes_takes_as_much_of_its_hosts_turn, setup, teardown)
{
	put_loud(1024);
	assert_int_equal(inflow_put(scene.inflow, "quiet", &quiet, 0), 0);
	while (!scene.of_quiet)
		event_base_loop(scene.base, EVLOOP_ONCE);
	assert_in_range(scene.quiet_after, 1, TURNS_QUANTUM / (COST_MESSAGE + COST_MESSAGE_BYTES(1024)) + 1);
}

TEST_WITH(a_pass_is_bounded_and_nothing_is_forgotten_or_reordered, setup, teardown)
{
	put_loud(0);
	event_base_loop(scene.base, EVLOOP_ONCE);
	assert_in_range(scene.taken, 1, INFLOW_PASS / COST_MESSAGE + 1);
	event_base_loop(scene.base, 0);
	assert_int_equal(scene.taken, MANY);
	assert_true(scene.is_in_order);
}

TEST_WITH(too_much_of_one_host_is_refused_and_of_others_isnt, setup, teardown)
{
	unsigned fit = 0;
	int r;

	while ((r = inflow_put(scene.inflow, "loud", &loud[fit], 1 << 20)) == 0)
		fit++;
	assert_int_equal(r, -ENOBUFS);
	assert_int_equal(fit, INFLOW_HOST_MAX / ((1 << 20) + INFLOW_MESSAGE));
	assert_int_equal(inflow_put(scene.inflow, "quiet", &quiet, 1 << 20), 0);
	event_base_loop(scene.base, 0);
	assert_int_equal(scene.taken, fit);
	assert_int_equal(scene.of_quiet, 1);
	assert_int_equal(inflow_put(scene.inflow, "loud", &loud[fit], 1 << 20), 0); /* there is room again */
}

TEST_WITH(all_hosts_together_have_a_bound_and_each_has_a_share, setup, teardown)
{
	size_t waits = 0, size = (64 << 10) - INFLOW_MESSAGE;
	char host[16];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(host, sizeof(host), "host%u", i);
		for (unsigned fit = 0; inflow_put(scene.inflow, host, &loud[0], size) == 0; fit++)
			waits += 64 << 10;
	}
	assert_in_range(waits, INFLOW_MAX / 2, INFLOW_MAX);
	assert_int_equal(inflow_put(scene.inflow, "quiet", &quiet, 4096), 0);
	while (!scene.of_quiet)
		event_base_loop(scene.base, EVLOOP_ONCE);
	event_base_loop(scene.base, 0);
	assert_int_equal(inflow_put(scene.inflow, "host0", &loud[0], 15 << 20), 0); /* there is room again */
}

TEST_WITH(what_is_cleared_is_dropped_once_and_not_taken, setup, teardown)
{
	put_loud(0);
	inflow_clear(scene.inflow, on_drop, NULL);
	assert_int_equal(scene.dropped, MANY);
	assert_int_equal(inflow_put(scene.inflow, "quiet", &quiet, 0), 0);
	event_base_loop(scene.base, 0);
	assert_int_equal(scene.taken, 0);
	assert_int_equal(scene.of_quiet, 1);
}
