/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The lost wake-up, looked for in every order of steps. The ring's source is compiled into this test with its atomic
 * operations replaced, so that each of them is a step at which the other side may run. The two sides are coroutines; a
 * depth-first search goes through all schedules, or, where these are too many, through all with a few preemptions. Stores of indices pass through a store buffer, which is emptied by a fence,
 * by a locked operation, or at any moment that the schedule picks: what an x86 processor may do, so a missing fence is found.
 *
 * A side that sleeps goes on only when it was notified. A schedule in which somebody is left asleep is a lost wake-up. Some
 * tests run deliberately broken variants, to prove that the search would find them.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "tests/unit/unit.h"

static void step(void);
static void step_store(uint32_t *at, uint32_t value);
static void step_flush(void);
static void looked_at(const void *at);

/* A macro isn't expanded inside itself, so each one ends in the builtin that it replaces. */
#define __atomic_load_n(at, order)                                     \
	({                                                             \
		__typeof__(*(at) + 0u) value_;                         \
		step();                                                \
		value_ = (__typeof__(value_))__atomic_load_n(at, order); \
		looked_at(at);                                         \
		value_;                                                \
	})
#define __atomic_store_n(at, value, order)  step_store(at, value)
#define __atomic_fetch_or(at, value, order) (step(), step_flush(), __atomic_fetch_or(at, value, order))
#define __atomic_fetch_and(at, value, order) (step(), step_flush(), __atomic_fetch_and(at, value, order))
#define __atomic_thread_fence(order)	    (step(), step_flush())
#include "wire/ring.c"

#define SIDES	    2
#define STEPS_MAX   200
#define STORES_MAX  8
#define STACK_SIZE  (256 * 1024)
#define RING_SIZE   8u
#define SHARED_BITS true
#define DEVIATIONS  4u

struct side {
	ucontext_t context;
	void (*run)(struct side *side);
	bool done, asleep, notified;
	struct {
		uint32_t *at;
		uint32_t value;
	} stores[STORES_MAX];
	unsigned stored;
};

/* One schedule after the other: `choice` is the path to the present one, `options` how many ways there were at each step. */
static struct {
	ucontext_t scheduler;
	struct side sides[SIDES];
	struct side *running;
	uint8_t choice[STEPS_MAX], options[STEPS_MAX];
	unsigned depth;
	unsigned long schedules, lost;
	unsigned deviations;
	bool full;   /* the ring from A to B is full at the start */
	uint32_t *changes; /* an index that its owner changes right after each look at it */
	bool broken; /* a side found something wrong in what it read */
	uint8_t stacks[SIDES][STACK_SIZE];
} world;

/* Two rings between the sides A and B: `there` from A to B, `back` from B to A. */
static struct {
	uint32_t there_producer, there_consumer, back_producer, back_consumer;
	uint8_t requests[4];
	uint8_t there_data[RING_SIZE], back_data[RING_SIZE];
	struct ring_writer there_writer, back_writer;
	struct ring_reader there_reader, back_reader;
} rings;

static struct side *other(const struct side *side)
{
	return side == &world.sides[0] ? &world.sides[1] : &world.sides[0];
}

static void step(void)
{
	if (!world.running)
		return;
	swapcontext(&world.running->context, &world.scheduler);
}

static void looked_at(const void *at)
{
	if (at == world.changes)
		*world.changes ^= 0x55555555;
}

static void commit_oldest(struct side *side)
{
	*side->stores[0].at = side->stores[0].value;
	memmove(side->stores, side->stores + 1, --side->stored * sizeof(*side->stores));
}

static void step_flush(void)
{
	while (world.running && world.running->stored)
		commit_oldest(world.running);
}

static void step_store(uint32_t *at, uint32_t value)
{
	struct side *side = world.running;

	step();
	if (side->stored == STORES_MAX)
		commit_oldest(side);
	side->stores[side->stored].at = at;
	side->stores[side->stored++].value = value;
}

static void notify(struct side *side)
{
	step();
	step_flush(); /* a system call */
	other(side)->notified = true;
}

static void sleep_until_notified(struct side *side)
{
	step();
	step_flush();
	side->asleep = true;
	step();
	side->asleep = false;
	side->notified = false;
}

static void side_main(void)
{
	world.running->run(world.running);
	step(); /* a store may stay in its buffer for a while after the last step of the ring */
	step_flush();
	world.running->done = true;
	swapcontext(&world.running->context, &world.scheduler);
}

static unsigned choose(unsigned options)
{
	unsigned chosen;

	if (world.depth == STEPS_MAX)
		abort(); /* a side that spins */
	if (world.options[world.depth] == 0) {
		world.options[world.depth] = (uint8_t)options;
		world.choice[world.depth] = 0;
	}
	chosen = world.choice[world.depth++];
	return chosen;
}

/* One schedule, from the start until nobody can go on. The side that ran goes on unless the schedule deviates from that, by
 * letting the other side in or by letting a store out; of such deviations there may be `world.deviations`. */
static void run_once(void)
{
	unsigned left = world.deviations;

	world.running = &world.sides[0];
	for (;;) {
		struct side *can_run[SIDES], *can_commit[SIDES];
		unsigned runs = 0, commits = 0, chosen;
		struct side *next = world.running;

		for (unsigned i = 0; i < SIDES; i++, next = other(next)) {
			if (!next->done && (!next->asleep || next->notified))
				can_run[runs++] = next;
			if (next->stored)
				can_commit[commits++] = next;
		}
		if (runs == 0)
			return;
		chosen = left == 0 || runs + commits == 1 ? 0 : choose(runs + commits);
		left -= chosen != 0;
		if (chosen < runs) {
			world.running = can_run[chosen];
			swapcontext(&world.scheduler, &world.running->context);
		} else {
			commit_oldest(can_commit[chosen - runs]);
		}
	}
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
	rings.there_writer = (struct ring_writer){.ring = there, .head = index, .published = index, .tail = index};
	rings.there_reader = (struct ring_reader){.ring = there, .head = index, .released = index, .tail = index};
	if (world.full) {
		rings.there_writer.head = rings.there_writer.published = index + RING_SIZE;
		rings.there_producer = index + RING_SIZE;
	}
	rings.back_writer = (struct ring_writer){.ring = back, .head = index, .published = index, .tail = index};
	rings.back_reader = (struct ring_reader){.ring = back, .head = index, .released = index, .tail = index};
}

/* All schedules of A and B. Returns how many of them lost a wake-up. */
static unsigned long explore(void (*a)(struct side *), void (*b)(struct side *), bool shared_bits)
{
	unsigned length = 0;

	world.schedules = world.lost = 0;
	world.broken = false;
	memset(world.options, 0, sizeof(world.options));
	for (;;) {
		start_rings(0xfffffffc, shared_bits);
		for (unsigned i = 0; i < SIDES; i++) {
			struct side *side = &world.sides[i];

			memset(side, 0, sizeof(*side));
			side->run = i ? b : a;
			getcontext(&side->context);
			side->context.uc_stack.ss_sp = world.stacks[i];
			side->context.uc_stack.ss_size = STACK_SIZE;
			makecontext(&side->context, side_main, 0);
		}
		world.depth = 0;
		run_once();
		world.schedules++;
		if (!world.sides[0].done || !world.sides[1].done)
			world.lost++;
		for (length = world.depth; length > 0; length--)
			if (++world.choice[length - 1] < world.options[length - 1])
				break;
			else
				world.options[length - 1] = 0;
		if (length == 0) {
			world.running = NULL;
			return world.lost;
		}
		memset(world.options + length, 0, sizeof(world.options) - length);
	}
}

/* What the sides do. `put` and `get` stand for a session's whole turn: look, ask, look again, sleep, move, tell. */

static void check(bool right)
{
	if (!right)
		world.broken = true;
}

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
		notify(side);
}

static void receive_bytes(struct side *side, struct ring_reader *reader, uint8_t value, uint32_t size)
{
	uint8_t bytes[RING_SIZE] = {0};

	wait_for_data(side, reader, size, ring_reader_arm);
	ring_reader_copy(reader, 0, bytes, size);
	check(bytes[0] == value && bytes[size - 1] == value);
	ring_reader_consume(reader, size);
	if (ring_reader_release(reader))
		notify(side);
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

static void a_sleeping_reader_is_woken_in_every_order_of_steps(void **state)
{
	(void)state;
	for (int shared_bits = 0; shared_bits < 2; shared_bits++) {
		world.deviations = STEPS_MAX;
		assert_int_equal(explore(send_one, receive_one, shared_bits), 0);
		assert_false(world.broken);
		assert_true(world.schedules > 1000);
	}
}

static void a_reader_of_two_messages_is_woken_for_each(void **state)
{
	(void)state;
	no_schedule_loses(send_two, receive_two, 1000);
}

static void a_reader_that_waits_for_more_than_one_publish_is_woken(void **state)
{
	(void)state;
	no_schedule_loses(send_in_halves, receive_one, 1000);
}

static void a_writer_into_a_full_ring_is_woken_in_every_order_of_steps(void **state)
{
	(void)state;
	no_schedule_loses(send_two_ringfuls, receive_two_ringfuls, 1000);
}

static void a_request_and_its_reply_lose_no_wakeup(void **state)
{
	(void)state;
	no_schedule_loses(ask, answer, 1000);
}

static void who_waits_for_data_and_space_is_woken_for_both(void **state)
{
	(void)state;
	world.full = true;
	no_schedule_loses(wait_for_both, make_room_then_send, 1000);
	no_schedule_loses(wait_for_both, send_then_make_room, 1000);
	no_schedule_loses(wait_once_for_both, make_room_then_send, 1000);
	no_schedule_loses(wait_once_for_both, send_then_make_room, 1000);
	world.full = false;
}

/* The broken variants, each of which must be found. */

static int arm_reader_without_second_look(struct ring_reader *reader, uint32_t want)
{
	(void)want;
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
	(void)want;
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
		notify(side);
}

static void make_room_clearing_all_bits_then_send(struct side *side)
{
	struct ring_reader *reader = &rings.there_reader;

	ring_reader_consume(reader, RING_SIZE);
	ring_reader_release_quietly(reader);
	ring_fence();
	if (__atomic_load_n(reader->ring.wants_space, __ATOMIC_RELAXED) & reader->ring.wants_space_bit) {
		__atomic_fetch_and(reader->ring.wants_space, (uint8_t)0, __ATOMIC_SEQ_CST);
		notify(side);
	}
	send_bytes(side, &rings.back_writer, 2, 4);
}

static void the_search_finds_a_missing_second_look(void **state)
{
	world.deviations = DEVIATIONS;
	(void)state;
	assert_true(explore(send_one, receive_without_second_look, false) > 0);
	assert_true(explore(send_one, receive_look_then_ask, false) > 0);
	assert_true(explore(send_without_second_look, receive_a_ringful, false) > 0);
}

static void the_search_finds_a_missing_fence(void **state)
{
	world.deviations = DEVIATIONS;
	(void)state;
	assert_true(explore(send_without_fence, receive_one, false) > 0);
}

static void the_search_finds_a_request_cleared_with_the_other_one(void **state)
{
	world.deviations = DEVIATIONS;
	(void)state;
	world.full = true;
	assert_true(explore(wait_once_for_both, make_room_clearing_all_bits_then_send, SHARED_BITS) > 0);
	world.full = false;
}

/* What was checked is what is used: no second read of the other end's index behind the check. */
static void an_index_that_changes_after_the_look_isnt_seen(void **state)
{
	uint8_t bytes[RING_SIZE] = {0};

	(void)state;
	start_rings(0, false);
	world.changes = &rings.there_producer;
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

	world.changes = &rings.there_consumer;
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
	world.changes = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sleeping_reader_is_woken_in_every_order_of_steps),
		cmocka_unit_test(a_reader_of_two_messages_is_woken_for_each),
		cmocka_unit_test(a_reader_that_waits_for_more_than_one_publish_is_woken),
		cmocka_unit_test(a_writer_into_a_full_ring_is_woken_in_every_order_of_steps),
		cmocka_unit_test(a_request_and_its_reply_lose_no_wakeup),
		cmocka_unit_test(who_waits_for_data_and_space_is_woken_for_both),
		cmocka_unit_test(an_index_that_changes_after_the_look_isnt_seen),
		cmocka_unit_test(the_search_finds_a_missing_second_look),
		cmocka_unit_test(the_search_finds_a_missing_fence),
		cmocka_unit_test(the_search_finds_a_request_cleared_with_the_other_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
