/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who waits for room in whose output (waiting.h). */

#include <event2/event.h>
#include <utlist.h>

#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/base/timer.h"

#define STUCK_MS    10
#define STUCK_BYTES 16384u /* less than this in that time: stuck */

static void watch_stuck(struct hop *hop)
{
	if (evtimer_pending(hop->stuck_timer, NULL))
		return;
	hop->stuck_from = hop->out[OUTLET_MAIN].position;
	timer_start(hop->stuck_timer, STUCK_MS);
}

void hop_on_stuck(int fd, short what, void *userdata)
{
	struct hop *hop = userdata;

	if (!hop->waiters)
		return;
	if (hop->out[OUTLET_MAIN].position - hop->stuck_from >= STUCK_BYTES) {
		watch_stuck(hop); /* busy, not stuck */
		return;
	}
	hop->stuck = true;
	hop_release_waiters(hop);
	hop_mark_dirty(hop);
}

void hop_wait_for(struct hop *hop, struct hop *output)
{
	hop->blocked_on = output;
	/* Who was let go on and found no room stays the first. */
	if (hop->granted_by == output && !hop->has_moved)
		DL_PREPEND2(output->waiters, hop, waiter_prev, waiter_next);
	else
		DL_APPEND2(output->waiters, hop, waiter_prev, waiter_next);
	watch_stuck(output);
	hop_mark_dirty(output); /* so that it asks for space */
}

void hop_end_grant(struct hop *hop)
{
	struct hop *output = hop->granted_by;

	if (!output)
		return;
	hop->granted_by = output->granted = NULL;
	hop_mark_dirty(output); /* which lets the next one go on */
}

void hop_stop_waiting(struct hop *hop)
{
	hop_end_grant(hop);
	if (!hop->blocked_on)
		return;
	DL_DELETE2(hop->blocked_on->waiters, hop, waiter_prev, waiter_next);
	hop->blocked_on = NULL;
}

void hop_grant_next(struct hop *hop)
{
	struct hop *waiter = hop->waiters;

	if (!waiter || hop->granted)
		return;
	DL_DELETE2(hop->waiters, waiter, waiter_prev, waiter_next);
	waiter->blocked_on = NULL;
	waiter->granted_by = hop;
	hop->granted = waiter;
	hop_due(waiter);
	if (!hop->waiters)
		evtimer_del(hop->stuck_timer);
}

void hop_release_waiters(struct hop *hop)
{
	struct hop *waiter;

	if (hop->granted)
		hop->granted->granted_by = NULL;
	hop->granted = NULL;
	while ((waiter = hop->waiters)) {
		DL_DELETE2(hop->waiters, waiter, waiter_prev, waiter_next);
		waiter->blocked_on = NULL;
		hop_due(waiter);
	}
	evtimer_del(hop->stuck_timer);
}
