/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The hops of one event loop together: turns, faults, and the end of what has ended. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <event2/event.h>
#include <utlist.h>

#include "daemon/channel.h"
#include "daemon/hop.h"
#include "daemon/hop_internal.h"
#include "daemon/timer.h"

#define CANCEL_MS      2000
#define FLUSH_EMITS    1024u	/* of a flush; then the event loop looks at everybody else */
#define FLUSH_BYTES    4194304u

/* By a timer rather than by event_active(): the loop looks at the descriptors before it comes to that. */
static void call_again(struct relay *relay)
{
	timer_start(relay->again, 0);
}

void hop_mark_unfinished(struct hop *hop)
{
	if (hop->is_unfinished)
		return;
	hop->is_unfinished = true;
	DL_APPEND2(hop->relay->unfinished, hop, unfinished_prev, unfinished_next);
}

static void on_again(int fd, short what, void *userdata)
{
	struct relay *relay = userdata;
	struct hop *hop;
	unsigned count = 0;

	(void)fd;
	(void)what;
	DL_FOREACH2(relay->unfinished, hop, unfinished_next)
		count++;
	while (count-- && (hop = relay->unfinished)) {
		hop->is_unfinished = false;
		DL_DELETE2(relay->unfinished, hop, unfinished_prev, unfinished_next);
		hop_event(hop);
	}
	relay_flush(relay);
}

/* One pass of the event loop. */
static void on_pass(void *userdata)
{
	struct relay *relay = userdata;

	while (turns_run(&relay->turns))
		;
	relay_flush(relay);
}

int relay_init(struct relay *relay, struct event_base *base, uint64_t max_message)
{
	*relay = (struct relay){.base = base, .max_message = max_message, .cancel_ms = CANCEL_MS};
	relay->again = evtimer_new(base, on_again, relay);
	return relay->again ? turns_init(&relay->turns, base, on_pass, relay) : -ENOMEM;
}

void relay_cleanup(struct relay *relay)
{
	do
		relay_flush(relay);
	while (relay->dirty || relay->failed);
	turns_cleanup(&relay->turns);
	event_free(relay->again);
	relay->again = NULL;
}

void hop_mark_dirty(struct hop *hop)
{
	if (hop->is_dirty)
		return;
	hop->is_dirty = true;
	DL_APPEND2(hop->relay->dirty, hop, dirty_prev, dirty_next);
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
}

static void notify_now(struct hop *hop)
{
	/* On one CPU the program runs at once, and takes what it got, and may answer, before we go on. It needn't notify us: we
	 * look. */
	if (hop->release_means_taken) {
		ring_reader_disarm(&hop->in);
		for (unsigned i = 0; i < hop->outlets; i++)
			ring_writer_disarm(&hop->out[i].writer);
		hop->look_due = true;
		hop_mark_dirty(hop);
	}
	hop->tx.notifications++;
	hop->ops->notify(hop->owner);
}

void hop_notify(struct hop *hop)
{
	if (hop->kind == HOP_LINK) {
		notify_now(hop);
	} else if (!hop->is_to_notify) {
		hop->is_to_notify = true;
		DL_APPEND2(hop->relay->to_notify, hop, notify_prev, notify_next);
	}
}

void hop_forget_notification(struct hop *hop)
{
	if (!hop->is_to_notify)
		return;
	hop->is_to_notify = false;
	DL_DELETE2(hop->relay->to_notify, hop, notify_prev, notify_next);
}

static void notify_programs(struct relay *relay)
{
	struct hop *hop;

	while ((hop = relay->to_notify)) {
		hop_forget_notification(hop);
		notify_now(hop);
	}
}

void relay_flush(struct relay *relay)
{
	struct channel *channel;
	struct hop *hop;
	unsigned emits = 0;

	if (relay->flushing)
		return;
	relay->flushing = true;
	relay->moved = 0;
	for (;;) {
		while ((hop = relay->dirty) && emits < FLUSH_EMITS && relay->moved < FLUSH_BYTES) {
			DL_DELETE2(relay->dirty, hop, dirty_prev, dirty_next);
			hop->is_dirty = false;
			hop_emit(hop);
			emits++;
		}
		hop = relay->failed;
		if (hop) {
			LL_DELETE2(relay->failed, hop, failed_next);
			hop->has_failed = false;
			hop->ops->failed(hop->owner, hop->error, hop->why);
		} else if (relay->to_notify) {
			notify_programs(relay);
		} else {
			break;
		}
	}
	while ((channel = relay->ended)) {
		relay->ended = channel->ended_next;
		channel_free(channel);
	}
	if (relay->unfinished || relay->dirty)
		call_again(relay);
	relay->flushing = false;
}
