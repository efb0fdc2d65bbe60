/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Why it is as it is:
 *  - What was written is shown to the reader in chunks, not only at the end of a turn: on two CPUs the reader works on the
 *    first chunk while we copy the second.
 *  - Input is released in the same chunks, for the same reason.
 */

#include <errno.h>
#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <utlist.h>

#include "daemon/relay/channel.h"
#include "daemon/base/cost.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/hop_internal.h"
#include "daemon/base/timer.h"

#define QUANTUM	    16384u   /* bytes of one channel's backlog before the next one's turn */
#define CONTROL_MAX 4194304u /* bytes of session frames that may wait for a reader */
/* of these, what is charged to nobody, and the step in which the rest is; larger than a frame */
#define CONTROL_FREE   262144u
#define EMIT_UNITS     2048u /* of work, and then others have their turns */
#define EMIT_FRAME_MAX frame_size(FRAME_SMALL_MAX)

void hop_outlet_failed(struct hop *hop, int error)
{
	hop_fail(hop, error, error == -ENOMEM ? "out of memory" : "impossible consumer index in the ring");
}

/* The frames in the main ring come first: the OPEN of a channel before its DATA among the deliveries. One
 * notification serves all. */
static void publish_all(struct hop *hop)
{
	bool wanted = false;

	for (unsigned i = 0; i < hop->traits->outlets; i++)
		wanted |= outlet_publish(&hop->out[i]);
	if (wanted)
		hop_notify(hop);
}

/* In the main ring. */
static bool has_room(struct hop *hop, uint32_t size)
{
	int r = outlet_has_room(&hop->out[OUTLET_MAIN], size);

	if (r < 0)
		hop_outlet_failed(hop, r);
	return r > 0;
}

/* A whole frame that isn't DATA, into the main ring, because of `account`. The caller has seen that there is
 * room. */
static void put_frame(struct hop *hop, struct account *account, const struct frame_header *header,
		      const void *payload)
{
	relay_spend(hop->relay, account, COST_CONTROL + COST_BYTES(header->length));
	outlet_put(&hop->out[OUTLET_MAIN], header, payload);
}

/* Before the queue grows to `size` bytes. -ENOBUFS. */
static int charge_queue(struct hop *hop, size_t size)
{
	if (size <= CONTROL_FREE + hop->queued.held[QUOTA_BYTES])
		return 0;
	if (!hop->queued.account)
		charge_init(&hop->queued, hop->account);
	return charge_add(&hop->queued, QUOTA_BYTES, CONTROL_FREE);
}

bool hop_has_unsent(const struct hop *hop)
{
	return evbuffer_get_length(hop->control) > 0;
}

int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length)
{
	static const uint8_t zeros[8];
	struct frame_header header = {.length = length, .type = type, .flags = flags, .channel = channel};
	uint8_t encoded[FRAME_HEADER_SIZE];

	/* Nothing waits on a link but for room, and each 64 KiB from it have their ACK: in a busy stream the
	 * queue would take memory for each. A program's answers do wait, so that it is seen whether it reads
	 * them. */
	if (hop->traits->is_daemon && hop->attached && !hop_has_unsent(hop) &&
	    has_room(hop, frame_size(length))) {
		put_frame(hop, hop->account, &header, payload);
		hop_mark_dirty(hop);
		return 0;
	}
	if (evbuffer_get_length(hop->control) > CONTROL_MAX ||
	    charge_queue(hop, evbuffer_get_length(hop->control) + frame_size(length)) < 0)
		return -ENOBUFS;
	frame_header_encode(&header, encoded);
	if (evbuffer_add(hop->control, encoded, FRAME_HEADER_SIZE) ||
	    evbuffer_add(hop->control, payload, length) || evbuffer_add(hop->control, zeros, -length & 7u))
		return -ENOMEM;
	hop_mark_dirty(hop);
	return 0;
}

void hop_farewell(struct hop *hop, const void *payload, uint32_t length)
{
	struct frame_header header = {.length = length, .type = FRAME_GOODBYE};

	if (has_room(hop, frame_size(length)))
		put_frame(hop, hop->account, &header, payload);
	publish_all(hop);
}

/* Has this hop had its piece, or the pass its units? */
static bool emit_is_over(const struct hop *hop)
{
	const struct turns *turns = &hop->relay->turns;

	return turns_are_over(turns) || turns->spent - hop->emit_from >= EMIT_UNITS;
}

static bool emit_control(struct hop *hop)
{
	uint8_t encoded[FRAME_HEADER_SIZE], payload[FRAME_PAYLOAD_MAX + 8];
	bool waited = hop_has_unsent(hop);
	struct frame_header header;

	while (evbuffer_get_length(hop->control)) {
		uint32_t padded;

		if (emit_is_over(hop))
			return false;

		evbuffer_copyout(hop->control, encoded, FRAME_HEADER_SIZE);
		if (frame_header_decode(encoded, &header) < 0) {
			hop_fail(hop, -EIO, "internal: bad frame in the queue");
			return false;
		}
		if (!has_room(hop, frame_size(header.length)))
			return false;
		padded = frame_size(header.length) - FRAME_HEADER_SIZE;
		evbuffer_drain(hop->control, FRAME_HEADER_SIZE);
		evbuffer_remove(hop->control, payload, padded);
		put_frame(hop, hop->account, &header, payload);
	}
	charge_end(&hop->queued);
	if (waited && hop->ops->drained)
		hop->ops->drained(hop->owner);
	return true;
}

static bool emit_urgent(struct hop *hop)
{
	struct channel_end *end;

	while ((end = hop->urgent)) {
		struct channel_frame frame;

		for (;;) {
			if (emit_is_over(hop) || !has_room(hop, EMIT_FRAME_MAX))
				return false;
			if (!channel_next_control(end, &frame))
				break;
			put_frame(hop, end->channel->charge.account, &frame.header, frame.payload);
		}
		end->in_urgent = false;
		DL_DELETE2(hop->urgent, end, urgent_prev, urgent_next);
		channel_check_ended(end);
	}
	return true;
}

struct outlet *hop_outlet(struct hop *hop, const struct channel_end *end)
{
	return &hop->out[end->is_opener ? hop->traits->opened_outlet : hop->traits->accepted_outlet];
}

/* Puts bytes of a stream out as far as there is room. */
static uint32_t write_pieces(struct hop *hop, struct channel_end *end, const struct iovec *pieces,
			     uint32_t length, uint32_t messages)
{
	struct outgoing data = {.pieces = pieces, .left = length, .messages = messages};
	struct outlet *outlet = hop_outlet(hop, end);
	int r = 1;

	while (data.left && r > 0) {
		r = outlet_write(outlet, end, &data);
		if (r < 0)
			hop_outlet_failed(hop, r);
		if (outlet_is_due(outlet))
			publish_all(hop);
	}
	return length - data.left;
}

/* Those who wait for room here come first, one after the other. */
static bool must_wait(const struct hop *hop, struct channel_end *end)
{
	return (hop->waiters || hop->granted) && hop->granted != channel_other(end)->hop;
}

uint32_t hop_write(struct hop *hop, struct channel_end *end, const struct iovec *pieces, uint32_t length,
		   uint32_t messages)
{
	if (!hop->attached || hop->has_failed)
		return 0;
	hop_mark_dirty(hop);
	hop->emit_from = hop->relay->turns.spent;
	/* they come before all DATA */
	if (channel_is_unannounced(end) && !(emit_control(hop) && emit_urgent(hop)))
		return 0;
	if (hop->backlog || must_wait(hop, end))
		return 0;
	return write_pieces(hop, end, pieces, length, messages);
}

uint32_t hop_write_backlog(struct hop *hop, struct channel_end *end, const struct iovec *pieces,
			   uint32_t length, uint32_t messages)
{
	uint32_t done;

	if (channel_is_unannounced(end))
		return 0;
	done = write_pieces(hop, end, pieces, length, messages);
	relay_spend(hop->relay, end->channel->charge.account, COST_FRAME + COST_BYTES(done));
	return done;
}

/* Round robin over the channels with a backlog; false if one of them still has something that didn't fit. */
static bool emit_backlog(struct hop *hop)
{
	bool all = true, progress = true;

	while (progress && hop->backlog && !hop->has_failed) {
		struct channel_end *last = hop->backlog->backlog_prev, *end, *next;

		progress = false;
		all = true;
		for (end = hop->backlog; end; end = next) {
			next = end == last ? NULL : end->backlog_next;
			if (emit_is_over(hop))
				return false;
			if (channel_send_backlog(end, QUANTUM))
				progress = true;
			if (channel_has_backlog(end)) {
				all = false;
				continue;
			}
			end->in_backlog = false;
			DL_DELETE2(hop->backlog, end, backlog_prev, backlog_next);
		}
	}
	return all;
}

/* --- who waits for room ----------------------------------------------------------------------- */

/* The first in line goes on, before all others, in its next turn: who got some then goes to the end, who got
 * none stays the first. */
static void grant_next(struct hop *hop)
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

/* --- a turn ----------------------------------------------------------------------------------- */

bool hop_has_output(const struct hop *hop)
{
	return hop->urgent || hop->backlog || evbuffer_get_length(hop->control);
}

void hop_emit(struct hop *hop)
{
	if (!hop->attached || hop->has_failed)
		return;
	hop->emit_from = hop->relay->turns.spent;
	relay_spend(hop->relay, hop->account, COST_FRAME);
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		hop->out[i].wanted = 0;
	if (emit_control(hop) && emit_urgent(hop)) {
		emit_backlog(hop);
		emit_urgent(hop); /* what comes behind the backlog */
	}
	if (!hop_has_output(hop) && !hop->waiters)
		hop->stuck = false;
	publish_all(hop);
	if (hop->has_failed)
		return;
	if (hop_has_output(hop) && emit_is_over(hop))
		hop_mark_dirty(hop);
	if (hop->waiters && !hop_has_output(hop) && outlet_has_ample_room(&hop->out[OUTLET_MAIN]))
		grant_next(hop);
	hop_mark_awake(hop);
}

/* --- before the loop sleeps ------------------------------------------------------------------- */

/* Asks to be woken when the program has taken something. */
static void ask_for_taken(struct hop *hop)
{
	/* While the last snapshot waits for the input that it came with, another one is of no use. */
	if (!hop->traits->release_means_taken || hop->taken_pending)
		return;
	for (unsigned i = 0; i < hop->traits->outlets; i++) {
		int r;

		if (!ledger_front(&hop->out[i].ledger))
			continue;
		r = outlet_ask_for_taken(&hop->out[i]);
		if (r < 0) {
			hop_outlet_failed(hop, r);
			return;
		}
		if (r > 0)
			hop_due(hop);
		timer_start(hop->poll_timer, hop->poll_ms);
	}
}

/* Where room is there already, the output goes on. */
static void ask_for_room(struct hop *hop, struct outlet *outlet, uint32_t wanted)
{
	int r = outlet_ask_for_room(outlet, wanted);

	if (r < 0)
		hop_outlet_failed(hop, r);
	if (r > 0)
		hop_mark_dirty(hop);
}

void hop_ask(struct hop *hop)
{
	if (!hop->attached || hop->has_failed || hop->input.is_due || hop->is_dirty)
		return; /* its turn comes */
	if (hop_ask_for_input(hop))
		hop_due(hop);
	ask_for_taken(hop);
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		if (hop->out[i].wanted)
			ask_for_room(hop, &hop->out[i], hop->out[i].wanted);
	if (hop->waiters && !hop->granted && !hop_has_output(hop))
		ask_for_room(hop, &hop->out[OUTLET_MAIN], 0);
}
