/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CALL_H
#define XENMSG_DAEMON_CALL_H

/*
 * What a call into the kernel costs us is up to whoever else holds the object: when we wake a program, the
 * kernel calls each of those who watch its doorbell or its socket, and there may be thousands. So such a call
 * is charged by the time that it took:
 *
 *   call_begin(); ring, send, receive or close; switch_spend_call()
 *
 * What is done once for a connection (accepting, greeting, closing) is measured as a whole, and exactly, by a
 * *span*, with whatever else the kernel does for it. What was counted meanwhile isn't counted again:
 *
 *   span_begin(); all of that; span_end()
 *
 * A clock also goes on while the kernel lets others run, which on one CPU is what it does as soon as we wake
 * one. So the clock alone (no system call) says only that a call was short. What a longer one cost
 * (CALL_LONG_NS) is measured by what the thread used, which takes two system calls, so it is done where it is
 * worth them:
 *
 *   by the clock               the next calls about this object                          charged with
 *   at least CALL_SUSPECT_NS,  up to 2 * CALLS_EXACT are measured, nobody knows how      what the last one cost,
 *   and twice the last one     many                                                      CALL_LONG_NS at least
 *   at least CALL_LONG_NS      one in 8 to 23 is a sample, and the holder can't know     what the last one cost
 *                              which: the last digits of a clock decide. All are
 *                              measured until one is long by the clock, CALLS_EXACT at
 *                              most: short ones say nothing of those
 *   a measured one was long,   CALLS_EXACT are measured                                  what it used; behind a
 *   and twice the last one     sample as many times the difference as calls were charged with less
 *
 * As long as calls have passed that weren't measured, one in CALLS_EXACT is, whatever it seems to be: dear
 * ones can't hide behind cheap ones. What it costs stands for those that passed.
 *
 * So where each wake-up is dear, as by way of a hypervisor, most are charged like the last measured one.
 * After one of 300 us the account's line rests (turns.h). Nobody is cut off
 * for that: what a hypervisor takes meanwhile counts as used, too.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/turns.h"

struct account;
struct switchboard;

#define CALL_LONG_NS	20000u
#define CALL_SUSPECT_NS 100000u
#define CALLS_EXACT	16u

/* Of one object. */
struct call_history {
	uint32_t owed;	/* ns that were used and not charged yet */
	uint16_t cost;	/* units, of the last one that was measured, CALL_SUSPECT_NS at most; 0: none was */
	uint8_t exact;	/* so many of the next calls are measured exactly */
	uint8_t rest;	/* so many long ones pass before another one is measured */
	uint8_t unseen; /* so many have passed since the last one */
	bool is_sample; /* what is measured next is one */
	bool is_long;	/* the last one that was measured exactly took long */
};

struct kernel_call {
	struct call_history *history;
	uint64_t began;
	bool is_exact;
	uint64_t used; /* CPU time of this thread */
};

/* What nobody else can know: by the last digits of a clock. */
static inline uint32_t call_chance(uint64_t ns)
{
	return (uint32_t)(ns * 0x9e3779b97f4a7c15u >> 40);
}

void call_begin_exact(struct kernel_call *call);
static inline void call_begin(struct kernel_call *call, struct call_history *history)
{
	uint64_t began = clock_ns();

	call->history = history;
	call->is_exact = history->exact || (history->unseen && call_chance(began) % CALLS_EXACT == 0);
	call->began = began;
	if (call->is_exact)
		call_begin_exact(call);
}

/* Returns what the call cost us, in ns, if it was long by the clock, or is measured exactly. */
uint64_t call_cost_of_long(const struct kernel_call *call, uint64_t took);
/* Returns what the call, which is over now, cost us, in units; at least `units`, which is what such a call
 * costs otherwise. */
static inline uint64_t call_end(const struct kernel_call *call, uint64_t now, uint64_t units)
{
	uint64_t took = now - call->began;

	if (call->is_exact || took >= CALL_LONG_NS)
		took = call_cost_of_long(call, took);
	return took / TURNS_UNIT_NS > units ? took / TURNS_UNIT_NS : units;
}

struct span {
	struct switchboard *board;
	uint64_t used, spent;
};

void span_begin(struct span *span, struct switchboard *board);
/* Returns what this thread used since then, in units, beyond all that was counted meanwhile. */
uint64_t span_units(const struct span *span);
/* Counts that as work that `account` has caused. */
void span_end(const struct span *span, struct account *account);

/* Counts `units` (turns.h) of work that `account` has caused (NULL: nobody). */
void switch_spend(struct switchboard *board, struct account *account, uint64_t units);
/* Counts what a call took beyond what was counted for it, as work that `account` has caused (NULL:
 * nobody). */
void switch_spend_long(struct switchboard *board, struct account *account, uint64_t units);
/* Counts `units`, and what the call took beyond them. */
void switch_spend_call(struct switchboard *board, struct account *account, const struct kernel_call *call,
		       uint64_t units);

#endif
