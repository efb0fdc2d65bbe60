/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls into the kernel are charged by what they cost us, if another holder of the object makes them dear,
 * and not by what the kernel gives to others meanwhile. */
#include "tests/unit/unit.h"

#include <time.h>

#include "daemon/switch/call.h"
#include "daemon/switch/hop.h"

#define FLAT  60u /* units */
#define MS    1000000u
#define UNITS (MS / TURNS_UNIT_NS) /* of a millisecond */
/* So many calls are measured besides when others take the machine in truth. */
#define MEASURED_THEN (2 * (int)CALLS_EXACT)

static void work(uint64_t ns)
{
	uint64_t end = clock_thread_ns() + ns;

	while (clock_thread_ns() < end)
		;
}

static void wait_for_others(uint64_t ns)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

static uint64_t charged(struct call_history *history, void (*what)(uint64_t ns), uint64_t ns)
{
	struct kernel_call call;

	call_begin(&call, history);
	what(ns);
	return call_end(&call, clock_ns(), FLAT);
}

TEST(an_ordinary_call_costs_what_is_known_of_it)
{
	struct call_history history = {0};
	struct kernel_call call;

	for (int i = 0; i < 1000 && !history.exact && !history.unseen; i++) {
		call_begin(&call, &history);
		assert_in_range(call_end(&call, clock_ns(), FLAT), FLAT, CALL_LONG_NS / TURNS_UNIT_NS);
	}
}

TEST(a_long_call_may_be_an_interruption_and_the_next_is_measured)
{
	struct call_history history = {0};

	assert_int_equal(charged(&history, work, 3 * MS), CALL_LONG_NS / TURNS_UNIT_NS);
	assert_true(charged(&history, work, 3 * MS) >= 2 * UNITS);
}

/* As a program that shares our CPU makes each wake-up. */
TEST(few_of_many_calls_that_are_interrupted_are_measured)
{
	struct call_history history = {0};
	int measured = 0, interrupted = 0;

	for (int i = 0; i < 240; i++) {
		uint64_t began = clock_ns(), units;
		struct kernel_call call;

		call_begin(&call, &history);
		measured += call.is_exact;
		call.began -= CALL_LONG_NS; /* others have run */
		units = call_end(&call, clock_ns(), FLAT);
		interrupted += clock_ns() - began >= CALL_LONG_NS;
		if (!interrupted) /* else that may stand for those behind it */
			assert_in_range(units, FLAT, CALL_LONG_NS / TURNS_UNIT_NS);
	}
	assert_in_range(measured, 240 / 24, 240 / 4 + interrupted * MEASURED_THEN);
}

TEST(few_of_many_calls_that_cost_the_same_are_measured)
{
	struct call_history history = {.cost = 1};
	uint64_t units = 0;
	int measured = 0, interrupted = 0;

	for (int i = 0; i < 480; i++) {
		uint64_t began = clock_ns();

		measured += history.exact > 0;
		units += charged(&history, work, 2 * CALL_LONG_NS);
		interrupted += clock_ns() - began >= 3 * CALL_LONG_NS;
	}
	assert_in_range(measured, 480 / 24, 480 / 2 + interrupted * MEASURED_THEN);
	assert_true(units >=
		    480 * 3 / 2 * CALL_LONG_NS / TURNS_UNIT_NS); /* but for some that are interrupted */
}

/* Who makes each other call dear can't have the cheap ones stand for them. */
TEST(short_calls_say_nothing_of_long_ones)
{
	struct call_history history = {.cost = 10};
	uint64_t units = 0;

	for (int i = 0; i < 480; i++)
		units += charged(&history, work, i % 2 ? 0 : CALL_LONG_NS * 3 / 2);
	assert_true(units >= 240 * CALL_LONG_NS / TURNS_UNIT_NS);
}

TEST(what_passed_unseen_is_charged_when_one_is_seen)
{
	struct call_history history = {.cost = 100, .exact = 1, .unseen = 10, .is_sample = true};
	uint64_t units = charged(&history, work, CALL_SUSPECT_NS), own = CALL_SUSPECT_NS / TURNS_UNIT_NS;

	assert_int_equal(history.exact, CALLS_EXACT);
	assert_int_equal(history.unseen, 0);
	while (history.owed) {
		units += charged(&history, work, CALL_LONG_NS);
		own += CALL_LONG_NS / TURNS_UNIT_NS;
	}
	assert_true(units >= own + 10 * (CALL_SUSPECT_NS - 1000) / TURNS_UNIT_NS);
}

/* However dear calls are, and though most pass unseen. */
TEST(what_is_owed_is_paid_sooner_than_it_grows)
{
	struct call_history history = {.cost = 60000};
	const uint64_t took = 11 * CALL_SUSPECT_NS;

	for (int i = 0; i < 2000; i++) {
		struct kernel_call call;

		call_begin(&call, &history);
		call.began -= took;
		if (call.is_exact)
			call.used -= took;
		call_end(&call, clock_ns(), FLAT);
	}
	assert_in_range(history.owed, 0, 32 * CALL_SUSPECT_NS);
}

/* What the thread used meanwhile (a hypervisor or an interrupt may have used it) is the most. */
TEST(what_the_kernel_gives_to_others_meanwhile_is_not_charged)
{
	struct call_history history = {.exact = 1};
	uint64_t before = clock_thread_ns(), units = charged(&history, wait_for_others, 100 * MS),
		 used = (clock_thread_ns() - before) / TURNS_UNIT_NS;

	assert_in_range(units, FLAT, used > FLAT ? used : FLAT);
	assert_true(units < 100 * UNITS);
}

TEST(what_is_counted_within_a_span_is_not_counted_again)
{
	struct switchboard board = {0};
	struct span outer, inner;
	uint64_t before = clock_thread_ns(), units, used;

	span_begin(&outer, &board);
	work(MS);
	span_begin(&inner, &board);
	work(3 * MS);
	span_end(&inner, NULL);
	assert_true(board.turns.spent >= 3 * UNITS);
	units = span_units(&outer);
	used = (clock_thread_ns() - before) / TURNS_UNIT_NS;
	assert_in_range(units, UNITS, used - 3 * UNITS);
	turns_spend(&board.turns, NULL, 10 * UNITS);
	assert_int_equal(span_units(&outer), 0);
}

/* Whoever knows how many are measured behind a long one can't have another one just then. */
TEST(dear_calls_cant_hide_behind_so_many_cheap_ones)
{
	const uint64_t dear = 5 * CALL_SUSPECT_NS;
	uint64_t units;

	for (unsigned every = 18; every <= 72; every *= 2) {
		struct call_history history = {0};

		units = 0;
		for (unsigned i = 0; i < 200 * every; i++) {
			struct kernel_call call;

			call_begin(&call, &history);
			if (i % every == 0) {
				call.began -= dear;
				call.used -= dear;
			}
			units += call_end(&call, clock_ns(), FLAT);
		}
		/* of 200, but for what is still owed */
		assert_true(units - 200 * every * FLAT >= 60 * dear / TURNS_UNIT_NS);
	}
}
