/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pings and acknowledgements on a link, who awaits its session, and the frames of others that go out over it.
 */
#include "tests/unit/link_rig.h"

#include "wire/bytes.h"

/* --- memory ----------------------------------------------------------------------------------- */

static unsigned long allocations;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
void *__libc_malloc(size_t size);

/* Stands before the C library's, for libevent too. */
__attribute__((visibility("default"))) void *malloc(size_t size)
{
	allocations++;
	return __libc_malloc(size);
}
#else
#define COUNTS_ALLOCATIONS 0
#endif

/* --- pings and acknowledgements --------------------------------------------------------------- */

SCENE_TEST(what_was_read_is_acknowledged_every_64_kib, up)
{
	uint8_t skipped[8192] = {0};
	unsigned acks = 0;

	for (int i = 0; i < 100; i++) {
		say(scene, FRAME_OPTIONAL, skipped, sizeof(skipped));
		while (hear(scene)) {
			assert_int_equal(scene->peer.header.type, FRAME_ACK);
			assert_true(get_u64(scene->peer.payload) <= scene->peer.put);
			assert_true(scene->peer.put - get_u64(scene->peer.payload) <= 65536);
			acks++;
		}
	}
	assert_in_range(acks, 800 / 64 - 1, 800 / 64 + 1);
}

SCENE_TEST(acknowledging_takes_no_memory, up)
{
	uint8_t skipped[8192] = {0};
	unsigned acks = 0;

	for (int i = 0; i < 200; i++) {
		if (i == 100)
			allocations = 0;
		say(scene, FRAME_OPTIONAL, skipped, sizeof(skipped));
		while (hear(scene))
			acks++;
	}
	assert_true(acks > 10);
	if (COUNTS_ALLOCATIONS)
		assert_int_equal(allocations, 0);
}

SCENE_TEST(a_pong_is_one_round_trip_if_it_answers_the_ping, up)
{
	uint64_t token;

	pass(scene, HEARTBEAT_MS);
	expect(scene, FRAME_PING);
	token = get_u64(scene->peer.payload);
	say_u64(scene, FRAME_PONG, token + 1);
	assert_int_equal(info_of(scene).round_trips.count, 0);
	say_u64(scene, FRAME_PONG, token);
	assert_true(info_of(scene).rtt_ns > 0);
	say_u64(scene, FRAME_PONG, token);
	assert_int_equal(info_of(scene).round_trips.count, 1);
	assert_int_equal(info_of(scene).round_trips.sum_ns, info_of(scene).rtt_ns);
}

TEST(round_trips_fall_into_the_bucket_up_to_whose_bound_they_took)
{
	struct durations trips = {.count = 0};

	durations_add(&trips, 0);
	for (unsigned i = 0; i < DURATION_BOUNDS; i++) {
		durations_add(&trips, duration_bounds[i]);
		durations_add(&trips, duration_bounds[i] + 1);
	}
	for (unsigned i = 0; i < DURATION_BOUNDS; i++)
		assert_int_equal(trips.buckets[i], 2);
	assert_int_equal(trips.count, 2 * DURATION_BOUNDS + 1);
}

SCENE_TEST(who_awaits_a_link_is_told_the_error_that_it_ends_with, scene_start)
{
	ping(scene, 7);
	links_failed(scene->links, peer_domain(7), -EACCES, "neither may map");
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, -EACCES);
	assert_string_equal(info_of(scene).last_error, "neither may map");
}

SCENE_TEST(who_awaits_a_link_needs_no_answer_to_a_ping, scene_start)
{
	scene->pong = 1;
	assert_int_equal(links_await(scene->links, peer_domain(7), NULL, on_pong, scene, 77), 0);
	assert_int_equal(scene->connects, 1);
	greet(scene);
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, 0);
	expect_silence(scene);
	assert_int_equal(links_await(scene->links, peer_domain(7), NULL, on_pong, scene, 77), 0);
	assert_int_equal(scene->pongs, 2);
}

SCENE_TEST(peer_that_says_anything_before_hello_is_not_waited_for, scene_start)
{
	assert_int_equal(links_await(scene->links, peer_domain(7), NULL, on_pong, scene, 77), 0);
	connect_peer(scene);
	expect_state(scene, LINK_GREETING);
	say(scene, FRAME_OPTIONAL, "", 0);
	settle(scene);
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, -EHOSTUNREACH);
	expect_last_error(scene, "before HELLO");
}

SCENE_TEST(who_awaits_it_no_more_is_told_nothing, scene_start)
{
	ping(scene, 7);
	links_await_cancel(scene->links, scene);
	greet(scene);
	expect_silence(scene);
	assert_int_equal(scene->pongs, 0);
}

SCENE_TEST(frames_of_others_go_out_only_in_a_session, scene_start)
{
	assert_int_equal(links_send(scene->links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	want(scene, 7);
	assert_int_equal(links_send(scene->links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	connect_peer(scene);
	assert_int_equal(links_send(scene->links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	expect(scene, FRAME_HELLO);
	say_hello(scene, PROTOCOL_MAJOR);
	assert_int_equal(links_send(scene->links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), 0);
	switch_pass(&scene->board);
	expect(scene, FRAME_DIRECTORY);
}
