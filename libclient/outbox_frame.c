/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the daemon says of channels that this end has opened. */

#include <errno.h>
#include <string.h>

#include "libclient/outbox.h"
#include "libclient/outbox_internal.h"
#include "libclient/sender.h"
#include "libclient/words.h"
#include "wire/bytes.h"
#include "wire/properties.h"

/* Returns how many bytes of properties the queued message has. */
static uint32_t block_of(const uint8_t *message)
{
	return message[4] & MESSAGE_PROPERTIES ? get_u16(message + MESSAGE_HEAD_SIZE) : 0;
}

/* Looks through the queue, now that the other side's limit is known: removes messages that are larger than it
 * accepts. */
static void revise_queue(struct outbox *outbox, struct sender *sender)
{
	uint64_t begin = sender->settled, removed = 0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < sender->ops_count; i++) {
		struct op op = *sender_op(sender, i);
		uint64_t span = op.end - begin;
		bool queued = begin >= sender->framed;
		uint8_t *at = queued ? fifo_front(&sender->queue) + (begin - sender->framed) : NULL;

		begin += span;
		if (queued && get_u32(at) - block_of(at) > sender->max_message) {
			outbox_settle(outbox, sender, &op, op_result(-EMSGSIZE));
			removed += span;
			continue;
		}
		if (queued && removed)
			memmove(at - removed, at, span);
		*sender_op(sender, kept) = op;
		sender_op(sender, kept++)->end -= removed;
	}
	sender->ops_count = kept;
	sender->accepted -= removed;
	fifo_truncate(&sender->queue, (size_t)removed);
}

static int on_opened(struct outbox *outbox, struct sender *sender, const uint8_t *payload, uint32_t length)
{
	struct frame_opened opened;

	if (frame_opened_decode(payload, length, &opened) < 0 || sender->state == SENDER_OPEN)
		return -EPROTO;
	if (sender->state == SENDER_OPENING)
		sender->state = SENDER_OPEN;
	if (opened.limit > sender->limit)
		sender->limit = opened.limit;
	sender->max_message = opened.max_message;
	sender->has_identity = opened.has_identity;
	sender->identity = opened.identity;
	sender->hold = UINT64_MAX;
	revise_queue(outbox, sender);
	outbox_set_ready(outbox, sender);
	outbox_tell_room(outbox, sender);
	return 0;
}

static int on_credit(struct outbox *outbox, struct sender *sender, const uint8_t *payload, uint32_t length)
{
	struct frame_credit credit;

	if (frame_credit_decode(payload, length, &credit) < 0 || credit.consumed > sender->framed)
		return -EPROTO;
	if (credit.consumed > sender->consumed)
		sender->consumed = credit.consumed;
	if (credit.limit > sender->limit)
		sender->limit = credit.limit;
	outbox_settle_delivered(outbox, sender);
	outbox_set_ready(outbox, sender);
	return 0;
}

int outbox_reject(struct outbox *outbox, struct sender *sender, uint32_t error)
{
	if (sender->rooms)
		outbox->callbacks->room(sender, 0);
	outbox_forget_address(outbox, sender);
	outbox_detach(outbox, sender);
	sender->state = SENDER_RESET_SENT;
	/* The reason for the rejection says nothing about what the other side may still take. */
	outbox_settle_all(outbox, sender, UINT64_MAX, -ECONNRESET, -(int)error, 0);
	outbox_end_caller(outbox, sender);
	return transport_reset(outbox->transport, sender->number, error, 0, sender->taken);
}

static int on_reset(struct outbox *outbox, struct sender *sender, const uint8_t *payload, uint32_t length)
{
	struct frame_reset reset;
	bool refused;
	int error, r;

	if (frame_reset_decode(payload, length, &reset) < 0 || reset.consumed > sender->framed)
		return -EPROTO;
	error = frame_error(reset.error, -EPROTO);
	sender->why_reset = words_of_reset(reset.flags);
	/* Its number is of that message alone, and isn't ours. */
	refused = (reset.flags & RESET_REFUSED) && sender->kind == CHANNEL_MESSAGE;
	if (reset.consumed > sender->consumed)
		sender->consumed = reset.consumed;
	r = transport_reset(outbox->transport, sender->number, reset.error, 0, sender->taken);
	if (r < 0)
		return r;
	if (refused)
		outbox_settle_all(outbox, sender, reset.unsure, -ECANCELED, -ECANCELED, (uint16_t)-error);
	else
		outbox_settle_all(outbox, sender, reset.unsure, error, error, 0);
	outbox_remove_sender(outbox, sender);
	return 0;
}

/* Settles what may have been taken by the program that had the channel; another one goes on behind that. */
static int on_takeover(struct outbox *outbox, struct sender *sender, const uint8_t *payload, uint32_t length)
{
	struct frame_takeover takeover;

	if (frame_takeover_decode(payload, length, &takeover) < 0 || takeover.consumed > sender->framed ||
	    takeover.unsure > sender->framed)
		return -EPROTO;
	TRACE(outbox->transport, "%s: another program goes on with channel %u at %llu", sender->address,
	      sender->number, (unsigned long long)takeover.unsure);
	if (takeover.consumed > sender->consumed)
		sender->consumed = takeover.consumed;
	outbox_settle_delivered(outbox, sender);
	for (uint32_t i = 0; i < sender->ops_count; i++) {
		struct op *op = sender_op(sender, i);

		if (op->end > takeover.unsure)
			break;
		if (op->end > takeover.consumed && !op->cancelling)
			outbox_settle_now(outbox, sender, op, op_result(-ECONNRESET));
	}
	if (sender->caller)
		outbox->callbacks->taken_over(sender->caller);
	return 0;
}

static int on_cancelled(struct outbox *outbox, struct sender *sender, const uint8_t *payload, uint32_t length)
{
	struct frame_cancelled cancelled;
	struct op *op;
	uint32_t index;

	if (frame_cancelled_decode(payload, length, &cancelled) < 0)
		return -EPROTO;
	op = outbox_find_op(sender, cancelled.offset + MESSAGE_TRAILER_SIZE, &index);
	/* This end may have given up waiting for the answer. */
	if (!op || !op->cancelling)
		return 0;
	if (cancelled.result == 0)
		outbox_settle_now(outbox, sender, op, op_result(0));
	else if (cancelled.result == ECANCELED)
		outbox_settle_now(outbox, sender, op, op_result(-ETIMEDOUT));
	else
		outbox_settle_now(outbox, sender, op, op_result_unknown(-ECONNRESET, OUTBOX_UNSETTLED));
	outbox_settle_delivered(outbox, sender);
	return 0;
}

struct sender *outbox_find(const struct outbox *outbox, uint32_t number)
{
	struct sender *sender = channel_table_find(&outbox->by_number, number);

	return sender && sender->state != SENDER_RESET_SENT ? sender : NULL;
}

int outbox_frame(struct outbox *outbox, const struct frame_header *header, const uint8_t *payload)
{
	struct sender *sender = channel_table_find(&outbox->by_number, header->channel);

	if (!sender)
		return transport_take_late(outbox->transport, header, payload);
	if (sender->state == SENDER_RESET_SENT) {
		if (header->type == FRAME_RESET)
			outbox_remove_sender(outbox, sender);
		return 0;
	}
	switch (header->type) {
	case FRAME_OPENED:
		return on_opened(outbox, sender, payload, header->length);
	case FRAME_CREDIT:
		return on_credit(outbox, sender, payload, header->length);
	case FRAME_CANCELLED:
		return on_cancelled(outbox, sender, payload, header->length);
	case FRAME_RESET:
		return on_reset(outbox, sender, payload, header->length);
	case FRAME_TAKEOVER:
		return on_takeover(outbox, sender, payload, header->length);
	case FRAME_FIN:
		/* The other side of a channel of messages sends nothing, so its FIN comes first or answers
		 * ours. */
		sender->fin_received = true;
		if (sender->state == SENDER_CLOSING)
			outbox_remove_sender(outbox, sender);
		else if (sender->kind == CHANNEL_CALL)
			/* a server that answers no more can't be called either */
			return outbox_reject(outbox, sender, EPROTO);
		return 0;
	default:
		return -EPROTO;
	}
}
