/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pings and acknowledgements on a link, and the frames of others that go out over it.
 */
#include "tests/unit/link_rig.h"

#include <errno.h>
#include <stdlib.h>

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

TEST(what_was_read_is_acknowledged_every_64_kib)
{
	uint8_t skipped[8192] = {0};
	struct scene scene;
	unsigned acks = 0;

	up(&scene);
	for (int i = 0; i < 100; i++) {
		say(&scene, FRAME_OPTIONAL, skipped, sizeof(skipped));
		while (hear(&scene)) {
			assert_int_equal(scene.peer.header.type, FRAME_ACK);
			assert_true(get_u64(scene.peer.payload) <= scene.peer.put);
			assert_true(scene.peer.put - get_u64(scene.peer.payload) <= 65536);
			acks++;
		}
	}
	assert_in_range(acks, 800 / 64 - 1, 800 / 64 + 1);
	scene_stop(&scene);
}

TEST(acknowledging_takes_no_memory)
{
	uint8_t skipped[8192] = {0};
	struct scene scene;
	unsigned acks = 0;

	up(&scene);
	for (int i = 0; i < 200; i++) {
		if (i == 100)
			allocations = 0;
		say(&scene, FRAME_OPTIONAL, skipped, sizeof(skipped));
		while (hear(&scene))
			acks++;
	}
	assert_true(acks > 10);
	if (COUNTS_ALLOCATIONS)
		assert_int_equal(allocations, 0);
	scene_stop(&scene);
}

TEST(ping_is_answered_once_when_the_pong_comes)
{
	struct scene scene;
	uint64_t token;

	scene_start(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	assert_int_equal(scene.connects, 1);
	greet(&scene); /* it goes out as soon as there is somebody to hear it */
	expect(&scene, FRAME_PING);
	token = get_u64(scene.peer.payload);
	say_u64(&scene, FRAME_PONG, token + 1);
	assert_int_equal(scene.pongs, 0);
	say_u64(&scene, FRAME_PONG, token);
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	assert_int_equal(info_of(&scene).rtt_ns, scene.pong);
	say_u64(&scene, FRAME_PONG, token);
	assert_int_equal(scene.pongs, 1);
	/* What answers no ping is no round trip. */
	assert_int_equal(info_of(&scene).round_trips.count, 1);
	assert_int_equal(info_of(&scene).round_trips.sum_ns, scene.pong);
	scene_stop(&scene);
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

static const struct frame_ping_relayed two = {.number = 2};

TEST(answer_that_lies_unread_when_its_time_is_up_counts)
{
	struct scene scene;
	uint64_t token;

	scene_start(&scene);
	greet(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	expect(&scene, FRAME_PING);
	token = get_u64(scene.peer.payload);
	for (uint64_t ms = HEARTBEAT_MS; ms < DEAD_AFTER_MS; ms += HEARTBEAT_MS) {
		say(&scene, FRAME_OPTIONAL, "", 0);
		pass(&scene, HEARTBEAT_MS);
	}
	assert_int_equal(scene.pongs, 0);
	put_u64(scene.peer.payload, token);
	put(&scene, FRAME_PONG, 0, scene.peer.payload, 8);
	pass(&scene, HEARTBEAT_MS);
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	scene_stop(&scene);
}

TEST(ping_for_another_domain_is_answered_through_the_peer)
{
	struct frame_ping_relayed ping;
	uint8_t payload[FRAME_PING_RELAYED_SIZE];
	struct scene scene;

	scene_start(&scene);
	scene.peer_flags = HELLO_RELAYS;
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &two, NULL, on_pong, &scene, 77), 0);
	greet(&scene);
	for (unsigned i = 0; i < 2; i++) {
		expect(&scene, FRAME_PING);
		assert_int_equal(scene.peer.header.length, FRAME_PING_RELAYED_SIZE);
		assert_int_equal(frame_ping_relayed_decode(scene.peer.payload, 12, &ping), 0);
		assert_int_equal(ping.number, 2);
		ping.number = i ? EHOSTDOWN : 0;
		/* That the peer itself has heard it says nothing. */
		say_u64(&scene, FRAME_PONG, ping.token);
		assert_int_equal(scene.pongs, i);
		say(&scene, FRAME_PONG, payload, frame_ping_relayed_encode(&ping, payload));
		assert_int_equal(scene.pongs, i + 1);
		if (i == 0)
			assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &two, NULL, on_pong,
							    &scene, 77),
					 0);
		settle(&scene);
	}
	assert_int_equal(scene.pong, -EHOSTDOWN);
	assert_int_equal(info_of(&scene).round_trips.count, 0); /* of the peer itself */
	/* It ends with the link. */
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &two, NULL, on_pong, &scene, 77), 0);
	links_restart(scene.links);
	assert_int_equal(scene.pongs, 3);
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	scene_stop(&scene);
}

TEST(peer_that_does_not_relay_is_asked_for_nothing)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &two, NULL, on_pong, &scene, 77), 0);
	greet(&scene);
	assert_int_equal(scene.pongs, 1);
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	expect_silence(&scene);
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &two, NULL, on_pong, &scene, 77),
			 -EOPNOTSUPP);
	scene_stop(&scene);
}

TEST(peer_that_knows_no_hosts_is_asked_for_none_of_them)
{
	const struct frame_ping_relayed far = {.domain = {"hostb/work", 10}};
	struct frame_ping_relayed ping;
	struct scene scene;

	scene_start(&scene);
	scene.peer_flags = HELLO_RELAYS;
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &far, NULL, on_pong, &scene, 77), 0);
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &two, NULL, on_pong, &scene, 77), 0);
	greet(&scene);
	assert_int_equal(scene.pongs, 1);
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	expect(&scene, FRAME_PING);
	assert_int_equal(frame_ping_relayed_decode(scene.peer.payload, scene.peer.header.length, &ping), 0);
	assert_int_equal(ping.number, 2);
	assert_int_equal(ping.domain.size, 0);
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &far, NULL, on_pong, &scene, 77),
			 -EOPNOTSUPP);
	scene_stop(&scene);
}

TEST(ping_of_another_host_says_of_which_domain)
{
	const struct frame_ping_relayed far = {.number = 3, .domain = {"work", 4}, .name = {"play", 4}};
	uint8_t payload[FRAME_PING_RELAYED_SIZE];
	struct frame_ping_relayed ping;
	struct scene scene;

	scene_start(&scene);
	scene.peer_flags = HELLO_HOSTS;
	assert_int_equal(links_ping_relayed(scene.links, peer_domain(7), &far, NULL, on_pong, &scene, 77), 0);
	greet(&scene);
	expect(&scene, FRAME_PING);
	assert_int_equal(frame_ping_relayed_decode(scene.peer.payload, scene.peer.header.length, &ping), 0);
	assert_int_equal(ping.number, 3);
	assert_int_equal(ping.domain.size, 4);
	assert_memory_equal(ping.domain.data, "work", 4);
	assert_memory_equal(ping.name.data, "play", 4);
	say(&scene, FRAME_PONG, payload,
	    frame_ping_relayed_encode(&(struct frame_ping_relayed){.token = ping.token}, payload));
	assert_int_equal(scene.pongs, 1);
	assert_true(scene.pong > 0);
	assert_int_equal(info_of(&scene).round_trips.count, 0);
	scene_stop(&scene);
}

TEST(ping_ends_with_the_error_that_the_link_ends_with)
{
	static const struct {
		bool reachable;
		int error;
	} ends[] = {{true, EHOSTUNREACH}, {false, EHOSTDOWN}};
	struct scene scene;

	for (unsigned i = 0; i < 2; i++) {
		scene_start(&scene);
		assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
		links_failed(scene.links, peer_domain(7), -EACCES, "neither may map");
		assert_int_equal(scene.pongs, 1);
		assert_int_equal(scene.pong, -EACCES);
		assert_string_equal(info_of(&scene).last_error, "neither may map");
		greet(&scene);
		assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
		scene.is_up = ends[i].reachable;
		links_lost(scene.links, peer_domain(7), true, "its daemon has gone");
		settle(&scene);
		assert_int_equal(scene.pongs, 2);
		assert_int_equal(scene.pong, -ends[i].error);
		scene_stop(&scene);
	}
}

/* It lives, and holds what was charged to others. */
TEST(ping_that_a_living_peer_does_not_answer_ends)
{
	struct scene scene;

	up(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	for (uint64_t ms = 0; ms <= DEAD_AFTER_MS + HEARTBEAT_MS; ms += HEARTBEAT_MS) {
		assert_int_equal(scene.pongs, 0);
		say_u64(&scene, FRAME_PING, 1);
		while (hear(&scene))
			;
		pass(&scene, HEARTBEAT_MS);
		if (scene.pongs)
			break;
	}
	assert_int_equal(scene.pongs, 1);
	assert_int_equal(scene.pong, -ETIMEDOUT);
	expect_state(&scene, LINK_UP);
	scene_stop(&scene);
}

TEST(who_awaits_a_link_needs_no_answer_to_a_ping)
{
	struct scene scene;

	scene_start(&scene);
	scene.pong = 1;
	assert_int_equal(links_await(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	assert_int_equal(scene.connects, 1);
	greet(&scene);
	assert_int_equal(scene.pongs, 1);
	assert_int_equal(scene.pong, 0);
	expect_silence(&scene);
	assert_int_equal(links_await(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	assert_int_equal(scene.pongs, 2);
	scene_stop(&scene);
}

TEST(peer_that_says_anything_before_hello_is_not_waited_for)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(links_await(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	connect_peer(&scene);
	expect_state(&scene, LINK_GREETING);
	say(&scene, FRAME_OPTIONAL, "", 0);
	settle(&scene);
	assert_int_equal(scene.pongs, 1);
	assert_int_equal(scene.pong, -EHOSTUNREACH);
	expect_last_error(&scene, "before HELLO");
	scene_stop(&scene);
}

TEST(cancelled_ping_is_never_answered)
{
	struct scene scene;

	scene_start(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	links_ping_cancel(scene.links, &scene);
	greet(&scene);
	expect_silence(&scene);
	assert_int_equal(links_ping(scene.links, peer_domain(7), NULL, on_pong, &scene, 77), 0);
	links_ping_cancel(scene.links, &scene);
	links_lost(scene.links, peer_domain(7), true, "its daemon has gone");
	settle(&scene);
	assert_int_equal(scene.pongs, 0);
	scene_stop(&scene);
}

TEST(frames_of_others_go_out_only_in_a_session)
{
	struct scene scene;
	int error;

	scene_start(&scene);
	assert_int_equal(links_send(scene.links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	assert_non_null(links_want(scene.links, peer_domain(7), NULL, &error));
	assert_int_equal(links_send(scene.links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	connect_peer(&scene);
	assert_int_equal(links_send(scene.links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), -ENOTCONN);
	expect(&scene, FRAME_HELLO);
	say_hello(&scene, PROTOCOL_MAJOR);
	assert_int_equal(links_send(scene.links, peer_domain(7), FRAME_DIRECTORY, "12345678", 8), 0);
	relay_pass(&scene.relay);
	expect(&scene, FRAME_DIRECTORY);
	scene_stop(&scene);
}
