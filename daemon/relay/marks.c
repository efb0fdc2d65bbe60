/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is to be done for a hop, in the phase of a pass that does such things (relay.c). */

#include <stdarg.h>
#include <stdio.h>

#include <utlist.h>

#include "daemon/base/cost.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"

void hop_mark_dirty(struct hop *hop)
{
	if (hop->is_dirty)
		return;
	hop->is_dirty = true;
	DL_APPEND2(hop->relay->dirty, hop, dirty_prev, dirty_next);
	turns_want(&hop->relay->turns);
}

void hop_mark_awake(struct hop *hop)
{
	if (hop->is_awake)
		return;
	hop->is_awake = true;
	DL_APPEND2(hop->relay->awake, hop, awake_prev, awake_next);
	turns_want(&hop->relay->turns);
}

void hop_fail(struct hop *hop, int error, const char *format, ...)
{
	va_list args;

	if (hop->has_failed)
		return;
	hop->has_failed = true;
	hop->error = error;
	va_start(args, format);
	vsnprintf(hop->why, sizeof(hop->why), format, args);
	va_end(args);
	LL_APPEND2(hop->relay->failed, hop, failed_next);
	turns_want(&hop->relay->turns);
}

void hop_notify_now(struct hop *hop)
{
	/* On one CPU the program runs at once, and takes what it got, and may answer, before we go on. It
	 * needn't notify us: we look. */
	if (hop->traits->release_means_taken) {
		ring_reader_disarm(&hop->in);
		for (unsigned i = 0; i < hop->traits->outlets; i++)
			ring_writer_disarm(&hop->out[i].writer);
		hop->has_asked = false;
		hop_due(hop);
	}
	hop->tx.notifications++;
	relay_spend(hop->relay, hop->account, COST_SYSCALL);
	hop->ops->notify(hop->owner);
}

void hop_notify(struct hop *hop)
{
	if (hop->traits->is_daemon) {
		hop_notify_now(hop);
	} else if (!hop->is_to_notify) {
		hop->is_to_notify = true;
		DL_APPEND2(hop->relay->to_notify, hop, notify_prev, notify_next);
		turns_want(&hop->relay->turns);
	}
}

void hop_forget_notification(struct hop *hop)
{
	if (!hop->is_to_notify)
		return;
	hop->is_to_notify = false;
	DL_DELETE2(hop->relay->to_notify, hop, notify_prev, notify_next);
}

void relay_spend(struct relay *relay, struct account *account, uint64_t units)
{
	turns_spend(&relay->turns, account_line(account), units);
}
