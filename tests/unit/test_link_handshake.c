/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a link begins: when it is made, what HELLO says, who is believed to be at the other end, and what a
 * restore leaves of it.
 */
#include "tests/unit/link_rig.h"

SCENE_TEST(link_is_made_when_it_is_wanted, scene_start)
{
	want(scene, 7);
	expect_state(scene, LINK_CONNECTING);
	/* Somebody else may have to ask as well, until it is there. */
	want(scene, 7);
	assert_int_equal(scene->connects, 2);
	greet(scene);
	assert_int_equal(scene->ups, 1);
	want(scene, 7);
	assert_int_equal(scene->connects, 2);
	/* Nobody has one with itself. */
	want_in_vain(scene, OWN, -EHOSTDOWN);
}

SCENE_TEST(what_is_not_there_leaves_nothing_behind, scene_start)
{
	struct failures failures = {0};

	scene->is_up = false;
	/* It isn't even begun where that is known. */
	scene->connect_error = -EHOSTDOWN;
	want_in_vain(scene, 7, -EHOSTDOWN);
	assert_int_equal(links_count(scene->links), 0);
	scene->connect_error = 0;
	for (uint32_t domid = 1000; domid < 3000; domid++) {
		scene->peer.domid = domid;
		open_channel(scene);
		ping(scene, domid);
		links_failed(scene->links, peer_domain(domid), domid < 2000 ? -EHOSTDOWN : -EHOSTUNREACH,
			     "it isn't there");
		assert_int_equal(scene->pong, domid < 2000 ? -EHOSTDOWN : -EHOSTUNREACH);
		assert_int_equal(links_count(scene->links), 0);
		forget_program_channels(scene);
	}
	assert_int_equal(scene->pongs, 2000);
	assert_int_equal(scene->unlinkable, 0);
	/* Why, as far as a number doesn't say it. */
	links_each_failure(scene->links, collect_failure, &failures);
	assert_int_equal(failures.count, LINKS_FAILURES_MAX);
	assert_int_equal(failures.first, 2999);
	/* One that is there stays, with its reason. */
	scene->is_up = true;
	scene->peer.domid = 7;
	want(scene, 7);
	links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "neither may map");
	assert_int_equal(links_count(scene->links), 1);
	assert_string_equal(info_of(scene).last_error, "neither may map");
}

SCENE_TEST(what_waits_for_a_link_that_cannot_be_goes_elsewhere, scene_start)
{
	scene->waiting = open_channel(scene);
	links_failed(scene->links, peer_domain(7), -ENOLINK, "neither may map");
	assert_int_equal(scene->unlinkable, 1);
	assert_int_equal(scene->waiting->opener.reset_error, EACCES);
	expect_state(scene, LINK_IDLE);
	assert_string_equal(info_of(scene).last_error, "why, and what follows");
	/* What is wanted later learns it at once. */
	scene->connect_error = -ENOLINK;
	want_in_vain(scene, 7, -ENOLINK);
	expect_state(scene, LINK_IDLE);
}

SCENE_TEST(who_is_away_is_led_to_by_domain_0_also_when_asked_before, scene_start)
{
	scene->waiting = open_channel(scene);
	assert_false(links_zero_knows(scene->links, peer_domain(7)));
	scene->zero_knows = 7; /* XenStore hasn't said yet that its presence is no more */
	assert_true(links_zero_knows(scene->links, peer_domain(7)));
	links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "gone");
	assert_int_equal(scene->unlinkable, 1);
	assert_int_equal(scene->waiting->opener.reset_error, EACCES); /* the rig's way */
	/* What is wanted later learns it at once, while it is still known from then that nobody is there. */
	scene->connect_error = -EHOSTDOWN;
	want_in_vain(scene, 7, -ENOLINK);
	/* By another number its own daemon is asked as soon as it is there. */
	scene->zero_knows = 0;
	scene->zero_sees = 7;
	assert_false(links_zero_knows(scene->links, peer_domain(7)));
	scene->is_up = false;
	assert_true(links_zero_knows(scene->links, peer_domain(7)));
}

/* A link with domain 0, and one with domain 7, in which no daemon was found. */
static void find_nobody(struct scene *scene)
{
	scene_start_with(scene, 0);
	scene->peer_flags = HELLO_RELAYS;
	greet(scene);
	scene->other = 7;
	scene->zero_tells = 7;
	want(scene, 7);
	ping(scene, 7);
	links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "it isn't there");
	/* Who asks again, and there is still nobody, waits with that. */
	scene->connect_error = -EHOSTDOWN;
	want(scene, 7);
	assert_int_equal(scene->pongs, 0);
	assert_int_equal(scene->words, 1);
}

enum { AWAY, NO_MORE, NOTHING, UP_AGAIN, NOBODY, WORDS };

SCENE_TEST_EACH(what_nobody_is_there_for_waits_until_domain_0_has_said_why, find_nobody, word, WORDS)
{
	if (word == AWAY)
		scene->zero_knows = 7;
	if (word == NO_MORE)
		scene->zero_tells = 0;
	if (word == UP_AGAIN) {
		scene->connect_error = 0;
		links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "another reason");
		assert_int_equal(scene->pong, -EHOSTUNREACH);
		return;
	}
	if (word == NOBODY)
		links_take_word(scene->links, 7);
	if (word == NOTHING) {
		pass(scene, 300);
		note_name(scene, 7); /* something else was said of it */
		pass(scene, 100);
		assert_int_equal(scene->pongs, 0);
		pass(scene, 110);
	} else {
		if (word < NOBODY)
			note_name(scene, 7);
		assert_int_equal(scene->pongs, 0);
		pass(scene, 1);
	}
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong,
			 word == AWAY ? -EHOSTUNREACH : -EHOSTDOWN); /* domain 0 leads to who is away */
}

SCENE_TEST_EACH(domain_0s_word_is_read_though_we_stood_still, find_nobody, is_said, 2)
{
	pass(scene, 800); /* 300 too late */
	assert_int_equal(scene->pongs, 0);
	pass(scene, 250);
	assert_int_equal(scene->pongs, 0);
	if (is_said) {
		scene->zero_knows = 7;
		note_name(scene, 7);
	}
	pass(scene, 60);
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, is_said ? -EHOSTUNREACH : -EHOSTDOWN);
}

SCENE_TEST(who_comes_while_domain_0s_word_is_waited_for_is_asked, find_nobody)
{
	unsigned connects = scene->connects;

	scene->connect_error = 0; /* it has come */
	want(scene, 7);
	assert_int_equal(scene->connects, connects + 1);
	pass(scene, 600);
	assert_int_equal(scene->pongs, 0);
	links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "another reason");
	assert_int_equal(scene->pong, -EHOSTUNREACH);
}

/* As somebody can bring about who asks for that one and for others, in turns. */
SCENE_TEST(wait_for_domain_0s_word_ends_though_it_is_sought_again, find_nobody)
{
	unsigned times = 0;

	while (!scene->pongs) {
		assert_true(times++ < 10);
		scene->connect_error = 0;
		want(scene, 7);
		links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "it isn't there");
		pass(scene, 200);
	}
	assert_int_equal(scene->pong, -EHOSTDOWN);
}

/* The peer's daemon hands over. If it hasn't heard our HELLO, the next one knows of no session. */
SCENE_TEST_EACH(peer_that_leaves_before_it_has_heard_us_is_greeted_anew, scene_start, shape, 4)
{
	bool pings = shape & 1, has_greeted = shape & 2;

	if (pings)
		ping(scene, 7);
	else
		open_channel(scene);
	connect_peer(scene);
	if (has_greeted)
		say_hello_unheard(scene);
	scene->peer.vchan->was_left = true;
	close_by_peer(scene);
	expect_state(scene, LINK_CONNECTING);
	assert_int_equal(scene->ups, 0);
	assert_int_equal(scene->pongs, 0);
	greet(scene);
	assert_int_equal(scene->pongs, pings);
	if (!pings)
		expect(scene, FRAME_OPEN);
}

SCENE_TEST(after_a_restore_links_begin_anew_under_the_new_number, scene_start)
{
	struct failures failures = {0};

	scene->is_up = false;
	want(scene, 7);
	links_failed(scene->links, peer_domain(7), -EHOSTUNREACH, "neither may map");
	scene->is_up = true;
	greet(scene);
	/* The lower number of the two has the even ones. */
	assert_int_equal(want(scene, 7)->channels.parity, 0);
	links_restart(scene->links);
	settle(scene);
	assert_int_equal(links_count(scene->links), 0);
	assert_int_equal(scene->downs, 1);
	assert_true(scene->peer.vchan->closed);
	/* Those reasons are the old host's. */
	links_each_failure(scene->links, collect_failure, &failures);
	assert_int_equal(failures.count, 0);
	scene->self.domid = 9;
	want_in_vain(scene, 9, -EHOSTDOWN);
	assert_int_equal(want(scene, 7)->channels.parity, 1);
	greet(scene);
}

/* The peer may name a session in its own: see test_link_tags.c. */
SCENE_TEST(channel_that_was_opened_before_goes_out_behind_both_hellos, scene_start)
{
	open_channel(scene);
	connect_peer(scene);
	expect(scene, FRAME_HELLO);
	expect_silence(scene);
	say_hello(scene, PROTOCOL_MAJOR);
	expect(scene, FRAME_OPEN);
	assert_int_equal(scene->peer.header.channel & 1, 0); /* the lower domid takes even numbers */
}

SCENE_TEST(version_of_the_peer_is_plain_text, up)
{
	assert_string_equal(info_of(scene).version, "1.2??[1m");
}

SCENE_TEST(sender_is_the_domain_at_the_other_end_whatever_it_claims, up)
{
	struct frame_open open = {
		.kind = CHANNEL_MESSAGE, .identity = {.domid = 0, .uid = 0}, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];

	put(scene, FRAME_OPEN, 1, payload, frame_open_encode(&open, payload));
	notify(scene);
	assert_int_equal(scene->opens, 1); /* on_open() has looked at it */
	expect(scene, FRAME_RESET);
}
