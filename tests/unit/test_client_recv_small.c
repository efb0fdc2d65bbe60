/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Small messages, which are taken by a shorter way where nothing is about them, and what a daemon can do
 * wrong with the ring.
 */
#include "tests/unit/client_recv_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/bytes.h"

#define SMALL_CHANNELS 3u /* 1 and 3 to an endpoint with a handler, 5 to one without */
#define SMALL_PENDING  65536u

/* What a channel's stream holds that wasn't put into a frame yet, and the messages that were not received
 * yet. */
struct small_stream {
	uint8_t bytes[SMALL_PENDING];
	uint32_t size, first, last;
	struct {
		uint32_t size, seed;
	} messages[1024];
};

static struct small_stream small[SMALL_CHANNELS];

/* The channel is written into every message that has room for it. */
static void fill_small(uint8_t *data, uint32_t size, uint32_t seed, uint32_t channel)
{
	fill(data, size, seed);
	if (size > 0)
		data[0] = (uint8_t)channel;
}

static void expect_small(struct xenmsg_message *message, uint32_t channel)
{
	struct small_stream *from = &small[channel];
	uint8_t data[1024];

	assert_true(from->first != from->last);
	fill_small(data, from->messages[from->first % 1024].size, from->messages[from->first % 1024].seed,
		   channel);
	assert_int_equal(xenmsg_message_size(message), from->messages[from->first % 1024].size);
	assert_memory_equal(xenmsg_message_data(message), data, xenmsg_message_size(message));
	assert_string_equal(xenmsg_message_endpoint(message), channel == 2 ? "without" : "with");
	assert_int_equal(xenmsg_peer_domid(xenmsg_message_sender(message)), 3);
	from->first++;
}

static void handle_small(void *userdata, struct xenmsg_message *message)
{
	expect_small(message, xenmsg_message_size(message) ? *(uint8_t *)xenmsg_message_data(message) : 0);
	xenmsg_message_free(message);
}

/* Adds a message to a stream: plain, cancelled, or with garbage where nothing is defined. */
static void add_small(uint32_t channel)
{
	struct small_stream *to = &small[channel];
	/* An empty one tells nothing of its channel. */
	uint32_t size =
		channel == 1 ? 1 + (uint32_t)rand() % 700 : (uint32_t)rand() % (rand() % 4 ? 80 : 700);
	uint32_t seed = (uint32_t)rand();
	bool cancelled = rand() % 16 == 0;
	uint8_t data[1024], *at = to->bytes + to->size;

	fill_small(data, size, seed, channel);
	to->size += fake_message(at, data, size, cancelled ? MESSAGE_CANCELLED : MESSAGE_SENT);
	if (rand() % 16 == 0)
		at[5 + rand() % 3] = (uint8_t)rand();
	if (cancelled)
		return;
	to->messages[to->last % 1024].size = size;
	to->messages[to->last++ % 1024].seed = seed;
}

/* A frame with some of the stream: it may begin and end anywhere. */
static void send_small(uint32_t channel)
{
	struct small_stream *from = &small[channel];
	uint32_t size = rand() % 2 ? from->size : (uint32_t)rand() % (from->size + 8) & ~7u;

	if (size > from->size)
		size = from->size;
	fake_send(&fake, FRAME_DATA, 0, 2 * channel + 1, from->bytes, size);
	memmove(from->bytes, from->bytes + size, from->size - size);
	from->size -= size;
}

BOTH(small_messages_come_whole_and_in_order_wherever_they_lie)
{
	struct xenmsg_message *message;

	srand(7);
	memset(small, 0, sizeof(small));
	fake_bind(&fake, "with", handle_small, NULL);
	fake_bind(&fake, "without", NULL, NULL);
	fake_open(&fake, 1, "with");
	fake_open(&fake, 3, "with");
	fake_open(&fake, 5, "without");
	for (int round = 0; round < 2000; round++) {
		for (int i = rand() % 24; i > 0; i--)
			add_small((uint32_t)rand() % SMALL_CHANNELS);
		for (int i = rand() % 6; i > 0; i--)
			send_small((uint32_t)rand() % SMALL_CHANNELS);
		if (round % 50 == 49)
			for (uint32_t i = 0; i < SMALL_CHANNELS; i++) {
				fake_send(&fake, FRAME_DATA, 0, 2 * i + 1, small[i].bytes, small[i].size);
				small[i].size = 0;
			}
		while (xenmsg_recv(fake.conn, &message, 0) == 0) {
			expect_small(message, 2);
			xenmsg_message_free(message);
		}
		while (fake_has_frame(&fake)) {
			fake_read(&fake);
			assert_int_equal(fake.header.type, FRAME_CREDIT);
		}
		if (round % 50 == 49 && fake.shared)
			for (uint32_t i = 0; i < SMALL_CHANNELS; i++)
				assert_int_equal(small[i].first, small[i].last);
	}
}

static unsigned counted;

static void count_message(void *userdata, struct xenmsg_message *message)
{
	counted++;
	xenmsg_message_free(message);
}

static void await_count(unsigned count)
{
	while (counted < count)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}

/* Nothing of a frame is believed because what lies before it was in order. */
BOTH(what_is_malformed_behind_a_message_ends_its_channel)
{
	static const struct {
		uint32_t size;
		uint8_t type;
		uint32_t state, error;
	} cases[] = {
		{FAKE_MAX_MESSAGE + 1, 0, 0, EMSGSIZE},
		{UINT32_MAX, 0, 0, EMSGSIZE},
		{8, MESSAGE_REQUEST, 0, EPROTO},
		{8, 200, 0, EPROTO},
		{8, 0, 7, EPROTO},
	};

	fake_bind(&fake, "inbox", count_message, NULL);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t channel = 2 * i + 1, good = fake_message(stream, "good", 4, MESSAGE_SENT), bad;

		counted = 0;
		fake_open(&fake, channel, "inbox");
		bad = fake_message(stream + good, "12345678", 8, cases[i].state);
		put_u32(stream + good, cases[i].size);
		stream[good + 4] = cases[i].type;
		bad += fake_message(stream + good + bad, "ignored", 7, MESSAGE_SENT);
		fake_send(&fake, FRAME_DATA, 0, channel, stream, good + bad);
		while (!counted || !fake_has_frame(&fake))
			assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
		xenmsg_process(fake.conn);
		fake_expect_past_credit(&fake, FRAME_RESET);
		assert_int_equal(fake.header.channel, channel);
		assert_int_equal(get_u32(fake.payload), cases[i].error);
		assert_int_equal(counted, 1);
		fake_reset(&fake, channel, cases[i].error, 0, 0);
		xenmsg_process(fake.conn);
	}
}

/* The message's end is in the next frame, whatever lies behind this one in the ring. */
BOTH(a_message_ends_in_its_stream_and_not_in_the_ring)
{
	uint32_t good = fake_message(stream, "good", 4, MESSAGE_SENT);
	uint8_t data[64];

	counted = 0;
	fill(data, sizeof(data), 1);
	open_inbox(count_message, NULL);
	fake_open(&fake, 3, "inbox");
	fake_message(stream + good, data, sizeof(data), MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, good + 16);
	memset(stream + 4096, 0, 64);
	for (int i = 0; i < 4; i++)
		fake_message(stream + 4096 + 16 * i, NULL, 0, MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 3, stream + 4096, 64);
	await_count(5);
	fake_send(&fake, FRAME_DATA, 0, 1, stream + good + 16, 64);
	await_count(6);
}

/* In `in` it is told that the channel has ended, and that another one has its number, while a frame of it is
 * being read. */
SHARED(what_is_left_of_a_channel_is_not_its_successors)
{
	uint32_t size = 0;

	counted = 0;
	open_inbox(count_message, NULL);
	for (int i = 0; i < 2500; i++)
		size += fake_message(stream + size, NULL, 0, MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	/* It lets other sources of the program's loop have their turn. */
	await_count(1);
	assert_true(counted < 2500);
	fake_reset(&fake, 1, ENOENT, 0, 0);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "of the next");
	size = counted + 1;
	while (counted < size && xenmsg_wait(fake.conn, 10000) > 0)
		;
	assert_int_equal(xenmsg_wait(fake.conn, 0), 0);
	assert_int_equal(counted, size);
}

static void look_for_reset(void *userdata, struct xenmsg_message *message)
{
	counted++;
	/* What is released counts as taken, unless it is known to the daemon that it wasn't. */
	if (ring_writer_unread(&fake.deliveries) < (int)(fake.deliveries.head))
		assert_true(fake_has_frame(&fake));
	xenmsg_message_free(message);
}

/* Sends what can't be a message on channel 1, which is ended with a RESET, and on channel 3 messages, the
 * last ones if the channel `ends`. */
static void spoil_one_channel(bool ends)
{
	uint8_t bad[24] = {0};
	uint32_t size = fake_message(stream, "fine", 4, MESSAGE_SENT);

	size += fake_message(stream + size, "fine, too", 9, MESSAGE_SENT);
	fake_read_all(&fake);
	fake_open(&fake, 1, "inbox");
	fake_open(&fake, 3, "inbox");
	if (ends)
		fake_fin(&fake, 3, size);
	put_u32(bad, UINT32_MAX);
	fake_send(&fake, FRAME_DATA, 0, 1, bad, sizeof(bad));
	fake_send(&fake, FRAME_DATA, 0, 3, stream, size);
}

SHARED(a_reset_is_shown_before_what_was_not_taken_is_released)
{
	counted = 0;
	fake_bind(&fake, "inbox", look_for_reset, NULL);
	spoil_one_channel(false);
	await_count(2);
	expect_reset(1, EMSGSIZE, 0);
}

/* The daemon reads nothing, until there is no room even for a RESET. */
static void fill_out(void)
{
	uint32_t channel;
	int before;

	assert_int_equal(xenmsg_begin_send(fake.conn, "5:x", NULL, 0, NULL, NULL, NULL, NULL), 0);
	channel = fake_expect_open(&fake);
	fake_opened(&fake, channel, UINT32_MAX, FAKE_MAX_MESSAGE);
	do {
		before = ring_reader_ready(&fake.out, FAKE_RING_SIZE);
		assert_int_equal(xenmsg_begin_send(fake.conn, "5:x", NULL, 0, NULL, NULL, NULL, NULL), 0);
	} while (ring_reader_ready(&fake.out, FAKE_RING_SIZE) > before);
}

SHARED(a_reset_without_room_holds_up_what_was_taken_behind_it)
{
	counted = 0;
	fake_bind(&fake, "inbox", count_message, NULL);
	spoil_one_channel(true);
	fill_out();
	await_count(2);
	assert_int_equal(ring_writer_unread(&fake.deliveries), fake.deliveries.head);
	fake_read_all(&fake);
	xenmsg_process(fake.conn);
	expect_reset(1, EMSGSIZE, 0);
	fake_read_up_to(&fake, FRAME_FIN);
	assert_int_equal(fake.header.channel, 3);
	assert_int_equal(ring_writer_unread(&fake.deliveries), 0);
}

/* Else it would sleep until the program has nothing more to take, in a busy stream for long. */
SHARED(a_daemon_that_waits_for_room_is_woken_while_there_is_more)
{
	uint32_t size = 0, taken = 0;

	counted = 0;
	for (int i = 0; i < 1024; i++)
		size += fake_message(stream + size, "12345678", 8, MESSAGE_SENT);
	open_inbox(count_message, NULL);
	for (int i = 0; i < 4; i++)
		fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	fake_notifications(&fake);
	do {
		assert_int_equal(ring_writer_arm(&fake.deliveries, fake.deliveries.ring.size), 0);
		/* It lets other sources of the program's loop have their turn, so some are left. */
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
		assert_true(ring_writer_unread(&fake.deliveries) > (int)size);
		taken += size;
		assert_true(taken < 2 * FAKE_RING_SIZE);
		fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	} while (fake_notifications(&fake) == 0);
}

SHARED(half_a_frame_in_the_ring_ends_the_connection)
{
	struct frame_header header = {.type = FRAME_DATA, .channel = 1, .length = 64};
	struct xenmsg_message *message;
	uint8_t raw[FRAME_HEADER_SIZE];

	frame_header_encode(&header, raw);
	ring_writer_put(&fake.deliveries, raw, sizeof(raw));
	ring_writer_publish(&fake.deliveries);
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EPROTO);
}

SHARED(an_impossible_index_ends_the_connection)
{
	struct xenmsg_message *message;

	__atomic_store_n(fake.deliveries.ring.producer, FAKE_RING_SIZE + 8, __ATOMIC_RELEASE);
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EPROTO);
}
