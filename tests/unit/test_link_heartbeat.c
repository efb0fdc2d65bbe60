/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What tells a link that is alive from one that is dead, and when an idle one is closed.
 */
#include "tests/unit/link_rig.h"

#include "daemon/link/link_internal.h"
#include "wire/bytes.h"

static unsigned heard_pings(struct scene *scene, bool answer)
{
	unsigned count = 0;

	while (hear(scene)) {
		if (scene->peer.header.type != FRAME_PING)
			continue;
		count++;
		if (answer)
			say_u64(scene, FRAME_PONG, get_u64(scene->peer.payload));
	}
	return count;
}

/* The peer answers, and that is all. */
static void beat_for(struct scene *scene, uint64_t ms)
{
	for (uint64_t passed_ms = 0; passed_ms < ms; passed_ms += HEARTBEAT_MS) {
		pass(scene, HEARTBEAT_MS);
		heard_pings(scene, true);
	}
}

SCENE_TEST_EACH(silent_peer_is_dead_after_its_time_and_not_before, scene_start, greeted, 2)
{
	if (greeted)
		greet(scene);
	else
		connect_peer(scene);
	pass(scene, HEARTBEAT_MS);
	assert_int_equal(heard_pings(scene, false), greeted ? 1 : 0);
	pass(scene, HEARTBEAT_MS);
	/* One question is enough. */
	assert_int_equal(heard_pings(scene, false), 0);
	expect_state(scene, greeted ? LINK_UP : LINK_GREETING);
	pass(scene, HEARTBEAT_MS);
	pass(scene, HEARTBEAT_MS);
	expect_state(scene, LINK_IDLE);
	expect_last_error(scene, "nothing has come from it for 30 s");
}

#define LOWER  3u /* than OWN */
#define HIGHER 7u

static void up_with_lower(struct scene *scene)
{
	scene_start_with(scene, LOWER);
	greet(scene);
}

/* One PING serves both ends. But of two daemons each may be of 1.0, which sends one at each interval. */
TEST(one_ping_serves_both_ends)
{
	struct scene scene;

	for (uint32_t phase = 1000; phase < HEARTBEAT_MS; phase += 1000) {
		for (uint32_t domid = LOWER; domid <= HIGHER; domid += HIGHER - LOWER) {
			unsigned pings = 0;

			scene_start_with(&scene, domid);
			greet(&scene);
			for (int i = 0; i < 20; i++) {
				pass(&scene, phase);
				say_u64(&scene, FRAME_PING, 77);
				pings += heard_pings(&scene, true);
				pass(&scene, HEARTBEAT_MS - phase);
				pings += heard_pings(&scene, true);
			}
			/* The higher one asks once, to know how long the answer takes. */
			assert_int_equal(pings, domid == LOWER ? 1 : 20);
			assert_int_equal(info_of(&scene).round_trips.count, pings);
			expect_state(&scene, LINK_UP);
			scene_stop(&scene);
		}
	}
}

SCENE_TEST(peer_that_pings_rarely_is_asked, up_with_lower)
{
	for (int i = 0; i < 40; i++) {
		if (i % 5 == 0)
			say_u64(scene, FRAME_PING, 77);
		pass(scene, HEARTBEAT_MS);
		heard_pings(scene, true);
	}
	expect_state(scene, LINK_UP);
	assert_true(info_of(scene).round_trips.count >= 16);
}

/* Whoever asks, and whenever it was heard last. */
TEST(who_falls_silent_is_dead_within_an_interval_more)
{
	struct scene scene;

	for (uint32_t phase = 0; phase < HEARTBEAT_MS; phase += 1000) {
		for (uint32_t domid = LOWER; domid <= HIGHER; domid += HIGHER - LOWER) {
			uint64_t silent_ms = 0;

			scene_start_with(&scene, domid);
			greet(&scene);
			for (int i = 0; i < 3; i++) {
				pass(&scene, HEARTBEAT_MS);
				heard_pings(&scene, true);
			}
			pass(&scene, phase);
			say_u64(&scene, FRAME_PING, 77);
			while (info_of(&scene).state == LINK_UP) {
				pass(&scene, 500);
				silent_ms += 500;
			}
			assert_in_range(silent_ms, DEAD_AFTER_MS, DEAD_AFTER_MS + HEARTBEAT_MS);
			expect_last_error(&scene, "nothing has come from it for 30 s");
			scene_stop(&scene);
		}
	}
}

SCENE_TEST(who_was_not_asked_is_not_dead, up_with_lower)
{
	pass(scene, HEARTBEAT_MS);
	assert_int_equal(heard_pings(scene, true), 1);
	/* We stood still, or our timer is late. */
	pass(scene, DEAD_AFTER_MS);
	expect_state(scene, LINK_UP);
	assert_int_equal(heard_pings(scene, false), 1);
	pass(scene, HEARTBEAT_MS);
	expect_state(scene, LINK_IDLE);
}

SCENE_TEST(any_frame_is_a_sign_of_life, up)
{
	for (int i = 0; i < 20; i++) {
		pass(scene, HEARTBEAT_MS);
		say(scene, FRAME_OPTIONAL, "", 0);
	}
	expect_state(scene, LINK_UP);
	/* A notification without one is none. */
	for (int i = 0; i < 4; i++) {
		pass(scene, HEARTBEAT_MS);
		notify(scene);
	}
	expect_state(scene, LINK_IDLE);
}

/* Else a lost event, or a daemon that stood still itself, would cost the link. */
SCENE_TEST(what_lies_unread_is_a_sign_of_life, up)
{
	for (int i = 0; i < 20; i++) {
		put(scene, FRAME_OPTIONAL, 0, "", 0);
		pass(scene, HEARTBEAT_MS);
	}
	expect_state(scene, LINK_UP);
	put(scene, FRAME_OPTIONAL, 0, "", 0);
	pass(scene, 2 * DEAD_AFTER_MS);
	expect_state(scene, LINK_UP);
}

SCENE_TEST_EACH(idle_link_is_closed_and_one_with_a_channel_is_not, scene_start, with_channel, 2)
{
	reach(scene, RUNNING, with_channel);
	beat_for(scene, IDLE_CLOSE_MS - HEARTBEAT_MS);
	expect_state(scene, LINK_UP);
	/* Our own heartbeats are no use that is made of it. */
	pass(scene, HEARTBEAT_MS);
	pass(scene, HEARTBEAT_MS);
	assert_int_equal(hop_is_silent(link_find_domain(scene->links, 7)->hop), !with_channel);
	if (with_channel)
		return;
	say(scene, FRAME_GOODBYE, "\0\0\0\0", 4);
	expect_state(scene, LINK_IDLE);
}

/* What is found then, for which no event came, was noted later than the heartbeat began. */
SCENE_TEST(link_that_comes_up_at_a_heartbeat_is_not_idle, scene_start)
{
	connect_peer(scene);
	say_hello_unheard(scene);
	expect_state(scene, LINK_GREETING);
	look_takes_ns = 2000000;
	pass(scene, HEARTBEAT_MS);
	look_takes_ns = 100;
	expect_state(scene, LINK_UP);
}

/* It may be an OPEN, which would end with the link. */
SCENE_TEST(link_on_which_something_lies_unread_is_not_idle, scene_start)
{
	reach(scene, RUNNING, false);
	beat_for(scene, IDLE_CLOSE_MS - HEARTBEAT_MS);
	for (int i = 0; i < 3; i++) {
		put(scene, FRAME_OPTIONAL, 0, "", 0);
		beat_for(scene, HEARTBEAT_MS);
	}
	assert_false(hop_is_silent(link_find_domain(scene->links, 7)->hop));
	pass(scene, HEARTBEAT_MS);
	assert_true(hop_is_silent(link_find_domain(scene->links, 7)->hop));
}

SCENE_TEST(link_with_domain_0_is_not_closed_for_being_idle, up_with_domain_0)
{
	beat_for(scene, 2 * IDLE_CLOSE_MS);
	expect_state(scene, LINK_UP);
}

SCENE_TEST_EACH(domains_that_never_were_are_forgotten, scene_start, is_up, 2)
{
	struct link_info info;

	want(scene, 7);
	scene->is_up = is_up;
	links_failed(scene->links, peer_domain(7), -EHOSTDOWN, "no such domain");
	pass(scene, HEARTBEAT_MS);
	assert_int_equal(links_info(scene->links, peer_domain(7), &info), is_up);
	pass(scene, DEAD_AFTER_MS);
	pass(scene, HEARTBEAT_MS);
	assert_int_equal(links_info(scene->links, peer_domain(7), &info), is_up);
}
