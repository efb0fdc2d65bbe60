/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pings and acknowledgements on a link, and the frames of others that go out over it.
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

SCENE_TEST(ping_is_answered_once_when_the_pong_comes, scene_start)
{
	uint64_t token;

	ping(scene, 7);
	assert_int_equal(scene->connects, 1);
	greet(scene); /* it goes out as soon as there is somebody to hear it */
	expect(scene, FRAME_PING);
	token = get_u64(scene->peer.payload);
	say_u64(scene, FRAME_PONG, token + 1);
	assert_int_equal(scene->pongs, 0);
	say_u64(scene, FRAME_PONG, token);
	assert_int_equal(scene->pongs, 1);
	assert_true(scene->pong > 0);
	assert_int_equal(info_of(scene).rtt_ns, scene->pong);
	say_u64(scene, FRAME_PONG, token);
	assert_int_equal(scene->pongs, 1);
	/* What answers no ping is no round trip. */
	assert_int_equal(info_of(scene).round_trips.count, 1);
	assert_int_equal(info_of(scene).round_trips.sum_ns, scene->pong);
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

SCENE_TEST(answer_that_lies_unread_when_its_time_is_up_counts, up)
{
	uint64_t token;

	ping(scene, 7);
	expect(scene, FRAME_PING);
	token = get_u64(scene->peer.payload);
	for (uint64_t ms = HEARTBEAT_MS; ms < DEAD_AFTER_MS; ms += HEARTBEAT_MS) {
		say(scene, FRAME_OPTIONAL, "", 0);
		pass(scene, HEARTBEAT_MS);
	}
	assert_int_equal(scene->pongs, 0);
	put_u64(scene->peer.payload, token);
	put(scene, FRAME_PONG, 0, scene->peer.payload, 8);
	pass(scene, HEARTBEAT_MS);
	assert_int_equal(scene->pongs, 1);
	assert_true(scene->pong > 0);
}

static const struct frame_ping_relayed two = {.number = 2};

/* Somebody has the peer ping this one. */
static int ping_relayed(struct scene *scene, const struct frame_ping_relayed *other)
{
	return links_ping_relayed(scene->links, peer_domain(7), other, NULL, on_pong, scene, 77);
}

/* Which the peer is asked next. */
static struct frame_ping_relayed expect_ping_relayed(struct scene *scene)
{
	struct frame_ping_relayed ping;

	expect(scene, FRAME_PING);
	assert_int_equal(frame_ping_relayed_decode(scene->peer.payload, scene->peer.header.length, &ping), 0);
	return ping;
}

static void say_pong_relayed(struct scene *scene, struct frame_ping_relayed pong)
{
	uint8_t payload[FRAME_PING_RELAYED_SIZE];

	say(scene, FRAME_PONG, payload, frame_ping_relayed_encode(&pong, payload));
}

SCENE_TEST(ping_for_another_domain_is_answered_through_the_peer, scene_start)
{
	scene->peer_flags = HELLO_RELAYS;
	assert_int_equal(ping_relayed(scene, &two), 0);
	greet(scene);
	for (unsigned i = 0; i < 2; i++) {
		struct frame_ping_relayed ping = expect_ping_relayed(scene);

		assert_int_equal(scene->peer.header.length, FRAME_PING_RELAYED_SIZE);
		assert_int_equal(ping.number, 2);
		ping.number = i ? EHOSTDOWN : 0;
		/* That the peer itself has heard it says nothing. */
		say_u64(scene, FRAME_PONG, ping.token);
		assert_int_equal(scene->pongs, i);
		say_pong_relayed(scene, ping);
		assert_int_equal(scene->pongs, i + 1);
		/* The last one ends with the link. */
		assert_int_equal(ping_relayed(scene, &two), 0);
		settle(scene);
	}
	assert_int_equal(scene->pong, -EHOSTDOWN);
	assert_int_equal(info_of(scene).round_trips.count, 0); /* of the peer itself */
	links_restart(scene->links);
	assert_int_equal(scene->pongs, 3);
	assert_int_equal(scene->pong, -EHOSTUNREACH);
}

SCENE_TEST(peer_that_does_not_relay_is_asked_for_nothing, scene_start)
{
	assert_int_equal(ping_relayed(scene, &two), 0);
	greet(scene);
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, -EHOSTUNREACH);
	expect_silence(scene);
	assert_int_equal(ping_relayed(scene, &two), -EOPNOTSUPP);
}

SCENE_TEST(ping_of_another_host_says_of_which_domain, scene_start)
{
	const struct frame_ping_relayed remote = {.number = 3, .domain = {"work", 4}, .name = {"play", 4}};
	struct frame_ping_relayed ping;

	assert_int_equal(ping_relayed(scene, &remote), 0);
	greet(scene);
	ping = expect_ping_relayed(scene);
	assert_int_equal(ping.number, 3);
	assert_int_equal(ping.domain.size, 4);
	assert_memory_equal(ping.domain.data, "work", 4);
	assert_memory_equal(ping.name.data, "play", 4);
	say_pong_relayed(scene, (struct frame_ping_relayed){.token = ping.token});
	assert_int_equal(scene->pongs, 1);
	assert_true(scene->pong > 0);
	assert_int_equal(info_of(scene).round_trips.count, 0);
}

SCENE_TEST_EACH(ping_ends_with_the_error_that_the_link_ends_with, scene_start, is_reachable, 2)
{
	ping(scene, 7);
	links_failed(scene->links, peer_domain(7), -EACCES, "neither may map");
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, -EACCES);
	assert_string_equal(info_of(scene).last_error, "neither may map");
	greet(scene);
	ping(scene, 7);
	scene->is_up = is_reachable;
	lose(scene, true);
	assert_int_equal(scene->pongs, 2);
	assert_int_equal(scene->pong, is_reachable ? -EHOSTUNREACH : -EHOSTDOWN);
}

/* It lives, and holds what was charged to others. */
SCENE_TEST(ping_that_a_living_peer_does_not_answer_ends, up)
{
	ping(scene, 7);
	for (uint64_t ms = 0; ms <= DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS) {
		assert_int_equal(scene->pongs, 0);
		say_u64(scene, FRAME_PING, 1);
		while (hear(scene))
			;
		pass(scene, HEARTBEAT_MS);
		if (scene->pongs)
			break;
	}
	assert_int_equal(scene->pongs, 1);
	assert_int_equal(scene->pong, -ETIMEDOUT);
	expect_state(scene, LINK_UP);
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

SCENE_TEST(cancelled_ping_is_never_answered, scene_start)
{
	ping(scene, 7);
	links_ping_cancel(scene->links, scene);
	greet(scene);
	expect_silence(scene);
	ping(scene, 7);
	links_ping_cancel(scene->links, scene);
	lose(scene, true);
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
