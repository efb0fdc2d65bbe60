/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may reach an endpoint, with which kinds of channels, and what ends when that changes.
 */
#include "tests/unit/router_rig.h"

#include <errno.h>

#include "daemon/router.h"

static void who_may_not_reach_it_does_not_learn_whether_it_exists(void **state)
{
	struct scene scene;

	for (int exists = 0; exists < 2; exists++) {
		scene_start(&scene);
		scene.denied = "secret";
		if (exists)
			assert_int_equal(bind_name(&scene, scene.b, "secret", 1), 0);
		refused(&scene, "5:secret", EACCES);
		/* Nor by the kind that it is for. */
		open_kind(scene.link, 1, CHANNEL_CALL, "secret", 6);
		expect_refusal(scene.link, 1, EACCES);
		assert_int_equal(scene.asked, 2);
		scene_stop(&scene);
	}
}

static void peer_reaches_endpoints_and_nothing_else(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene.b, "inbox");
	assert_int_equal(scene.asked, 1);
	/* No addresses: that would have us relay; and nothing that couldn't have been bound. */
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "5:inbox", 7);
	expect_refusal(scene.link, 3, ENOENT);
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "inbox\0", 6);
	expect_refusal(scene.link, 3, ENOENT);
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "", 0);
	expect_refusal(scene.link, 3, ENOENT);
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "inbo", 4);
	expect_refusal(scene.link, 3, ENOENT);
	assert_int_equal(scene.asked, 2); /* policy is asked about names only */
	assert_int_equal(scene.links, 0);
	scene_stop(&scene);
}

static void endpoint_takes_only_the_kinds_it_is_for(void **state)
{
	struct scene scene;

	for (uint32_t bound = 0; bound < 3; bound++) {
		scene_start(&scene);
		assert_int_equal(bind_name(&scene, scene.b, "inbox", 1u << bound), 0);
		for (uint32_t kind = 0; kind < 3; kind++) {
			open_kind(scene.link, 1 + 2 * kind, kind + 1, "inbox", 5);
			if (kind == bound)
				expect_open(scene.b, "inbox");
			else
				expect_refusal(scene.link, 1 + 2 * kind, EPROTOTYPE);
		}
		assert_int_equal(scene.streams, bound == 2);
		scene_stop(&scene);
	}
}

static void program_that_cannot_take_more_refuses_with_the_reason(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	for (uint32_t i = 0; i < 4; i++) {
		open_kind(scene.link, 1 + 2 * i, CHANNEL_MESSAGE, "inbox", 5);
		expect_open(scene.b, "inbox");
	}
	open_kind(scene.link, 9, CHANNEL_MESSAGE, "inbox", 5);
	expect_refusal(scene.link, 9, ENOBUFS);
	scene.stream_error = -ENOBUFS;
	open_kind(scene.link, 9, CHANNEL_STREAM, "inbox", 5);
	expect_refusal(scene.link, 9, ENOBUFS);
	scene.stream_error = -ENOMEM; /* no error that the protocol knows */
	open_kind(scene.link, 9, CHANNEL_STREAM, "inbox", 5);
	expect_refusal(scene.link, 9, ENOBUFS);
	scene_stop(&scene);
}

static void what_the_rules_forbid_from_now_on_ends_for_both(void **state)
{
	static struct party_frame frame;
	struct frame_reset reset;
	struct scene scene;
	uint32_t number;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "open", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "secret", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "open", 4);
	expect_open(scene.b, "open");
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "secret", 6);
	number = expect_open(scene.b, "secret");
	/* What the program has opened itself is no matter of our rules. */
	open_kind(scene.b, 0, CHANNEL_MESSAGE, "7:secret", 8);
	expect_open(scene.link, "secret");
	router_recheck_hop(scene.router, &scene.b->hop);
	rig_settle(&scene.rig);
	assert_int_equal(scene.b->hop.channels.count, 3);
	/* It may have outlived the endpoint's name. */
	router_unbind_all(scene.router, &scene.program_b);
	scene.taken_back = "secret";
	scene.why_taken_back = EACCES;
	router_recheck_hop(scene.router, &scene.b->hop);
	relay_pass(&scene.rig.relay[0]);
	expect_refusal(scene.link, 3, EACCES);
	assert_true(party_expect(scene.b, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, EACCES);
	party_reset(scene.b, number, 0, 0, 0);
	rig_settle(&scene.rig);
	assert_int_equal(scene.b->hop.channels.count, 2);
	assert_int_equal(scene.link->hop.channels.count, 2);
	scene_stop(&scene);
}

static void what_is_not_decided_any_more_ends_with_that_error(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene.b, "inbox");
	scene.taken_back = "inbox";
	scene.why_taken_back = ENODATA;
	router_recheck_hop(scene.router, &scene.b->hop);
	relay_pass(&scene.rig.relay[0]);
	expect_refusal(scene.link, 1, ENODATA);
	scene_stop(&scene);
}

static void what_is_not_decided_yet_says_so_and_nothing_else(void **state)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	scene.undecided = "inbox";
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_refusal(scene.link, 1, ENODATA);
	scene.undecided = "none";
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "none", 4);
	expect_refusal(scene.link, 1, ENODATA);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "inbox", 5);
	expect_open(scene.b, "inbox");
	scene_stop(&scene);
}

/* The program was to reset them, and didn't. */
static void channels_of_an_unbound_endpoint_end(void **state)
{
	static struct party_frame frame;
	struct frame_reset reset;
	struct scene scene;
	uint32_t number;

	scene_start(&scene);
	assert_int_equal(bind_name(&scene, scene.b, "kept", ANY_KIND), 0);
	assert_int_equal(bind_name(&scene, scene.b, "inbox", ANY_KIND), 0);
	open_kind(scene.link, 1, CHANNEL_MESSAGE, "kept", 4);
	expect_open(scene.b, "kept");
	open_kind(scene.link, 3, CHANNEL_MESSAGE, "inbox", 5);
	number = expect_open(scene.b, "inbox");
	open_kind(scene.b, 0, CHANNEL_MESSAGE, "7:inbox", 7); /* one of another domain */
	expect_open(scene.link, "inbox");
	assert_int_equal(unbind_name(&scene, scene.b, "inbox"), 0);
	relay_pass(&scene.rig.relay[0]);
	expect_refusal(scene.link, 3, ENOENT);
	assert_true(party_expect(scene.b, FRAME_RESET, &frame));
	assert_int_equal(frame.header.channel, number);
	assert_int_equal(frame_reset_decode(frame.payload, frame.header.length, &reset), 0);
	assert_int_equal(reset.error, ENOENT);
	party_reset(scene.b, number, 0, 0, 0);
	rig_settle(&scene.rig);
	assert_int_equal(scene.b->hop.channels.count, 2);
	assert_int_equal(scene.link->hop.channels.count, 2);
	scene_stop(&scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_may_not_reach_it_does_not_learn_whether_it_exists),
		cmocka_unit_test(peer_reaches_endpoints_and_nothing_else),
		cmocka_unit_test(endpoint_takes_only_the_kinds_it_is_for),
		cmocka_unit_test(program_that_cannot_take_more_refuses_with_the_reason),
		cmocka_unit_test(what_the_rules_forbid_from_now_on_ends_for_both),
		cmocka_unit_test(what_is_not_decided_any_more_ends_with_that_error),
		cmocka_unit_test(what_is_not_decided_yet_says_so_and_nothing_else),
		cmocka_unit_test(channels_of_an_unbound_endpoint_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
