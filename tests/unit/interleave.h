/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_INTERLEAVE_H
#define XENMSG_TESTS_INTERLEAVE_H

/*
 * Two sides that share memory, in every order of their steps. Code is compiled into a test behind this
 * header, which replaces the atomic operations, so that each of them on the memory in question
 * (step_is_shared) is a step at which the other side may run. The two sides are coroutines; a depth-first
 * search goes through all schedules, or, where these are too many, through all with a few deviations.
 *
 * No more order holds than was asked for, as on arm64. Stores of indices, and of the bytes of messages where
 * the test says so (step_is_data), pass through a store buffer. It is emptied by a fence or an atomic
 * operation that releases; at any moment that the schedule picks a store may leave it, also before earlier
 * ones, but one that releases leaves it after them. A reader of a message may get those that were
 * there before, unless it has acquired since. What an order is good for is shown by forgetting it
 * (world.forgets_acquire, forgets_release).
 *
 * A side that sleeps goes on only when it was notified. A schedule in which somebody is left asleep is a lost
 * wake-up.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* The test's own: whether the other side may see or change what lies there. */
static bool step_is_shared(const void *at);
/* The test's own: whether bytes of messages lie there, which are stored and read without an order of their
 * own. */
static bool step_is_data(const void *at);
/* The test's own: called after each look at the other side's index. */
static void looked_at(const void *at);

static void step(void);
static void step_loaded(int order);
static void step_store(uint32_t *at, uint32_t value, int order);
static void step_copy(void *to, const void *from, size_t size);
static void step_flush(void);
static void step_ordered(const void *at, int order);

/* A macro isn't expanded inside itself, so each one ends in the builtin that it replaces. */
#define __atomic_load_n(at, order)                                                                           \
	({                                                                                                   \
		__typeof__(*(at) + 0u) value_;                                                               \
		if (step_is_shared(at))                                                                      \
			step();                                                                              \
		value_ = (__typeof__(value_))__atomic_load_n(at, order);                                     \
		if (step_is_shared(at))                                                                      \
			step_loaded(order);                                                                  \
		looked_at(at);                                                                               \
		value_;                                                                                      \
	})
#define __atomic_store_n(at, value, order)   step_store(at, value, order)
#define __atomic_fetch_or(at, value, order)  (step_ordered(at, order), __atomic_fetch_or(at, value, order))
#define __atomic_fetch_and(at, value, order) (step_ordered(at, order), __atomic_fetch_and(at, value, order))
#define __atomic_thread_fence(order)	     (step_ordered(NULL, order))

#define SIDES	   2
#define STEPS_MAX  4000
#define STORES_MAX 8
#define STORE_SIZE 8u
#define LOG_MAX	   1024
#define STACK_SIZE (512 * 1024) /* a frame's payload lies on the daemon's */

struct store {
	uint8_t *at;
	uint8_t size;
	bool releases;
	uint8_t bytes[STORE_SIZE];
};

struct side {
	ucontext_t context;
	void (*run)(struct side *side);
	bool done, asleep, notified;
	struct store stores[STORES_MAX];
	unsigned stored;
	unsigned acquired; /* up to where in the log it sees everything */
};

/* One schedule after the other: `choice` is the path to the present one, `options` how many ways there were
 * at each step. */
static struct {
	ucontext_t scheduler;
	struct side sides[SIDES];
	struct side *running; /* NULL: what is done is done without steps */
	uint8_t choice[STEPS_MAX], options[STEPS_MAX];
	unsigned depth, left;
	unsigned long schedules, lost;
	unsigned deviations;
	bool broken; /* a side found something wrong in what it read */
	bool forgets_acquire, forgets_release;
	struct {
		const struct side *side;
		struct store before; /* what was there */
	} log[LOG_MAX];		     /* of the stores that left a buffer */
	unsigned logged;
	uint8_t stacks[SIDES][STACK_SIZE];
} world;

static inline void check(bool right)
{
	if (!right)
		world.broken = true;
}

static inline struct side *other(const struct side *side)
{
	return side == &world.sides[0] ? &world.sides[1] : &world.sides[0];
}

static inline bool can_run(const struct side *side)
{
	return !side->done && (!side->asleep || side->notified);
}

static inline bool meet(const struct store *a, const uint8_t *at, size_t size)
{
	return a->at < at + size && at < a->at + a->size;
}

/* Lets a store leave the buffer. */
static inline void commit(struct side *side, unsigned which)
{
	struct store *store = &side->stores[which], *before = &world.log[world.logged].before;

	if (world.logged == LOG_MAX)
		abort();
	*before = *store;
	__builtin_memcpy(before->bytes, store->at, store->size);
	world.log[world.logged++].side = side;
	__builtin_memcpy(store->at, store->bytes, store->size);
	memmove(store, store + 1, (--side->stored - which) * sizeof(*store));
}

/* Whether the store may leave the buffer before the earlier ones. */
static inline bool may_overtake(const struct side *side, unsigned which)
{
	const struct store *store = &side->stores[which];

	if (store->releases && !world.forgets_release)
		return false;
	for (unsigned i = 0; i < which; i++)
		if (meet(&side->stores[i], store->at, store->size))
			return false;
	return true;
}

static inline unsigned choose(unsigned options)
{
	if (world.depth == STEPS_MAX)
		abort(); /* a side that spins */
	if (world.options[world.depth] == 0) {
		world.options[world.depth] = (uint8_t)options;
		world.choice[world.depth] = 0;
	}
	return world.choice[world.depth++];
}

/* The side that runs goes on unless it can't, or the schedule deviates from that, by letting the other side
 * in or by letting a store out; of such deviations there may be `world.deviations`. */
static void step(void)
{
	struct side *self = world.running;

	while (self) {
		struct side *runs[SIDES], *side = self;
		struct {
			struct side *side;
			unsigned which;
		} commits[SIDES * 2];
		unsigned run_count = 0, commit_count = 0, chosen;

		for (unsigned i = 0; i < SIDES; i++, side = other(side)) {
			if (can_run(side))
				runs[run_count++] = side;
			if (side->stored) {
				commits[commit_count].side = side;
				commits[commit_count++].which = 0;
			}
			if (side->stored > 1 && may_overtake(side, side->stored - 1)) {
				commits[commit_count].side = side;
				commits[commit_count++].which = side->stored - 1;
			}
		}
		if (run_count == 0) {
			swapcontext(&self->context, &world.scheduler);
			return;
		}
		chosen = world.left == 0 || run_count + commit_count == 1 ? 0
									  : choose(run_count + commit_count);
		world.left -= chosen != 0;
		if (chosen >= run_count) {
			commit(commits[chosen - run_count].side, commits[chosen - run_count].which);
			continue;
		}
		world.running = runs[chosen];
		if (world.running != self)
			swapcontext(&self->context, &world.running->context);
		return;
	}
}

static void step_flush(void)
{
	while (world.running && world.running->stored)
		commit(world.running, 0);
}

static inline bool releases(int order)
{
	return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

/* Something was read in this order. */
static void step_loaded(int order)
{
	bool acquires = order == __ATOMIC_CONSUME || order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL ||
			order == __ATOMIC_SEQ_CST;

	if (world.running && acquires && !(order == __ATOMIC_ACQUIRE && world.forgets_acquire))
		world.running->acquired = world.logged;
}

/* A fence, or an atomic operation that reads and writes, before it. */
static void step_ordered(const void *at, int order)
{
	if (!at || step_is_shared(at))
		step();
	if (releases(order))
		step_flush();
	step_loaded(order);
}

static inline void buffer(struct side *side, void *at, const void *bytes, size_t size, bool is_release)
{
	if (side->stored == STORES_MAX)
		commit(side, 0);
	side->stores[side->stored] = (struct store){.at = at, .size = (uint8_t)size, .releases = is_release};
	__builtin_memcpy(side->stores[side->stored++].bytes, bytes, size);
}

static void step_store(uint32_t *at, uint32_t value, int order)
{
	struct side *side = world.running;

	if (!side || !step_is_shared(at)) {
		*at = value;
		return;
	}
	step();
	buffer(side, at, &value, sizeof(value), releases(order));
}

/* Reads bytes of a message: those of now, or those that were there when the side acquired last. */
static inline void read_data(struct side *side, uint8_t *to, const uint8_t *from, size_t size)
{
	uint8_t now[STORE_SIZE];

	__builtin_memcpy(to, from, size);
	__builtin_memcpy(now, from, size);
	for (unsigned i = world.logged; i-- > side->acquired;) {
		const struct store *before = &world.log[i].before;

		for (unsigned j = 0; world.log[i].side != side && j < before->size; j++)
			if (before->at + j >= from && before->at + j < from + size)
				to[before->at + j - from] = before->bytes[j];
	}
	if (memcmp(to, now, size) == 0)
		return;
	if (world.left && choose(2))
		world.left--;
	else
		__builtin_memcpy(to, now, size);
}

/* In place of memcpy(), in pieces of what a processor moves at once. */
static void step_copy(void *to, const void *from, size_t size)
{
	struct side *side = world.running;
	bool stores = side && step_is_data(to), reads = side && step_is_data(from);

	if (!stores && !reads) {
		__builtin_memcpy(to, from, size);
		return;
	}
	for (size_t at = 0, piece; at < size; at += piece) {
		piece = size - at < STORE_SIZE ? size - at : STORE_SIZE;
		if (stores)
			buffer(side, (uint8_t *)to + at, (const uint8_t *)from + at, piece, false);
		else
			read_data(side, (uint8_t *)to + at, (const uint8_t *)from + at, piece);
	}
}
#define memcpy(...) step_copy(__VA_ARGS__)

static inline void notify_other(struct side *side)
{
	step();
	step_flush(); /* a system call */
	other(side)->notified = true;
}

static inline void sleep_until_notified(struct side *side)
{
	step();
	step_flush();
	side->asleep = true;
	step();
	side->asleep = false;
	side->notified = false;
}

static inline void side_main(void)
{
	struct side *side = world.running;

	side->run(side);
	step(); /* a store may stay in its buffer for a while after the last step of the ring */
	step_flush();
	side->done = true;
	step();
}

/* All schedules of A and B, each from what `start` makes. Returns how many of them lost a wake-up. */
static inline unsigned long explore_from(void (*start)(void), void (*a)(struct side *),
					 void (*b)(struct side *))
{
	unsigned length;

	world.schedules = world.lost = 0;
	world.broken = false;
	memset(world.options, 0, sizeof(world.options));
	do {
		world.running = NULL;
		start();
		for (unsigned i = 0; i < SIDES; i++) {
			struct side *side = &world.sides[i];

			memset(side, 0, sizeof(*side));
			side->run = i ? b : a;
			getcontext(&side->context);
			side->context.uc_stack.ss_sp = world.stacks[i];
			side->context.uc_stack.ss_size = STACK_SIZE;
			makecontext(&side->context, side_main, 0);
		}
		world.depth = world.logged = 0;
		world.left = world.deviations;
		world.running = &world.sides[0];
		swapcontext(&world.scheduler, &world.running->context);
		world.schedules++;
		if (!world.sides[0].done || !world.sides[1].done)
			world.lost++;
		for (length = world.depth; length > 0; length--)
			if (++world.choice[length - 1] < world.options[length - 1])
				break;
			else
				world.options[length - 1] = 0;
		memset(world.options + length, 0, world.depth - length);
	} while (length);
	world.running = NULL;
	return world.lost;
}

#endif
