/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A link with thousands of channels that is lost, or goes on: others don't wait for it. */
#include "tests/unit/resume_rig.h"

#include "base/cost.h"
#include "base/turns.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/channel_internal.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/part.h"

#define MANY 10000u

static void read_all(struct scene *scene)
{
	while (hear(scene))
		;
}

static unsigned how_many_have_ended(struct channel *const *channels, unsigned count)
{
	unsigned ended = 0;

	for (unsigned i = 0; i < count; i++)
		ended += channel_is_reset(&channels[i]->opener);
	return ended;
}

static uint32_t channels_of(struct scene *scene, uint32_t domid)
{
	struct link_info info;

	assert_true(links_info(scene->links, peer_domain(domid), &info));
	return info.channels;
}

static void up_with_room_for_many(struct scene *scene)
{
	channels_max = MANY + 16;
	up(scene);
}

SCENE_TEST(a_lost_links_thousands_of_channels_end_between_others_turns, up_with_room_for_many)
{
	struct channel **channels = calloc(MANY, sizeof(struct channel *)), *later;
	unsigned passes = 0, ended = 0;
	struct peer lost;

	for (unsigned i = 0; i < MANY; i++) {
		channels[i] = open_channel_to(scene, 7, CHANNEL_MESSAGE);
		if (i % 100 == 0)
			read_all(scene);
	}
	read_all(scene);
	lost = scene->peer;
	scene->peer = (struct peer){.domid = 8};
	scene->was = 7;
	greet(scene);
	read_all(scene);
	scene->board.turns.longest_pass = 0;

	lost.vchan->state = VCHAN_CLOSED;
	lost.vchan->event(lost.vchan->userdata);
	while (ended < MANY) {
		unsigned before = ended;
		struct hop_run run;
		uint8_t token[8];

		/* The other link is served in each pass. */
		put(scene, FRAME_PING, 0, token, frame_u64_encode(passes, token));
		notify_only(scene);
		switch_pass(&scene->board);
		assert_true(ring_reader_ready(&scene->peer.in, FRAME_HEADER_SIZE) >= (int)FRAME_HEADER_SIZE);
		ended = how_many_have_ended(channels, MANY);
		assert_true(ended > before);
		assert_true((ended - before) * COST_CHANNEL_END < TURNS_PASS + TURNS_PIECE);
		if (passes++ == 0) {
			/* The link is another one already, and nothing goes through the channels of the lost
			 * one. */
			assert_int_equal(channels_of(scene, 7), 0);
			later = open_channel_to(scene, 7, CHANNEL_MESSAGE);
			assert_int_equal(channels_of(scene, 7), 1);
			assert_true(hop_is_retired(channels[MANY - 1]->acceptor.hop));
			hop_run_begin(&run, &channels[MANY - 1]->opener);
			assert_null(run.end);
			assert_int_equal(channel_cancel(&channels[MANY - 1]->opener, 0), 0);
			/* What a program sends until its channel's turn has come is counted, and adds up. */
			assert_int_equal(hop_forward(&channels[MANY - 1]->opener, NULL, 0, 8, 1, false), 8);
			assert_true(channel_adds_up(&channels[MANY - 1]->acceptor));
		}
	}
	assert_true(scene->board.turns.longest_pass < TURNS_PASS + TURNS_PIECE);
	assert_true(passes >= MANY * COST_CHANNEL_END / (TURNS_PASS + TURNS_PIECE));
	settle(scene);
	for (unsigned i = 0; i < MANY; i++) {
		assert_null(channels[i]->acceptor.hop);
		assert_int_equal(channels[i]->opener.reset_error, EHOSTUNREACH);
	}
	assert_false(channel_is_reset(&later->opener));
	assert_int_equal(channels_of(scene, 7), 1);
	free(channels);
}

/* The peer is there again under another number. What follows comes in single passes. */
static void come_back_as(struct scene *scene, uint32_t domid)
{
	scene->was = session.domid;
	come_as(scene, domid);
	prove(scene);
	put_resume(scene);
	notify_only(scene);
}

static void expect_piece(struct scene *scene, unsigned calls, uint32_t from, uint32_t to)
{
	switch_pass(&scene->board);
	assert_int_equal(scene->resumed_calls, calls);
	assert_int_equal(scene->resumed_from, from);
	assert_int_equal(scene->resumed_to, to);
}

static void leave_to_come_back_in_pieces(struct scene *scene)
{
	up_to_resume(scene);
	leave(scene);
	scene->resumed_pieces = 3;
	scene->resumed_cost = TURNS_PASS;
	come_back_as(scene, 9);
	assert_int_equal(scene->resumed_calls, 0);
}

/* Also if this domain is restored before that. */
SCENE_TEST_EACH(nothing_is_taken_in_before_a_restored_peer_is_seen_to, leave_to_come_back_in_pieces,
		is_restored, 2)
{
	put(scene, FRAME_PING, 0, "\1\0\0\0\0\0\0\0", 8);
	expect_piece(scene, 1, 7, 9);
	if (is_restored) {
		links_restart(scene->links);
		links_go_on(scene->links);
		come_back_as(scene, 11);
		put(scene, FRAME_PING, 0, "\1\0\0\0\0\0\0\0", 8);
	}
	expect_piece(scene, 2, 7, 9);
	expect_piece(scene, 3, 7, 9);
	for (unsigned piece = 4; is_restored && piece < 7; piece++)
		expect_piece(scene, piece, 9, 11);
	/* Only now: */
	for (int i = 0; i <= is_restored; i++) /* each epoch begins with one */
		expect(scene, FRAME_PING);
	expect(scene, FRAME_PONG);
	expect(scene, FRAME_ACK);
	expect_silence(scene);
	assert_int_equal(scene->resumed_calls, is_restored ? 6 : 3);
}

/* Its channels would never get the new number: the next daemon knows the peer by that one from the start. */
SCENE_TEST(a_restored_peer_is_seen_to_before_a_hand_over, leave_to_come_back_in_pieces)
{
	expect_piece(scene, 1, 7, 9);
	hand_over(scene);
	links_part.number(scene->links, 0);
	links_settle_for_image(scene->links);
	assert_int_equal(scene->resumed_calls, 3);
	assert_int_equal(scene->resumed_to, 9);
}
