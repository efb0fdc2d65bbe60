/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A link that is looked at for a while, instead of waiting to be notified.
 */
#include "tests/unit/link_rig.h"

#include "daemon/link/busy_poll.h"

#define BUSY_POLL_MS 100000u /* long, so that what a test does at once is quick on any machine */

static void up_with_busy_poll(struct scene *scene)
{
	links_config.busy_poll_us = BUSY_POLL_MS * 1000;
	up(scene);
}

static bool we_ask_to_be_notified(struct scene *scene)
{
	settle(scene);
	return ring_writer_is_awaited(&scene->peer.out);
}

static void expect_answer(struct scene *scene)
{
	expect(scene, FRAME_PONG);
	expect(scene, FRAME_ACK);
}

static void say_quickly(struct scene *scene, unsigned times)
{
	while (times--) {
		say_u64(scene, FRAME_PING, times);
		expect_answer(scene);
	}
}

/* Until the link is looked at. Returns how many quick frames that took. */
static unsigned say_until_polled(struct scene *scene)
{
	unsigned times = 0;

	while (we_ask_to_be_notified(scene)) {
		assert_true(times++ < 10000);
		assert_false(links_poll(scene->links));
		say_quickly(scene, 1);
	}
	return times;
}

SCENE_TEST(what_comes_quickly_is_looked_for_without_being_notified_of, up_with_busy_poll)
{
	assert_true(say_until_polled(scene) >= BUSY_POLL_QUICK_WAITS);
	for (int i = 0; i < 100; i++) {
		uint8_t payload[8];

		assert_true(links_poll(scene->links));
		put(scene, FRAME_PING, 0, payload, frame_u64_encode(1, payload));
		assert_true(links_poll(scene->links));
		expect_answer(scene);
		assert_false(we_ask_to_be_notified(scene));
	}
}

SCENE_TEST(looking_in_vain_ends_by_asking_and_is_tried_less, up_with_busy_poll)
{
	unsigned times, before = 0;

	for (int i = 0; i < 5; i++) {
		times = say_until_polled(scene);
		assert_true(times > before);
		before = times;
		assert_true(links_poll(scene->links));
		time_passed_ms += BUSY_POLL_MS;
		assert_false(links_poll(scene->links));
		assert_true(we_ask_to_be_notified(scene));
	}
}

SCENE_TEST(what_came_before_the_last_look_is_taken_in, up_with_busy_poll)
{
	uint8_t payload[8];

	say_until_polled(scene);
	time_passed_ms += BUSY_POLL_MS;
	put(scene, FRAME_PING, 0, payload, frame_u64_encode(1, payload));
	links_poll(scene->links);
	expect_answer(scene);
}

SCENE_TEST(looking_ends_when_others_need_the_cpu, up_with_busy_poll)
{
	say_until_polled(scene);
	assert_true(links_poll(scene->links));
	yield_takes_ms = 1000;
	assert_false(links_poll(scene->links));
	assert_true(we_ask_to_be_notified(scene));
}

/* Not by what is found in its ring: somebody else knows that it is over. */
SCENE_TEST(link_that_ends_while_it_is_looked_at_is_looked_at_no_more, up_with_busy_poll)
{
	for (int is_lost = 0; is_lost < 2; is_lost++) {
		say_until_polled(scene);
		is_lost ? lose(scene, true) : close_by_peer(scene);
		expect_state(scene, LINK_IDLE);
		assert_false(links_poll(scene->links));
		greet(scene);
		assert_true(we_ask_to_be_notified(scene));
	}
	say_until_polled(scene);
	assert_true(links_poll(scene->links));
}

SCENE_TEST(what_sleeping_alone_has_made_slow_is_looked_for, up_with_busy_poll)
{
	for (unsigned times = 0; we_ask_to_be_notified(scene); times++) {
		assert_true(times <= BUSY_POLL_QUICK_WAITS);
		time_passed_ms += BUSY_POLL_MS * 3 / 2;
		say_quickly(scene, 1);
	}
}

/* A few quick answers in between make no difference. */
SCENE_TEST(slow_link_is_never_looked_at, up_with_busy_poll)
{
	for (int i = 0; i < 100; i++) {
		time_passed_ms += 2 * BUSY_POLL_MS;
		say_quickly(scene, BUSY_POLL_QUICK_WAITS);
		assert_true(we_ask_to_be_notified(scene));
		assert_false(links_poll(scene->links));
	}
}

/* Returns how many of `times` waits are spent polling where a frame comes `percent` of the limit later. */
static unsigned polled_of(unsigned times, unsigned percent)
{
	struct busy_poll busy_poll;
	uint64_t now = 1;
	unsigned count = 0;

	busy_poll_init(&busy_poll, 1000);
	while (times--) {
		bool polled = busy_poll_idle(&busy_poll, now);

		now += percent * 10;
		assert_int_equal(busy_poll_came(&busy_poll, now, polled), polled ? percent * 10 : 0);
		count += polled;
	}
	return count;
}

SCENE_TEST(peer_whose_frames_come_just_in_time_is_polled_for_a_share, up)
{
	assert_true(polled_of(100000, 50) > 99900);
	assert_in_range(polled_of(100000, 80), 10000, 30000);
	assert_in_range(polled_of(100000, 99), 10000, 20000);
}

SCENE_TEST(polling_is_paid_by_the_peer, up_with_busy_poll)
{
	const struct line *line = line_present(want(scene, scene->peer.domid)->input.line);

	for (unsigned in_vain = 0; in_vain < 2; in_vain++) {
		uint64_t before, waited = in_vain ? BUSY_POLL_MS : BUSY_POLL_MS / 2;
		uint8_t payload[8];

		say_until_polled(scene);
		assert_true(links_poll(scene->links));
		before = line->measured;
		time_passed_ms += waited;
		if (!in_vain)
			put(scene, FRAME_PING, 0, payload, frame_u64_encode(1, payload));
		assert_int_equal(links_poll(scene->links), !in_vain);
		if (!in_vain)
			expect_answer(scene);
		assert_true(line->measured - before >= waited * (1000000 / TURNS_UNIT_NS));
	}
}
