/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may reach an endpoint, with which kinds of channels, and what ends when that changes.
 */
#include "tests/unit/router_rig.h"

#include "base/cost.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/serve/router.h"

SCENE_TEST_EACH(who_may_not_reach_it_does_not_learn_whether_it_exists, scene_start, exists, 2)
{
	scene->denied = "secret";
	if (exists)
		assert_int_equal(bind_name(scene, scene->b, "secret", 1), 0);
	refused(scene, "5:secret", EACCES);
	/* Nor by the kind that it is for. */
	open_kind(scene->link, 1, CHANNEL_CALL, "secret", 6);
	participant_expect_refusal(scene->link, 1, EACCES);
	assert_int_equal(scene->asked, 2);
}

SCENE_TEST(who_opens_pays_for_the_rules_that_are_asked, scene_start)
{
	const struct turns *turns = &scene->link->hop.board->turns;
	uint64_t before = turns->spent;

	scene->denied = "secret";
	scene->cost = 5000;
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "secret", 6);
	participant_expect_refusal(scene->link, 1, EACCES);
	assert_in_range(turns->spent - before, 5000, 6000);
}

SCENE_TEST(peer_reaches_endpoints_and_nothing_else, scene_start)
{
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene->b, "inbox");
	assert_int_equal(scene->asked, 1);
	/* No addresses: that would have us relay; and nothing that couldn't have been bound. */
	open_kind(scene->link, 3, CHANNEL_MESSAGE, "5:inbox", 7);
	participant_expect_refusal(scene->link, 3, ENOENT);
	open_kind(scene->link, 3, CHANNEL_MESSAGE, "inbox\0", 6);
	participant_expect_refusal(scene->link, 3, ENOENT);
	open_kind(scene->link, 3, CHANNEL_MESSAGE, "", 0);
	participant_expect_refusal(scene->link, 3, ENOENT);
	open_kind(scene->link, 3, CHANNEL_MESSAGE, "inbo", 4);
	participant_expect_refusal(scene->link, 3, ENOENT);
	assert_int_equal(scene->asked, 2); /* policy is asked about names only */
	assert_int_equal(scene->links, 0);
}

SCENE_TEST_EACH(endpoint_takes_only_the_kinds_it_is_for, scene_start, bound, 3)
{
	assert_int_equal(bind_name(scene, scene->b, "inbox", 1u << bound), 0);
	for (uint32_t kind = 0; kind < 3; kind++) {
		open_kind(scene->link, 1 + 2 * kind, kind + 1, "inbox", 5);
		if (kind == (uint32_t)bound)
			expect_open(scene->b, "inbox");
		else
			participant_expect_refusal(scene->link, 1 + 2 * kind, EPROTOTYPE);
	}
	assert_int_equal(scene->streams, bound == 2);
}

SCENE_TEST(program_that_cannot_take_more_refuses_with_the_reason, scene_start)
{
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	for (uint32_t i = 0; i < 4; i++) {
		open_kind(scene->link, 1 + 2 * i, CHANNEL_MESSAGE, "inbox", 5);
		expect_open(scene->b, "inbox");
	}
	open_kind(scene->link, 9, CHANNEL_MESSAGE, "inbox", 5);
	participant_expect_refusal(scene->link, 9, ENOBUFS);
	scene->stream_error = -ENOBUFS;
	open_kind(scene->link, 9, CHANNEL_STREAM, "inbox", 5);
	participant_expect_refusal(scene->link, 9, ENOBUFS);
	scene->stream_error = -ENOMEM; /* no error that the protocol knows */
	open_kind(scene->link, 9, CHANNEL_STREAM, "inbox", 5);
	participant_expect_refusal(scene->link, 9, ENOBUFS);
}

/* Lets other rules hold for what the program has accepted. */
static void recheck(struct scene *scene)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next_channel(&scene->b->hop, &number)))
		if (!end->is_opener)
			router_recheck(scene->router, end->channel, true);
}

SCENE_TEST(what_the_rules_forbid_from_now_on_ends_for_both, scene_start)
{
	uint32_t number;

	assert_int_equal(bind_name(scene, scene->b, "open", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->b, "secret", ANY_KIND), 0);
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "open", 4);
	expect_open(scene->b, "open");
	open_kind(scene->link, 3, CHANNEL_MESSAGE, "secret", 6);
	number = expect_open(scene->b, "secret");
	/* What the program has opened itself is no matter of our rules. */
	open_kind(scene->b, 0, CHANNEL_MESSAGE, "7:secret", 8);
	expect_open(scene->link, "secret");
	recheck(scene);
	rig_settle(&scene->rig);
	assert_int_equal(scene->b->hop.channels.count, 3);
	/* It may have outlived the endpoint's name. */
	router_unbind_all(scene->router, &scene->b->hop);
	scene->taken_back = "secret";
	scene->why_taken_back = EACCES;
	recheck(scene);
	switch_pass(&scene->rig.board[0]);
	participant_expect_refusal(scene->link, 3, EACCES);
	participant_expect_refusal(scene->b, number, EACCES);
	assert_int_equal(scene->b->hop.channels.count, 2);
	assert_int_equal(scene->link->hop.channels.count, 2);
}

/* A channel from domain 0 to `inbox`, for which policy has allowed it. */
static void start_with_inbox(struct scene *scene)
{
	scene_start(scene);
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene->b, "inbox");
	scene->taken_back = "inbox";
}

SCENE_TEST(who_says_anew_who_sends_pays_for_them_again, start_with_inbox)
{
	const struct turns *turns = &scene->link->hop.board->turns;
	uint64_t before = turns->spent;

	scene->cost = 5000;
	assert_int_equal(router_source_moved(scene->router, hop_find_channel(&scene->link->hop, 1),
					     &(struct frame_sender){.domid = 9}),
			 0);
	assert_in_range(turns->spent - before, 5000, 6000);
}

static void decide(struct scene *scene, int error)
{
	scene->why_taken_back = error;
	recheck(scene);
	rig_settle(&scene->rig);
}

SCENE_TEST(what_is_not_decided_any_more_ends_with_that_error, start_with_inbox)
{
	decide(scene, ENODATA);
	participant_expect_refusal(scene->link, 1, ENODATA);
}

static void expect_end(struct scene *scene, uint32_t error)
{
	static struct participant_frame frame;
	struct frame_reset reset;

	assert_true(participant_expect(scene->b, FRAME_RESET, &frame));
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
}

SCENE_TEST(names_unknown_after_a_restore_end_nothing_until_known, start_with_inbox)
{
	static struct participant_frame frame;

	router_restart_hop(scene->router, &scene->b->hop, 5);
	for (unsigned i = 0; i < 3; i++)
		decide(scene, ENODATA);
	assert_false(participant_get(scene->b, 0, &frame));
	decide(scene, EACCES);
	expect_end(scene, EACCES);
}

SCENE_TEST(names_that_are_known_after_a_restore_are_as_before, start_with_inbox)
{
	static struct participant_frame frame;

	router_restart_hop(scene->router, &scene->b->hop, 5);
	decide(scene, ENODATA);
	decide(scene, 0);
	assert_false(participant_get(scene->b, 0, &frame));
	decide(scene, ENODATA);
	expect_end(scene, ENODATA);
}

/* Whose the channel is that the participant has opened. */
static uint32_t domid_of(struct participant *participant, uint32_t number)
{
	const struct channel_end *end = channel_table_find(&participant->hop.channels, number);

	assert_non_null(end);
	return end->channel->identity.domid;
}

SCENE_TEST(what_a_restored_domain_opened_is_that_of_its_new_number, scene_start)
{
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	open_kind(scene->a, 0, CHANNEL_MESSAGE, "5:inbox", 7);
	open_kind(scene->a, 2, CHANNEL_MESSAGE, "7:inbox", 7);
	expect_open(scene->b, "inbox");
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene->b, "inbox");
	scene->self.domid = 8;
	/* In any order, and each hop only has one of the two ends. */
	router_restart_hop(scene->router, &scene->b->hop, 5);
	router_restart_hop(scene->router, &scene->a->hop, 5);
	assert_int_equal(domid_of(scene->a, 0), 8);
	assert_int_equal(domid_of(scene->a, 2), 8);
	assert_int_equal(domid_of(scene->link, 1), 0);
}

/* Whose name isn't known while it isn't there. */
SCENE_TEST_EACH(policy_decides_about_a_peer_that_was_away_when_it_is_back, start_with_inbox, is_other, 2)
{
	const uint32_t to = is_other ? 9 : 0;
	static struct participant_frame frame;
	uint32_t at = 0;

	assert_int_equal(hop_pause(&scene->link->hop), 0);
	decide(scene, ENODATA);
	/* By the number that it had, there may be another one now. */
	decide(scene, EACCES);
	assert_false(participant_get(scene->b, 0, &frame));
	scene->why_taken_back = ENODATA;
	assert_false(router_resumed(scene->router, &scene->link->hop, peer_domain(0), peer_domain(to), &at));
	assert_int_equal(scene->asked_about, to);
	rig_settle(&scene->rig);
	hop_drop_replay(&scene->link->hop);
	scene->link->hop.life = HOP_DETACHED;
	decide(scene, ENODATA);
	/* It hears at most what number its sender has now. */
	assert_int_equal(participant_get(scene->b, 0, &frame), is_other);
	assert_false(participant_get(scene->b, 0, &frame));
	decide(scene, EACCES);
	expect_end(scene, EACCES);
}

/* Where that doesn't hang on its name. */
SCENE_TEST(what_a_peer_that_is_only_away_may_not_any_more_ends_at_once, start_with_inbox)
{
	assert_int_equal(hop_pause(&scene->link->hop), 0);
	decide(scene, EACCES);
	expect_end(scene, EACCES);
}

SCENE_TEST(policy_decides_on_a_restored_peers_channels_in_pieces, scene_start)
{
	enum { MANY = 1000 };
	uint32_t at = 0;
	unsigned pieces = 1;

	scene->link->hop.channels.max = scene->b->hop.channels.max = MANY;
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		open_kind(scene->link, 2 * i + 1, CHANNEL_MESSAGE, "inbox", 5);
		expect_open(scene->b, "inbox");
	}
	assert_int_equal(hop_pause(&scene->link->hop), 0);
	for (bool more = true; more; pieces++) {
		uint64_t before = scene->link->hop.board->turns.spent;

		more = router_resumed(scene->router, &scene->link->hop, peer_domain(0), peer_domain(9), &at);
		assert_true(scene->link->hop.board->turns.spent - before < TURNS_PIECE);
		/* Those that come later are still those of the old number. */
		assert_int_equal(domid_of(scene->link, 2 * MANY - 1), more ? 0 : 9);
	}
	assert_true(pieces > MANY * COST_OPEN / TURNS_PIECE);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(domid_of(scene->link, 2 * i + 1), 9);
	hop_drop_replay(&scene->link->hop);
}

SCENE_TEST(what_is_not_decided_yet_says_so_and_nothing_else, scene_start)
{
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	scene->undecided = "inbox";
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "inbox", 5);
	participant_expect_refusal(scene->link, 1, ENODATA);
	scene->undecided = "none";
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "none", 4);
	participant_expect_refusal(scene->link, 1, ENODATA);
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene->b, "inbox");
}

/* The program was to reset them, and didn't. */
SCENE_TEST(channels_of_an_unbound_endpoint_end, scene_start)
{
	uint32_t number;

	assert_int_equal(bind_name(scene, scene->b, "kept", ANY_KIND), 0);
	assert_int_equal(bind_name(scene, scene->b, "inbox", ANY_KIND), 0);
	open_kind(scene->link, 1, CHANNEL_MESSAGE, "kept", 4);
	expect_open(scene->b, "kept");
	open_kind(scene->link, 3, CHANNEL_MESSAGE, "inbox", 5);
	number = expect_open(scene->b, "inbox");
	open_kind(scene->b, 0, CHANNEL_MESSAGE, "7:inbox", 7); /* one of another domain */
	expect_open(scene->link, "inbox");
	assert_int_equal(unbind_name(scene, scene->b, "inbox"), 0);
	switch_pass(&scene->rig.board[0]);
	participant_expect_refusal(scene->link, 3, ENOENT);
	participant_expect_refusal(scene->b, number, ENOENT);
	assert_int_equal(scene->b->hop.channels.count, 2);
	assert_int_equal(scene->link->hop.channels.count, 2);
}

/* As many as they are, nobody waits for them all. */
SCENE_TEST(channels_of_an_unbound_endpoint_end_in_pieces, scene_start)
{
	enum { CHANNELS = 100 };
	struct rig_options program = {
		.kind = HOP_SHARED, .ring = 65536, .parity = 1, .channels_max = CHANNELS};
	const struct frame_text name = frame_text_of("inbox");
	struct participant *many = participant_new(&scene->rig, &program);
	struct turns *turns = &scene->rig.board[0].turns;
	unsigned pieces = 0;
	uint32_t at = 0;
	bool more = true;

	many->open = scene->b->open;
	assert_int_equal(bind_name(scene, many, "inbox", ANY_KIND), 0);
	for (uint32_t i = 0; i < CHANNELS; i++) {
		open_kind(scene->link, 1 + 2 * i, CHANNEL_MESSAGE, "inbox", 5);
		expect_open(many, "inbox");
	}
	assert_int_equal(router_unbind(scene->router, &many->hop, name, false), 0);
	while (more) {
		uint64_t before = turns->spent;

		more = router_end_channels(scene->router, &many->hop, name, &at);
		assert_true(turns->spent - before < CHANNELS * COST_CHANNEL_END / 2);
		pieces++;
	}
	assert_true(pieces > 1);
	rig_settle(&scene->rig);
	for (uint32_t i = 0; i < CHANNELS; i++)
		participant_expect_refusal(scene->link, 1 + 2 * i, ENOENT);
	assert_int_equal(scene->link->hop.channels.count, 0);
}
