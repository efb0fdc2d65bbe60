/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A gateway at the other end of a session's socket: it says anything, cut anywhere, reads or doesn't, and goes. What the
 * hop sees are whole frames, what the gateway gets are records of what the hop wrote, and each turn has a bound.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/base/quota.h"
#include "daemon/link/socket_transport.h"
#include "daemon/relay/hop.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#define UID	   1000
#define BUFFER	   8192
#define RECORD_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct scene {
	struct event_base *base;
	struct relay relay;
	struct quota *quota;
	struct account *account;
	struct transport transport;
	struct ring_reader in;
	struct ring_writer out;
	int gateway;
	/* what the gateway has got */
	uint8_t head[SOCKET_RECORD_HEAD];
	uint32_t head_size, left, got, index;
	uint32_t wrote, processed;
};

static void require(bool truth)
{
	if (!truth)
		abort();
}

static void on_event(void *userdata)
{
	struct scene *scene = userdata;

	ring_reader_arm(&scene->in, 1);
}

static void begin(struct scene *scene)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_DESCRIPTORS] = 8, [QUOTA_MEMORY] = 1u << 30},
		.max = {[QUOTA_UID] = {[QUOTA_DESCRIPTORS] = 4, [QUOTA_MEMORY] = 1u << 28}},
	};
	struct ring_view in, out;
	struct charge charge;
	int pair[2], room = BUFFER;

	*scene = (struct scene){.base = event_base_new(), .quota = quota_new(&limits)};
	require(relay_init(&scene->relay, scene->base, 1u << 20) == 0);
	scene->relay.quota = scene->quota;
	scene->account = quota_account(scene->quota, QUOTA_UID, UID);
	charge_init(&charge, scene->account);
	require(charge_add(&charge, QUOTA_DESCRIPTORS, 1) == 0);
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	scene->gateway = pair[1];
	require(socket_transport_new(&scene->transport, &scene->relay, pair[0], &charge, false) == 0);
	transport_rings(&scene->transport, &in, &out);
	ring_reader_init(&scene->in, &in, false);
	ring_writer_init(&scene->out, &out, false);
	transport_hear(&scene->transport, on_event, scene);
	ring_reader_arm(&scene->in, 1);
}

static void finish(struct scene *scene)
{
	transport_close(&scene->transport);
	close(scene->gateway);
	relay_cleanup(&scene->relay);
	require(account_usage(scene->account, QUOTA_DESCRIPTORS).used == 0);
	account_unref(scene->account);
	quota_free(scene->quota);
	event_base_free(scene->base);
}

static void say(struct scene *scene, const void *bytes, size_t size)
{
	(void)!send(scene->gateway, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* An honest head, and bytes that may be anything. */
static void say_record(struct scene *scene, const uint8_t *bytes, size_t size)
{
	uint8_t head[SOCKET_RECORD_HEAD];

	put_u32(head, (uint32_t)size);
	put_u32(head + 4, scene->got & ~7u);
	say(scene, head, sizeof(head));
	say(scene, bytes, size);
}

static void put_frame(struct scene *scene, uint32_t length)
{
	const struct frame_header header = {.type = FRAME_DATA, .length = length};
	static uint8_t frame[FRAME_HEADER_SIZE + FRAME_PAYLOAD_MAX];
	uint32_t size = frame_size(length);

	if (ring_writer_space(&scene->out, size) < (int)size)
		return;
	frame_wrap(frame, &header);
	ring_writer_put(&scene->out, frame, size);
	scene->wrote += size;
	if (ring_writer_publish(&scene->out))
		transport_notify(&scene->transport);
}

static void process_frames(struct scene *scene)
{
	uint8_t bytes[FRAME_HEADER_SIZE];
	struct frame_header header;
	int there;

	while ((there = ring_reader_ready(&scene->in, SOCKET_RING_SIZE)) != 0) {
		require(there >= (int)FRAME_HEADER_SIZE);
		ring_reader_copy(&scene->in, 0, bytes, sizeof(bytes));
		require(frame_header_decode(bytes, &header) == 0);
		require(there >= (int)frame_size(header.length));
		ring_reader_consume(&scene->in, frame_size(header.length));
		scene->processed += frame_size(header.length);
	}
	if (ring_reader_release(&scene->in))
		transport_notify(&scene->transport);
}

static void hear(struct scene *scene, size_t most)
{
	uint8_t byte;

	for (; most > 0 && recv(scene->gateway, &byte, 1, MSG_DONTWAIT) == 1; most--) {
		if (scene->left) {
			scene->left--;
			scene->got++;
			continue;
		}
		scene->head[scene->head_size++] = byte;
		if (scene->head_size < SOCKET_RECORD_HEAD)
			continue;
		scene->head_size = 0;
		scene->left = get_u32(scene->head);
		require(scene->left <= RECORD_MAX && scene->left <= scene->wrote - scene->got);
		/* It only grows, and never beyond what was processed. */
		require(get_u32(scene->head + 4) - scene->index <= scene->processed - scene->index);
		scene->index = get_u32(scene->head + 4);
	}
}

static void run(struct scene *scene)
{
	uint64_t before;

	for (int i = 0; i < 3; i++) {
		before = scene->relay.turns.spent;
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		/* a piece in, and one out */
		require(scene->relay.turns.spent - before <= 2 * TURNS_PIECE);
	}
}

static void play(struct scene *scene, const uint8_t *data, size_t size)
{
	while (size > 0) {
		uint8_t what = *data++;
		size_t count = what & 0x3f;

		size--;
		if (count > size)
			count = size;
		switch (what >> 6) {
		case 0:
			say(scene, data, count);
			data += count;
			size -= count;
			break;
		case 1:
			say_record(scene, data, count);
			data += count;
			size -= count;
			break;
		case 2:
			put_frame(scene, (what & 0x3f) * (what & 0x3f) * 16);
			break;
		default:
			if (what == 0xff)
				shutdown(scene->gateway, SHUT_WR);
			else if (what == 0xfe)
				shutdown(scene->gateway, SHUT_RD);
			else if (what == 0xfd)
				process_frames(scene);
			else
				hear(scene, (size_t)(what & 0x3f) * (what & 0x3f) * 8);
		}
		run(scene);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scene scene;

	if (size > 4096)
		return 0;
	begin(&scene);
	play(&scene, data, size);
	process_frames(&scene);
	finish(&scene);
	return 0;
}
