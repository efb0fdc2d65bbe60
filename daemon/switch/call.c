/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/call.h"

#include "daemon/switch/hop.h"

#define REST_NS	    300000u /* after calls of that length the account rests, */
#define REST_FACTOR 19	    /* so that 5 % of the time go into them at most */
#define OWED_MAX    1000000000u
#define REST_LEAST  7  /* long calls between two that are measured, */
#define REST_MORE   16 /* and fewer than so many more */

void call_begin_exact(struct kernel_call *call)
{
	call->used = clock_thread_ns();
	call->began = clock_ns();
}

/* What the last one cost that was measured; 0: there was none. */
static uint64_t known_ns(const struct call_history *history)
{
	return (uint64_t)history->cost * TURNS_UNIT_NS;
}

/* From where on the time by the clock makes a call suspect: dear ones tell what the next ones may take. */
static uint64_t suspect_ns(const struct call_history *history)
{
	return 2 * known_ns(history) > CALL_SUSPECT_NS ? 2 * known_ns(history) : CALL_SUSPECT_NS;
}

/* A part of what is owed: small enough that it is no reason to rest, unless what the call cost is. */
static uint64_t call_pay(struct call_history *history, uint64_t most)
{
	uint64_t part = most > CALL_SUSPECT_NS ? most : CALL_SUSPECT_NS;

	if (part > history->owed)
		part = history->owed;
	history->owed -= (uint32_t)part;
	return part;
}

/* Returns what a long call is charged with that wasn't measured. */
static uint64_t estimated(struct call_history *history, uint64_t took)
{
	uint64_t cost = history->cost ? known_ns(history) : CALL_LONG_NS;

	history->is_sample = took < suspect_ns(history);
	if (history->unseen < UINT8_MAX)
		history->unseen++;
	if (!history->is_sample) {
		history->exact = (uint8_t)(1 + call_chance(clock_ns()) % (2 * CALLS_EXACT));
		return cost > CALL_LONG_NS ? cost : CALL_LONG_NS;
	}
	if (history->rest > 0)
		history->rest--;
	else
		history->exact = CALLS_EXACT;
	return cost + call_pay(history, CALL_SUSPECT_NS);
}

/* What has to be charged for those that passed unseen, if this one was dearer, is charged with the next ones,
 * a part with each. */
static void owe(struct call_history *history, uint64_t cost)
{
	uint64_t charged = history->cost ? known_ns(history) : CALL_LONG_NS, owed = history->owed;

	if (cost < CALL_LONG_NS || cost <= charged)
		return;
	owed += (cost - charged) * history->unseen;
	history->owed = owed < OWED_MAX ? (uint32_t)owed : OWED_MAX;
}

static void call_note(struct call_history *history, uint64_t cost, bool seemed_long)
{
	uint64_t units = cost / TURNS_UNIT_NS;
	/* so long that those before say nothing of the next ones */
	bool is_dear = cost >= CALL_LONG_NS && units / 2 >= history->cost;

	if (is_dear)
		history->exact = CALLS_EXACT;
	else
		history->exact = history->is_sample || history->exact == 0 ? 0 : history->exact - 1;
	history->is_sample = history->is_sample && !is_dear;
	history->is_long = cost >= CALL_LONG_NS;
	/* Short ones, and those that others interrupted, say little of those that passed. */
	if (seemed_long)
		history->unseen = history->is_long ? 0 : history->unseen / 2;
	/* At most so much: those beyond twice that are all measured, and more can't be owed than is paid. */
	units = units < CALL_SUSPECT_NS / TURNS_UNIT_NS ? units : CALL_SUSPECT_NS / TURNS_UNIT_NS;
	history->cost = (uint16_t)(units ? units : 1);
	history->rest = (uint8_t)(REST_LEAST + cost % REST_MORE);
}

uint64_t call_cost_of_long(const struct kernel_call *call, uint64_t took)
{
	bool seemed_long;

	if (!call->is_exact)
		return estimated(call->history, took);
	if (took < CALL_LONG_NS && (call->history->is_sample || !call->history->exact)) {
		if (call->history->exact)
			call->history->exact--;
		return took;
	}
	seemed_long = took >= CALL_LONG_NS;
	if (seemed_long)
		took = clock_thread_ns() - call->used;
	owe(call->history, took);
	call_note(call->history, took, seemed_long);
	return took + call_pay(call->history, took);
}

void switch_spend(struct switchboard *board, struct account *account, uint64_t units)
{
	turns_spend(&board->turns, account_line(account), units);
}

void switch_spend_long(struct switchboard *board, struct account *account, uint64_t units)
{
	turns_spend_measured(&board->turns, account_line(account), units);
	if (units * TURNS_UNIT_NS >= REST_NS)
		turns_rest(&board->turns, account_line(account), units * TURNS_UNIT_NS * REST_FACTOR);
}

void switch_spend_call(struct switchboard *board, struct account *account, const struct kernel_call *call,
		       uint64_t units)
{
	uint64_t cost;

	board->now_ns = clock_ns();
	cost = call_end(call, board->now_ns, units);
	switch_spend(board, account, units);
	if (cost > units)
		switch_spend_long(board, account, cost - units);
}

void span_begin(struct span *span, struct switchboard *board)
{
	*span = (struct span){.board = board, .used = clock_thread_ns(), .spent = board->turns.spent};
}

uint64_t span_units(const struct span *span)
{
	uint64_t used = (clock_thread_ns() - span->used) / TURNS_UNIT_NS,
		 counted = span->board->turns.spent - span->spent;

	return used > counted ? used - counted : 0;
}

void span_end(const struct span *span, struct account *account)
{
	switch_spend_long(span->board, account, span_units(span));
}
