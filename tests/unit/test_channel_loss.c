/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a channel ends: what its opener is told, and what becomes of it when either end dies, in whatever
 * state.
 */
#include "tests/unit/channel_rig.h"

/* --- what the opener is told ------------------------------------------------------------------ */

SCENE_TEST(an_endpoint_that_is_not_there_refuses_with_nothing_taken, scene_start)
{
	scene->a->route = NULL;
	participant_open(scene->a, 0, "p_1");
	participant_data(scene->a, 0, 1000, false);
	expect_reset(scene->a, 0, ENOENT, 0, 0);
}

/* As a reload of the policy, or a timer, does it behind a pass. */
SCENE_TEST(what_ends_between_two_passes_is_freed_in_the_next, scene_start)
{
	struct switchboard *board = &scene->rig.board[0];

	participant_open(scene->a, 0, "p_1");
	rig_settle(&scene->rig);
	hop_reset_channels(&scene->a->hop, ECONNRESET);
	hop_reset_channels(&scene->b->hop, ECONNRESET);
	assert_non_null(board->ended);
	switch_check(board);
	switch_pass(board);
	assert_null(board->ended);
}

SCENE_TEST(what_was_sent_before_the_openers_reset_is_delivered_unsure, scene_start)
{
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 104);
	participant_reset(scene->a, 0, EPIPE, 0, 0);
	expect_reset(scene->a, 0, EPIPE, 0, 104);
	read_all(scene);
	assert_int_equal(participant_accepted(scene->b, 1)->taken, 104);
	assert_true(participant_accepted(scene->b, 1)->reset_in);
}

SCENE_TEST(reset_before_a_release_wins_over_it, scene_start)
{
	struct participant_frame frame;

	scene->b->no_auto_answer = true;
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 104);
	participant_read(scene->b, 0);
	assert_true(participant_get(scene->b, OUTLET_MAIN, &frame));
	assert_true(participant_get(scene->b, OUTLET_DELIVERIES, &frame));
	participant_channel(scene->b, frame.header.channel)->used = true;
	participant_reset(scene->b, frame.header.channel, ENOENT, 0, 0);
	participant_release(scene->b, OUTLET_MAIN);
	participant_release(scene->b, OUTLET_DELIVERIES);
	expect_reset(scene->a, 0, ENOENT, 0, 0);
	rig_settle(&scene->rig);
	scene->b->no_auto_answer = false;
}

/* The daemon reads the program's input in parts, and the RESET lies behind the first part. */
SCENE_TEST(reset_before_a_release_wins_also_if_the_input_is_long, scene_start)
{
	struct participant_frame frame;
	struct participant *b;

	b = participant_new(
		&scene->rig,
		&(struct rig_options){.kind = HOP_SHARED, .ring = RING, .out_ring = 1u << 20, .parity = 1});
	/* to_b() is the second one of the rig */
	scene->rig.parties->next = b;
	scene->link->next = scene->b;
	scene->b->next = NULL;
	b->next = scene->link;
	b->no_auto_answer = true;
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 104);
	assert_true(participant_get(b, OUTLET_MAIN, &frame));
	assert_true(participant_get(b, OUTLET_DELIVERIES, &frame));
	for (int i = 0; i < 400; i++)
		participant_put(b, FRAME_OPTIONAL, 0, frame.payload, 2000);
	participant_channel(b, frame.header.channel)->used = true;
	participant_reset(b, frame.header.channel, ENOENT, 0, 0);
	participant_release(b, OUTLET_MAIN);
	participant_release(b, OUTLET_DELIVERIES);
	expect_reset(scene->a, 0, ENOENT, 0, 0);
}

SCENE_TEST(consumed_is_what_the_program_released_also_within_a_frame, scene_start)
{
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 1000);
	participant_read(scene->b, 504);
	rig_settle(&scene->rig);
	participant_read(scene->a, 1u << 30);
	assert_int_equal(participant_accepted(scene->b, 1)->taken,
			 participant_channel(scene->a, 0)->confirmed);
	assert_int_equal(participant_channel(scene->a, 0)->confirmed, 504);
	send_bytes(scene->a, 0, 16);
	participant_read(scene->b, 256);
	rig_settle(&scene->rig);
	participant_read(scene->a, 1u << 30);
	assert_int_equal(participant_channel(scene->a, 0)->confirmed, 760);
	participant_kill(scene->b);
	expect_reset(scene->a, 0, ENOENT, 760, 1016);
}

/* The caller's ring is too small for the answers when their server resets the channel. */
SCENE_TEST(answers_come_before_the_end_and_nothing_is_taken_behind_it, scene_start)
{
	const struct participant_channel *caller;
	struct participant_frame frame;
	uint32_t number;

	caller = participant_channel(scene->a, 0);
	scene->b->no_auto_answer = true;
	participant_open_kind(scene->a, 0, CHANNEL_CALL, "p_1");
	participant_credit(scene->a, 0, 0, 2 * RING);
	send_bytes(scene->a, 0, 104);
	assert_true(participant_get(scene->b, OUTLET_DELIVERIES, &frame));
	number = frame.header.channel;
	*participant_channel(scene->b, number) =
		(struct participant_channel){.used = true, .flow = 1, .limit = RING};
	for (unsigned i = 0; i < 2; i++)
		send_bytes(scene->b, number, RING / 2);
	participant_reset(scene->b, number, EPIPE, 0, 0);
	participant_release(scene->b, OUTLET_DELIVERIES);
	rig_settle(&scene->rig);
	assert_true(participant_get(scene->b, OUTLET_MAIN, &frame));
	participant_release(scene->b, OUTLET_MAIN);
	participant_read(scene->a, 1u << 30);
	assert_in_range(caller->received, 1, RING - 1);
	read_all(scene);
	assert_int_equal(caller->received, RING);
	assert_int_equal(caller->confirmed, 0);
	expect_reset(scene->a, 0, EPIPE, 0, 0);
	scene->b->no_auto_answer = false;
}

/* --- what is forbidden, as by UNBIND ---------------------------------------------------------- */

/* B has got two messages of 104 bytes. Returns the number of the channel there. */
static uint32_t hand_two(struct scene *scene)
{
	struct participant_frame frame;
	uint32_t number;

	scene->b->no_auto_answer = true;
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 104);
	send_bytes(scene->a, 0, 104);
	assert_true(participant_get(scene->b, OUTLET_MAIN, &frame));
	number = frame.header.channel;
	participant_channel(scene->b, number)->used = true;
	participant_release(scene->b, OUTLET_MAIN);
	assert_true(participant_get(scene->b, OUTLET_DELIVERIES, &frame));
	assert_int_equal(frame.header.length, 104);
	return number;
}

static void expect_outcome(struct scene *scene, uint64_t consumed, uint64_t unsure)
{
	expect_reset(scene->a, 0, ENOENT, consumed, unsure);
	scene->b->no_auto_answer = false;
}

SCENE_TEST(what_was_released_before_it_was_forbidden_counts_as_taken, scene_start)
{
	hand_two(scene);
	participant_release(scene->b, OUTLET_DELIVERIES);
	channel_forbid(scene->a->last_channel, ENOENT);
	expect_outcome(scene, 104, 208);
}

/* The RESET hasn't been read when the channel is forbidden. */
SCENE_TEST(a_reset_before_the_release_says_what_was_taken_also_then, scene_start)
{
	uint32_t number = hand_two(scene);

	participant_reset(scene->b, number, EPIPE, 0, 0);
	participant_release(scene->b, OUTLET_DELIVERIES);
	channel_forbid(scene->a->last_channel, ENOENT);
	expect_outcome(scene, 0, 0);
}

/* What was released behind its RESET isn't known, but what was released before is. */
SCENE_TEST(an_answer_says_what_was_taken_besides, scene_start)
{
	struct participant_frame frame;
	uint32_t number = hand_two(scene);

	participant_put(scene->b, FRAME_OPTIONAL, 0, frame.payload, 2000);
	participant_release(scene->b, OUTLET_DELIVERIES);
	channel_forbid(scene->a->last_channel, ENOENT);
	participant_reset(scene->b, number, ENOENT, 0, 0);
	assert_true(participant_get(scene->b, OUTLET_DELIVERIES, &frame));
	participant_release(scene->b, OUTLET_DELIVERIES);
	expect_outcome(scene, 104, 104);
}

SCENE_TEST(program_that_dies_forbidden_has_taken_what_it_released, scene_start)
{
	struct participant_frame frame;

	hand_two(scene);
	participant_put(scene->b, FRAME_OPTIONAL, 0, frame.payload, 2000);
	participant_release(scene->b, OUTLET_DELIVERIES);
	channel_forbid(scene->a->last_channel, ENOENT);
	participant_kill(scene->b);
	expect_outcome(scene, 104, 208);
}

/* --- whoever dies, in whatever state ---------------------------------------------------------- */

enum moment {
	OPEN_NOT_SENT,
	NOT_OPENED,
	DATA_QUEUED,
	DATA_HANDED,
	DATA_PARTLY_TAKEN,
	FIN_SENT,
	FIN_ANSWERED,
	RESET_PENDING,
	MOMENTS,
};

/* Brings a channel of A's to the moment; the acceptor is B or the peer. Returns what was handed to the
 * acceptor. */
static uint64_t bring_to(struct scene *scene, enum moment moment, bool over_link)
{
	struct participant *to = over_link ? scene->link : scene->b;
	struct channel *channel;

	participant_open(scene->a, 0, over_link ? "x_1" : "p_1");
	if (moment == NOT_OPENED || moment == OPEN_NOT_SENT) {
		send_bytes(scene->a, 0, 800);
		return moment == NOT_OPENED ? 800 : 0;
	}
	rig_settle(&scene->rig);
	channel = scene->a->last_channel;
	if (moment == DATA_QUEUED) {
		/* more than a ring holds */
		send_bytes(scene->a, 0, 60000);
		if (over_link)
			rig_fire_stuck(scene->link);
		send_bytes(scene->a, 0, 5536);
		if (over_link)
			rig_fire_stuck(scene->link);
		return channel->acceptor.sent;
	}
	send_bytes(scene->a, 0, 800);
	if (moment == DATA_HANDED)
		return 800;
	if (moment == DATA_PARTLY_TAKEN) {
		while (participant_accepted(to, 1) == NULL || participant_accepted(to, 1)->taken == 0)
			assert_true(participant_read(to, 200) > 0);
		rig_settle(&scene->rig);
		return 800;
	}
	if (moment == RESET_PENDING) {
		participant_reset(scene->a, 0, EPIPE, 0, 0);
		rig_settle(&scene->rig);
		return 800;
	}
	participant_fin(scene->a, 0);
	rig_settle(&scene->rig);
	if (moment == FIN_ANSWERED) {
		participant_read(to, 1u << 30);
		rig_settle(&scene->rig);
	}
	return 800;
}

static void acceptor_dies(enum moment moment, bool over_link)
{
	struct scene scene;
	struct participant_channel *channel;
	uint64_t handed, taken;
	bool detached = moment == OPEN_NOT_SENT;

	if (detached && !over_link)
		return;
	scene_with(&scene, moment == DATA_QUEUED ? 1024 : RING, detached);
	handed = bring_to(&scene, moment, over_link);
	if (over_link && detached) {
		hop_reset_channels(&scene.link->hop, EHOSTDOWN);
		switch_pass(scene.link->hop.board);
	} else {
		participant_kill(over_link ? scene.link : scene.b);
	}
	channel = participant_channel(scene.a, 0);
	taken = participant_accepted(over_link ? scene.link : scene.b, 1)
			? participant_accepted(over_link ? scene.link : scene.b, 1)->taken
			: 0;
	rig_settle(&scene.rig);
	participant_read(scene.a, 1u << 30);
	if (moment == FIN_ANSWERED) {
		assert_true(channel->fin_in);
		assert_false(channel->reset_in);
		assert_int_equal(channel->confirmed, 800);
	} else {
		assert_true(channel->reset_in);
		if (moment == RESET_PENDING) {
			assert_int_equal(channel->reset.error, EPIPE);
		} else {
			assert_int_equal(channel->reset.error, over_link ? EHOSTDOWN : ENOENT);
			assert_int_equal(channel->reset.consumed, taken);
			assert_int_equal(channel->reset.unsure, handed);
		}
	}
	scene_stop(&scene);
}

static void opener_dies(enum moment moment, bool over_link)
{
	struct scene scene;
	struct participant *to;
	struct participant_channel *channel;
	uint64_t sent;

	if (moment == OPEN_NOT_SENT)
		return;
	scene_with(&scene, moment == DATA_QUEUED ? 1024 : RING, false);
	to = over_link ? scene.link : scene.b;
	bring_to(&scene, moment, over_link);
	sent = participant_channel(scene.a, 0)->sent;
	participant_kill(scene.a);
	read_all(&scene);
	channel = participant_accepted(to, 1);
	assert_non_null(channel);
	/* What it said before it died is heard. */
	assert_int_equal(channel->taken, sent);
	if (moment == FIN_SENT || moment == FIN_ANSWERED) {
		assert_true(channel->fin_in);
		assert_false(channel->reset_in);
	} else {
		assert_true(channel->reset_in);
		assert_int_equal(channel->reset.error, moment == RESET_PENDING ? EPIPE : ECONNRESET);
	}
	scene_stop(&scene);
}

TEST(death_of_the_acceptor_ends_a_channel_in_every_state)
{
	for (enum moment moment = 0; moment < MOMENTS; moment++) {
		acceptor_dies(moment, false);
		acceptor_dies(moment, true);
	}
}

TEST(death_of_the_opener_ends_a_channel_behind_its_data)
{
	for (enum moment moment = 0; moment < MOMENTS; moment++) {
		opener_dies(moment, false);
		opener_dies(moment, true);
	}
}

SCENE_TEST(both_ends_in_one_session_die_together, scene_start)
{
	participant_open(scene->b, 0, "p_1");
	send_bytes(scene->b, 0, 800);
	participant_kill(scene->b);
}

SCENE_TEST(what_a_program_took_before_it_died_was_delivered, scene_start)
{
	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 800);
	/* It takes everything, and then the end of its socket is seen first. */
	participant_read(scene->b, 1u << 30);
	scene->b->kicked = false;
	hop_finish(&scene->b->hop, -ECONNRESET, "the program has gone");
	switch_pass(scene->b->hop.board);
	expect_reset(scene->a, 0, ENOENT, 800, 800);
}

SCENE_TEST(who_takes_its_leave_leaves_no_doubt, scene_start)
{
	uint8_t payload[8] = {0};

	participant_open(scene->a, 0, "p_1");
	send_bytes(scene->a, 0, 800);
	participant_read(scene->b, 400);
	participant_put(scene->b, FRAME_GOODBYE, 0, payload, 4);
	participant_kill(scene->b);
	expect_reset(scene->a, 0, ENOENT, participant_accepted(scene->b, 1)->taken,
		     participant_accepted(scene->b, 1)->taken);
}

SCENE_TEST(what_a_program_sent_before_it_died_goes_on, start_with_small_link)
{
	participant_open(scene->a, 0, "x_1");
	send_bytes(scene->a, 0, 50000); /* the link is full: most of it waits in the program's ring */
	scene->a->kicked = false;
	hop_finish(&scene->a->hop, -ECONNRESET, "the program has gone");
	switch_pass(scene->a->hop.board);
	read_all(scene);
	assert_int_equal(participant_accepted(scene->link, 1)->taken, 50000);
}
