/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection to systemd: it is made anew after whatever has gone wrong with it. sd-bus is the test's own.
 */
#include "tests/unit/unit.h"

#include <poll.h>
#include <unistd.h>

#include <event2/event.h>
#include <systemd/sd-bus.h>

#include "base/clock.h"
#include "daemon/activation/units.h"

static struct {
	int opened, closed, calls;
	int failing_call; /* the number of the call that fails; 0: none */
	int events;	  /* what sd_bus_get_events() returns */
	int process;
	int floods; /* messages of those that never end, each of FLOOD_NS; 0: none come */
	int fds[2];
} bus;

#define FLOOD_NS 200000u

int sd_bus_new(sd_bus **out)
{
	bus.opened++;
	*out = (sd_bus *)(void *)&bus;
	return 0;
}

int sd_bus_set_address(sd_bus *it, const char *address)
{
	return 0;
}

int sd_bus_set_bus_client(sd_bus *it, int is_client)
{
	assert_int_equal(is_client, 1);
	return 0;
}

int sd_bus_negotiate_fds(sd_bus *it, int are_taken)
{
	assert_int_equal(are_taken, 0);
	return 0;
}

int sd_bus_start(sd_bus *it)
{
	return 0;
}

void sd_bus_close(sd_bus *it)
{
	bus.closed++;
}

sd_bus *sd_bus_unref(sd_bus *it)
{
	return NULL;
}

int sd_bus_match_signal_async(sd_bus *it, sd_bus_slot **slot, const char *sender, const char *path,
			      const char *interface, const char *member, sd_bus_message_handler_t handler,
			      sd_bus_message_handler_t installed, void *userdata)
{
	return 0;
}

int sd_bus_add_match_async(sd_bus *it, sd_bus_slot **slot, const char *match,
			   sd_bus_message_handler_t handler, sd_bus_message_handler_t installed,
			   void *userdata)
{
	return 0;
}

int sd_bus_call_method_async(sd_bus *it, sd_bus_slot **slot, const char *destination, const char *path,
			     const char *interface, const char *member, sd_bus_message_handler_t handler,
			     void *userdata, const char *types, ...)
{
	return ++bus.calls == bus.failing_call ? -ENOTCONN : 0;
}

sd_bus_slot *sd_bus_slot_unref(sd_bus_slot *slot)
{
	return NULL;
}

int sd_bus_get_events(sd_bus *it)
{
	return bus.events;
}

int sd_bus_get_fd(sd_bus *it)
{
	return bus.fds[0];
}

int sd_bus_get_timeout(sd_bus *it, uint64_t *until)
{
	*until = UINT64_MAX;
	return 0;
}

int sd_bus_process(sd_bus *it, sd_bus_message **message)
{
	uint64_t begun = clock_thread_ns();

	if (bus.floods) {
		while (clock_thread_ns() - begun < FLOOD_NS)
			;
		return bus.floods++;
	}
	return bus.process;
}

int sd_bus_is_open(sd_bus *it)
{
	return bus.process >= 0;
}

static void note_failure(void *userdata, const char *why)
{
	++*(int *)userdata;
}

struct scene {
	struct event_base *base;
	struct units *units;
	int failures, error;
};

static void scene_start(struct scene *scene)
{
	memset(&bus, 0, sizeof(bus));
	bus.events = POLLIN;
	assert_int_equal(pipe(bus.fds), 0);
	scene->base = event_base_new();
	assert_int_equal(units_new(&scene->units, scene->base), 0);
}

static struct unit_start *start(struct scene *scene)
{
	return unit_start_new(scene->units, "x.service", note_failure, &scene->failures, &scene->error);
}

static void scene_stop(struct scene *scene)
{
	units_free(scene->units);
	event_base_free(scene->base);
	close(bus.fds[0]);
	close(bus.fds[1]);
	assert_int_equal(bus.opened, bus.closed);
}

SCENE_TEST(each_start_uses_the_same_connection, scene_start)
{
	assert_non_null(start(scene));
	assert_non_null(start(scene));
	assert_int_equal(bus.opened, 1);
	assert_int_equal(scene->failures, 0);
}

SCENE_TEST_EACH(connection_whose_first_call_fails_is_made_anew, scene_start, before, 2)
{
	bus.failing_call = before + 1; /* Subscribe, StartUnit */
	assert_null(start(scene));
	assert_int_equal(scene->error, -ENOTCONN);
	assert_int_equal(bus.closed, 1);
	assert_non_null(start(scene));
	assert_int_equal(bus.opened, 2);
}

SCENE_TEST(connection_that_broke_unseen_is_made_anew_for_the_next_start, scene_start)
{
	assert_non_null(start(scene));
	bus.failing_call = 3; /* the second StartUnit */
	assert_non_null(start(scene));
	assert_int_equal(bus.opened, 2);
	assert_int_equal(scene->failures, 1); /* of the first, whose answer can't come any more */
}

SCENE_TEST(connection_that_has_nothing_to_wait_for_fails_its_starts, scene_start)
{
	bus.events = -ENOTCONN;
	assert_null(start(scene));
	assert_int_equal(scene->error, -ENOTCONN);
	bus.events = POLLIN;
	assert_non_null(start(scene));
	assert_int_equal(bus.opened, 2);
}

SCENE_TEST(who_floods_the_bus_takes_a_tenth_of_the_time_at_most, scene_start)
{
	uint64_t begun = clock_ns();

	assert_non_null(start(scene));
	bus.floods = 1;
	assert_int_equal(write(bus.fds[1], "x", 1), 1);
	while (bus.floods < 100)
		event_base_loop(scene->base, EVLOOP_ONCE);
	assert_true(clock_ns() - begun > 5 * 100 * FLOOD_NS);
	bus.floods = 0;
}

SCENE_TEST(connection_that_breaks_fails_all_starts, scene_start)
{
	assert_non_null(start(scene));
	assert_non_null(start(scene));
	bus.process = -ECONNRESET;
	assert_int_equal(write(bus.fds[1], "x", 1), 1);
	event_base_loop(scene->base, EVLOOP_ONCE);
	assert_int_equal(scene->failures, 2);
	assert_int_equal(bus.closed, 1);
	bus.process = 0;
	assert_non_null(start(scene));
}
