/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Which hop waits for room in the output of which other (struct hop_waiting in hop.h). */

#include <event2/event.h>
#include <utlist.h>

#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"
#include "base/timer.h"

#define STUCK_MS    10
#define STUCK_BYTES 16384u /* fewer bytes than this in that time: stuck */

static void watch_stuck(struct hop *hop)
{
	if (evtimer_pending(hop->waiting.stuck_timer, NULL))
		return;
	hop->waiting.stuck_from = hop->out[OUTLET_MAIN].position;
	timer_start(hop->waiting.stuck_timer, STUCK_MS);
}

void hop_on_stuck(int fd, short what, void *userdata)
{
	struct hop *hop = userdata;

	if (!hop->waiting.waiters)
		return;
	if (hop->out[OUTLET_MAIN].position - hop->waiting.stuck_from >= STUCK_BYTES) {
		watch_stuck(hop); /* busy, not stuck */
		return;
	}
	hop->waiting.stuck = true;
	hop_release_waiters(hop);
	hop_mark(hop, MARK_DIRTY);
}

void hop_wait_for(struct hop *hop, struct hop *output)
{
	hop->waiting.blocked_on = output;
	/* A hop that was let go on and found no room stays the first. */
	if (hop->waiting.granted_by == output && !hop->in.has_moved)
		DL_PREPEND2(output->waiting.waiters, hop, waiting.prev, waiting.next);
	else
		DL_APPEND2(output->waiting.waiters, hop, waiting.prev, waiting.next);
	watch_stuck(output);
	hop_mark(output, MARK_DIRTY); /* so that it asks for room */
}

void hop_end_grant(struct hop *hop)
{
	struct hop *output = hop->waiting.granted_by;

	if (!output)
		return;
	hop->waiting.granted_by = output->waiting.granted = NULL;
	hop_mark(output, MARK_DIRTY); /* so that it lets the next one go on */
}

void hop_stop_waiting(struct hop *hop)
{
	hop_end_grant(hop);
	if (!hop->waiting.blocked_on)
		return;
	DL_DELETE2(hop->waiting.blocked_on->waiting.waiters, hop, waiting.prev, waiting.next);
	hop->waiting.blocked_on = NULL;
}

void hop_grant_next(struct hop *hop)
{
	struct hop *waiter = hop->waiting.waiters;

	if (!waiter || hop->waiting.granted)
		return;
	DL_DELETE2(hop->waiting.waiters, waiter, waiting.prev, waiting.next);
	waiter->waiting.blocked_on = NULL;
	waiter->waiting.granted_by = hop;
	hop->waiting.granted = waiter;
	hop_due(waiter);
	if (!hop->waiting.waiters)
		evtimer_del(hop->waiting.stuck_timer);
}

void hop_release_waiters(struct hop *hop)
{
	struct hop *waiter;

	if (hop->waiting.granted)
		hop->waiting.granted->waiting.granted_by = NULL;
	hop->waiting.granted = NULL;
	while ((waiter = hop->waiting.waiters)) {
		DL_DELETE2(hop->waiting.waiters, waiter, waiting.prev, waiting.next);
		waiter->waiting.blocked_on = NULL;
		hop_due(waiter);
	}
	evtimer_del(hop->waiting.stuck_timer);
}
