/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/call.h"
#include "libclient/channel.h"
#include "wire/bytes.h"

#define CHANNELS_KEPT 256u		    /* idle channels beyond this many are closed */
#define PLACES_MAX    (CHANNEL_NUMBERS / 2) /* ours are the even numbers */
#define QUEUE_MAX     262144u /* what may be queued for an address besides a single message of any size */

void outbox_init(struct outbox *outbox, struct hop *hop)
{
	*outbox = (struct outbox){.hop = hop};
}

static void forget_address(struct outbox *outbox, struct channel *channel)
{
	if (outbox->last == channel)
		outbox->last = NULL;
	if (!channel->hh.tbl)
		return;
	if (channel->kind == CHANNEL_CALL)
		HASH_DELETE(hh, outbox->calls_by_address, channel);
	else
		HASH_DELETE(hh, outbox->by_address, channel);
	channel->hh.tbl = NULL;
}

static void set_ready(struct outbox *outbox, struct channel *channel)
{
	bool ready = fifo_size(&channel->queue) > 0 && channel_budget(channel) > 0;

	if (ready == channel->ready)
		return;
	channel->ready = ready;
	if (ready)
		DL_APPEND(outbox->ready, channel);
	else
		DL_DELETE(outbox->ready, channel);
}

static void remove_channel(struct outbox *outbox, struct channel *channel)
{
	forget_address(outbox, channel);
	calls_channel_gone(outbox, channel);
	if (channel->ready)
		DL_DELETE(outbox->ready, channel);
	outbox->by_number[channel->number / 2] = NULL;
	outbox->channels--;
	channel_free(channel);
}

void outbox_free(struct outbox *outbox)
{
	for (uint32_t i = 0; i < outbox->places; i++)
		if (outbox->by_number[i])
			remove_channel(outbox, outbox->by_number[i]);
	free(outbox->by_number);
	free(outbox->settled);
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static int grow_settled(struct outbox *outbox)
{
	uint32_t capacity = outbox->settled_capacity ? outbox->settled_capacity * 2 : 64;
	struct settled *settled = malloc(capacity * sizeof(*settled));

	if (!settled)
		return -ENOMEM;
	for (uint32_t i = 0; i < outbox->settled_count; i++)
		settled[i] = outbox->settled[(outbox->settled_head + i) & (outbox->settled_capacity - 1)];
	free(outbox->settled);
	outbox->settled = settled;
	outbox->settled_head = 0;
	outbox->settled_capacity = capacity;
	return 0;
}

/* Whether its outcome goes through the list of the settled. */
static bool is_reported(const struct op *op)
{
	return op->done && !op->internal;
}

static void settle(struct outbox *outbox, const struct op *op, int result)
{
	if (!op->done)
		return;
	if (op->internal) {
		op->done(op->userdata, result);
		return;
	}
	outbox->settled[(outbox->settled_head + outbox->settled_count++) & (outbox->settled_capacity - 1)] =
		(struct settled){.done = op->done, .userdata = op->userdata, .result = result};
}

int outbox_run(struct outbox *outbox, int budget)
{
	int count = 0;

	while (outbox->settled_count > 0 && count < budget) {
		struct settled settled = outbox->settled[outbox->settled_head];

		outbox->settled_head = (outbox->settled_head + 1) & (outbox->settled_capacity - 1);
		outbox->settled_count--;
		outbox->outstanding--;
		count++;
		settled.done(settled.userdata, settled.result);
	}
	return count;
}

/* Everything that `consumed` has passed is delivered, up to a message that is being cancelled. */
static void settle_delivered(struct outbox *outbox, struct channel *channel)
{
	uint32_t count = 0;

	while (count < channel->ops_count) {
		const struct op *op = channel_op(channel, count);

		if (op->end > channel->consumed || op->cancelling)
			break;
		settle(outbox, op, 0);
		count++;
	}
	channel_drop_ops(channel, count);
}

/* The channel has ended: protocol.md, section 2.3. What isn't in the ring was certainly not delivered,
 * whatever the other end says. */
static void settle_all(struct outbox *outbox, struct channel *channel, uint64_t unsure, int error, int unsent)
{
	settle_delivered(outbox, channel);
	while (channel->ops_count > 0) {
		uint64_t begin = channel->settled;
		struct op op = *channel_op(channel, 0);
		int result;

		channel_drop_ops(channel, 1);

		if (begin >= channel->framed)
			result = unsent;
		else if (op.end <= channel->consumed && !op.cancelling)
			result = 0;
		else
			result = begin >= unsure ? error : -ECONNRESET;
		settle(outbox, &op, result);
	}
}

void outbox_fail(struct outbox *outbox, int unsent)
{
	for (uint32_t i = 0; i < outbox->places; i++) {
		struct channel *channel = outbox->by_number[i];

		if (!channel)
			continue;
		settle_all(outbox, channel, UINT64_MAX, -ECONNRESET, unsent);
		remove_channel(outbox, channel);
	}
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void send_fin(struct outbox *outbox, struct channel *channel)
{
	uint8_t payload[8];

	hop_control(outbox->hop, FRAME_FIN, channel->number, payload,
		    frame_u64_encode(channel->accepted, payload));
	channel->state = CHANNEL_CLOSING;
	forget_address(outbox, channel);
	if (channel->fin_received && channel->ops_count == 0)
		remove_channel(outbox, channel);
}

void outbox_finish(struct outbox *outbox)
{
	for (uint32_t i = 0; i < outbox->places; i++) {
		struct channel *channel = outbox->by_number[i];

		if (channel && channel->state < CHANNEL_CLOSING && fifo_size(&channel->queue) == 0)
			send_fin(outbox, channel);
	}
}

static struct channel *least_recently_used(struct channel *by_address, struct channel *oldest)
{
	struct channel *channel, *next;

	HASH_ITER(hh, by_address, channel, next)
		if (channel->state == CHANNEL_OPEN && channel->ops_count == 0 &&
		    channel->consumed == channel->accepted && !channel->calls.waiting &&
		    (!oldest || channel->used < oldest->used))
			oldest = channel;
	return oldest;
}

static void close_least_recently_used(struct outbox *outbox)
{
	struct channel *oldest = least_recently_used(outbox->by_address, NULL);

	oldest = least_recently_used(outbox->calls_by_address, oldest);
	if (oldest)
		send_fin(outbox, oldest);
}

static int find_place(struct outbox *outbox, uint32_t *place)
{
	struct channel **grown;
	uint32_t places;

	/* Going round, a number comes again as late as possible. */
	if (outbox->channels < outbox->places)
		for (uint32_t i = 0; i < outbox->places; i++) {
			*place = (outbox->next_place + i) % outbox->places;
			if (!outbox->by_number[*place])
				return 0;
		}
	if (outbox->places >= PLACES_MAX)
		return -ENOBUFS;
	places = outbox->places ? outbox->places * 2 : 1024;
	grown = calloc(places, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	if (outbox->places)
		memcpy(grown, outbox->by_number, outbox->places * sizeof(*grown));
	free(outbox->by_number);
	*place = outbox->places;
	outbox->by_number = grown;
	outbox->places = places;
	return 0;
}

static int open_channel(struct outbox *outbox, const char *address, enum channel_kind kind,
			struct channel **opened)
{
	struct frame_open open = {.kind = (uint8_t)kind, .name = {.data = address, .size = strlen(address)}};
	uint8_t payload[512]; /* an address that was checked is at most 191 bytes long */
	struct address parsed;
	struct channel *channel;
	uint32_t place;
	int r;

	r = address_parse(address, strlen(address), &parsed, NULL);
	if (r < 0)
		return r;
	if (outbox->channels >= CHANNELS_KEPT)
		close_least_recently_used(outbox);
	r = find_place(outbox, &place);
	if (r < 0)
		return r;
	channel = channel_new(address, place * 2, kind);
	if (!channel)
		return -ENOMEM;
	r = hop_control(outbox->hop, FRAME_OPEN, channel->number, payload, frame_open_encode(&open, payload));
	if (r < 0) {
		channel_free(channel);
		return r;
	}
	outbox->by_number[place] = channel;
	outbox->next_place = place + 1;
	outbox->channels++;
	channel->max_message = outbox->hop->max_message;
	if (kind == CHANNEL_CALL)
		HASH_ADD_STR(outbox->calls_by_address, address, channel);
	else
		HASH_ADD_STR(outbox->by_address, address, channel);
	*opened = channel;
	return 0;
}

static int find_channel(struct outbox *outbox, const char *address, enum channel_kind kind,
			struct channel **channel)
{
	HASH_FIND_STR(kind == CHANNEL_CALL ? outbox->calls_by_address : outbox->by_address, address,
		      *channel);
	if (!*channel) {
		int r = open_channel(outbox, address, kind, channel);

		if (r < 0)
			return r;
	}
	outbox->last = *channel;
	return 0;
}

static inline bool is_last(const struct outbox *outbox, const char *address, enum channel_kind kind)
{
	return outbox->last && outbox->last->kind == kind && strcmp(outbox->last->address, address) == 0;
}

int outbox_channel(struct outbox *outbox, const char *address, enum channel_kind kind,
		   struct channel **channel)
{
	if (!is_last(outbox, address, kind))
		return find_channel(outbox, address, kind, channel);
	*channel = outbox->last;
	return 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* A little, so that a sender needn't be woken for every piece of room; more would only be copied twice. */
static bool queue_has_room(const struct channel *channel, uint64_t span)
{
	uint64_t queued = fifo_size(&channel->queue);

	return queued == 0 || queued + span <= QUEUE_MAX;
}

/* Whether a message can go into the ring as a whole, each of its frames with a header: 0, -EAGAIN, -EPROTO. */
static int fits_at_once(struct outbox *outbox, struct channel *channel, uint64_t span)
{
	uint64_t need = span + FRAME_HEADER_SIZE * (span / FRAME_PAYLOAD_MAX + 1);
	bool blocked;
	int r;

	if (fifo_size(&channel->queue) > 0 || channel_budget(channel) < span ||
	    need > outbox->hop->out.ring.size)
		return -EAGAIN;
	r = hop_flush_backlog(outbox->hop, &blocked);
	if (r == 0 && !blocked)
		r = hop_space(outbox->hop, (uint32_t)need);
	return r < 0 ? r : r >= (int)need ? 0 : -EAGAIN;
}

/* Into the ring as far as it goes, the rest into the queue; `accepted` is the caller's. -ENOMEM: nothing of
 * it was taken; -EPROTO: the session is over. */
static int frame_or_queue(struct outbox *outbox, struct channel *channel, const struct message_pieces *pieces)
{
	uint64_t span = message_span(pieces->size);
	int64_t framed = 0;
	int r;

	if (fifo_size(&channel->queue) == 0 && fifo_size(&outbox->hop->backlog) == 0) {
		framed = channel_frame_pieces(channel, outbox->hop, pieces);
		if (framed < 0)
			return (int)framed;
	}
	if ((uint64_t)framed < span) {
		r = fifo_reserve(&channel->queue, span - (uint64_t)framed);
		if (r < 0)
			return framed ? -EPROTO : r; /* half a message can't be taken back */
		channel_queue_pieces(channel, pieces, (uint64_t)framed);
	}
	return 0;
}

/* Room to remember the message, and for its outcome. */
static inline int reserve_op(struct outbox *outbox, struct channel *channel, const struct op *op)
{
	int r = channel_has_room_for_op(channel) ? 0 : channel_grow_ops(channel);

	if (r == 0 && is_reported(op) && outbox->outstanding == outbox->settled_capacity)
		r = grow_settled(outbox);
	return r;
}

/* The message was accepted. */
static inline void push_op(struct outbox *outbox, struct channel *channel, const struct op *op, uint64_t span)
{
	struct op *pushed = channel_op(channel, channel->ops_count++);

	channel->accepted += span;
	channel->used = outbox->clock++;
	*pushed = *op;
	pushed->end = channel->accepted;
	outbox->outstanding += is_reported(op);
}

/* One that is large, or that others stand before. */
static int put_slowly(struct outbox *outbox, struct channel *channel, const struct message_pieces *pieces,
		      bool at_once)
{
	uint64_t span = message_span(pieces->size);
	bool held = false;
	int r;

	if (channel->state == CHANNEL_OPENING && span > CHANNEL_INITIAL_LIMIT &&
	    channel->hold == UINT64_MAX) {
		channel->hold = channel->accepted;
		held = true;
	}
	r = at_once ? fits_at_once(outbox, channel, span) : 0;
	if (r == 0)
		r = frame_or_queue(outbox, channel, pieces);
	if (r < 0 && held)
		channel->hold = UINT64_MAX;
	return r;
}

/* Inline, so that what makes up `op` goes from registers to its place. */
static inline __attribute__((always_inline)) int put(struct outbox *outbox, struct channel *channel,
						     const struct message_pieces *pieces, bool at_once,
						     const struct op *op)
{
	uint64_t span = message_span(pieces->size);
	int r;

	if (pieces->size > channel->max_message)
		return -EMSGSIZE;
	if (!queue_has_room(channel, span))
		return -EAGAIN;
	r = reserve_op(outbox, channel, op);
	if (r < 0)
		return r;
	if (channel_frame_small(channel, outbox->hop, pieces)) {
		push_op(outbox, channel, op, span);
		channel->ops_framed = channel->ops_count;
		return 0;
	}
	r = put_slowly(outbox, channel, pieces, at_once);
	if (r < 0)
		return r;
	push_op(outbox, channel, op, span);
	channel_count_framed(channel);
	set_ready(outbox, channel);
	return 0;
}

int outbox_put(struct outbox *outbox, struct channel *channel, const struct message_pieces *pieces,
	       const struct op *op)
{
	return put(outbox, channel, pieces, false, op);
}

int outbox_put_reply(struct outbox *outbox, struct channel *channel, const struct message_pieces *pieces)
{
	int r = channel_frame_small(channel, outbox->hop, pieces) ? 0
								  : frame_or_queue(outbox, channel, pieces);

	if (r == 0) {
		channel->accepted += message_span(pieces->size);
		set_ready(outbox, channel);
	}
	return r;
}

void outbox_credit(struct outbox *outbox, struct channel *channel, uint64_t limit)
{
	if (limit > channel->limit)
		channel->limit = limit;
	set_ready(outbox, channel);
}

void outbox_detach(struct outbox *outbox, struct channel *channel)
{
	if (channel->ready)
		DL_DELETE(outbox->ready, channel);
	channel->ready = false;
}

int outbox_post(struct outbox *outbox, const char *address, const void *data, size_t size, bool at_once,
		xenmsg_done done, void *userdata, struct outbox_ticket *ticket)
{
	const struct op op = {.done = done, .userdata = userdata};
	const struct message_pieces pieces = message_pieces(data, size);
	struct channel *channel;
	int r;

	if (size > outbox->hop->max_message)
		return -EMSGSIZE;
	r = outbox_channel(outbox, address, CHANNEL_MESSAGE, &channel);
	if (r < 0)
		return r;
	r = put(outbox, channel, &pieces, at_once, &op);
	if (r == 0 && ticket)
		*ticket = (struct outbox_ticket){.channel = channel, .userdata = userdata};
	return r;
}

int outbox_flush(struct outbox *outbox, uint32_t *want_space)
{
	bool blocked;
	int r;

	*want_space = 0;
	r = hop_flush_backlog(outbox->hop, &blocked);
	if (r < 0)
		return r;
	if (blocked) {
		*want_space = frame_size(get_u32(fifo_front(&outbox->hop->backlog)));
		return 0;
	}
	while (outbox->ready) {
		struct channel *channel = outbox->ready;

		r = channel_frame_queue(channel, outbox->hop, want_space);
		if (r <= 0)
			return r;
		hop_publish(outbox->hop);
		/* To the end of the line. */
		DL_DELETE(outbox->ready, channel);
		channel->ready = false;
		set_ready(outbox, channel);
	}
	return 0;
}

/* ---- cancelling ------------------------------------------------------------------------------ */

static struct op *find_op(struct channel *channel, uint64_t end, uint32_t *index)
{
	for (uint32_t i = channel->ops_count; i > 0; i--) {
		struct op *op = channel_op(channel, i - 1);

		if (op->end == end) {
			*index = i - 1;
			return op;
		}
		if (op->end < end)
			break;
	}
	return NULL;
}

/* By the program's word for it: offsets may move while a message waits in the queue. */
static struct op *find_ticket(const struct outbox_ticket *ticket, uint32_t *index)
{
	for (uint32_t i = ticket->channel->ops_count; i > 0; i--) {
		struct op *op = channel_op(ticket->channel, i - 1);

		if (op->done && op->userdata == ticket->userdata) {
			*index = i - 1;
			return op;
		}
	}
	return NULL;
}

static void settle_now(struct outbox *outbox, struct op *op, int result)
{
	settle(outbox, op, result);
	op->done = NULL;
	op->cancelling = false;
}

int outbox_cancel(struct outbox *outbox, const struct outbox_ticket *ticket)
{
	struct channel *channel = ticket->channel;
	uint64_t begin, state;
	uint8_t payload[8];
	uint32_t index;
	struct op *op = find_ticket(ticket, &index);

	if (!op || op->cancelling)
		return 0;
	state = op->end - MESSAGE_TRAILER_SIZE;
	begin = index > 0 ? channel_op(channel, index - 1)->end : channel->settled;
	if (state < channel->framed) {
		op->cancelling = true;
		return hop_control(outbox->hop, FRAME_CANCEL, channel->number, payload,
				   frame_u64_encode(state, payload));
	}
	settle_now(outbox, op, -ETIMEDOUT);
	if (begin >= channel->framed && index == channel->ops_count - 1) {
		fifo_truncate(&channel->queue, (size_t)(op->end - begin));
		channel->accepted = begin;
		channel->ops_count--;
		if (channel->hold == begin)
			channel->hold = UINT64_MAX;
		set_ready(outbox, channel);
		return 0;
	}
	/* Its beginning is on the way, or others stand behind it: the stream goes on, and the receiver skips
	 * it. */
	put_u32(fifo_front(&channel->queue) + (state - channel->framed), MESSAGE_CANCELLED);
	return 0;
}

void outbox_abandon(struct outbox *outbox, const struct outbox_ticket *ticket)
{
	uint32_t index;
	struct op *op = find_ticket(ticket, &index);

	if (!op)
		return;
	settle_now(outbox, op, -ECONNRESET);
	settle_delivered(outbox, ticket->channel);
}

/* ---- what the daemon says -------------------------------------------------------------------- */

/* Takes messages that are larger than the other side accepts out of the queue, now that we know what it
 * does. */
static void drop_oversized(struct outbox *outbox, struct channel *channel)
{
	uint64_t begin = channel->settled, removed = 0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < channel->ops_count; i++) {
		struct op op = *channel_op(channel, i);
		uint64_t span = op.end - begin, at = begin - channel->framed;

		if (begin >= channel->framed &&
		    get_u32(fifo_front(&channel->queue) + at) > channel->max_message) {
			settle(outbox, &op, -EMSGSIZE);
			removed += span;
		} else {
			if (removed)
				memmove(fifo_front(&channel->queue) + (at - removed),
					fifo_front(&channel->queue) + at, span);
			*channel_op(channel, kept) = op;
			channel_op(channel, kept++)->end -= removed;
		}
		begin += span;
	}
	channel->ops_count = kept;
	channel->accepted -= removed;
	fifo_truncate(&channel->queue, (size_t)removed);
}

static int on_opened(struct outbox *outbox, struct channel *channel, const uint8_t *payload, uint32_t length)
{
	struct frame_opened opened;

	if (frame_opened_decode(payload, length, &opened) < 0 || channel->state == CHANNEL_OPEN)
		return -EPROTO;
	if (channel->state == CHANNEL_OPENING)
		channel->state = CHANNEL_OPEN;
	if (opened.limit > channel->limit)
		channel->limit = opened.limit;
	channel->max_message = opened.max_message;
	channel->hold = UINT64_MAX;
	drop_oversized(outbox, channel);
	set_ready(outbox, channel);
	return 0;
}

static int on_credit(struct outbox *outbox, struct channel *channel, const uint8_t *payload, uint32_t length)
{
	struct frame_credit credit;

	if (frame_credit_decode(payload, length, &credit) < 0 || credit.consumed > channel->framed)
		return -EPROTO;
	if (credit.consumed > channel->consumed)
		channel->consumed = credit.consumed;
	if (credit.limit > channel->limit)
		channel->limit = credit.limit;
	settle_delivered(outbox, channel);
	set_ready(outbox, channel);
	return 0;
}

int outbox_reject(struct outbox *outbox, struct channel *channel, uint32_t error)
{
	struct frame_reset reset = {
		.error = error, .consumed = channel->calls.taken, .unsure = channel->calls.taken};
	uint8_t payload[FRAME_SMALL_MAX];

	forget_address(outbox, channel);
	outbox_detach(outbox, channel);
	channel->state = CHANNEL_RESET_SENT;
	/* The other side's answer says nothing about what it may still take. */
	settle_all(outbox, channel, UINT64_MAX, -ECONNRESET, -(int)error);
	calls_channel_gone(outbox, channel);
	return hop_control(outbox->hop, FRAME_RESET, channel->number, payload,
			   frame_reset_encode(&reset, payload));
}

static int on_reset(struct outbox *outbox, struct channel *channel, const uint8_t *payload, uint32_t length)
{
	struct frame_reset reset;
	uint8_t answer[FRAME_SMALL_MAX];
	int error, r;

	if (frame_reset_decode(payload, length, &reset) < 0 || reset.consumed > channel->framed)
		return -EPROTO;
	error = reset.error > 0 && reset.error < 4096 ? -(int)reset.error : -EPROTO;
	if (reset.consumed > channel->consumed)
		channel->consumed = reset.consumed;
	reset.consumed = reset.unsure = channel->calls.taken;
	r = hop_control(outbox->hop, FRAME_RESET, channel->number, answer,
			frame_reset_encode(&reset, answer));
	if (r < 0)
		return r;
	frame_reset_decode(payload, length, &reset);
	settle_all(outbox, channel, reset.unsure, error, error);
	remove_channel(outbox, channel);
	return 0;
}

static int on_cancelled(struct outbox *outbox, struct channel *channel, const uint8_t *payload,
			uint32_t length)
{
	struct frame_cancelled cancelled;
	struct op *op;
	uint32_t index;

	if (frame_cancelled_decode(payload, length, &cancelled) < 0)
		return -EPROTO;
	op = find_op(channel, cancelled.offset + MESSAGE_TRAILER_SIZE, &index);
	/* Perhaps we didn't want to wait for the answer. */
	if (!op || !op->cancelling)
		return 0;
	if (cancelled.result == 0)
		settle_now(outbox, op, 0);
	else
		settle_now(outbox, op, cancelled.result == ECANCELED ? -ETIMEDOUT : -ECONNRESET);
	settle_delivered(outbox, channel);
	return 0;
}

int outbox_frame(struct outbox *outbox, const struct frame_header *header, const uint8_t *payload)
{
	uint32_t place = header->channel / 2;
	struct channel *channel = place < outbox->places ? outbox->by_number[place] : NULL;

	/* Of a channel that has ended, frames may still be on their way; a RESET wants its answer. */
	if (!channel)
		return header->type == FRAME_RESET
			       ? hop_control(outbox->hop, FRAME_RESET, header->channel, payload,
					     header->length < FRAME_SMALL_MAX ? header->length
									      : FRAME_SMALL_MAX)
			       : 0;
	if (channel->state == CHANNEL_RESET_SENT) {
		if (header->type == FRAME_RESET)
			remove_channel(outbox, channel);
		return 0;
	}
	switch (header->type) {
	case FRAME_DATA:
		return call_answer_data(outbox, channel, payload, header->length);
	case FRAME_OPENED:
		return on_opened(outbox, channel, payload, header->length);
	case FRAME_CREDIT:
		return on_credit(outbox, channel, payload, header->length);
	case FRAME_CANCELLED:
		return on_cancelled(outbox, channel, payload, header->length);
	case FRAME_RESET:
		return on_reset(outbox, channel, payload, header->length);
	case FRAME_FIN:
		/* The other side of a channel of messages has nothing to say, so its FIN comes first or
		 * answers ours. */
		channel->fin_received = true;
		if (channel->state == CHANNEL_CLOSING)
			remove_channel(outbox, channel);
		else if (channel->kind == CHANNEL_CALL)
			/* who answers no more can't be asked either */
			return outbox_reject(outbox, channel, EPROTO);
		return 0;
	default:
		return -EPROTO;
	}
}
