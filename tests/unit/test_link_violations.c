/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a peer can do wrong on a link: it is told so and its session ends, or what it said may be skipped.
 */
#include "tests/unit/link_rig.h"

SCENE_TEST_EACH(another_major_is_refused, scene_start, shape, 2)
{
	connect_peer(scene);
	if (shape)
		/* whatever else stands in that version's HELLO */
		say(scene, FRAME_HELLO, "\2\0", 2);
	else
		say_hello(scene, PROTOCOL_MAJOR + 1);
	assert_int_equal(scene->ups, 0);
	expect_violation(scene, EPROTONOSUPPORT);
}

SCENE_TEST_EACH(short_hello_is_refused, scene_start, is_long, 2)
{
	connect_peer(scene);
	say(scene, FRAME_HELLO, "\1\0", is_long ? 2 : 0);
	assert_int_equal(scene->ups, 0);
	expect_violation(scene, EPROTO);
}

static void refuse_before_hello(struct scene *scene, uint8_t type)
{
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];

	connect_peer(scene);
	put(scene, type, 1, payload, frame_open_encode(&open, payload));
	notify(scene);
	assert_int_equal(scene->opens, 0);
	assert_int_equal(scene->directories, 0);
	expect_violation(scene, EINVAL);
}

static const uint8_t of_links[] = {FRAME_PING, FRAME_PONG, FRAME_ACK, FRAME_OPEN};

SCENE_TEST_EACH(anything_before_hello_is_refused, scene_start, i, ROWS(of_links))
{
	refuse_before_hello(scene, of_links[i]);
}

static void start_with_domain_0(struct scene *scene)
{
	scene_start_with(scene, 0);
}

SCENE_TEST(directory_before_hello_is_refused, start_with_domain_0)
{
	refuse_before_hello(scene, FRAME_DIRECTORY);
}

SCENE_TEST(second_hello_is_busy, up)
{
	say_hello(scene, PROTOCOL_MAJOR);
	expect_violation(scene, EBUSY);
}

SCENE_TEST_EACH(wrong_sequence_ends_the_session, scene_start, shape, 4)
{
	bool is_greeted = shape & 1, is_earlier = shape & 2;

	if (is_greeted)
		greet(scene);
	else
		connect_peer(scene);
	scene->peer.sequence += is_earlier ? UINT32_MAX : 1;
	say_hello(scene, PROTOCOL_MAJOR);
	expect_last_error(scene, "was expected");
	expect_violation(scene, EPROTO);
}

enum { FALLEN, NEVER_SENT, LARGEST, SHORT, POSITIONS };

SCENE_TEST_EACH(impossible_position_ends_the_session, up, position, POSITIONS)
{
	uint64_t sent = frame_size(scene->peer.header.length); /* our HELLO */

	if (position == FALLEN) {
		say_u64(scene, FRAME_ACK, sent);
		say_u64(scene, FRAME_ACK, sent);
		expect_state(scene, LINK_UP);
		say_u64(scene, FRAME_ACK, sent - 8);
	} else if (position == SHORT) {
		say(scene, FRAME_ACK, "1234", 4);
	} else {
		say_u64(scene, FRAME_ACK, position == LARGEST ? UINT64_MAX : sent + 8);
	}
	expect_violation(scene, EPROTO);
}

SCENE_TEST(positions_begin_anew_with_each_session, up)
{
	say_u64(scene, FRAME_ACK, frame_size(scene->peer.header.length));
	lose(scene, true);
	greet(scene);
	say_u64(scene, FRAME_ACK, 0);
	expect_state(scene, LINK_UP);
}

SCENE_TEST(domain_0_says_who_is_there, up_with_domain_0)
{
	say(scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene->directories, 1);
	expect_state(scene, LINK_UP);
	scene->directory_result = -EPROTO;
	say(scene, FRAME_DIRECTORY, "12345678", 8);
	expect_violation(scene, EPROTO);
}

SCENE_TEST(nobody_else_says_who_is_there, up)
{
	say(scene, FRAME_DIRECTORY, "12345678", 8);
	assert_int_equal(scene->directories, 0);
	expect_violation(scene, EPROTO);
}

static const uint8_t domid_9[4] = {9};

SCENE_TEST(domain_0_says_whose_what_it_passes_on_is, up_with_domain_0)
{
	put(scene, FRAME_SENDER, 3, domid_9, sizeof(domid_9)); /* which has ended here */
	notify(scene);
	expect_state(scene, LINK_UP);
}

SCENE_TEST_EACH(a_bad_source_is_refused, up_with_domain_0, is_ours, 2)
{
	if (is_ours)
		put(scene, FRAME_SENDER, open_channel(scene)->acceptor.number, domid_9, sizeof(domid_9));
	else
		put(scene, FRAME_SENDER, 0, domid_9, 3);
	notify(scene);
	assert_int_equal(scene->sources, 0);
	expect_violation(scene, EPROTO);
}

SCENE_TEST(nobody_else_says_whose_what_it_passes_on_is, up)
{
	say(scene, FRAME_SENDER, domid_9, sizeof(domid_9));
	expect_violation(scene, EPROTO);
}

static const uint8_t of_local_hops[] = {0, FRAME_WELCOME, FRAME_BIND, FRAME_REPLY, FRAME_ACCEPT, 99};

SCENE_TEST_EACH(frames_of_local_hops_are_refused, up, i, ROWS(of_local_hops))
{
	say(scene, of_local_hops[i], "12345678", 8);
	expect_violation(scene, EPROTO);
}

SCENE_TEST(what_may_be_skipped_is_skipped, up)
{
	say(scene, FRAME_OPTIONAL, "12345678", 8);
	say_u64(scene, FRAME_PONG, 1234); /* nobody asked */
	say_u64(scene, FRAME_PONG, 0);
	expect_state(scene, LINK_UP);
	expect_silence(scene);
}
