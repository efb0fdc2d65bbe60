/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Why it is as it is:
 *  - DATA frames are filled in place, right in the ring: consecutive pieces of one channel become one frame, so that a
 *    thousand small messages cost the next daemon one header.
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
#define PIECE_MIN   256u     /* a longer payload isn't cut into pieces smaller than this */
#define CONTROL_MAX 4194304u /* bytes of session frames that may wait for a reader */
/* of these, what is charged to nobody, and the step in which the rest is; larger than a frame */
#define CONTROL_FREE   262144u
#define EMIT_UNITS     2048u /* of work, and then others have their turns */
#define EMIT_FRAME_MAX frame_size(FRAME_SMALL_MAX)

static void count_frame(struct hop *hop, uint32_t size)
{
	hop->out_sequence++;
	hop->out_position += size;
	hop->tx.frames++;
	hop->tx.bytes += size;
}

void hop_close_frame(struct hop *hop, struct outlet *outlet)
{
	static const uint8_t zeros[8];
	uint32_t length = outlet->filling_length;
	struct frame_header header = {
		.length = length,
		.type = FRAME_DATA,
		.sequence = hop->traits->numbers_frames ? hop->out_sequence : 0,
	};
	uint8_t encoded[FRAME_HEADER_SIZE];

	if (!outlet->filling)
		return;
	header.channel = outlet->filling->number;
	header.messages =
		(uint16_t)(outlet->filling_messages > UINT16_MAX ? UINT16_MAX : outlet->filling_messages);
	ring_writer_put(&outlet->writer, zeros, -length & 7u);
	frame_header_encode(&header, encoded);
	ring_writer_patch(&outlet->writer, outlet->filling_at, encoded, FRAME_HEADER_SIZE);
	if (hop->traits->release_means_taken &&
	    ledger_push(&outlet->ledger, outlet->filling, outlet->filling->sent - length,
			outlet->filling_at + FRAME_HEADER_SIZE, length) < 0)
		hop_fail(hop, -ENOMEM, "out of memory");
	hop->tx.messages += outlet->filling_messages;
	count_frame(hop, frame_size(length));
	outlet->filling = NULL;
}

/* The frames in the main ring come first: the OPEN of a channel before its DATA among the deliveries. One
 * notification serves all. */
static void publish_all(struct hop *hop)
{
	bool wanted = false;

	for (unsigned i = 0; i < hop->traits->outlets; i++) {
		hop_close_frame(hop, &hop->out[i]);
		wanted |= ring_writer_publish(&hop->out[i].writer);
	}
	if (wanted)
		hop_notify(hop);
}

static bool space_for(struct hop *hop, struct outlet *outlet, uint32_t size)
{
	int space = ring_writer_space(&outlet->writer, size);

	if (space < 0) {
		hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
		return false;
	}
	if ((uint32_t)space >= size)
		return true;
	if (outlet->wanted < size)
		outlet->wanted = size;
	return false;
}

/* A whole frame that isn't DATA, into the main ring, because of `account`. The caller has seen that there is
 * space. */
static void put_frame(struct hop *hop, struct account *account, uint8_t type, uint8_t flags, uint32_t channel,
		      const void *payload, uint32_t length)
{
	static const uint8_t zeros[8];
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	struct frame_header header = {.length = length, .type = type, .flags = flags, .channel = channel};
	uint8_t encoded[FRAME_HEADER_SIZE];

	hop_close_frame(hop, outlet);
	relay_spend(hop->relay, account, COST_CONTROL + COST_BYTES(length));
	if (hop->traits->numbers_frames)
		header.sequence = hop->out_sequence;
	frame_header_encode(&header, encoded);
	ring_writer_put(&outlet->writer, encoded, FRAME_HEADER_SIZE);
	ring_writer_put(&outlet->writer, payload, length);
	ring_writer_put(&outlet->writer, zeros, -length & 7u);
	count_frame(hop, frame_size(length));
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
	    space_for(hop, &hop->out[OUTLET_MAIN], frame_size(length))) {
		put_frame(hop, hop->account, type, flags, channel, payload, length);
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
	if (space_for(hop, &hop->out[OUTLET_MAIN], frame_size(length)))
		put_frame(hop, hop->account, FRAME_GOODBYE, 0, 0, payload, length);
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
		if (!space_for(hop, &hop->out[OUTLET_MAIN], frame_size(header.length)))
			return false;
		padded = frame_size(header.length) - FRAME_HEADER_SIZE;
		evbuffer_drain(hop->control, FRAME_HEADER_SIZE);
		evbuffer_remove(hop->control, payload, padded);
		put_frame(hop, hop->account, header.type, header.flags, header.channel, payload,
			  header.length);
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
			if (emit_is_over(hop) || !space_for(hop, &hop->out[OUTLET_MAIN], EMIT_FRAME_MAX))
				return false;
			if (!channel_next_control(end, &frame))
				break;
			put_frame(hop, end->channel->charge.account, frame.type, 0, end->number,
				  frame.payload, frame.length);
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

/* After how many bytes the reader gets to see what it was written. */
static uint32_t chunk_for(const struct hop *hop, const struct outlet *outlet)
{
	return hop->traits->first_chunk < HOP_CHUNK && ring_writer_is_awaited(&outlet->writer)
		       ? hop->traits->first_chunk
		       : HOP_CHUNK;
}

/* Puts bytes of a stream out as far as there is space, filling up the DATA frame that is open if it is this
 * channel's. */
static uint32_t write_pieces(struct hop *hop, struct channel_end *end, const struct iovec *pieces,
			     unsigned count, uint32_t length, uint32_t messages)
{
	struct outlet *outlet = hop_outlet(hop, end);
	uint32_t smallest = length < PIECE_MIN ? length : PIECE_MIN;
	uint32_t done = 0, piece_done = 0;
	unsigned piece = 0;

	while (done < length) {
		uint32_t left = length - done, chunk = chunk_for(hop, outlet), size, room;
		int space;

		if (outlet->filling != end || (outlet->filling_length & 7) ||
		    outlet->filling_length >= FRAME_PAYLOAD_MAX) {
			hop_close_frame(hop, outlet);
			if (hop->traits->release_means_taken && ledger_is_full(&outlet->ledger))
				break; /* what is taken makes room in it */
			if (left < smallest)
				smallest = left;
			if (!space_for(hop, outlet, FRAME_HEADER_SIZE + ((smallest + 7u) & ~7u)))
				break;
			outlet->filling = end;
			outlet->filling_at = outlet->writer.head;
			outlet->filling_length = 0;
			outlet->filling_messages = 0;
			ring_writer_advance(&outlet->writer, FRAME_HEADER_SIZE);
		}
		space = ring_writer_space(&outlet->writer, (left + 7u) & ~7u);
		if (space < 0) {
			hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
			break;
		}
		room = FRAME_PAYLOAD_MAX - outlet->filling_length;
		/* An odd consumer index leaves an odd space: the padding has to fit as well. */
		size = ((left + 7u) & ~7u) <= (uint32_t)space ? left : (uint32_t)space & ~7u;
		if (size > room)
			size = room;
		if (size > chunk)
			size = chunk;
		if (size == 0) {
			if (outlet->filling_length == FRAME_PAYLOAD_MAX)
				continue;
			outlet->wanted = FRAME_HEADER_SIZE + PIECE_MIN;
			break;
		}
		for (uint32_t put = 0; put < size;) {
			uint32_t here = (uint32_t)pieces[piece].iov_len - piece_done;

			if (here > size - put)
				here = size - put;
			ring_writer_put(&outlet->writer, (uint8_t *)pieces[piece].iov_base + piece_done,
					here);
			put += here;
			piece_done += here;
			if (piece_done == pieces[piece].iov_len && piece + 1 < count) {
				piece++;
				piece_done = 0;
			}
		}
		done += size;
		end->sent += size;
		outlet->filling_length += size;
		if (done == length)
			outlet->filling_messages += messages;
		if (outlet->writer.head - outlet->writer.published >= chunk)
			publish_all(hop);
	}
	return done;
}

/* Those who wait for room here come first, one after the other. */
static bool must_wait(const struct hop *hop, struct channel_end *end)
{
	return (hop->waiters || hop->granted) && hop->granted != channel_other(end)->hop;
}

uint32_t hop_write(struct hop *hop, struct channel_end *end, const struct iovec *pieces, unsigned count,
		   uint32_t length, uint32_t messages)
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
	return write_pieces(hop, end, pieces, count, length, messages);
}

bool hop_append(struct hop *hop, struct channel_end *end, const void *data, uint32_t length,
		uint32_t messages)
{
	struct outlet *outlet = hop_outlet(hop, end);
	struct ring_writer *writer = &outlet->writer;

	/* While a frame is open for it, all that stands before its DATA has gone. */
	if (outlet->filling != end || (outlet->filling_length & 7) || hop->has_failed || hop->backlog ||
	    must_wait(hop, end) || outlet->filling_length + length > FRAME_PAYLOAD_MAX ||
	    writer->head - writer->published + length >= chunk_for(hop, outlet) ||
	    ring_writer_space(writer, length + 7) < (int)length + 7)
		return false;
	ring_writer_put(writer, data, length);
	end->sent += length;
	outlet->filling_length += length;
	outlet->filling_messages += messages;
	return true;
}

uint32_t hop_write_backlog(struct hop *hop, struct channel_end *end, const struct iovec *pieces,
			   unsigned count, uint32_t length, uint32_t messages)
{
	uint32_t done;

	if (channel_is_unannounced(end))
		return 0;
	done = write_pieces(hop, end, pieces, count, length, messages);
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

/* What is worth waking up for. At most the ring, so that a reader who has read it all has made it so. */
static uint32_t worthwhile(const struct outlet *outlet, uint32_t wanted)
{
	uint32_t size = outlet->writer.ring.size, want = wanted > size / 4 ? wanted : size / 4;

	return want < size ? want : size;
}

bool hop_has_output(const struct hop *hop)
{
	return hop->urgent || hop->backlog || evbuffer_get_length(hop->control);
}

void hop_emit(struct hop *hop)
{
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	uint32_t want;

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
	want = worthwhile(outlet, FRAME_HEADER_SIZE + PIECE_MIN);
	if (hop->waiters && !hop_has_output(hop) && ring_writer_space(&outlet->writer, want) >= (int)want)
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
		struct outlet *outlet = &hop->out[i];
		int r;

		if (!ledger_front(&outlet->ledger))
			continue;
		/* Not asked for what has come already: the request would stay, and cost a notification
		 * later. */
		r = ring_writer_unread(&outlet->writer);
		if (r >= 0 && outlet->writer.tail == outlet->taken_upto)
			r = ring_writer_arm(&outlet->writer, outlet->writer.ring.size);
		if (r < 0) {
			hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
			return;
		}
		if (outlet->writer.tail != outlet->taken_upto)
			hop_due(hop);
		timer_start(hop->poll_timer, hop->poll_ms);
	}
}

/* True: it is there now. */
static bool ask_for_space(struct hop *hop, struct outlet *outlet, uint32_t wanted)
{
	int r = ring_writer_arm(&outlet->writer, worthwhile(outlet, wanted));

	if (r < 0)
		hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
	return r > 0;
}

void hop_ask(struct hop *hop)
{
	if (!hop->attached || hop->has_failed || hop->input.is_due || hop->is_dirty)
		return; /* its turn comes */
	if (hop_ask_for_input(hop))
		hop_due(hop);
	ask_for_taken(hop);
	for (unsigned i = 0; i < hop->traits->outlets; i++)
		if (hop->out[i].wanted && ask_for_space(hop, &hop->out[i], hop->out[i].wanted))
			hop_mark_dirty(hop);
	if (hop->waiters && !hop->granted && !hop_has_output(hop) &&
	    ask_for_space(hop, &hop->out[OUTLET_MAIN], FRAME_HEADER_SIZE + PIECE_MIN))
		hop_mark_dirty(hop);
}
