/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Small messages, which go out by a shorter way where nothing stands before them.
 */
#include "tests/unit/client_send_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_ADDRESSES 24u

struct small_stream {
	char address[16];
	uint32_t channel; /* once it was opened */
	bool opened;
	uint64_t limit, framed, frames_messages;
	uint32_t posted;
	uint8_t *bytes; /* what its stream must be */
	uint64_t size, room;
};

static struct small_stream small[SMALL_ADDRESSES];

static struct small_stream *small_by_channel(uint32_t channel)
{
	for (uint32_t i = 0; i < SMALL_ADDRESSES; i++)
		if (small[i].opened && small[i].channel == channel)
			return &small[i];
	fail_msg("DATA of channel %u before its OPEN", channel);
	return NULL;
}

static void read_small(void)
{
	struct small_stream *to;
	struct frame_open open;

	fake_read(&fake);
	if (fake.header.type == FRAME_OPEN) {
		open = FAKE_HEARD(&fake, open);
		for (uint32_t i = 0; i < SMALL_ADDRESSES; i++)
			if (strlen(small[i].address) == open.name.size &&
			    !memcmp(small[i].address, open.name.data, open.name.size)) {
				assert_false(small[i].opened);
				small[i].opened = true;
				small[i].channel = fake.header.channel;
				return;
			}
		fail_msg("an OPEN for something else");
	}
	assert_string_equal(frame_type_name(fake.header.type), "DATA");
	to = small_by_channel(fake.header.channel);
	assert_true(to->framed + fake.header.length <= to->limit);
	assert_true(to->framed + fake.header.length <= to->size);
	assert_memory_equal(to->bytes + to->framed, fake.payload, fake.header.length);
	to->framed += fake.header.length;
	to->frames_messages += fake.header.messages;
}

static void post_small(struct small_stream *to)
{
	uint32_t size = (uint32_t)rand() % (rand() % 4 ? 90 : 700);
	uint8_t data[1024];

	fill(data, size, (uint32_t)rand());
	if (rand() % 8
		    ? xenmsg_begin_send(fake.conn, to->address, data, size, NULL, NULL, NULL, NULL) < 0
		    : xenmsg_send(fake.conn, to->address, data, size, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL) < 0)
		return;
	if (to->room < to->size + 1024) { /* doubled, since AddressSanitizer copies at each realloc() */
		to->room = 2 * (to->size + 1024);
		to->bytes = realloc(to->bytes, to->room);
		assert_non_null(to->bytes);
	}
	to->size += fake_message(to->bytes + to->size, data, size, MESSAGE_SENT);
	to->posted++;
}

/* However full the ring is, and however odd the credit: what stands before a message stays before it. */
SHARED(small_messages_go_out_whole_and_in_order)
{
	uint32_t addresses = 1;

	srand(3);
	memset(small, 0, sizeof(small));
	for (uint32_t i = 0; i < SMALL_ADDRESSES; i++) {
		/* OPENs of different lengths */
		snprintf(small[i].address, sizeof(small[i].address), "%u:%.*s", i + 10, (int)(1 + i % 10),
			 "abcdefghijk");
		small[i].limit = CHANNEL_INITIAL_LIMIT;
	}
	for (int round = 0; round < 4000; round++) {
		struct small_stream *of = &small[(uint32_t)rand() % addresses];
		bool full = round / 200 % 2; /* the ring is, else credit is short */

		if (rand() % 100 == 0 && addresses < SMALL_ADDRESSES)
			addresses++;
		for (int i = rand() % 60; i > 0; i--)
			post_small(&small[(uint32_t)rand() % addresses]);
		xenmsg_process(fake.conn);
		for (int i = rand() % (full ? 8 : 300); i > 0 && fake_has_frame(&fake); i--)
			read_small();
		if (of->opened) {
			uint64_t limit = of->framed + (uint64_t)rand() % (full ? 300000 : 3000);

			of->limit = limit > of->limit ? limit : of->limit;
			fake_credit(&fake, of->channel, rand() % 2 ? of->framed : 0, of->limit);
		}
	}
	for (uint32_t i = 0; i < addresses; i++)
		while (small[i].framed < small[i].size) {
			if (small[i].opened && small[i].limit < small[i].size) {
				small[i].limit = small[i].size;
				fake_credit(&fake, small[i].channel, 0, small[i].limit);
			}
			xenmsg_process(fake.conn);
			while (fake_has_frame(&fake))
				read_small();
		}
	for (uint32_t i = 0; i < addresses; i++) {
		assert_int_equal(small[i].frames_messages, small[i].posted);
		free(small[i].bytes);
	}
}

static uint32_t room_in_the_ring(void)
{
	return FAKE_RING_SIZE - (*fake.out.ring.producer - *fake.out.ring.consumer);
}

/* There is room for the message, but not for the OPEN that stands before it. */
SHARED(a_small_message_does_not_overtake_its_open)
{
	uint8_t data[512] = {0};
	uint32_t channel;
	static int result;

	post("5:full", data, 0, &result);
	channel = expect_open("5:full");
	fake_opened(&fake, channel, 1ull << 40, FAKE_MAX_MESSAGE);
	while (room_in_the_ring() > 40) {
		uint32_t room = room_in_the_ring() - 40;

		assert_int_equal(xenmsg_begin_send(fake.conn, "5:full", data, room < 600 ? room - 32 : 480,
						   NULL, NULL, NULL, NULL),
				 0);
	}
	assert_int_equal(room_in_the_ring(), 40);
	assert_int_equal(
		xenmsg_begin_send(fake.conn, "6:a-name-that-takes-room", data, 0, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(room_in_the_ring(), 40);
	do {
		xenmsg_process(fake.conn);
		fake_read(&fake);
	} while (fake.header.channel == channel);
	assert_int_equal(fake.header.type, FRAME_OPEN);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_DATA);
}
