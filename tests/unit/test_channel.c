/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What passes about a channel: numbers, frames that come late, and credit.
 */
#include "tests/unit/channel_rig.h"

#include "wire/bytes.h"

/* --- numbers, and frames that come late ------------------------------------------------------- */

SCENE_TEST(number_is_free_as_soon_as_the_channel_has_ended, scene_start)
{
	scene->link->route = NULL;
	scene->link->no_auto_answer = true;
	for (int i = 0; i < 3; i++) {
		participant_open(scene->link, 1, "p_1");
		expect_reset(scene->link, 1, ENOENT, 0, 0);
		/* The answer, and the next OPEN right behind it. */
		participant_reset(scene->link, 1, ENOENT, 0, 0);
	}
	scene->link->route = to_b;
	scene->link->no_auto_answer = false;
	participant_open(scene->link, 1, "p_2");
	send_bytes(scene->link, 1, 800);
	assert_false(scene->link->failed);
	participant_fin(scene->link, 1);
	read_all(scene);
	assert_true(participant_channel(scene->link, 1)->fin_in);
	/* The same after FINs. */
	participant_open(scene->link, 1, "p_3");
	participant_fin(scene->link, 1);
}

SCENE_TEST(late_frames_of_an_ended_channel_are_ignored, scene_start)
{
	uint8_t bytes[2000] = {0};

	participant_credit(scene->link, 1, 100, 1u << 20);
	participant_put(scene->link, FRAME_FIN, 1, bytes, 8);
	participant_cancel(scene->link, 7, 8);
	participant_put(scene->link, FRAME_CANCELLED, 7, bytes, 12);
	participant_put(scene->link, FRAME_OPENED, 9, bytes, 16);
	rig_settle(&scene->rig);
	assert_false(scene->link->failed);
}

SCENE_TEST(reset_of_an_ended_channel_is_answered_however_long_it_is, start_with_small_link)
{
	struct participant_frame frame;
	uint8_t bytes[2000] = {ETIMEDOUT};

	participant_put(scene->link, FRAME_RESET, 1, bytes,
			sizeof(bytes)); /* as a later version's might be */
	assert_true(participant_expect(scene->link, FRAME_RESET, &frame));
	assert_int_equal(frame.header.length, 24);
	assert_int_equal(get_u32(frame.payload), ETIMEDOUT);
}

SCENE_TEST(resets_that_cross_need_no_answer, scene_start)
{
	struct participant_frame frame;

	scene->a->no_auto_answer = true;
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 8);
	participant_read(scene->b, 0);
	participant_reset(scene->a, 0, EPIPE, 0, 0); /* on its way */
	participant_kill(scene->b);
	assert_true(participant_expect(scene->a, FRAME_RESET, &frame));
	assert_false(participant_expect(scene->a, FRAME_RESET, &frame));
	assert_int_equal(scene->a->hop.channels.count, 0);
}

SCENE_TEST_EACH(data_after_fin_or_a_wrong_total_is_a_violation, scene_start, i, 3)
{
	uint8_t payload[8] = {0};

	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 16);
	if (i == 0) {
		participant_put(scene->a, FRAME_FIN, 0, payload, frame_u64_encode(8, payload));
	} else {
		participant_fin(scene->a, 0);
		if (i == 1)
			participant_data(scene->a, 0, 8, false);
		else
			participant_fin(scene->a, 0);
	}
	rig_settle(&scene->rig);
	assert_true(scene->a->failed);
	assert_int_equal(scene->a->error, -EPROTO);
	assert_false(scene->b->failed);
}

/* Also what comes in many short frames, which are taken together. */
SCENE_TEST(all_bytes_count, scene_start)
{
	struct channel_tally *tally = channel_tally_new();
	struct channel_end *end;

	assert_non_null(tally);
	participant_open(scene->a, 0, "p_1");
	rig_settle(&scene->rig);
	end = channel_table_find(&scene->a->hop.channels, 0);
	assert_non_null(end);
	channel_count(end->channel, tally);
	for (int i = 0; i < 100; i++)
		assert_int_equal(participant_data(scene->a, 0, 8, false), 8);
	rig_settle(&scene->rig);
	assert_int_equal(tally->bytes_to, 800);
	assert_int_equal(tally->bytes_from, 0);
	participant_fin(scene->a, 0);
	read_all(scene);
	channel_tally_unref(tally);
}

/* --- credit ----------------------------------------------------------------------------------- */

SCENE_TEST_EACH(limit_never_falls_and_the_window_is_bounded, scene_start, is_stream, 2)
{
	const enum channel_kind kind = is_stream ? CHANNEL_STREAM : CHANNEL_MESSAGE;
	const uint64_t window = is_stream ? STREAM_WINDOW_MAX : CHANNEL_WINDOW_MAX;
	struct participant_channel *channel;
	uint64_t before = 0, most = 0;

	participant_open_kind(scene->a, 0, kind, "p_1");
	channel = participant_channel(scene->a, 0);
	/* A reader that is always far behind: the window grows until it may not any more. */
	for (int i = 0; i < 3000; i++) {
		participant_data(scene->a, 0, 60000, false);
		rig_settle(&scene->rig);
		participant_read(scene->b, 20000);
		rig_settle(&scene->rig);
		participant_read(scene->a, 1u << 30); /* asserts that no CREDIT takes something back */
		assert_true(channel->limit >= before);
		before = channel->limit;
		if (channel->limit - channel->confirmed > most)
			most = channel->limit - channel->confirmed;
	}
	assert_int_equal(most, window);
	participant_fin(scene->a, 0);
	rig_settle(&scene->rig);
	participant_read(scene->b, 1u << 30);
	if (is_stream)
		participant_fin(scene->b, 1);
}

SCENE_TEST(windows_that_have_grown_bar_nobody_from_opening_more, scene_start)
{
	struct quota_limits limits = {.pool[QUOTA_BYTES] = 1u << 30, .pool[QUOTA_CHANNELS] = 1000};
	struct quota *quota;

	limits.max[QUOTA_UID][QUOTA_BYTES] = 4u << 20;
	limits.max[QUOTA_UID][QUOTA_CHANNELS] = 1000;
	quota = scene->rig.board[0].quota = quota_new(&limits);
	hop_set_account(&scene->a->hop, quota_account(quota, QUOTA_UID, 1000));
	for (unsigned number = 0; number < 20; number += 2) {
		participant_open_kind(scene->a, number, CHANNEL_STREAM, "p_1");
		for (int i = 0; i < 100; i++) {
			participant_data(scene->a, number, 60000, false);
			rig_settle(&scene->rig);
			participant_read(scene->b, 20000);
			rig_settle(&scene->rig);
			participant_read(scene->a, 1u << 30);
		}
		participant_read(scene->b, 1u << 30);
		rig_settle(&scene->rig);
		assert_false(scene->a->failed);
	}
	/* Half of it, and what each has at first. */
	assert_in_range(account_usage(scene->a->hop.account, QUOTA_BYTES).used, 2u << 20,
			(2u << 20) + 20 * CHANNEL_INITIAL_LIMIT);
	hop_reset_channels(&scene->a->hop, ECONNRESET);
	read_all(scene);
	hop_set_account(&scene->a->hop, NULL);
	scene->rig.board[0].quota = NULL;
	quota_free(quota);
}

SCENE_TEST(enormous_limit_of_a_peer_does_not_fill_our_memory, start_with_small_link)
{
	const struct frame_opened said = {.limit = UINT64_MAX, .max_message = UINT64_MAX};
	struct participant_channel *channel;
	struct participant_frame frame;

	participant_open(scene->a, 0, "x_1");
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	channel = participant_channel(scene->a, 0);
	participant_opened(scene->link, frame.header.channel, &said);
	rig_settle(&scene->rig);
	participant_read(scene->a, 1u << 30);
	/* Nothing is taken, so it has its first window and no more. */
	assert_int_equal(channel->limit, CHANNEL_INITIAL_LIMIT);
	for (int i = 0; i < 40; i++) {
		participant_data(scene->a, 0, 60000, false);
		rig_settle(&scene->rig);
		rig_fire_stuck(scene->link);
		participant_read(scene->a, 1u << 30);
	}
	assert_int_equal(channel->sent, CHANNEL_INITIAL_LIMIT);
	assert_true(channel_queued(&scene->a->last_channel->acceptor) < CHANNEL_INITIAL_LIMIT);
	/* Even if all of it is said to be taken, again and again. */
	for (int i = 0; i < 100; i++) {
		uint64_t before = channel->sent;

		participant_credit(scene->link, frame.header.channel, scene->a->last_channel->acceptor.sent,
				   UINT64_MAX);
		rig_settle(&scene->rig);
		participant_read(scene->a, 1u << 30);
		participant_data(scene->a, 0, 1u << 20, false);
		rig_settle(&scene->rig);
		rig_fire_stuck(scene->link);
		assert_true(channel->sent - before <= CHANNEL_WINDOW_MAX);
		assert_true(channel_queued(&scene->a->last_channel->acceptor) <= CHANNEL_WINDOW_MAX);
		scene->link->never_reads = true;
		scene->link->in[OUTLET_MAIN].tail = scene->link->in[OUTLET_MAIN].head;
		participant_release(scene->link, OUTLET_MAIN);
		rig_settle(&scene->rig);
	}
	participant_data(scene->a, 0, (uint32_t)(channel->limit - channel->sent), true);
	rig_settle(&scene->rig);
	participant_data(scene->a, 0, 8, true);
	rig_settle(&scene->rig);
	assert_true(scene->a->failed);
	assert_false(scene->link->failed);
	participant_kill(scene->link);
}

SCENE_TEST(credit_for_bytes_that_were_never_sent_is_a_violation, scene_start)
{
	struct participant_frame frame;

	participant_open(scene->a, 0, "x_1");
	send_bytes(scene->a, 0, 16);
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	participant_credit(scene->link, frame.header.channel, 24, 100000);
	rig_settle(&scene->rig);
	assert_true(scene->link->failed);
	assert_false(scene->a->failed);
}

/* Through a ring that is too small for all of them and their headers. */
SCENE_TEST(messages_that_wait_are_counted_in_the_frames_that_carry_them, scene_start)
{
	enum { MANY = 64 };
	const struct frame_header data = {.type = FRAME_DATA, .length = RING / MANY, .messages = 3};
	uint8_t bytes[FRAME_HEADER_SIZE + RING / MANY] = {0};
	uint32_t length = 0, messages = 0;
	struct participant_frame frame;

	participant_open(scene->a, 0, "p_1");
	frame_header_encode(&data, bytes);
	for (unsigned i = 0; i < MANY; i++) {
		participant_put_raw(scene->a, bytes, sizeof(bytes));
		rig_settle(&scene->rig);
	}
	while (participant_get(scene->b, OUTLET_DELIVERIES, &frame)) {
		length += frame.header.length;
		messages += frame.header.messages;
		participant_release(scene->b, OUTLET_DELIVERIES);
		rig_settle(&scene->rig);
	}
	assert_int_equal(length, RING);
	assert_int_equal(messages, MANY * data.messages);
	participant_kill(scene->a);
	participant_kill(scene->b);
}

SCENE_TEST_EACH(a_sender_hears_of_the_smaller_limit_of_a_message, scene_start, i, 2)
{
	static const uint64_t limits[] = {1000, UINT64_MAX};
	const struct frame_opened said = {.limit = RING, .max_message = limits[i]};
	struct frame_opened heard;
	struct participant_frame frame;

	participant_open(scene->a, 0, "x_1");
	rig_settle(&scene->rig);
	participant_read(scene->link, 1u << 30);
	participant_opened(scene->link, 0, &said);
	assert_true(participant_expect(scene->a, FRAME_OPENED, &frame));
	assert_int_equal(frame_opened_decode(frame.payload, frame.header.length, &heard), 0);
	assert_int_equal(heard.max_message, i ? scene->rig.board[0].max_message : limits[i]);
	participant_reset(scene->a, 0, EPIPE, 0, 0);
}

/* The opener, who believes its daemon, takes a second one for the end of the session. */
SCENE_TEST_EACH(peer_that_says_twice_that_it_accepts_is_cut_off_alone, scene_start, at_once, 2)
{
	const struct frame_opened said = {.limit = 1u << 20, .max_message = 1u << 20};
	struct participant_frame frame;

	participant_open(scene->a, 0, "x_1");
	assert_true(participant_expect(scene->link, FRAME_OPEN, &frame));
	participant_opened(scene->link, frame.header.channel, &said);
	if (!at_once)
		rig_settle(&scene->rig);
	participant_opened(scene->link, frame.header.channel, &said);
	rig_settle(&scene->rig);
	assert_true(scene->link->failed);
	assert_int_equal(scene->link->error, -EPROTO);
	assert_false(scene->a->failed);
	/* fails the test at a second OPENED */
	read_all(scene);
	assert_true(participant_channel(scene->a, 0)->reset_in);
}
