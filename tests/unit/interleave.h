/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_INTERLEAVE_H
#define XENMSG_TESTS_INTERLEAVE_H

/*
 * Two sides that share memory, in every order of their steps. Code is compiled into a test behind this
 * header, which replaces the atomic operations, so that each of them on the memory in question
 * (step_is_shared) is a step at which the other side may run. The two sides are coroutines; a depth-first
 * search goes through all schedules, or, where these are too many, through all with a few deviations. Stores
 * of indices pass through a store buffer, which is emptied by a fence, by a locked operation, or at any
 * moment that the schedule picks: what an x86 processor may do, so a missing fence is found.
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
/* The test's own: called after each look at the other side's index. */
static void looked_at(const void *at);

static void step(void);
static void step_store(uint32_t *at, uint32_t value);
static void step_flush(void);
static void step_locked(const void *at);

/* A macro isn't expanded inside itself, so each one ends in the builtin that it replaces. */
#define __atomic_load_n(at, order)                                                                           \
	({                                                                                                   \
		__typeof__(*(at) + 0u) value_;                                                               \
		if (step_is_shared(at))                                                                      \
			step();                                                                              \
		value_ = (__typeof__(value_))__atomic_load_n(at, order);                                     \
		looked_at(at);                                                                               \
		value_;                                                                                      \
	})
#define __atomic_store_n(at, value, order)   step_store(at, value)
#define __atomic_fetch_or(at, value, order)  (step_locked(at), __atomic_fetch_or(at, value, order))
#define __atomic_fetch_and(at, value, order) (step_locked(at), __atomic_fetch_and(at, value, order))
#define __atomic_thread_fence(order)	     (step_locked(NULL))

#define SIDES	   2
#define STEPS_MAX  4000
#define STORES_MAX 8
#define STACK_SIZE (512 * 1024) /* a frame's payload lies on the daemon's */

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

static inline void commit_oldest(struct side *side)
{
	*side->stores[0].at = side->stores[0].value;
	memmove(side->stores, side->stores + 1, --side->stored * sizeof(*side->stores));
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
		struct side *runs[SIDES], *commits[SIDES], *side = self;
		unsigned run_count = 0, commit_count = 0, chosen;

		for (unsigned i = 0; i < SIDES; i++, side = other(side)) {
			if (can_run(side))
				runs[run_count++] = side;
			if (side->stored)
				commits[commit_count++] = side;
		}
		if (run_count == 0) {
			swapcontext(&self->context, &world.scheduler);
			return;
		}
		chosen = world.left == 0 || run_count + commit_count == 1 ? 0
									  : choose(run_count + commit_count);
		world.left -= chosen != 0;
		if (chosen >= run_count) {
			commit_oldest(commits[chosen - run_count]);
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
		commit_oldest(world.running);
}

static void step_locked(const void *at)
{
	if (!at || step_is_shared(at))
		step();
	step_flush();
}

static void step_store(uint32_t *at, uint32_t value)
{
	struct side *side = world.running;

	if (!side || !step_is_shared(at)) {
		*at = value;
		return;
	}
	step();
	if (side->stored == STORES_MAX)
		commit_oldest(side);
	side->stores[side->stored].at = at;
	side->stores[side->stored++].value = value;
}

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
		world.depth = 0;
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
