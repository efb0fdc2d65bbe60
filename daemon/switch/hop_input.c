/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Input of a hop: its frames, and the turns in which it is read. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/descriptors.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/latency.h"
#include "daemon/switch/steps.h"
#include "daemon/switch/reassign.h"
#include "wire/frame_ring.h"
#include "wire/probes.h"
#include "wire/ut.h"

#define POLL_LAST_MS 1024

/* --- what the program has taken --------------------------------------------------------------- */

/* One turn's piece of work. It counts everything that the input has caused, whoever pays for it. */
struct hop_piece {
	const struct turns *turns;
	uint64_t start;
};
static struct hop_piece piece_begin(const struct hop *hop)
{
	return (struct hop_piece){&hop->board->turns, hop->board->turns.spent};
}
static bool piece_is_over(const struct hop_piece *piece)
{
	return piece->turns->spent - piece->start >= HOP_PIECE_UNITS;
}

/* A program tells by its consumer index alone what it has taken out of its own rings. That counts once
 * everything has been read that it had sent before that: a RESET among it says that what was released behind
 * it wasn't taken. */

/* What was noted counts once the input that is there now has been read. */
static void taken_mark(struct hop *hop)
{
	hop_mark_input(hop, &hop->taken.mark);
	hop->taken.pending = true;
}

/* Notes what the program has taken by now, unless what was noted before doesn't count yet. */
static void taken_note(struct hop *hop)
{
	if (hop->taken.pending || !(hop->traits->release_means_taken || hop_is_finishing(hop)))
		return;
	for (unsigned i = 0; hop->traits->release_means_taken && i < HOP_OUTLETS; i++) {
		int r = outlet_see_taken(&hop->out[i]);

		if (r < 0)
			hop_outlet_failed(hop, r);
	}
	taken_mark(hop);
}

bool hop_has_taken(struct hop *hop)
{
	if (!hop->traits->release_means_taken || hop->taken.pending)
		return false;
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (ledger_front(&hop->out[i].ledger) && outlet_has_taken(&hop->out[i]) != 0)
			return true;
	return false;
}

/* Counts what was taken out of one ring. False: there is more, but this piece is over. */
static bool count_taken(struct hop *hop, struct outlet *outlet, const struct hop_piece *piece)
{
	bool was_full = ledger_is_full(&outlet->ledger);
	struct handed *handed;

	while ((handed = ledger_front(&outlet->ledger))) {
		int32_t past = (int32_t)(outlet->taken_upto - handed->position);
		uint32_t taken =
			past > 0 && (uint32_t)past < handed->length ? (uint32_t)past : handed->length;

		if (past <= 0)
			break;
		if (piece_is_over(piece))
			return false;
		hop->taken.poll_ms = HOP_POLL_FIRST_MS;
		switch_spend(hop->board, handed->end ? handed->end->channel->charge.account : hop->account,
			     COST_TAKEN);
		/* After a RESET its `consumed` counts, and not what was released behind it. */
		if (handed->end && handed->end->in != IN_RESET)
			channel_taken(handed->end, handed->offset + taken);
		if (taken < handed->length)
			break;
		ledger_pop(&outlet->ledger);
	}
	if (was_full && !ledger_is_full(&outlet->ledger))
		hop_mark(hop, MARK_DIRTY);
	return true;
}

/* Counts what was noted. False: it goes on in the next turn. */
static bool taken_apply(struct hop *hop, const struct hop_piece *piece)
{
	for (unsigned i = 0; hop->traits->release_means_taken && i < HOP_OUTLETS; i++)
		if (!count_taken(hop, &hop->out[i], piece))
			return false;
	hop->taken.pending = false;
	return true;
}

/* Counts what was released of a channel whose number the program uses again: it had released the last of it
 * before, though we haven't counted that yet. */
static void taken_release(struct hop *hop, struct channel_end *end)
{
	uint64_t offset;
	int r = outlet_find_released(hop_outlet(hop, end), end, &offset);

	if (r < 0)
		hop_outlet_failed(hop, r);
	else
		channel_taken(end, offset);
	channel_check_ended(end);
}

/* Tells the openers of forbidden channels what had been taken, as far as the input was read. False: there are
 * more, but this piece is over. */
static bool taken_settle(struct hop *hop, const struct hop_piece *piece)
{
	while (hop->unsettled && hop_has_read(hop, hop->unsettled->settled_at)) {
		if (piece_is_over(piece))
			return false;
		hop_spend(hop, COST_CHANNEL_END);
		channel_settle(hop->unsettled);
	}
	return true;
}

/* --- frames ----------------------------------------------------------------------------------- */

/* Refuses a channel. The number stays in use until the opener has answered. */
static int hop_input_refuse(struct hop *hop, uint32_t number, const struct frame_reset *reset)
{
	uint8_t payload[FRAME_SMALL_MAX];
	int r = refused_add(&hop->refused, number);

	return r < 0 ? r : hop_answer(hop, FRAME_RESET, number, payload, frame_reset_encode(reset, payload));
}

static int take_open(struct hop *hop, const struct frame_header *header, const uint8_t *payload)
{
	struct channel_end *before;
	struct frame_open open;
	struct frame_reset reset;
	struct channel *channel;
	int r = frame_open_decode(payload, header->length, &open);

	if (r < 0)
		return r;
	if (header->channel >= CHANNEL_NUMBERS || (header->channel & 1) == hop->channels.parity ||
	    refused_has(&hop->refused, header->channel))
		return -EPROTO;
	if (open.kind < CHANNEL_MESSAGE || open.kind > CHANNEL_STREAM)
		return -EPROTO;
	hop_spend(hop, COST_OPEN);
	before = channel_table_find(&hop->channels, header->channel);
	if (hop->traits->release_means_taken && before)
		taken_release(hop, before);
	r = channel_new(hop, header->channel, open.kind, &open.identity, &channel);
	if (r == -ENOMEM)
		return hop_input_refuse(hop, header->channel, &(struct frame_reset){.error = ENOBUFS});
	if (r < 0)
		return r;
	if (hop->traits->is_daemon) {
		channel->serial = open.serial;
		channel->administers = open.flags & OPEN_ADMINISTERS;
	}
	if (hop->channels.count > hop->channels.max)
		channel_refuse(channel, ENOBUFS);
	else
		r = hop->callbacks->open(hop->owner, channel, &open);
	if (r == -ENOMEM && !channel->acceptor.hop) {
		channel_refuse(channel, ENOBUFS);
		r = 0;
	}
	if (r == 0 && channel_drop_if_refused(channel, &reset)) {
		hop_spend(hop, reset.error == EACCES ? COST_DENIED : 0);
		if (steps_are_told(hop->board))
			steps_tell_refused(channel, hop, open.name, (int)reset.error);
		r = hop_input_refuse(hop, header->channel, &reset);
	}
	return r;
}

static int answer_reset(struct hop *hop, uint32_t number, const struct frame_reset *reset)
{
	uint8_t answer[FRAME_SMALL_MAX];

	return hop_answer(hop, FRAME_RESET, number, answer, frame_reset_encode(reset, answer));
}

static int take_reset(struct channel_end *end, const struct frame_reset *reset)
{
	struct hop *hop = end->hop;
	uint32_t number = end->number;

	/* For this program the channel has ended, too. */
	return channel_passes_on(end, reset) ? answer_reset(hop, number, reset) : channel_reset(end, reset);
}

/* Handles a frame about a channel that is neither OPEN nor DATA. */
static int take_channel_frame(struct channel_end *end, const struct frame_header *header,
			      const uint8_t *payload)
{
	union {
		struct frame_opened opened;
		struct frame_credit credit;
		struct frame_reset reset;
		struct frame_cancelled cancelled;
		struct frame_reassigned reassigned;
		uint64_t number;
		uint32_t call;
	} u;
	int r;

	switch (header->type) {
	case FRAME_OPENED:
		r = frame_opened_decode(payload, header->length, &u.opened);
		return r < 0 ? r : channel_opened(end, &u.opened);
	case FRAME_CREDIT:
		r = frame_credit_decode(payload, header->length, &u.credit);
		return r < 0 ? r : channel_credit(end, &u.credit);
	case FRAME_FIN:
		r = frame_u64_decode(payload, header->length, &u.number);
		return r < 0 ? r : channel_fin(end, u.number);
	case FRAME_RESET:
		r = frame_reset_decode(payload, header->length, &u.reset);
		return r < 0 ? r : take_reset(end, &u.reset);
	case FRAME_REASSIGNED:
		r = frame_reassigned_decode(payload, header->length, &u.reassigned);
		return r < 0 ? r : channel_take_reassigned(end, &u.reassigned);
	case FRAME_CANCEL:
		r = frame_u64_decode(payload, header->length, &u.number);
		return r < 0 ? r : channel_cancel(end, u.number);
	case FRAME_WITHDRAW:
		r = frame_u32_decode(payload, header->length, &u.call);
		return r < 0 ? r : channel_withdraw(end, u.call);
	case FRAME_CANCELLED:
		r = frame_cancelled_decode(payload, header->length, &u.cancelled);
		return r < 0 ? r : channel_cancelled(end, &u.cancelled);
	default:
		return -EPROTO;
	}
}

/* Answers a RESET of a channel that has ended. It is encoded anew: a longer one of a later version might not
 * fit into the ring. */
static int answer_late_reset(struct hop *hop, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_reset reset;
	int r = frame_reset_decode(payload, header->length, &reset);

	return r < 0 ? r : answer_reset(hop, header->channel, &reset);
}

static int hop_input_take_frame(struct hop *hop, const struct frame_header *header)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct channel_end *end;

	ring_reader_copy(&hop->in.reader, FRAME_HEADER_SIZE, payload, header->length);
	if (!hop_is_sound(hop))
		return -ENOLINK;
	hop_spend(hop, COST_IGNORED + COST_BYTES(header->length));
	switch (header->type) {
	case FRAME_OPEN:
		return take_open(hop, header, payload);
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_FIN:
	case FRAME_RESET:
	case FRAME_REASSIGNED:
	case FRAME_CANCEL:
	case FRAME_CANCELLED:
	case FRAME_WITHDRAW:
		end = channel_table_find(&hop->channels, header->channel);
		if (end) {
			hop_spend(hop, header->type == FRAME_CREDIT ? COST_FRAME : COST_CONTROL);
			return take_channel_frame(end, header, payload);
		}
		if (refused_has(&hop->refused, header->channel)) {
			if (header->type == FRAME_RESET)
				refused_remove(&hop->refused, header->channel);
			return 0;
		}
		/* The channel ended here while the frame was on its way. The sender of a RESET waits for an
		 * answer. */
		return header->type == FRAME_RESET ? answer_late_reset(hop, header, payload) : 0;
	default:
		if (header->type >= FRAME_OPTIONAL)
			return 0;
		hop_spend(hop, COST_CONTROL);
		hop->in.has_asked_us = hop->traits->asks;
		return hop->callbacks->control(hop->owner, header, payload);
	}
}

/* Tells all who watch that bytes have come in at this end, and gone on or wait: the endpoint's figures, a
 * tracer, and a probe. So many messages end there. */
static void observe(struct channel_end *end, uint32_t bytes, uint32_t messages)
{
	const struct channel *channel = end->channel;
	struct channel_tally *tally = channel->tally;

	if (tally && end->is_opener) {
		tally->bytes_to += bytes;
		tally->messages += messages;
		if (messages)
			latency_came(end);
	} else if (tally) {
		tally->bytes_from += bytes;
	}
	steps_note_data(end, bytes, messages);
	PROBE(7, xenmsgd, relay, channel->endpoint, channel->identity.domid, end->is_opener, bytes,
	      channel->identity.pid, channel->serial, end->received);
}

/* Looks whose the last message of the DATA frame at the head of the ring is, which was forwarded. */
static void look_at_number(struct channel_end *end, const struct ring_reader *reader,
			   const struct frame_header *header)
{
	uint32_t number;

	if (!header->messages || header->length < MESSAGE_TRAILER_SIZE || !latency_wants_number(end))
		return;
	ring_reader_copy(reader, FRAME_HEADER_SIZE + header->length - (uint32_t)sizeof(number), &number,
			 sizeof(number));
	latency_number(end, number, header->messages);
}

/* Whether a DATA frame would tear the words of messages, and those of all that come behind it. */
static bool is_torn(const struct channel_end *end, const struct frame_header *header)
{
	return header->length % 8 && end->channel->kind != CHANNEL_STREAM;
}

/* Returns how much of the DATA frame at the head of the ring has been handled, or a negative errno. */
static int hop_take_data(struct hop *hop, const struct frame_header *header)
{
	struct channel_end *end = channel_table_find(&hop->channels, header->channel);
	bool is_whole;
	int r;

	if (!end && refused_has(&hop->refused, header->channel)) {
		if (!hop_is_sound(hop))
			return -ENOLINK;
		hop->in.progress = header->length;
		return 0;
	}
	if (!end || is_torn(end, header))
		return -EPROTO;
	r = hop_forward(end, &hop->in.reader, FRAME_HEADER_SIZE + hop->in.progress,
			header->length - hop->in.progress, header->messages,
			!hop->traits->is_daemon && !hop_is_finishing(hop));
	if (r < 0)
		return r;
	if (r > 0)
		hop->in.has_moved = true;
	hop->in.progress += (uint32_t)r;
	is_whole = hop->in.progress == header->length;
	observe(end, (uint32_t)r, is_whole ? header->messages : 0);
	if (is_whole)
		look_at_number(end, &hop->in.reader, header);
	hop_spend(hop, COST_FRAME + COST_BYTES((uint32_t)r));
	if (hop_is_marked(hop, MARK_FAILED))
		return hop->error;
	if (!is_whole)
		hop_wait_for(hop, channel_other(end)->hop);
	return (int)hop->in.progress;
}

/* Goes on with the new ring, where this one ends. */
static int take_move(struct hop *hop, const struct frame_header *header)
{
	int r;

	if (!hop_is_sound(hop))
		return -ENOLINK;
	r = header->length || !hop->callbacks->move ? -EPROTO : hop_take_move(hop);
	hop_spend(hop, COST_CONTROL);
	if (r == 0 && hop->taken.pending)
		taken_mark(hop); /* the mark was a position in the old one */
	return r;
}

static void hop_input_give_back(struct hop *hop)
{
	if (!hop_has_rings(hop) || !hop->in.unreleased)
		return;
	hop->in.unreleased = 0;
	if (ring_reader_release(&hop->in.reader)) {
		hop->has_made_room = true;
		hop_notify(hop);
	}
}

/* Counts frames that were handled and consumed. */
static void count_frames(struct hop *hop, unsigned count, uint32_t total, uint32_t messages)
{
	hop->in.position += total;
	hop->in.unreleased += total;
	hop->in.has_moved = true;
	hop->rx.frames += count;
	hop->rx.bytes += total;
	hop->rx.messages += messages;
	account_note_sent(hop->account, total, messages);
}

/* Consumes the frame at the head of the ring, which has been handled. */
static void finish_frame(struct hop *hop, const struct frame_header *header)
{
	uint32_t total = frame_size(header->length);

	ring_reader_consume(&hop->in.reader, total);
	hop->in.sequence++;
	count_frames(hop, 1, total, header->type == FRAME_DATA ? header->messages : 0);
}

/* Decodes the header of the frame at the head of the ring. 1: the whole frame is there; 0: not yet; negative
 * errno: the session has failed. */
static int hop_input_next_frame(struct hop *hop, struct frame_header *header)
{
	uint32_t ready;
	int r = frame_next(&hop->in.reader, header, &ready);

	if (r < 0) {
		hop_fail(hop, r, "an impossible producer index in the ring, or a frame that is too long");
		return r;
	}
	if (r == 0) {
		hop->in.missing = ready + 1;
		if (ready == 0 || !hop->traits->whole_frames)
			return 0;
		hop_fail(hop, -EPROTO, "an incomplete frame in the ring");
		return -EPROTO;
	}
	/* a peer that says GOODBYE may have lost count (protocol.md, 5.4), and MOVE has no number */
	if (hop->traits->numbers_frames && header->type != FRAME_GOODBYE && header->type != FRAME_MOVE &&
	    header->sequence != hop->in.sequence) {
		hop_fail(hop, -EPROTO, "frame %u came where %u was expected", header->sequence,
			 hop->in.sequence);
		return -EPROTO;
	}
	return 1;
}

/* Takes short pieces of a stream right behind one that was forwarded, for which nothing that was decided for
 * that one has changed. If this domain was restored meanwhile, none of them counts. Returns whether *header
 * is that of the frame behind them, which is there. */
static __attribute__((noinline)) bool take_run(struct hop *hop, uint32_t number, struct frame_header *header)
{
	struct channel_end *end = channel_table_find(&hop->channels, number);
	uint32_t room = hop->in.unreleased < HOP_CHUNK ? HOP_CHUNK - hop->in.unreleased : 0, total = 0;
	struct iovec pieces[2];
	struct hop_run run;
	unsigned frames = 0;
	int r, is_there = hop_input_next_frame(hop, header);

	if (is_there <= 0 || header->type != FRAME_DATA || header->channel != number)
		return is_there > 0;
	hop_run_begin(&run, end);
	while (run.end && total < room && is_there > 0) {
		if (header->type != FRAME_DATA || header->channel != number || is_torn(end, header) ||
		    header->length > end->granted - end->received - run.length ||
		    ring_reader_peek(&hop->in.reader, FRAME_HEADER_SIZE, header->length, pieces) != 1 ||
		    !hop_run_add(&run, pieces[0].iov_base, header->length, header->messages))
			break;
		if (!end->is_opener)
			look_at_number(end, &hop->in.reader, header);
		ring_reader_consume(&hop->in.reader, frame_size(header->length));
		hop->in.sequence++;
		total += frame_size(header->length);
		frames++;
		is_there = hop_input_next_frame(hop, header);
	}
	hop_spend(hop, frames * COST_FRAME);
	r = frames ? hop_run_end(&run) : 0;
	if (r < 0) {
		hop->in.reader.tail -= total;
		hop->in.sequence -= frames;
		if (r == -ENOLINK) /* else they are taken one by one, as far as there is memory */
			hop_fail(hop, r, "this domain was restored");
	} else if (frames) {
		count_frames(hop, frames, total, run.messages);
		observe(end, run.length, run.messages);
	}
	return is_there > 0 && r == 0;
}

/* A lack of ours is nobody's violation. What a peer's session hasn't taken in comes again over its next
 * rings. */
static void fail_at_frame(struct hop *hop, const struct frame_header *header, int error)
{
	const char *type = frame_type_name(header->type);

	if (lack_passes(-error))
		hop_fail(hop, hop->traits->is_daemon ? -ENOLINK : error,
			 "this daemon lacks something for a %s frame: %s", type, strerror(-error));
	else
		hop_fail(hop, error, "bad %s frame for channel %u: %s", type, header->channel,
			 strerror(-error));
}

/* Handles the frame at the head of the ring, whose header is *header if it is known already, and notes
 * whether that of the next one is. 1: handled; 0: there is none, or it waits; negative errno: the session has
 * failed. */
static int take_next(struct hop *hop, struct frame_header *header, bool *is_known)
{
	int r = *is_known ? 1 : hop_input_next_frame(hop, header);

	*is_known = false;
	if (r <= 0)
		return r;
	if (header->type == FRAME_DATA && hop->in.progress > header->length) {
		hop_fail(hop, -EPROTO, "a frame changed while it was being read");
		return -EPROTO;
	}
	if (header->type == FRAME_DATA)
		r = hop_take_data(hop, header);
	else if (header->type == FRAME_MOVE)
		r = take_move(hop, header);
	else
		r = hop_input_take_frame(hop, header);
	if (r < 0) {
		fail_at_frame(hop, header, r);
		return r;
	}
	if (hop->waiting.blocked_on)
		return 0;
	hop->in.progress = 0;
	if (!hop_has_rings(hop))
		return 0;
	if (header->type == FRAME_MOVE)
		return 1;
	finish_frame(hop, header);
	if (header->type == FRAME_DATA &&
	    hop->in.reader.head != hop->in.reader.tail) /* there was more when we looked */
		*is_known = take_run(hop, header->channel, header);
	return 1;
}

bool hop_ask_for_input(struct hop *hop)
{
	int r;

	if (hop->in.has_asked || hop->in.must_not_ask || hop->waiting.blocked_on)
		return false;
	r = ring_reader_ready(&hop->in.reader, hop->in.missing);
	if (r >= 0 && (uint32_t)r >= hop->in.missing)
		return true;
	r = ring_reader_arm(&hop->in.reader, hop->in.missing);
	if (r > 0)
		ring_reader_disarm(&hop->in.reader);
	if (r < 0)
		hop_fail(hop, -EPROTO, "impossible producer index in the ring");
	hop->in.has_asked = r == 0;
	return r > 0;
}

/* Reads frames. True: there may be more, but this piece is over. False: all were read, or the next one waits,
 * or the session is over. */
static bool read_frames(struct hop *hop, const struct hop_piece *piece)
{
	struct frame_header header;
	bool is_known = false;
	int r = 0;

	hop->in.missing = 1;
	hop->in.has_asked_us = false;
	while (hop_is_up(hop) && !hop->waiting.blocked_on && !hop->holds_input) {
		r = take_next(hop, &header, &is_known);
		if (r <= 0)
			break;
		if (hop->in.unreleased >= HOP_CHUNK)
			hop_input_give_back(hop);
		if (piece_is_over(piece) || hop->in.has_asked_us)
			break;
	}
	if (hop_is_up(hop))
		hop_input_give_back(hop);
	return r > 0 && hop_is_up(hop) && !hop->waiting.blocked_on;
}

/* Continues hop_finish(): what the other end left up to the mark has been handled (an incomplete frame at its
 * end never will be). */
static void go_on_finishing(struct hop *hop)
{
	if (--hop->finishing.left == 0)
		hop_fail(hop, hop->finishing.error, "%s", hop->finishing.why);
	else
		hop_due(hop);
}

void hop_on_turn(struct task *task)
{
	struct hop *hop = (struct hop *)((char *)task - offsetof(struct hop, input));
	struct hop_piece piece = piece_begin(hop);
	uint64_t position = hop->in.position;
	bool more, may_refill;

	if (hop->traits->is_inner) {
		hop->callbacks->turn(hop->owner); /* which may have been its last */
		return;
	}
	if (!hop_is_up(hop))
		return;
	if (hop->is_to_notify) {
		hop->is_to_notify = false;
		hop_notify_now(hop);
		hop_due(hop);
		return;
	}
	if (hop->holds_input) {
		hop->holds_input = hop->callbacks->before_input(hop->owner);
		hop_due(hop);
		return;
	}
	hop->in.has_moved = false;
	may_refill = hop->callbacks->refill && hop->callbacks->refill(hop->owner);
	taken_note(hop);
	more = read_frames(hop, &piece);
	if (hop_is_up(hop) && hop->callbacks->after_turn)
		hop->callbacks->after_turn(hop->owner, hop->in.position != position, more);
	if (!hop_is_up(hop))
		return;
	hop_end_grant(hop);
	piece = piece_begin(hop);
	if (!taken_settle(hop, &piece))
		more = true;
	if (hop->taken.pending && (hop_has_read(hop, hop->taken.mark) || (hop_is_finishing(hop) && !more))) {
		/* a piece of its own: otherwise a program that sends without end would never have taken
		 * anything */
		piece = piece_begin(hop);
		if (!taken_apply(hop, &piece))
			more = true;
		else if (hop_is_finishing(hop))
			go_on_finishing(hop);
	}
	if (more || (may_refill && !hop->waiting.blocked_on))
		hop_due(hop);
	if (hop->waiting.waiters || hop_has_output(hop))
		hop_mark(hop, MARK_DIRTY); /* there may be room now */
	hop_mark(hop, MARK_AWAKE);
}

void hop_look(struct hop *hop)
{
	if (!hop_is_up(hop))
		return;
	hop->in.has_asked = hop->in.must_not_ask = false;
	hop_due(hop);
}

void hop_on_poll(int fd, short what, void *userdata)
{
	struct hop *hop = userdata;

	if (hop->taken.poll_ms < POLL_LAST_MS)
		hop->taken.poll_ms *= 2;
	if (hop_is_up(hop))
		hop_ask_for_output(hop); /* which makes it due if anything was taken */
}

void hop_dont_ask(struct hop *hop)
{
	if (!hop_has_rings(hop) || hop->in.must_not_ask)
		return;
	hop->in.must_not_ask = true;
	hop->in.has_asked = false;
	ring_reader_disarm(&hop->in.reader);
}

void hop_may_ask(struct hop *hop)
{
	hop->in.must_not_ask = false;
	hop_mark(hop, MARK_AWAKE);
}

void hop_polled(struct hop *hop)
{
	hop_due(hop);
}

void hop_hold_input(struct hop *hop)
{
	hop->holds_input = true;
	hop_look(hop);
}

void hop_event(struct hop *hop)
{
	if (hop_is_up(hop))
		hop->rx.notifications++;
	hop_look(hop);
}

void hop_let_go_on(struct hop *hop)
{
	hop->in.was_woken = hop->board->woken = true;
	hop_mark(hop, MARK_AWAKE);
}

void hop_woken(struct hop *hop)
{
	hop_event(hop);
	hop_let_go_on(hop);
}

void hop_finish(struct hop *hop, int error, const char *format, ...)
{
	va_list args;

	if (!hop_is_up(hop) || hop_is_finishing(hop))
		return;
	hop_change(hop, HOP_IS_FINISHING);
	hop->finishing.error = error;
	va_start(args, format);
	vsnprintf(hop->finishing.why, sizeof(hop->finishing.why), format, args);
	va_end(args);
	/* Twice if the snapshot of an earlier turn is pending: a new one can only be made after it. */
	hop->finishing.left = hop->taken.pending ? 2 : 1;
	hop_stop_waiting(hop);
	hop_look(hop);
}
