/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/call.h"

#include "daemon/relay/hop.h"

#define REST_NS	    300000u /* after calls of that length the account rests, */
#define REST_FACTOR 19	    /* so that 5 % of the time go into them at most */
#define EXACT_CALLS 16	    /* behind a long one */

void call_begin_exact(struct kernel_call *call)
{
	call->used = clock_thread_ns();
}

static void note(struct call_history *history, uint64_t cost)
{
	history->is_long = cost >= CALL_LONG_NS;
	if (history->is_long)
		history->exact = EXACT_CALLS;
	else if (history->exact > 0)
		history->exact--;
}

uint64_t call_cost_of_long(const struct kernel_call *call, uint64_t took)
{
	if (!call->is_exact) {
		call->history->exact = EXACT_CALLS;
		return CALL_LONG_NS;
	}
	if (took >= CALL_LONG_NS)
		took = clock_thread_ns() - call->used;
	note(call->history, took);
	return took;
}

void relay_spend(struct relay *relay, struct account *account, uint64_t units)
{
	turns_spend(&relay->turns, account_line(account), units);
}

void relay_spend_long(struct relay *relay, struct account *account, uint64_t units)
{
	turns_spend_measured(&relay->turns, account_line(account), units);
	if (units * TURNS_UNIT_NS >= REST_NS)
		turns_rest(&relay->turns, account_line(account), units * TURNS_UNIT_NS * REST_FACTOR);
}

void relay_spend_call(struct relay *relay, struct account *account, const struct kernel_call *call,
		      uint64_t units)
{
	relay_spend(relay, account, units);
	relay_spend_long(relay, account, call_end(call, units) - units);
}

void span_begin(struct span *span, struct relay *relay)
{
	*span = (struct span){.relay = relay, .used = clock_thread_ns(), .spent = relay->turns.spent};
}

uint64_t span_units(const struct span *span)
{
	uint64_t used = (clock_thread_ns() - span->used) / TURNS_UNIT_NS,
		 counted = span->relay->turns.spent - span->spent;

	return used > counted ? used - counted : 0;
}

void span_end(const struct span *span, struct account *account)
{
	relay_spend_long(span->relay, account, span_units(span));
}
