/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What becomes of messages: their outcomes, and how they are withdrawn. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "libclient/outbox.h"
#include "libclient/outbox_internal.h"
#include "libclient/sender.h"
#include "wire/bytes.h"
#include "wire/probes.h"

int outbox_grow_settled(struct outbox *outbox)
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

static inline void settle(struct outbox *outbox, const struct sender *sender, const struct op *op,
			  const struct op_result *result)
{
	TRACE(outbox->transport, "%s: %u.%d.%u@%llu: %s", sender->address, outbox->transport->domid,
	      (int)getpid(), sender_serial(sender), (unsigned long long)op->end,
	      trace_outcome(result->error));
	PROBE(4, xenmsg, outcome, sender->address, sender->number, result->error, op->end);
	if (op->settled)
		op->settled(op->userdata, result);
	else if (op->done)
		outbox->settled[(outbox->settled_head + outbox->settled_count++) &
				(outbox->settled_capacity - 1)] =
			(struct settled){op->done, op->userdata, *result};
}

void outbox_settle(struct outbox *outbox, const struct sender *sender, const struct op *op,
		   struct op_result result)
{
	settle(outbox, sender, op, &result);
}

/* Nearly all are delivered, of which there is nothing more to say. */
static inline void tell(const struct settled *settled)
{
	static const struct xenmsg_result delivered = {.fate = XENMSG_FATE_DONE, .reason = "", .stream = -1};
	struct xenmsg_result result;

	if (settled->result.error == 0) {
		settled->done(settled->userdata, &delivered);
		return;
	}
	result = op_result_told(&settled->result, NULL);
	settled->done(settled->userdata, &result);
}

int outbox_run(struct outbox *outbox, int budget)
{
	int count = 0;

	while (outbox->settled_count > 0 && count < budget && transport_is_here(outbox->transport)) {
		const struct settled settled = outbox->settled[outbox->settled_head];

		outbox->settled_head = (outbox->settled_head + 1) & (outbox->settled_capacity - 1);
		outbox->settled_count--;
		outbox->outstanding--;
		count++;
		tell(&settled);
	}
	return count;
}

void outbox_settle_delivered(struct outbox *outbox, struct sender *sender)
{
	/* It isn't made for each message: what was just written in two parts would be read in one, for which
	 * the CPU waits longer than all else here takes. */
	static const struct op_result delivered = {.fate = XENMSG_FATE_DONE};
	uint32_t count = 0;

	while (count < sender->ops_count) {
		const struct op *op = sender_op(sender, count);

		if (op->end > sender->consumed || op->cancelling)
			break;
		settle(outbox, sender, op, &delivered);
		count++;
	}
	sender_drop_ops(sender, count);
}

void outbox_settle_all(struct outbox *outbox, struct sender *sender, uint64_t unsure, int error, int unsent,
		       uint16_t refused)
{
	outbox_settle_delivered(outbox, sender);
	while (sender->ops_count > 0) {
		uint64_t begin = sender->settled;
		struct op op = *sender_op(sender, 0);
		struct op_result result;

		sender_drop_ops(sender, 1);

		if (begin >= sender->framed)
			result = op_result(unsent);
		else if (op.end <= sender->consumed && !op.cancelling)
			result = op_result(0);
		else if (refused && begin == unsure)
			result = op_result_remote(refused, 0, XENMSG_FATE_NOT_DONE);
		else
			result = op_result(begin >= unsure ? error : -ECONNRESET);
		if (result.error == -ECONNRESET)
			result.reason = sender->why_reset;
		outbox_settle(outbox, sender, &op, result);
	}
}

void outbox_fail(struct outbox *outbox, int unsent)
{
	struct sender *sender;
	uint32_t number = 0;

	while ((sender = channel_table_next(&outbox->by_number, &number))) {
		outbox_settle_all(outbox, sender, UINT64_MAX, -ECONNRESET, unsent, 0);
		outbox_remove_failed(outbox, sender, unsent);
	}
}

/* ---- cancelling ------------------------------------------------------------------------------ */

struct op *outbox_find_op(struct sender *sender, uint64_t end, uint32_t *index)
{
	for (uint32_t i = sender->ops_count; i > 0; i--) {
		struct op *op = sender_op(sender, i - 1);

		if (op->end == end) {
			*index = i - 1;
			return op;
		}
		if (op->end < end)
			break;
	}
	return NULL;
}

/* Finds it by the program's userdata, since offsets may change while a message waits in the queue. */
static struct op *find_ticket(const struct outbox_ticket *ticket, uint32_t *index)
{
	for (uint32_t i = ticket->sender->ops_count; i > 0; i--) {
		struct op *op = sender_op(ticket->sender, i - 1);

		if ((op->done || op->settled) && op->userdata == ticket->userdata) {
			*index = i - 1;
			return op;
		}
	}
	return NULL;
}

void outbox_settle_now(struct outbox *outbox, const struct sender *sender, struct op *op,
		       struct op_result result)
{
	outbox_settle(outbox, sender, op, result);
	op->done = NULL;
	op->settled = NULL;
	op->cancelling = false;
	op->told = true;
}

int outbox_cancel(struct outbox *outbox, const struct outbox_ticket *ticket)
{
	struct sender *sender = ticket->sender;
	uint64_t begin, state;
	uint32_t index;
	struct op *op = find_ticket(ticket, &index);

	if (!op || op->cancelling)
		return 0;
	state = op->end - MESSAGE_TRAILER_SIZE;
	begin = index > 0 ? sender_op(sender, index - 1)->end : sender->settled;
	if (state < sender->framed) {
		op->cancelling = true;
		return transport_offset(outbox->transport, FRAME_CANCEL, sender->number, state);
	}
	outbox_settle_now(outbox, sender, op, op_result(-ETIMEDOUT));
	if (begin >= sender->framed && index == sender->ops_count - 1) {
		fifo_truncate(&sender->queue, (size_t)(op->end - begin));
		sender->accepted = begin;
		sender->ops_count--;
		if (sender->hold == begin)
			sender->hold = UINT64_MAX;
		outbox_set_ready(outbox, sender);
		outbox_tell_room(outbox, sender);
		return 0;
	}
	/* Its beginning is in the ring, or other messages are queued behind it: the stream goes on, and the
	 * receiver skips it. */
	put_u32(fifo_front(&sender->queue) + (state - sender->framed), MESSAGE_CANCELLED);
	return 0;
}

int outbox_settle_ms(int timeout_ms)
{
	int tenth = timeout_ms / 10;

	return timeout_ms < 0 || tenth > 2000 ? 2000 : tenth < 250 ? 250 : tenth;
}

void outbox_abandon(struct outbox *outbox, const struct outbox_ticket *ticket)
{
	uint32_t index;
	struct op *op = find_ticket(ticket, &index);

	if (!op)
		return;
	outbox_settle_now(outbox, ticket->sender, op, op_result_unknown(-ECONNRESET, OUTBOX_UNSETTLED));
	outbox_settle_delivered(outbox, ticket->sender);
}
