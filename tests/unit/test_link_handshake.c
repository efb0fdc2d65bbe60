/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a link begins: when it is made, what HELLO says, who is believed to be at the other end, and what a
 * restore leaves of it.
 */
#include "tests/unit/link_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/link/vchan_transport.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"

TEST(link_is_made_when_it_is_wanted)
{
	struct scene scene;
	int error = 0;

	scene_start(&scene);
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	expect_state(&scene, LINK_CONNECTING);
	/* Somebody else may have to ask as well, until it is there. */
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	assert_int_equal(scene.connects, 2);
	greet(&scene);
	assert_int_equal(scene.ups, 1);
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	assert_int_equal(scene.connects, 2);
	/* Nobody has one with itself. */
	assert_null(links_want(scene.links, peer_domain(OWN), NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	scene_stop(&scene);
}

TEST(what_is_not_there_leaves_nothing_behind)
{
	struct failures failures = {0};
	struct scene scene;
	int error;

	scene_start(&scene);
	scene.is_up = false;
	/* It isn't even begun where that is known. */
	scene.connect_error = -EHOSTDOWN;
	assert_null(links_want(scene.links, peer_domain(7), NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	assert_int_equal(links_count(scene.links), 0);
	scene.connect_error = 0;
	for (uint32_t domid = 1000; domid < 3000; domid++) {
		scene.peer.domid = domid;
		open_channel(&scene);
		assert_int_equal(links_ping(scene.links, peer_domain(domid), NULL, on_pong, &scene, 77), 0);
		links_failed(scene.links, peer_domain(domid), domid < 2000 ? -EHOSTDOWN : -EHOSTUNREACH,
			     "it isn't there");
		assert_int_equal(scene.pong, domid < 2000 ? -EHOSTDOWN : -EHOSTUNREACH);
		assert_int_equal(links_count(scene.links), 0);
		forget_program_channel(&scene);
	}
	assert_int_equal(scene.pongs, 2000);
	assert_int_equal(scene.unlinkable, 0);
	/* Why, as far as a number doesn't say it. */
	links_each_failure(scene.links, collect_failure, &failures);
	assert_int_equal(failures.count, LINKS_FAILURES_MAX);
	assert_int_equal(failures.first, 2999);
	/* One that is there stays, with its reason. */
	scene.is_up = true;
	scene.peer.domid = 7;
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	links_failed(scene.links, peer_domain(7), -EHOSTUNREACH, "neither may map");
	assert_int_equal(links_count(scene.links), 1);
	assert_string_equal(info_of(&scene).last_error, "neither may map");
	scene_stop(&scene);
}

TEST(what_waits_for_a_link_that_cannot_be_goes_elsewhere)
{
	struct scene scene;
	int error;

	scene_start(&scene);
	scene.waiting = open_channel(&scene);
	links_failed(scene.links, peer_domain(7), -ENOLINK, "neither may map");
	assert_int_equal(scene.unlinkable, 1);
	assert_int_equal(scene.waiting->opener.reset_error, EACCES);
	expect_state(&scene, LINK_IDLE);
	assert_string_equal(info_of(&scene).last_error, "why, and what follows");
	/* What is wanted later learns it at once. */
	scene.connect_error = -ENOLINK;
	assert_null(links_want(scene.links, peer_domain(7), NULL, &error));
	assert_int_equal(error, -ENOLINK);
	expect_state(&scene, LINK_IDLE);
	scene_stop(&scene);
}

TEST(who_is_away_is_led_to_by_domain_0_also_when_asked_before)
{
	struct scene scene;

	scene_start(&scene);
	scene.waiting = open_channel(&scene);
	assert_false(links_zero_knows(scene.links, peer_domain(7)));
	scene.zero_knows = 7; /* XenStore hasn't said yet that its presence is no more */
	assert_true(links_zero_knows(scene.links, peer_domain(7)));
	links_failed(scene.links, peer_domain(7), -EHOSTDOWN, "gone");
	assert_int_equal(scene.unlinkable, 1);
	assert_int_equal(scene.waiting->opener.reset_error, EACCES); /* the rig's way */
	/* By another number its own daemon is asked as soon as it is there. */
	scene.zero_knows = 0;
	scene.zero_sees = 7;
	assert_false(links_zero_knows(scene.links, peer_domain(7)));
	scene.is_up = false;
	assert_true(links_zero_knows(scene.links, peer_domain(7)));
	scene_stop(&scene);
}

/* A link with domain 0, and one with domain 7, in which no daemon was found. */
static void find_nobody(struct scene *scene)
{
	int error = 0;

	scene_start_with(scene, 0);
	scene->peer_flags = HELLO_RELAYS;
	greet(scene);
	scene->other = 7;
	scene->zero_tells = 7;
	assert_non_null(links_want(scene->links, peer_domain(7), NULL, &error));
	assert_int_equal(links_ping(scene->links, peer_domain(7), NULL, on_pong, scene, 77), 0);
	links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "it isn't there");
	/* Who asks again, and there is still nobody, waits with that. */
	scene->connect_error = -EHOSTDOWN;
	assert_non_null(links_want(scene->links, peer_domain(7), NULL, &error));
	assert_int_equal(scene->pongs, 0);
}

TEST(what_nobody_is_there_for_waits_until_domain_0_has_said_why)
{
	enum { AWAY, NO_MORE, NOTHING, UP_AGAIN, WORDS };
	struct scene scene;

	for (int word = 0; word < WORDS; word++) {
		find_nobody(&scene);
		if (word == AWAY)
			scene.zero_knows = 7;
		if (word == NO_MORE)
			scene.zero_tells = 0;
		if (word == UP_AGAIN) {
			scene.connect_error = 0;
			links_failed(scene.links, peer_domain(7), -EHOSTUNREACH, "another reason");
			assert_int_equal(scene.pong, -EHOSTUNREACH);
			scene_stop(&scene);
			continue;
		}
		if (word == NOTHING) {
			pass(&scene, 300);
			note_name(&scene, 7); /* something else was said of it */
			pass(&scene, 100);
			assert_int_equal(scene.pongs, 0);
			pass(&scene, 110);
		} else {
			note_name(&scene, 7);
			assert_int_equal(scene.pongs, 0);
			pass(&scene, 1);
		}
		/* Who is away is reached through domain 0, which is asked to ping it. */
		assert_int_equal(scene.pongs, word == AWAY ? 0 : 1);
		if (word != AWAY)
			assert_int_equal(scene.pong, -EHOSTDOWN);
		scene_stop(&scene);
	}
}

TEST(domain_0s_word_is_read_though_we_stood_still)
{
	for (int is_said = 0; is_said < 2; is_said++) {
		struct scene scene;

		find_nobody(&scene);
		pass(&scene, 800); /* 300 too late */
		assert_int_equal(scene.pongs, 0);
		pass(&scene, 250);
		assert_int_equal(scene.pongs, 0);
		if (is_said) {
			scene.zero_knows = 7;
			note_name(&scene, 7);
		}
		pass(&scene, 60);
		assert_int_equal(scene.pongs, is_said ? 0 : 1);
		if (!is_said)
			assert_int_equal(scene.pong, -EHOSTDOWN);
		scene_stop(&scene);
	}
}

TEST(who_comes_while_domain_0s_word_is_waited_for_is_asked)
{
	struct scene scene;
	unsigned connects;
	int error;

	find_nobody(&scene);
	connects = scene.connects;
	scene.connect_error = 0; /* it has come */
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	assert_int_equal(scene.connects, connects + 1);
	pass(&scene, 600);
	assert_int_equal(scene.pongs, 0);
	links_failed(scene.links, peer_domain(7), -EHOSTUNREACH, "another reason");
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	scene_stop(&scene);
}

/* As somebody can bring about who asks for that one and for others, in turns. */
TEST(wait_for_domain_0s_word_ends_though_it_is_sought_again)
{
	struct scene scene;
	unsigned times = 0;
	int error;

	find_nobody(&scene);
	while (!scene.pongs) {
		assert_true(times++ < 10);
		scene.connect_error = 0;
		links_want(scene.links, peer_domain(7), NULL, &error);
		links_failed(scene.links, peer_domain(7), -EHOSTDOWN, "it isn't there");
		pass(&scene, 200);
	}
	assert_int_equal(scene.pong, -EHOSTDOWN);
	scene_stop(&scene);
}

/* The peer's daemon hands over. If it hasn't heard our HELLO, the next one knows of no session. */
TEST(peer_that_leaves_before_it_has_heard_us_is_greeted_anew)
{
	for (int shape = 0; shape < 4; shape++) {
		bool pings = shape & 1, has_greeted = shape & 2;
		struct vchan *left;
		struct scene scene;
		vchan_event_fn event;

		scene_start(&scene);
		if (pings)
			assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77),
					 0);
		else
			open_channel(&scene);
		connect_peer(&scene);
		left = scene.peer.vchan;
		event = left->event;
		left->event = NULL;
		if (has_greeted)
			say_hello(&scene, PROTOCOL_MAJOR);
		left->event = event;
		left->state = VCHAN_CLOSED;
		left->was_left = true;
		notify(&scene);
		expect_state(&scene, LINK_CONNECTING);
		assert_int_equal(scene.ups, 0);
		assert_int_equal(scene.pongs, 0);
		scene.peer.vchan = NULL;
		greet(&scene);
		expect(&scene, pings ? FRAME_PING : FRAME_OPEN);
		end_scene(&scene);
		free(left);
	}
}

TEST(after_a_restore_links_begin_anew_under_the_new_number)
{
	struct failures failures = {0};
	struct scene scene;
	struct hop *hop;
	int error;

	scene_start(&scene);
	scene.is_up = false;
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	links_failed(scene.links, peer_domain(7), -EHOSTUNREACH, "neither may map");
	scene.is_up = true;
	greet(&scene);
	hop = links_want(scene.links, peer_domain(7), NULL, &error);
	assert_int_equal(hop->channels.parity, 0); /* the lower number of the two has the even ones */
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	links_restart(scene.links);
	settle(&scene);
	assert_int_equal(links_count(scene.links), 0);
	assert_int_equal(scene.downs, 1);
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	assert_true(scene.peer.vchan->closed);
	/* Those reasons are the old host's. */
	links_each_failure(scene.links, collect_failure, &failures);
	assert_int_equal(failures.count, 0);
	scene.self.domid = 9;
	assert_null(links_want(scene.links, peer_domain(9), NULL, &error));
	assert_int_equal(error, -EHOSTDOWN);
	hop = links_want(scene.links, peer_domain(7), NULL, &error);
	assert_non_null(hop);
	assert_int_equal(hop->channels.parity, 1);
	greet(&scene);
	scene_stop(&scene);
}

/* The peer may name a session in its own: see test_link_tags.c. */
TEST(channel_that_was_opened_before_goes_out_behind_both_hellos)
{
	struct scene scene;

	scene_start(&scene);
	open_channel(&scene);
	connect_peer(&scene);
	expect(&scene, FRAME_HELLO);
	expect_silence(&scene);
	say_hello(&scene, PROTOCOL_MAJOR);
	expect(&scene, FRAME_OPEN);
	assert_int_equal(scene.peer.header.channel & 1, 0); /* the lower domid takes even numbers */
	scene_stop(&scene);
}

TEST(version_of_the_peer_is_plain_text)
{
	struct scene scene;

	up(&scene);
	assert_string_equal(info_of(&scene).version, "1.2??[1m");
	scene_stop(&scene);
}

TEST(sender_is_the_domain_at_the_other_end_whatever_it_claims)
{
	struct frame_open open = {
		.kind = CHANNEL_MESSAGE, .identity = {.domid = 0, .uid = 0}, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];
	struct scene scene;

	up(&scene);
	put(&scene, FRAME_OPEN, 1, payload, frame_open_encode(&open, payload));
	notify(&scene);
	assert_int_equal(scene.opens, 1); /* on_open() has looked at it */
	expect(&scene, FRAME_RESET);
	scene_stop(&scene);
}
