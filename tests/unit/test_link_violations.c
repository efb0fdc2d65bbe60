/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a peer can do wrong on a link: it is told so and its session ends, or what it said may be skipped.
 */
#include "tests/unit/link_rig.h"

#include <errno.h>

TEST(another_major_is_refused)
{
	struct scene scene;

	for (int shape = 0; shape < 2; shape++) {
		scene_start(&scene);
		connect_peer(&scene);
		if (shape)
			/* whatever else stands in that version's HELLO */
			say(&scene, FRAME_HELLO, "\2\0", 2);
		else
			say_hello(&scene, PROTOCOL_MAJOR + 1);
		assert_int_equal(scene.ups, 0);
		expect_violation(&scene, EPROTONOSUPPORT);
	}
}

TEST(short_hello_is_refused)
{
	struct scene scene;

	for (uint32_t length = 0; length <= 2; length += 2) {
		scene_start(&scene);
		connect_peer(&scene);
		say(&scene, FRAME_HELLO, "\1\0", length);
		assert_int_equal(scene.ups, 0);
		expect_violation(&scene, EPROTO);
	}
}

TEST(anything_before_hello_is_refused)
{
	static const uint8_t types[] = {FRAME_PING, FRAME_PONG, FRAME_ACK, FRAME_DIRECTORY, FRAME_OPEN};
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];
	struct scene scene;

	for (unsigned i = 0; i < sizeof(types); i++) {
		scene_start_with(&scene, types[i] == FRAME_DIRECTORY ? 0 : 7);
		connect_peer(&scene);
		put(&scene, types[i], 1, payload, frame_open_encode(&open, payload));
		notify(&scene);
		assert_int_equal(scene.opens, 0);
		assert_int_equal(scene.directories, 0);
		expect_violation(&scene, EINVAL);
	}
}

TEST(second_hello_is_busy)
{
	struct scene scene;

	up(&scene);
	say_hello(&scene, PROTOCOL_MAJOR);
	expect_violation(&scene, EBUSY);
}

TEST(wrong_sequence_ends_the_session)
{
	struct scene scene;

	for (int moment = 0; moment < 2; moment++) {
		for (int wrong = -1; wrong <= 1; wrong += 2) {
			scene_start(&scene);
			if (moment)
				greet(&scene);
			else
				connect_peer(&scene);
			scene.peer.sequence += (uint32_t)wrong;
			say_hello(&scene, PROTOCOL_MAJOR);
			expect_last_error(&scene, "was expected");
			expect_violation(&scene, EPROTO);
		}
	}
}

TEST(impossible_position_ends_the_session)
{
	struct scene scene;
	uint64_t sent;

	up(&scene);
	sent = frame_size(scene.peer.header.length); /* our HELLO */
	say_u64(&scene, FRAME_ACK, sent);
	say_u64(&scene, FRAME_ACK, sent);
	expect_state(&scene, LINK_UP);
	say_u64(&scene, FRAME_ACK, sent - 8); /* it can't fall */
	expect_violation(&scene, EPROTO);
	up(&scene);
	say_u64(&scene, FRAME_ACK, sent + 8); /* never sent */
	expect_violation(&scene, EPROTO);
	up(&scene);
	say_u64(&scene, FRAME_ACK, UINT64_MAX);
	expect_violation(&scene, EPROTO);
	up(&scene);
	say(&scene, FRAME_ACK, "1234", 4);
	expect_violation(&scene, EPROTO);
}

TEST(positions_begin_anew_with_each_session)
{
	struct scene scene;

	up(&scene);
	say_u64(&scene, FRAME_ACK, frame_size(scene.peer.header.length));
	links_lost(scene.links, peer_domain(7), true, "its daemon was restarted");
	settle(&scene);
	greet(&scene);
	say_u64(&scene, FRAME_ACK, 0);
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

TEST(only_domain_0_says_who_is_there)
{
	struct scene scene;

	scene_start_with(&scene, 0);
	greet(&scene);
	say(&scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene.directories, 1);
	expect_state(&scene, LINK_UP);
	scene.directory_result = -EPROTO;
	say(&scene, FRAME_DIRECTORY, "12345678", 8);
	expect_violation(&scene, EPROTO);
	up(&scene);
	say(&scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene.directories, 0);
	expect_violation(&scene, EPROTO);
}

TEST(only_domain_0_says_whose_what_it_passes_on_is)
{
	static const uint8_t domid[4] = {9};
	struct scene scene;

	up(&scene);
	say(&scene, FRAME_SOURCE, domid, sizeof(domid));
	expect_violation(&scene, EPROTO);
	for (unsigned shape = 0; shape < 3; shape++) {
		scene_start_with(&scene, 0);
		greet(&scene);
		put(&scene, FRAME_SOURCE, 3, domid, sizeof(domid)); /* which has ended here */
		notify(&scene);
		expect_state(&scene, LINK_UP);
		if (shape == 0) {
			say(&scene, FRAME_SOURCE, domid, 3);
		} else if (shape == 1) { /* ours */
			put(&scene, FRAME_SOURCE, open_channel(&scene)->acceptor.number, domid,
			    sizeof(domid));
			notify(&scene);
		} else {
			scene_stop(&scene);
			continue;
		}
		assert_int_equal(scene.sources, 0);
		expect_violation(&scene, EPROTO);
	}
}

TEST(frames_of_local_hops_are_refused)
{
	static const uint8_t types[] = {0,	     FRAME_WELCOME, FRAME_BIND,	  FRAME_WATCH,
					FRAME_QUERY, FRAME_REPLY,   FRAME_ACCEPT, 99};
	struct scene scene;

	for (unsigned i = 0; i < sizeof(types); i++) {
		up(&scene);
		say(&scene, types[i], "12345678", 8);
		expect_violation(&scene, EPROTO);
	}
}

TEST(what_may_be_skipped_is_skipped)
{
	struct scene scene;

	up(&scene);
	say(&scene, FRAME_OPTIONAL, "12345678", 8);
	say_u64(&scene, FRAME_PONG, 1234); /* nobody asked */
	say_u64(&scene, FRAME_PONG, 0);
	expect_state(&scene, LINK_UP);
	expect_silence(&scene);
	scene_stop(&scene);
}
