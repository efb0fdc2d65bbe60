/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs of small frames, which a program's hop takes by a shorter way.
 */
#include "tests/unit/hop_programs.h"

#include <event2/buffer.h>

#include "wire/bytes.h"

/* A frame of a program, of which only the first `shown` bytes are in the ring as yet; returns the rest. */
static uint32_t put_small(struct participant *participant, uint32_t number, uint32_t length,
			  uint16_t messages, uint32_t shown, uint8_t *rest)
{
	struct frame_header header = {
		.type = FRAME_DATA, .channel = number, .length = length, .messages = messages};
	struct participant_channel *channel = participant_channel(participant, number);
	uint8_t frame[FRAME_HEADER_SIZE + 1024] = {0};
	uint32_t size = frame_size(length);

	frame_header_encode(&header, frame);
	for (uint32_t i = 0; i < length; i++)
		frame[FRAME_HEADER_SIZE + i] = (uint8_t)(31 * (channel->sent + i) >> 3);
	channel->sent += length;
	assert_true(ring_writer_space(&participant->out, size) >= (int)size);
	if (shown > size)
		shown = size;
	participant_put_raw(participant, frame, shown);
	if (rest)
		memcpy(rest, frame + shown, size - shown);
	return size - shown;
}

/* What came out is the stream's beginning. */
static void expect_captured(struct participant *participant, uint64_t size)
{
	uint8_t byte;

	assert_int_equal(evbuffer_get_length(participant->captured), size);
	for (uint64_t i = 0; i < size; i++) {
		evbuffer_remove(participant->captured, &byte, 1);
		assert_int_equal(byte, (uint8_t)(31 * i >> 3));
	}
	evbuffer_free(participant->captured);
	participant->captured = NULL;
}

/* A ring isn't filled before its reader has shown how quickly it reads. */
static void read_all(struct rig *rig)
{
	for (unsigned i = 0; i < 8; i++) {
		participant_read(programs[1], 262144);
		rig_settle(rig);
	}
}

static void run_start(struct rig *rig, bool lenient)
{
	rig_start(rig, 1);
	for (unsigned i = 0; i < 2; i++) {
		programs[i] = program_new(rig, 262144, i == 0 && lenient, 0);
		programs[i]->route = to_program;
	}
	programs[1]->captured = evbuffer_new();
	participant_open(programs[0], 0, "p1_1");
	rig_settle(rig);
}

TEST(messages_of_small_frames_are_counted)
{
	struct rig rig;
	uint64_t size = 0;

	run_start(&rig, false);
	for (uint16_t i = 1; i <= 100; i++) {
		put_small(programs[0], 0, 8u * i, i % 3, UINT32_MAX, NULL);
		size += 8u * i;
	}
	rig_settle(&rig);
	assert_int_equal(programs[0]->hop.rx.messages, 100);
	assert_int_equal(programs[0]->hop.rx.frames, 101);
	read_all(&rig);
	assert_int_equal(programs[1]->hop.tx.messages, 100);
	expect_captured(programs[1], size);
	rig_stop(&rig);
}

/* Of a program that shares no memory, a frame comes in as the socket cuts it. */
TEST(small_frame_that_is_not_all_there_waits_for_its_rest)
{
	for (uint32_t shown = 0; shown <= 80; shown += 8) {
		uint8_t rest[128];
		struct rig rig;
		uint32_t left;

		run_start(&rig, true);
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
		left = put_small(programs[0], 0, 64, 1, shown, rest);
		rig_settle(&rig);
		participant_put_raw(programs[0], rest, left);
		rig_settle(&rig);
		participant_read(programs[1], 65536);
		expect_captured(programs[1], 3 * 64);
		assert_false(programs[0]->failed);
		rig_stop(&rig);
	}
}

TEST(small_frame_beyond_the_credit_ends_the_session)
{
	struct rig rig;

	run_start(&rig, false);
	programs[1]->never_reads_deliveries = true;
	for (uint32_t size = 0; size < CHANNEL_INITIAL_LIMIT; size += 64)
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	assert_false(programs[0]->failed);
	rig_stop(&rig);

	run_start(&rig, false);
	programs[1]->never_reads_deliveries = true;
	for (uint32_t size = 0; size < CHANNEL_INITIAL_LIMIT - 64; size += 64)
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	/* The first of these opens the frame that the others would be appended to. */
	for (unsigned i = 0; i < 3; i++)
		put_small(programs[0], 0, 32, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	assert_true(programs[0]->failed);
	assert_int_equal(programs[0]->error, -EPROTO);
	programs[1]->never_reads_deliveries = false;
	read_all(&rig);
	expect_captured(programs[1], CHANNEL_INITIAL_LIMIT);
	rig_stop(&rig);
}

TEST(small_frames_behind_a_reset_are_dropped)
{
	struct rig rig;

	run_start(&rig, false);
	put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	participant_reset(programs[0], 0, ECANCELED, 0, 0);
	for (unsigned i = 0; i < 3; i++)
		put_small(programs[0], 0, 64, 1, UINT32_MAX, NULL);
	rig_settle(&rig);
	participant_read(programs[1], 262144);
	expect_captured(programs[1], 64);
	rig_settle(&rig);
	rig_stop(&rig);
}

/* It was to be notified of room when its session ended. */
TEST(program_that_is_cut_off_is_not_notified)
{
	struct hostile hostile;
	uint32_t woken;

	hostile_start(&hostile, HOP_SHARED);
	participant_open(hostile.bad, 0, "p2_9");
	rig_settle(&hostile.rig);
	assert_int_equal(ring_writer_arm(&hostile.bad->out, 65536), 1);
	participant_data(hostile.bad, 0, 40000, false);
	participant_put(hostile.bad, FRAME_DATA, 6, "no such channel", 15);
	woken = hostile.bad->woken;
	rig_settle(&hostile.rig);
	assert_int_equal(hostile.bad->woken, woken);
	only_the_bad_one_is_cut_off(&hostile, -EPROTO);
}
