/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The lost wake-up of the rings, looked for in every order of steps (interleave.h).
 *
 * Some tests run deliberately broken variants, to prove that the search would find them.
 */

#include "tests/unit/unit.h"

#include "tests/unit/interleave.h"
#include "wire/ring.c"

#define RING_SIZE   8u
#define SHARED_BITS true
#ifdef __SANITIZE_ADDRESS__
#define DEVIATIONS 2u /* it takes a hundred times as long */
#define ALL	   4u
#define AT_LEAST   50u
#else
#define DEVIATIONS 4u
#define ALL	   STEPS_MAX
#define AT_LEAST   1000u
#endif

static struct {
	bool full; /* the ring from A to B is full at the start */
	bool shared_bits;
	uint32_t *changes; /* an index that its owner changes right after each look at it */
} scene;

/* Two rings between the sides A and B: `there` from A to B, `back` from B to A. */
static struct {
	uint32_t there_producer, there_consumer, back_producer, back_consumer;
	uint8_t requests[4];
	uint8_t there_data[RING_SIZE], back_data[RING_SIZE];
	struct ring_writer there_writer, back_writer;
	struct ring_reader there_reader, back_reader;
} rings;

static bool step_is_shared(const void *at)
{
	return true;
}

static bool step_is_data(const void *at)
{
	const uint8_t *byte = at;

	return (byte >= rings.there_data && byte < rings.there_data + RING_SIZE) ||
	       (byte >= rings.back_data && byte < rings.back_data + RING_SIZE);
}

static void looked_at(const void *at)
{
	if (at == scene.changes)
		*scene.changes ^= 0x55555555;
}

static void start_rings(uint32_t index, bool shared_bits)
{
	struct ring_view there = {
		.data = rings.there_data,
		.size = RING_SIZE,
		.producer = &rings.there_producer,
		.consumer = &rings.there_consumer,
		.wants_data = &rings.requests[0],
		.wants_space = &rings.requests[1],
		.wants_data_bit = 1,
		.wants_space_bit = 2,
	};
	struct ring_view back = there;

	memset(&rings, 0, sizeof(rings));
	back.data = rings.back_data;
	back.producer = &rings.back_producer;
	back.consumer = &rings.back_consumer;
	/* On a vchan all that A asks for stands in one byte, and all that B asks for in another. */
	back.wants_data = shared_bits ? &rings.requests[1] : &rings.requests[2];
	back.wants_space = shared_bits ? &rings.requests[0] : &rings.requests[3];
	rings.there_producer = rings.there_consumer = rings.back_producer = rings.back_consumer = index;
	there.size = back.size = RING_SIZE;
	rings.there_writer =
		(struct ring_writer){.ring = there, .head = index, .published = index, .tail = index};
	rings.there_reader =
		(struct ring_reader){.ring = there, .head = index, .released = index, .tail = index};
	if (scene.full) {
		rings.there_writer.head = rings.there_writer.published = index + RING_SIZE;
		rings.there_producer = index + RING_SIZE;
	}
	rings.back_writer =
		(struct ring_writer){.ring = back, .head = index, .published = index, .tail = index};
	rings.back_reader =
		(struct ring_reader){.ring = back, .head = index, .released = index, .tail = index};
}

static void start(void)
{
	start_rings(0xfffffffc, scene.shared_bits);
}

static unsigned long explore(void (*a)(struct side *), void (*b)(struct side *), bool shared_bits)
{
	scene.shared_bits = shared_bits;
	return explore_from(start, a, b);
}

/* What the sides do. `put` and `get` stand for a session's whole turn: look, ask, look again, sleep, move,
 * tell. */

typedef int arm_writer(struct ring_writer *, uint32_t);
typedef int arm_reader(struct ring_reader *, uint32_t);

static void wait_for_space(struct side *side, struct ring_writer *writer, uint32_t want, arm_writer *arm)
{
	while (ring_writer_space(writer, want) < (int)want) {
		int r = arm(writer, want);

		check(r >= 0);
		if (r == 0)
			sleep_until_notified(side);
	}
}

static void wait_for_data(struct side *side, struct ring_reader *reader, uint32_t want, arm_reader *arm)
{
	while (ring_reader_ready(reader, want) < (int)want) {
		int r = arm(reader, want);

		check(r >= 0);
		if (r == 0)
			sleep_until_notified(side);
	}
}

static void send_bytes(struct side *side, struct ring_writer *writer, uint8_t value, uint32_t size)
{
	uint8_t bytes[RING_SIZE];

	memset(bytes, value, sizeof(bytes));
	wait_for_space(side, writer, size, ring_writer_arm);
	ring_writer_put(writer, bytes, size);
	if (ring_writer_publish(writer))
		notify_other(side);
}

static void receive_bytes(struct side *side, struct ring_reader *reader, uint8_t value, uint32_t size)
{
	uint8_t bytes[RING_SIZE] = {0};

	wait_for_data(side, reader, size, ring_reader_arm);
	ring_reader_copy(reader, 0, bytes, size);
	check(bytes[0] == value && bytes[size - 1] == value);
	ring_reader_consume(reader, size);
	if (ring_reader_release(reader))
		notify_other(side);
}

static void send_one(struct side *side)
{
	send_bytes(side, &rings.there_writer, 1, 4);
}

static void receive_one(struct side *side)
{
	receive_bytes(side, &rings.there_reader, 1, 4);
}

static void send_two(struct side *side)
{
	send_bytes(side, &rings.there_writer, 1, 3);
	send_bytes(side, &rings.there_writer, 2, 3);
}

static void receive_two(struct side *side)
{
	receive_bytes(side, &rings.there_reader, 1, 3);
	receive_bytes(side, &rings.there_reader, 2, 3);
}

static void send_in_halves(struct side *side)
{
	send_bytes(side, &rings.there_writer, 1, 2);
	send_bytes(side, &rings.there_writer, 1, 2);
}

static void send_two_ringfuls(struct side *side)
{
	send_bytes(side, &rings.there_writer, 1, RING_SIZE);
	send_bytes(side, &rings.there_writer, 2, RING_SIZE);
}

static void receive_two_ringfuls(struct side *side)
{
	receive_bytes(side, &rings.there_reader, 1, RING_SIZE);
	receive_bytes(side, &rings.there_reader, 2, RING_SIZE);
}

static void ask(struct side *side)
{
	send_bytes(side, &rings.there_writer, 1, 4);
	receive_bytes(side, &rings.back_reader, 2, 4);
}

static void answer(struct side *side)
{
	receive_bytes(side, &rings.there_reader, 1, 4);
	send_bytes(side, &rings.back_writer, 2, 4);
}

/* A waits for space and for data at the same time, with both bits in one byte, as a daemon does. Its
 * ring is full at the start. */
static void wait_for_both(struct side *side)
{
	bool space, data;

	do {
		space = ring_writer_arm(&rings.there_writer, RING_SIZE) > 0;
		data = ring_reader_arm(&rings.back_reader, 4) > 0;
		if (!space || !data)
			sleep_until_notified(side);
	} while (!space || !data);
}

/* The same with the requests made once: legal, since each is answered by a notification of its own. */
static void wait_once_for_both(struct side *side)
{
	bool space = ring_writer_arm(&rings.there_writer, RING_SIZE) > 0;
	bool data = ring_reader_arm(&rings.back_reader, 4) > 0;

	while (!space || !data) {
		sleep_until_notified(side);
		space = ring_writer_space(&rings.there_writer, RING_SIZE) == RING_SIZE;
		data = ring_reader_ready(&rings.back_reader, 4) >= 4;
	}
}

static void make_room_then_send(struct side *side)
{
	receive_bytes(side, &rings.there_reader, 0, RING_SIZE);
	send_bytes(side, &rings.back_writer, 2, 4);
}

static void send_then_make_room(struct side *side)
{
	send_bytes(side, &rings.back_writer, 2, 4);
	receive_bytes(side, &rings.there_reader, 0, RING_SIZE);
}

static void no_schedule_loses(void (*a)(struct side *), void (*b)(struct side *), unsigned long at_least)
{
	world.deviations = DEVIATIONS;
	for (int shared_bits = 0; shared_bits < 2; shared_bits++) {
		assert_int_equal(explore(a, b, shared_bits), 0);
		assert_false(world.broken);
		/* The search did go through the windows, not past them. */
		assert_true(world.schedules >= at_least);
	}
}

TEST(a_sleeping_reader_is_woken_in_every_order_of_steps)
{
	for (int shared_bits = 0; shared_bits < 2; shared_bits++) {
		world.deviations = ALL;
		assert_int_equal(explore(send_one, receive_one, shared_bits), 0);
		assert_false(world.broken);
		assert_true(world.schedules > AT_LEAST);
	}
}

TEST(a_reader_of_two_messages_is_woken_for_each)
{
	no_schedule_loses(send_two, receive_two, AT_LEAST);
}

TEST(a_reader_that_waits_for_more_than_one_publish_is_woken)
{
	no_schedule_loses(send_in_halves, receive_one, AT_LEAST);
}

TEST(a_writer_into_a_full_ring_is_woken_in_every_order_of_steps)
{
	no_schedule_loses(send_two_ringfuls, receive_two_ringfuls, AT_LEAST);
}

TEST(a_request_and_its_reply_lose_no_wakeup)
{
	no_schedule_loses(ask, answer, AT_LEAST);
}

TEST(who_waits_for_data_and_space_is_woken_for_both)
{
	scene.full = true;
	no_schedule_loses(wait_for_both, make_room_then_send, AT_LEAST);
	no_schedule_loses(wait_for_both, send_then_make_room, AT_LEAST);
	no_schedule_loses(wait_once_for_both, make_room_then_send, AT_LEAST);
	no_schedule_loses(wait_once_for_both, send_then_make_room, AT_LEAST);
	scene.full = false;
}

/* The broken variants, each of which must be found. */

static int arm_reader_without_second_look(struct ring_reader *reader, uint32_t want)
{
	ring_request(reader->ring.wants_data, reader->ring.wants_data_bit);
	return 0;
}

static int arm_reader_look_then_ask(struct ring_reader *reader, uint32_t want)
{
	check(ring_see_head(reader) == 0);
	if (reader->head - reader->tail >= want)
		return 1;
	ring_request(reader->ring.wants_data, reader->ring.wants_data_bit);
	return 0;
}

static int arm_writer_without_second_look(struct ring_writer *writer, uint32_t want)
{
	ring_request(writer->ring.wants_space, writer->ring.wants_space_bit);
	return 0;
}

static void receive_without_second_look(struct side *side)
{
	wait_for_data(side, &rings.there_reader, 4, arm_reader_without_second_look);
}

static void receive_look_then_ask(struct side *side)
{
	wait_for_data(side, &rings.there_reader, 4, arm_reader_look_then_ask);
}

static void send_without_second_look(struct side *side)
{
	send_bytes(side, &rings.there_writer, 1, RING_SIZE);
	wait_for_space(side, &rings.there_writer, RING_SIZE, arm_writer_without_second_look);
}

static void receive_a_ringful(struct side *side)
{
	receive_bytes(side, &rings.there_reader, 1, RING_SIZE);
}

static void send_without_fence(struct side *side)
{
	struct ring_writer *writer = &rings.there_writer;
	uint8_t bytes[4] = {1, 1, 1, 1};

	ring_writer_put(writer, bytes, 4);
	writer->published = writer->head;
	ring_store(writer->ring.producer, writer->head);
	if (!(__atomic_load_n(writer->ring.wants_data, __ATOMIC_RELAXED) & 1))
		return;
	if (__atomic_fetch_and(writer->ring.wants_data, (uint8_t)~1, __ATOMIC_SEQ_CST) & 1)
		notify_other(side);
}

static void make_room_clearing_all_bits_then_send(struct side *side)
{
	struct ring_reader *reader = &rings.there_reader;

	ring_reader_consume(reader, RING_SIZE);
	ring_reader_release_quietly(reader);
	ring_fence();
	if (__atomic_load_n(reader->ring.wants_space, __ATOMIC_RELAXED) & reader->ring.wants_space_bit) {
		__atomic_fetch_and(reader->ring.wants_space, (uint8_t)0, __ATOMIC_SEQ_CST);
		notify_other(side);
	}
	send_bytes(side, &rings.back_writer, 2, 4);
}

TEST(the_search_finds_a_missing_second_look)
{
	world.deviations = DEVIATIONS;
	assert_true(explore(send_one, receive_without_second_look, false) > 0);
	assert_true(explore(send_one, receive_look_then_ask, false) > 0);
	assert_true(explore(send_without_second_look, receive_a_ringful, false) > 0);
}

TEST(the_search_finds_a_missing_fence)
{
	world.deviations = DEVIATIONS;
	assert_true(explore(send_without_fence, receive_one, false) > 0);
}

TEST(the_search_finds_a_lost_acquire)
{
	world.deviations = DEVIATIONS;
	world.forgets_acquire = true;
	explore(send_one, receive_one, false);
	world.forgets_acquire = false;
	assert_true(world.broken);
}

TEST(the_search_finds_a_lost_release)
{
	world.deviations = DEVIATIONS;
	world.forgets_release = true;
	explore(send_one, receive_one, false);
	world.forgets_release = false;
	assert_true(world.broken);
}

TEST(the_search_finds_a_request_cleared_with_the_other_one)
{
	world.deviations = DEVIATIONS;
	scene.full = true;
	assert_true(explore(wait_once_for_both, make_room_clearing_all_bits_then_send, SHARED_BITS) > 0);
	scene.full = false;
}

/* What was checked is what is used: no second read of the other end's index behind the check. */
TEST(an_index_that_changes_after_the_look_isnt_seen)
{
	uint8_t bytes[RING_SIZE] = {0};

	start_rings(0, false);
	scene.changes = &rings.there_producer;
	rings.there_producer = 5;
	assert_int_equal(ring_reader_ready(&rings.there_reader, 1), 5);
	assert_int_equal(ring_reader_ready(&rings.there_reader, 6), -EPROTO);
	assert_int_equal(ring_reader_ready(&rings.there_reader, 1), 5);
	start_rings(0, false);
	rings.there_producer = 5;
	assert_int_equal(ring_reader_arm(&rings.there_reader, 5), 1);
	assert_int_equal(ring_reader_ready(&rings.there_reader, 5), 5);
	start_rings(0, false);
	rings.there_producer = 5;
	assert_int_equal(ring_reader_init(&rings.there_reader, &rings.there_reader.ring, true), 0);
	assert_int_equal(ring_reader_ready(&rings.there_reader, 5), 5);

	scene.changes = &rings.there_consumer;
	for (int look = 0; look < 3; look++) {
		start_rings(0, false);
		ring_writer_put(&rings.there_writer, bytes, RING_SIZE);
		rings.there_writer.published = RING_SIZE;
		rings.there_consumer = 3;
		if (look == 0)
			assert_int_equal(ring_writer_space(&rings.there_writer, 1), 3);
		else if (look == 1)
			assert_int_equal(ring_writer_arm(&rings.there_writer, 1), 1);
		else
			assert_int_equal(ring_writer_unread(&rings.there_writer), RING_SIZE - 3);
		assert_int_equal(ring_writer_space(&rings.there_writer, 3), 3);
		assert_int_equal(ring_writer_space(&rings.there_writer, 4), -EPROTO);
	}
	scene.changes = NULL;
}
