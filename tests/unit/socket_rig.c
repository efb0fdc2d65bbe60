/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/socket_rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/relay/closer.h"
#include "tests/unit/own_process.h"
#include "wire/bytes.h"

/* A transport, with a hop that is played here. */

static void on_event(void *userdata)
{
	struct end *end = userdata;

	end->events++;
	if (transport_state(&end->transport) == TRANSPORT_OPEN)
		ring_reader_arm(&end->in, 1);
}

void open_end(struct scene *scene, struct end *end)
{
	const uint64_t amounts[QUOTA_RESOURCES] = {
		[QUOTA_DESCRIPTORS] = 1, [QUOTA_MEMORY] = 2 * SOCKET_RING_SIZE};
	struct ring_view in, out;
	struct charge charge;
	int pair[2], size = BUFFER;

	*end = (struct end){0};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	end->gateway = pair[1];
	charge_init(&charge, scene->account);
	assert_int_equal(charge_all(&charge, amounts), 0);
	assert_int_equal(socket_transport_new(&end->transport, &scene->relay, pair[0], &charge, true), 0);
	transport_rings(&end->transport, &in, &out);
	ring_reader_init(&end->in, &in, false);
	ring_writer_init(&end->out, &out, false);
	transport_hear(&end->transport, on_event, end);
	ring_reader_arm(&end->in, 1);
}

void close_end(struct end *end)
{
	transport_close(&end->transport);
	if (end->gateway >= 0)
		close(end->gateway);
	end->gateway = -1;
}

int setup(void **state)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_DESCRIPTORS] = 1000, [QUOTA_MEMORY] = 1u << 30},
		.max = {[QUOTA_UID] = {[QUOTA_DESCRIPTORS] = 100, [QUOTA_MEMORY] = 1u << 28}},
	};
	struct scene *scene = calloc(1, sizeof(*scene));

	alarm(ALARM_S);
	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	scene->quota = quota_new(&limits);
	scene->account = quota_account(scene->quota, QUOTA_UID, 1000);
	assert_int_equal(relay_init(&scene->relay, scene->base, 1u << 20), 0);
	scene->relay.quota = scene->quota;
	assert_int_equal(closer_new(&scene->relay.closer, &scene->relay), 0);
	open_end(scene, &scene->end);
	scene->idle_events = event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED);
	*state = scene;
	return 0;
}

int teardown(void **state)
{
	struct scene *scene = *state;

	close_end(&scene->end);
	relay_cleanup(&scene->relay);
	closer_free(scene->relay.closer);
	for (int i = 0; i < QUOTA_RESOURCES; i++)
		assert_int_equal(account_usage(scene->account, i).used, 0);
	account_unref(scene->account);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(open_descriptors(), scene->descriptors);
	free(scene);
	alarm(0);
	return 0;
}

void settle(struct scene *scene)
{
	uint64_t before;

	do {
		before = scene->relay.turns.spent;
		for (int i = 0; i < 4; i++)
			event_base_loop(scene->base, EVLOOP_NONBLOCK);
	} while (scene->relay.turns.spent != before);
}

void assert_idle(struct scene *scene)
{
	assert_int_equal(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED), scene->idle_events);
}

/* --- what is said ----------------------------------------------------------------------------- */

size_t make_frame(uint8_t *out, uint32_t length, uint32_t sequence)
{
	const struct frame_header header = {.type = FRAME_DATA, .length = length, .sequence = sequence};

	for (uint32_t i = 0; i < length; i++)
		out[FRAME_HEADER_SIZE + i] = (uint8_t)(sequence + i);
	return frame_wrap(out, &header);
}

void make_head(uint8_t out[SOCKET_RECORD_HEAD], uint32_t length, uint32_t index)
{
	put_u32(out, length);
	put_u32(out + 4, index);
}

void say(struct scene *scene, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	while (size > 0) {
		ssize_t sent = send(scene->end.gateway, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent > 0) {
			bytes += sent;
			size -= (size_t)sent;
		} else {
			assert_true(errno == EAGAIN || errno == EPIPE);
			if (errno == EPIPE)
				return;
		}
		settle(scene);
	}
}

void say_record(struct scene *scene, const void *data, uint32_t size, uint32_t index)
{
	uint8_t head[SOCKET_RECORD_HEAD];

	make_head(head, size, index);
	say(scene, head, sizeof(head));
	say(scene, data, size);
}

int ready(struct scene *scene)
{
	return ring_reader_ready(&scene->end.in, SOCKET_RING_SIZE);
}

enum transport_state state_of(struct scene *scene)
{
	return transport_state(&scene->end.transport);
}

void put_frame(struct end *end, const uint8_t *frame, size_t size)
{
	ring_writer_put(&end->out, frame, (uint32_t)size);
	if (ring_writer_publish(&end->out))
		transport_notify(&end->transport);
}

void process(struct end *end, uint32_t size)
{
	ring_reader_consume(&end->in, size);
	if (ring_reader_release(&end->in))
		transport_notify(&end->transport);
	ring_reader_arm(&end->in, 1);
}
