/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An idle link is closed when both ends know that nothing is under way (protocol.md 5.5). */
#include "tests/unit/resume_rig.h"

#include "daemon/link/link_internal.h"
#include "daemon/switch/hop_internal.h"
#include "wire/bytes.h"

static const uint8_t asks[4] = {IDLE_ASKS}, no[4] = {IDLE_NO};

static void expect_idle(struct scene *scene, uint32_t what)
{
	expect(scene, FRAME_IDLE);
	assert_int_equal(scene->peer.header.length, 4);
	assert_int_equal(get_u32(scene->peer.payload), what);
}

static void expect_goodbye(struct scene *scene, uint32_t error)
{
	expect(scene, FRAME_GOODBYE);
	assert_int_equal(get_u32(scene->peer.payload), error);
	assert_true(scene->peer.vchan->closed);
}

/* A heartbeat, whose PING the peer answers. */
static void beat(struct scene *scene)
{
	pass(scene, HEARTBEAT_MS);
	while (hear(scene)) {
		if (scene->peer.header.type == FRAME_IDLE)
			return;
		assert_int_equal(scene->peer.header.type, FRAME_PING);
		say_u64(scene, FRAME_PONG, get_u64(scene->peer.payload));
	}
}

static void up_with_idles(struct scene *scene)
{
	scene_start(scene);
	greet(scene);
	beat(scene);
}

/* Until the link is idle, and the peer was asked whether it is, too. Returns the number of heartbeats. */
static unsigned silence(struct scene *scene)
{
	unsigned beats = 0;

	while (scene->peer.header.type != FRAME_IDLE) {
		assert_true(beats++ <= IDLE_CLOSE_MS / HEARTBEAT_MS);
		beat(scene);
	}
	assert_int_equal(get_u32(scene->peer.payload), IDLE_ASKS);
	expect_silence(scene);
	expect_state(scene, LINK_UP);
	return beats;
}

static void asked(struct scene *scene)
{
	up_with_idles(scene);
	silence(scene);
}

SCENE_TEST(peer_is_asked_before_an_idle_link_is_closed, asked)
{
	say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	expect_state(scene, LINK_IDLE);
	assert_int_equal(scene->connects, 0);
	assert_string_equal(info_of(scene).last_error, ""); /* it ended in order */
}

/* The OPEN is written right when the link is found idle, or later, and we answer once we have heard that. */
SCENE_TEST(what_the_peer_has_opened_meanwhile_is_taken, up_with_idles)
{
	struct frame_open open = {.kind = CHANNEL_MESSAGE, .name = {"inbox", 5}};
	uint8_t payload[FRAME_SMALL_MAX];
	unsigned beats = silence(scene);

	scene_stop(scene);
	up_with_idles(scene);
	while (--beats)
		beat(scene);
	time_passed_ms += HEARTBEAT_MS;
	event_base_loop(scene->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	put(scene, FRAME_OPEN, 1, payload, frame_open_encode(&open, payload));
	notify(scene);
	assert_int_equal(scene->opens, 1);
	expect_idle(scene, IDLE_ASKS);
	put(scene, FRAME_OPEN, 3, payload, frame_open_encode(&open, payload));
	notify(scene);
	assert_int_equal(scene->opens, 2);
	say_u64(scene, FRAME_PING, 5);
	expect_silence(scene);
	say(scene, FRAME_IDLE, no, sizeof(no));
	expect(scene, FRAME_RESET); /* nothing has that name */
	expect(scene, FRAME_RESET);
	expect(scene, FRAME_PONG);
	expect(scene, FRAME_ACK);
	expect_state(scene, LINK_UP);
}

SCENE_TEST(what_waits_for_the_answer_goes_on_if_it_is_no, asked)
{
	open_channel(scene);
	ping(scene, 7);
	expect_silence(scene);
	assert_true(links_greet(scene->links)); /* a hand-over waits for it */
	say(scene, FRAME_IDLE, no, sizeof(no));
	assert_false(links_greet(scene->links));
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
	say(scene, FRAME_IDLE, no, sizeof(no)); /* which answers nothing */
	expect_silence(scene);
	expect_state(scene, LINK_UP);
	assert_int_equal(scene->pongs, 1);
}

SCENE_TEST(what_waits_for_the_answer_goes_over_the_next_link, asked)
{
	open_channel(scene);
	ping(scene, 7);
	say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	expect_state(scene, LINK_CONNECTING);
	assert_int_equal(scene->connects, 1);
	assert_int_equal(info_of(scene).channels, 1);
	assert_int_equal(scene->pongs, 0);
	greet(scene);
	expect(scene, FRAME_OPEN);
	expect_silence(scene);
	assert_int_equal(scene->pongs, 1);
}

/* Else two ends that ask in turns, each within a second of the other, would refuse each other for ever. */
SCENE_TEST_EACH(refusal_is_no_use_of_the_link, asked, is_asked, 2)
{
	say(scene, FRAME_IDLE, no, sizeof(no));
	if (is_asked) {
		say(scene, FRAME_IDLE, asks, sizeof(asks));
		expect_goodbye(scene, 0);
		expect_state(scene, LINK_IDLE);
	} else {
		beat(scene);
		assert_true(silence(scene) >= IDLE_CLOSE_MS / HEARTBEAT_MS - 2);
	}
}

SCENE_TEST_EACH(what_waits_for_a_session_is_told_of_none_meanwhile, scene_start, is_no, 2)
{
	greet(scene);
	silence(scene);
	assert_int_equal(links_await(scene->links, peer_domain(7), NULL, on_pong, scene, 77), 0);
	settle(scene);
	assert_int_equal(scene->pongs, 0);
	if (is_no) {
		say(scene, FRAME_IDLE, no, sizeof(no));
	} else {
		say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
		assert_int_equal(scene->pongs, 0);
		greet(scene);
	}
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, 0);
}

/* Each knows by the other's question that nothing is under way. */
SCENE_TEST_EACH(both_ask_at_once, asked, with_channel, 2)
{
	if (with_channel)
		open_channel(scene);
	say(scene, FRAME_IDLE, asks, sizeof(asks));
	expect_state(scene, with_channel ? LINK_CONNECTING : LINK_IDLE);
	assert_int_equal(info_of(scene).channels, with_channel);
	expect_goodbye(scene, 0);
	expect_silence(scene);
}

enum { NOTHING, CHANNEL, SHAPES };

SCENE_TEST_EACH(who_is_asked_says_goodbye_only_if_nothing_is_under_way, up_with_idles, shape, SHAPES)
{
	if (shape == CHANNEL) {
		open_channel(scene);
		expect(scene, FRAME_OPEN);
	}
	say(scene, FRAME_IDLE, asks, sizeof(asks));
	if (shape == NOTHING)
		expect_goodbye(scene, 0);
	else
		expect_idle(scene, IDLE_NO);
	expect_state(scene, shape == NOTHING ? LINK_IDLE : LINK_UP);
}

/* Else it would stay silent if the vchan were left before it hears our GOODBYE. */
SCENE_TEST_EACH(question_that_ends_the_session_is_not_heard_yet, up_with_idles, silent, 2)
{
	if (silent)
		silence(scene);
	else
		time_passed_ms += 2000;
	assert_int_equal(link_take_idle(link_find_domain(scene->links, 7), asks, sizeof(asks)), -ECONNRESET);
	settle(scene);
	expect_goodbye(scene, 0);
	expect_state(scene, LINK_IDLE);
}

SCENE_TEST(peer_that_does_not_read_is_asked_by_a_ping_and_ends, up_with_idles)
{
	unsigned passes = 0;

	/* It asks, and reads no answer, until there is no room for a question. */
	while (hop_has_room(link_find_domain(scene->links, 7)->hop, 64)) {
		assert_true(passes++ < 10000);
		say_u64(scene, FRAME_PING, passes);
	}
	say_u64(scene, FRAME_PING, 0);
	pass_in_steps(scene, IDLE_CLOSE_MS + 3 * DEAD_AFTER_MS + HEARTBEAT_MS, HEARTBEAT_MS);
	expect_state(scene, LINK_IDLE);
}

SCENE_TEST(link_with_domain_0_is_not_closed_if_it_asks, up_with_domain_0)
{
	time_passed_ms += 2000;
	say(scene, FRAME_IDLE, asks, sizeof(asks));
	expect_idle(scene, IDLE_NO);
	expect_state(scene, LINK_UP);
}

/* Else it could let those wait who ask for it on behalf of others. */
SCENE_TEST(peer_that_lives_and_does_not_answer_is_given_up, asked)
{
	ping(scene, 7);
	open_channel(scene);
	for (uint64_t ms = 0; ms < 2 * DEAD_AFTER_MS - HEARTBEAT_MS; ms += HEARTBEAT_MS) {
		say(scene, FRAME_OPTIONAL, "", 0);
		pass(scene, HEARTBEAT_MS);
		expect_silence(scene);
	}
	expect_state(scene, LINK_UP);
	assert_int_equal(scene->pongs, 0);
	say(scene, FRAME_OPTIONAL, "", 0);
	pass(scene, HEARTBEAT_MS);
	expect_goodbye(scene, EPROTO);
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, -EHOSTUNREACH);
	assert_int_equal(info_of(scene).channels, 0);
}

SCENE_TEST(peer_that_says_nothing_more_is_dead, asked)
{
	pass_in_steps(scene, DEAD_AFTER_MS + HEARTBEAT_MS, HEARTBEAT_MS);
	expect_goodbye(scene, ETIMEDOUT);
}

SCENE_TEST(bad_idle_is_a_violation, up_with_idles)
{
	say(scene, FRAME_IDLE, asks, 3);
	expect_violation(scene, EPROTO);
}

/* The question is one of the session's frames, and comes once. */
SCENE_TEST_EACH(silence_outlives_the_loss_of_the_vchan, scene_start, shape, 4)
{
	bool is_no = shape & 1, is_read = shape & 2; /* by the peer, before the loss */

	begin_to_resume(scene);
	for (;;) {
		pass(scene, HEARTBEAT_MS);
		if (hop_is_silent(link_find_domain(scene->links, 7)->hop))
			break;
		expect(scene, FRAME_PING);
		count_heard(scene);
		say_u64(scene, FRAME_PONG, get_u64(scene->peer.payload));
	}
	if (is_read) {
		expect_idle(scene, IDLE_ASKS);
		count_heard(scene);
	}
	leave(scene);
	open_channel(scene);
	resume(scene);
	if (!is_read)
		expect_idle(scene, IDLE_ASKS);
	expect_silence(scene);
	if (is_no) {
		say(scene, FRAME_IDLE, no, sizeof(no));
		expect(scene, FRAME_PING); /* the first of the epoch */
		expect(scene, FRAME_OPEN);
		expect_silence(scene);
	} else {
		say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
		expect_state(scene, LINK_CONNECTING);
		assert_int_equal(info_of(scene).channels, 1);
	}
}
