/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * D-Bus, by sd-bus: method calls, and for messages one way calls that want no reply. The bus is the one of
 * DBUS_SESSION_BUS_ADDRESS.
 *
 * 	bench-dbus server
 * 	bench-dbus client MODE SIZE SECONDS     prints what engine.h says
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-bus.h>

#include "bench/engine.h"

#define NAME "org.xenmsg.Bench"
#define PATH "/bench"
/* Buses drop or refuse what a receiver leaves unread, so that many bytes are on their way at most. */
#define UNASKED_MAX (4u << 20)

struct bus {
	sd_bus *bus;
	uint64_t replies; /* that have come and weren't taken by the engine */
	size_t unasked;	  /* bytes since the last call with a reply */
};

static int must(const char *what, int r)
{
	if (r < 0)
		engine_fail(what, r);
	return r;
}

static int take(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	sd_bus_message *reply;
	const void *data;
	size_t size;

	if (!sd_bus_message_is_method_call(message, NAME, "Take"))
		return 0;
	must("read", sd_bus_message_read_array(message, 'y', &data, &size));
	if (!sd_bus_message_get_expect_reply(message))
		return 1;
	must("reply", sd_bus_message_new_method_return(message, &reply));
	must("reply",
	     sd_bus_message_append_array(reply, 'y', data, *(const char *)data == ANSWER_ALL ? size : 1));
	must("reply", sd_bus_send(NULL, reply, NULL));
	sd_bus_message_unref(reply);
	return 1;
}

static int on_reply(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	struct bus *bus = userdata;

	if (sd_bus_message_is_method_error(message, NULL))
		engine_fail(sd_bus_message_get_error(message)->message, sd_bus_message_get_errno(message));
	bus->replies++;
	return 1;
}

static void turn(struct bus *bus)
{
	int r = must("sd_bus_process", sd_bus_process(bus->bus, NULL));

	if (r == 0)
		must("sd_bus_wait", sd_bus_wait(bus->bus, UINT64_MAX));
}

static void await(void *userdata)
{
	struct bus *bus = userdata;

	while (!bus->replies)
		turn(bus);
	bus->replies--;
}

static void post(struct bus *bus, const void *data, size_t size, int wants_reply)
{
	sd_bus_message *message;

	must("call", sd_bus_message_new_method_call(bus->bus, &message, NAME, PATH, NAME, "Take"));
	must("call", sd_bus_message_append_array(message, 'y', data, size));
	if (wants_reply) {
		must("call", sd_bus_call_async(bus->bus, NULL, message, on_reply, bus, UINT64_MAX));
	} else {
		must("call", sd_bus_message_set_expect_reply(message, 0));
		must("call", sd_bus_send(bus->bus, message, NULL));
	}
	sd_bus_message_unref(message);
}

static void send_message(void *userdata, const void *data, size_t size)
{
	struct bus *bus = userdata;
	int wants_reply = *(const char *)data != ANSWER_NONE;

	post(bus, data, size, wants_reply);
	bus->unasked = wants_reply ? 0 : bus->unasked + size + 256;
	if (bus->unasked > UNASKED_MAX) {
		post(bus, "\2", 1, 1);
		await(bus);
		bus->unasked = 0;
	}
}

static const void *receive(void *userdata, size_t size)
{
	await(userdata);
	return ""; /* what is in it was looked at */
}

static void call(void *userdata, const void *data, size_t size)
{
	post(userdata, data, size, 1);
}

int main(int argc, char **argv)
{
	struct bus bus = {.bus = NULL};
	struct end end = {
		.userdata = &bus, .send = send_message, .receive = receive, .call = call, .reply = await};

	if (!(argc == 2 && strcmp(argv[1], "server") == 0) &&
	    !(argc == 5 && strcmp(argv[1], "client") == 0)) {
		fprintf(stderr, "usage: bench-dbus server | client MODE SIZE SECONDS\n");
		return 2;
	}
	must("open", sd_bus_open_user(&bus.bus));
	if (argc == 2) {
		must("name", sd_bus_request_name(bus.bus, NAME, 0));
		must("filter", sd_bus_add_filter(bus.bus, NULL, take, NULL));
		engine_ready();
		for (;;)
			turn(&bus);
	}
	engine_measure(&end, argv[2], (size_t)atol(argv[3]), atof(argv[4]));
	sd_bus_flush_close_unref(bus.bus);
	return 0;
}
