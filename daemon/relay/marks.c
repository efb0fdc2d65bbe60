/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Marks of what is to be done for a hop, in the phase of a pass that does it (relay.c), and for which of its
 * channels. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <utlist.h>

#include "base/cost.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"

#define MUCH 8192 /* bytes */

void hop_mark_anew(struct hop *hop, enum hop_mark mark)
{
	hop->marks[mark].is_set = true;
	hop->relay->marks += mark != MARK_RETIRED; /* which has a task, whose line may rest */
	DL_APPEND2(hop->relay->marked[mark], hop, marks[mark].prev, marks[mark].next);
	turns_want(&hop->relay->turns);
}

void hop_unmark(struct hop *hop, enum hop_mark mark)
{
	if (!hop_is_marked(hop, mark))
		return;
	hop->marks[mark].is_set = false;
	hop->relay->marks -= mark != MARK_RETIRED;
	DL_DELETE2(hop->relay->marked[mark], hop, marks[mark].prev, marks[mark].next);
}

void channel_mark_urgent(struct channel_end *end)
{
	if (!end->hop)
		return;
	if (!end->in_urgent) {
		end->in_urgent = true;
		DL_APPEND2(end->hop->urgent, end, urgent_prev, urgent_next);
	}
	hop_mark(end->hop, MARK_DIRTY);
}

void channel_mark_backlog(struct channel_end *end)
{
	if (!end->hop)
		return;
	if (!end->in_backlog) {
		end->in_backlog = true;
		DL_APPEND2(*hop_backlog(end->hop, end), end, backlog_prev, backlog_next);
	}
	hop_mark(end->hop, MARK_DIRTY);
}

void hop_fail(struct hop *hop, int error, const char *format, ...)
{
	va_list args;

	if (hop_is_marked(hop, MARK_FAILED) || hop_is_retired(hop))
		return;
	hop->error = error;
	va_start(args, format);
	vsnprintf(hop->why, sizeof(hop->why), format, args);
	va_end(args);
	if (hop_has_rings(hop) && !hop_is_sound(hop)) { /* so the other end has done nothing wrong */
		hop->error = -ENOLINK;
		snprintf(hop->why, sizeof(hop->why), "this domain was restored");
	}
	hop_change(hop, HOP_IS_FAILING);
	hop_mark(hop, MARK_FAILED);
}

/* Whether the program was given so much that it will have taken, or filled, some of it when we look. */
static bool has_been_given_much(struct hop *hop)
{
	if (hop->has_made_room)
		return true;
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		if (ring_writer_unread(&hop->out[i].writer) >= MUCH)
			return true;
	return false;
}

void hop_notify_now(struct hop *hop)
{
	/* On one CPU the program runs at once, and takes what it got, and may answer, before we go on. It
	 * needn't notify us, since we look. */
	if (hop->traits->release_means_taken) {
		ring_reader_disarm(&hop->in.reader);
		for (unsigned i = 0; i < hop->traits->outlets; i++)
			ring_writer_disarm(&hop->out[i].writer);
		hop->in.has_asked = false;
		if (has_been_given_much(hop))
			hop_due(hop);
	}
	hop->has_made_room = false;
	hop->tx.notifications++;
	hop_spend(hop, COST_SYSCALL);
	hop->callbacks->notify(hop->owner);
	hop->relay->now_ns = 0; /* it may have run meanwhile */
}

void hop_notify(struct hop *hop)
{
	if (hop->traits->is_daemon) {
		hop_notify_now(hop);
		return;
	}
	if (!hop_is_marked(hop, MARK_TO_NOTIFY))
		hop->to_notify_since = hop->relay->turns.spent;
	hop_mark(hop, MARK_TO_NOTIFY);
}
