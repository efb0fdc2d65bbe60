/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Output of a hop: frames about its channels, their data as it comes in elsewhere, and what had to wait. A
 * link's goes on in other rings while it is used (doc/protocol.md, 5.9); or it has none for a while, and
 * keeps what it writes again when it has others. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "daemon/switch/channel.h"
#include "base/cost.h"
#include "base/quota.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_internal.h"
#include "daemon/switch/sharing.h"
#include "daemon/switch/steps.h"
#include "base/timer.h"
#include "wire/frame.h"
#include "wire/ut.h"

#define QUANTUM	       16384u /* bytes of one channel's backlog before the next one's turn */
#define EMIT_FRAME_MAX frame_size(FRAME_SMALL_MAX)
/* bytes that are made room for in a queue: a chain of it has 4096 with its head */
#define RUN_RESERVE    4000u
#define URGENT_AT_ONCE 16u /* frames about one channel before the next one's turn: most have two at most */

static bool emit_urgent(struct hop *hop)
{
	struct channel_end *end;

	while ((end = hop->urgent)) {
		struct channel_frame frame;
		bool more = true;

		for (unsigned i = 0; more && i < URGENT_AT_ONCE; i++) {
			if (hop_emit_is_over(hop) || !hop_has_room(hop, EMIT_FRAME_MAX))
				return false;
			more = channel_next_control(end, &frame);
			if (!more)
				break;
			hop_put_frame(hop, end->channel->charge.account, &frame.header, frame.payload);
			more = channel_has_control(end);
		}
		DL_DELETE2(hop->urgent, end, urgent_prev, urgent_next);
		if (more) {
			DL_APPEND2(hop->urgent, end, urgent_prev, urgent_next);
			continue;
		}
		end->in_urgent = false;
		channel_check_ended(end);
	}
	return true;
}

/* Writes bytes of a stream, which come in at `from` (NULL: from our own memory), as far as there is room.
 * Returns how many. */
static uint32_t write_pieces(struct hop *hop, struct channel_end *end, const struct hop *from,
			     const struct iovec *pieces, uint32_t length, uint32_t messages)
{
	struct outgoing data = {.pieces = pieces, .left = length, .messages = messages};
	struct outlet *outlet = hop_outlet(hop, end);
	int r = 1;

	while (data.left && r > 0) {
		r = outlet_write(outlet, end, &data);
		if (r < 0)
			hop_outlet_failed(hop, r);
		if (r > 0 && from && !hop_is_sound(from)) {
			outlet_take_back(outlet, (uint32_t)r, data.left ? 0 : messages);
			data.left += (uint32_t)r;
			break;
		}
		if (outlet_is_due(outlet))
			hop_publish(hop);
	}
	if (end->channel->sharing && !end->is_opener && data.left < length)
		sharing_sent(end->channel, pieces, length - data.left);
	return length - data.left;
}

/* --- DATA ------------------------------------------------------------------------------------- */

/* What becomes of data that comes in at an end. */
enum way {
	IGNORED,  /* the channel is reset there */
	VIOLATED, /* no data may come any more */
	DROPPED,  /* there is no receiver */
	BLOCKED,  /* others come first, or the hop is down */
	FREE,
};

static inline enum way way_of(struct channel_end *end)
{
	const struct channel_end *out = channel_other(end);

	if (channel_is_reset(end))
		return IGNORED;
	if (end->in != IN_OPEN)
		return VIOLATED;
	if (!out->hop || channel_is_reset(out) || hop_is_retired(out->hop))
		return DROPPED;
	if (!hop_is_up(out->hop) || hop_is_finishing(out->hop) || hop_has_backlog(out->hop) ||
	    hop_is_held(out->hop) || hop_must_wait(out->hop, end->hop))
		return BLOCKED;
	return FREE;
}

static inline uint32_t write_now(struct hop *hop, struct channel_end *end, const struct hop *from,
				 const struct iovec *pieces, uint32_t length, uint32_t messages)
{
	hop_mark(hop, MARK_DIRTY);
	hop->emit_from = hop->board->turns.spent;
	if (channel_is_unannounced(end) && !(hop_emit_control(hop) && emit_urgent(hop)))
		return 0;
	return write_pieces(hop, end, from, pieces, length, messages);
}

/* Copies what follows the first `skip` bytes of the pieces. */
static void hop_gather(uint8_t *to, const struct iovec *pieces, unsigned count, uint32_t skip)
{
	for (unsigned i = 0; i < count; i++) {
		uint32_t size = (uint32_t)pieces[i].iov_len, skipped = skip < size ? skip : size;

		memcpy(to, (uint8_t *)pieces[i].iov_base + skipped, size - skipped);
		to += size - skipped;
		skip -= skipped;
	}
}

/* Lets bytes wait where they lie, in memory that is released in any case. -ENOMEM. */
static int keep_memory(struct channel_end *out, const struct hop_memory *memory, uint32_t length)
{
	if (!out->queue)
		out->queue = evbuffer_new();
	if (!out->queue ||
	    evbuffer_add_reference(out->queue, memory->bytes, length, memory->release, memory->userdata)) {
		memory->release(memory->bytes, length, memory->userdata);
		return -ENOMEM;
	}
	channel_mark_backlog(out);
	return 0;
}

static bool is_given_memory(struct channel_end *out, uint32_t length, struct hop_memory *memory)
{
	return out->hop->traits->is_inner && out->hop->callbacks->give_memory &&
	       out->hop->callbacks->give_memory(out->hop->owner, out, length, memory);
}

/* Keeps what follows the first `skip` bytes, which came in at `from`. -ENOMEM; -ENOLINK: it wasn't sound. */
static int spill(struct channel_end *out, const struct hop *from, const struct iovec *pieces, unsigned count,
		 uint32_t skip)
{
	struct hop_memory memory;
	struct evbuffer_iovec room;
	uint32_t length = 0;

	for (unsigned i = 0; i < count; i++)
		length += (uint32_t)pieces[i].iov_len;
	if (is_given_memory(out, length - skip, &memory)) {
		hop_gather(memory.bytes, pieces, count, skip);
		if (hop_is_sound(from))
			return keep_memory(out, &memory, length - skip);
		memory.release(memory.bytes, length - skip, memory.userdata);
		return -ENOLINK;
	}
	if (!out->queue)
		out->queue = evbuffer_new();
	if (!out->queue || evbuffer_reserve_space(out->queue, length - skip, &room, 1) < 1)
		return -ENOMEM;
	hop_gather(room.iov_base, pieces, count, skip);
	room.iov_len = length - skip;
	if (!hop_is_sound(from))
		return -ENOLINK;
	if (evbuffer_commit_space(out->queue, &room, 1))
		return -ENOMEM;
	channel_mark_backlog(out);
	return 0;
}

int hop_forward(struct channel_end *end, const struct ring_reader *reader, uint32_t offset, uint32_t length,
		uint32_t messages, bool may_wait)
{
	struct channel_end *out = channel_other(end);
	enum way way = way_of(end);
	struct iovec pieces[2];
	uint32_t done = 0;
	unsigned count;
	int r;

	if (way == VIOLATED || (way != IGNORED && length > end->granted - end->received))
		return -EPROTO;
	if ((way == IGNORED || way == DROPPED) && !hop_is_sound(end->hop))
		return -ENOLINK;
	if (way == IGNORED)
		return (int)length;
	if (way == DROPPED) {
		end->received += length;
		return (int)length;
	}
	count = (unsigned)ring_reader_peek(reader, offset, length, pieces);
	if (way == FREE)
		done = write_now(out->hop, out, end->hop, pieces, length, messages);
	end->received += done;
	if (done == length || (may_wait && out->hop->traits->is_daemon && !out->hop->waiting.stuck &&
			       !channel_has_backlog(out)))
		return (int)done;
	r = spill(out, end->hop, pieces, count, done);
	if (r == -ENOMEM && !hop_is_finishing(end->hop)) { /* it stays where it lies, until there is some */
		out->hop->waiting.lacks = true;
		return (int)done;
	}
	if (r == -ENOLINK && done) { /* which counts */
		hop_fail(end->hop, r, "this domain was restored");
		return (int)done;
	}
	if (r < 0)
		return r;
	end->received += length - done;
	out->queued_messages += messages;
	return (int)length;
}

int hop_push(struct channel_end *end, const struct iovec *pieces, unsigned count, uint32_t length,
	     uint32_t messages)
{
	struct channel_end *out = channel_other(end);
	enum way way = way_of(end);
	uint32_t done = 0;
	int r = 0;

	if (way == IGNORED || way == VIOLATED || way == DROPPED)
		return -EPIPE;
	if (way == FREE)
		done = write_now(out->hop, out, NULL, pieces, length, messages);
	end->received += done;
	if (done < length)
		r = spill(out, end->hop, pieces, count, done);
	if (r == 0 && done < length) {
		end->received += length - done;
		out->queued_messages += messages;
	}
	if (r == 0)
		steps_note_data(end, length, messages);
	return r;
}

int hop_give(struct channel_end *end, const struct hop_memory *memory, uint32_t length, uint32_t messages)
{
	struct channel_end *out = channel_other(end);
	int r;

	if (way_of(end) != BLOCKED) {
		memory->release(memory->bytes, length, memory->userdata);
		return -EPIPE;
	}
	r = keep_memory(out, memory, length);
	if (r < 0)
		return r;
	end->received += length;
	out->queued_messages += messages;
	return 0;
}

void hop_run_begin(struct hop_run *run, struct channel_end *end)
{
	struct channel_end *out = end ? channel_other(end) : NULL;
	enum way way = end ? way_of(end) : IGNORED;

	*run = (struct hop_run){.end = NULL};
	if (way == FREE && !end->channel->sharing && !end->channel->reassigned)
		run->outlet = hop_outlet(out->hop, out);
	if (run->outlet || (way == BLOCKED && out->hop->traits->is_inner && channel_has_backlog(out)))
		run->end = end;
}

bool hop_run_keep(struct hop_run *run, const void *data, uint32_t length)
{
	struct evbuffer *queue = channel_other(run->end)->queue;

	if (!run->length && evbuffer_reserve_space(queue, RUN_RESERVE, &run->room, 1) < 1)
		return false;
	if (length > RUN_RESERVE - run->length)
		return false;
	if (length)
		memcpy((uint8_t *)run->room.iov_base + run->length, data, length);
	return true;
}

int hop_run_end(struct hop_run *run)
{
	struct channel_end *out = channel_other(run->end);
	int r = hop_is_sound(run->end->hop) ? 0 : -ENOLINK;

	if (run->outlet)
		outlet_count(run->outlet, run->length, run->messages);
	run->room.iov_len = run->length;
	if (r == 0 && !run->outlet && run->length && evbuffer_commit_space(out->queue, &run->room, 1))
		r = -ENOMEM;
	if (r < 0 && run->outlet)
		outlet_take_back(run->outlet, run->length, run->messages);
	if (r < 0)
		return r;
	run->end->received += run->length;
	if (!run->outlet)
		out->queued_messages += run->messages;
	return 0;
}

/* Whether nothing but room is missing. */
static bool can_send(const struct channel_end *end)
{
	return channel_queued(end) && !channel_is_unannounced(end);
}

/* Sends a piece of what has waited at a channel, whose turn it is. True: some was sent. */
static bool send_backlog(struct hop *hop, struct channel_end *end)
{
	const struct channel_reassigned *reassigned = end->is_opener ? end->channel->reassigned : NULL;
	struct evbuffer_iovec pieces[8];
	/* What was answered before a REASSIGNED goes by itself. */
	size_t queued = channel_queued(end), most = reassigned ? reassigned->at - end->sent : queued;
	uint32_t length = 0, done;
	int count;

	if (!can_send(end))
		return false;
	if (most > QUANTUM)
		most = QUANTUM;
	count = evbuffer_peek(end->queue, (ev_ssize_t)most, NULL, pieces, 8);
	if (count > 8)
		count = 8;
	for (int i = 0; i < count; i++) {
		if (pieces[i].iov_len > most - length)
			pieces[i].iov_len = most - length;
		length += (uint32_t)pieces[i].iov_len;
	}
	if (length < queued)
		length &= ~7u;
	done = write_pieces(hop, end, NULL, (struct iovec *)pieces, length,
			    length == queued ? end->queued_messages : 0);
	switch_spend(hop->board, end->channel->charge.account, COST_FRAME + COST_BYTES(done));
	evbuffer_drain(end->queue, done);
	steps_note_sent(end, done);
	if (reassigned)
		channel_owe_reassigned(end->channel);
	if (done == queued)
		channel_backlog_gone(end);
	return done > 0;
}

/* Sends what waits at the channels of a list, by turns of their accounts, also from one piece of output to
 * the next. The first channel that finds no room speaks for all behind it: to try hundreds in vain would cost
 * a whole piece, each time, and seem to be work that isn't done. */
static void emit_backlog(struct hop *hop, struct channel_end **backlog)
{
	bool progress = true;

	while (progress && *backlog && !hop_is_marked(hop, MARK_FAILED)) {
		struct channel_end *last = (*backlog)->backlog_prev, *end, *next;

		progress = false;
		for (end = *backlog; end; end = next) {
			bool has_sent;

			next = end == last ? NULL : end->backlog_next;
			if (hop_emit_is_over(hop))
				return;
			has_sent = send_backlog(hop, end);
			if (!has_sent && can_send(end))
				return;
			progress |= has_sent;
			end->in_backlog = channel_has_backlog(end);
			if (has_sent)
				hop_had_turn(end);
			if (has_sent || !end->in_backlog)
				DL_DELETE2(*backlog, end, backlog_prev, backlog_next);
			if (has_sent && end->in_backlog)
				hop_await_turn(end);
		}
	}
}

/* --- in other rings ---------------------------------------------------------------------------- */

int hop_move(struct hop *hop, const struct hop_rings *rings)
{
	struct moving moving = {.out = MOVING_DUE, .in = true};
	int r = ring_reader_init(&moving.reader, &rings->in, false);

	if (r == 0)
		r = ring_writer_init(&moving.writer, &rings->out[OUTLET_MAIN], false);
	if (r < 0)
		return r;
	hop->moving = moving;
	hop_mark(hop, MARK_DIRTY);
	return 0;
}

static void look_whether_moved(struct hop *hop)
{
	if (!hop_is_moving(hop))
		hop->callbacks->moved(hop->owner);
}

void hop_move_outlet(struct hop *hop, const struct ring_writer *out)
{
	outlet_move(&hop->out[OUTLET_MAIN], out);
	if (hop->keeps_copy && outlet_keep_copy(&hop->out[OUTLET_MAIN]) < 0)
		hop_fail(hop, -ENOMEM, "out of memory");
}

static void go_on_in_new_ring(struct hop *hop)
{
	hop->moving.out = MOVING_NOT;
	hop_move_outlet(hop, &hop->moving.writer);
}

/* Whether the other end has read all of the old ring. */
static bool is_read(struct hop *hop)
{
	return hop_has_room(hop, hop->out[OUTLET_MAIN].writer.ring.size);
}

static bool emit_move(struct hop *hop)
{
	static const struct frame_header header = {.type = FRAME_MOVE};

	if (hop->moving.out == MOVING_NOT)
		return true;
	if (hop->moving.out == MOVING_DUE) {
		if (!hop_has_room(hop, FRAME_HEADER_SIZE))
			return false;
		hop_spend(hop, COST_CONTROL);
		outlet_put_aside(&hop->out[OUTLET_MAIN], &header, "");
		hop->moving.out = MOVING_SAID;
	}
	if (!is_read(hop))
		return false;
	go_on_in_new_ring(hop);
	look_whether_moved(hop);
	return true;
}

void hop_look_at_move(struct hop *hop)
{
	if (hop_has_rings(hop) && hop->moving.out == MOVING_SAID)
		emit_move(hop);
}

static void move_hastily(struct hop *hop)
{
	if (hop->moving.out == MOVING_SAID) {
		hop_publish(hop);
		go_on_in_new_ring(hop);
	}
}

/* Returns how many of `unread` bytes in the ring out are the session's: MOVE at their end isn't. */
static uint32_t unread_of_session(const struct hop *hop, uint32_t unread)
{
	if (hop->moving.out != MOVING_SAID)
		return unread;
	return unread > FRAME_HEADER_SIZE ? unread - FRAME_HEADER_SIZE : 0;
}

int hop_take_move(struct hop *hop)
{
	int r = hop->moving.in ? 0 : hop->callbacks->move(hop->owner);

	if (r < 0 || !hop->moving.in)
		return r < 0 ? r : -EPROTO;
	/* The other end waits for this. */
	ring_reader_consume(&hop->in.reader, FRAME_HEADER_SIZE);
	if (ring_reader_release(&hop->in.reader))
		hop_notify(hop);
	hop->in.reader = hop->moving.reader;
	hop->in.unreleased = 0;
	hop->in.missing = 1;
	hop->in.has_asked = false;
	hop->in.has_moved = true;
	hop->moving.in = false;
	/* If ours was said, the other end has read it before it said its own, and may offer the next move
	 * behind that. */
	if (hop->moving.out == MOVING_SAID)
		emit_move(hop);
	else
		look_whether_moved(hop);
	return 0;
}

/* --- what is written again in other rings ----------------------------------------------------- */

void hop_drop_replay(struct hop *hop)
{
	free(hop->replay.bytes);
	charge_end(&hop->replay.charge);
	hop->replay = (struct hop_replay){0};
}

int hop_keep_for_replay(struct hop *hop)
{
	struct hop_replay *before = &hop->replay, kept = {0};
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	struct iovec pieces[2];
	uint32_t seen = outlet->writer.tail, unread, first, left = before->size - before->written;

	ring_writer_unread(&outlet->writer);
	if (!hop_is_sound(hop)) /* then that was of nobody's making */
		outlet->writer.tail = seen;
	unread = unread_of_session(hop, outlet_unread(outlet, pieces));
	first = unread < pieces[0].iov_len ? unread : (uint32_t)pieces[0].iov_len;
	kept.size = unread + left;
	charge_end(&before->charge); /* or what is still to be sent again would be paid for twice */
	hop_spend(hop, COST_BYTES(kept.size));
	if (kept.size) {
		kept.bytes = malloc(kept.size);
		if (!kept.bytes) {
			hop_drop_replay(hop);
			return -ENOMEM;
		}
		/* It is no more than the ring that is given back now, so an account that is full doesn't lose
		 * its session. */
		charge_init(&kept.charge, hop->account);
		charge_exceed(&kept.charge, QUOTA_BYTES, kept.size);
		memcpy(kept.bytes, pieces[0].iov_base, first);
		memcpy(kept.bytes + first, pieces[1].iov_base, unread - first);
		if (left)
			memcpy(kept.bytes + unread, before->bytes + before->written, left);
	}
	hop_drop_replay(hop);
	*before = (struct hop_replay){.bytes = kept.bytes, .size = kept.size};
	charge_move(&before->charge, &kept.charge);
	return 0;
}

static bool emit_replay(struct hop *hop)
{
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	struct hop_replay *replay = &hop->replay;

	while (hop_is_catching_up(hop)) {
		const uint8_t *untrusted_frame = replay->bytes + replay->written;
		uint32_t left = replay->size - replay->written, size = FRAME_HEADER_SIZE;
		struct frame_header header;

		/* What no writer of ours has written is of the other end's making: in the old ring, or by a
		 * position that isn't between two frames. */
		if (left < size || frame_header_decode(untrusted_frame, &header) < 0 ||
		    (size = frame_size(header.length)) > left) {
			hop_fail(hop, -EPROTO, "what is to be sent again isn't a frame");
			return false;
		}
		if (size > outlet->writer.ring.size) {
			hop_fail(hop, -ENOLINK, "the new ring is too small for what is to be sent again");
			return false;
		}
		if (hop_emit_is_over(hop) || !hop_has_room(hop, size))
			return false;
		ring_writer_put(&outlet->writer, untrusted_frame, size);
		replay->written += size;
		hop_spend(hop, COST_FRAME + COST_BYTES(size));
		if (outlet_is_due(outlet))
			hop_publish(hop);
		if (replay->written == replay->size)
			hop_drop_replay(hop);
	}
	return true;
}

/* --- a turn ----------------------------------------------------------------------------------- */

static void emit_all(struct hop *hop)
{
	if (!hop_emit_control(hop) || !emit_urgent(hop) || !hop_has_backlog(hop))
		return;
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		emit_backlog(hop, &hop->backlogs[i]);
	emit_urgent(hop); /* the frames that come behind the backlog */
}

void hop_emit(struct hop *hop)
{
	bool has_more;

	if (hop->traits->is_inner && !hop_is_retired(hop))
		hop_due(hop); /* whose owner takes it, in its turn */
	if (!hop_is_up(hop) || hop_is_finishing(hop))
		return;
	hop->emit_from = hop->board->turns.spent;
	hop_spend(hop, COST_FRAME);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		hop->out[i].wanted = 0;
	if (!hop_is_held(hop) || (emit_replay(hop) && !hop->is_silent && emit_move(hop)))
		emit_all(hop);
	has_more = hop_has_output(hop);
	if (!has_more && !hop->waiting.waiters)
		hop->waiting.stuck = false;
	hop_publish(hop);
	if (hop_is_marked(hop, MARK_FAILED))
		return;
	if (has_more && hop_emit_is_over(hop))
		hop_mark(hop, MARK_DIRTY);
	if (hop->waiting.waiters && !hop->waiting.lacks && !has_more &&
	    outlet_has_ample_room(&hop->out[OUTLET_MAIN]))
		hop_grant_next(hop);
	hop_mark(hop, MARK_AWAKE);
}

void hop_farewell(struct hop *hop, const void *payload, uint32_t length)
{
	struct frame_header header = {.length = length, .type = FRAME_GOODBYE};

	move_hastily(hop);
	if (hop_has_room(hop, frame_size(length)))
		hop_put_frame(hop, hop->account, &header, payload);
	hop_publish(hop);
}

/* --- before the loop sleeps ------------------------------------------------------------------- */

/* Asks to be woken when the program has taken something. */
static void ask_for_taken(struct hop *hop)
{
	/* While the last snapshot waits for the input that it was made with, another one is of no use. */
	if (!hop->traits->release_means_taken || hop->taken.pending)
		return;
	for (unsigned i = 0; i < HOP_OUTLETS; i++) {
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
		timer_start(hop->taken.timer, hop->taken.poll_ms);
	}
}

/* Asks to be notified of room. Where there is some already, the output goes on. */
static void ask_for_room(struct hop *hop, struct outlet *outlet, uint32_t wanted)
{
	int r = outlet_ask_for_room(outlet, wanted);

	if (r < 0)
		hop_outlet_failed(hop, r);
	if (r > 0)
		hop_mark(hop, MARK_DIRTY);
}

void hop_ask_for_output(struct hop *hop)
{
	ask_for_taken(hop);
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (hop->out[i].wanted)
			ask_for_room(hop, &hop->out[i], hop->out[i].wanted);
	if (hop->waiting.waiters && !hop->waiting.lacks && !hop->waiting.granted && !hop_has_output(hop))
		ask_for_room(hop, &hop->out[OUTLET_MAIN], 0);
}
