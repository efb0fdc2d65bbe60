/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/outbox.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libclient/op.h"
#include "libclient/helpers.h"
#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/probes.h"
#include "wire/properties.h"
#include "wire/ut.h"

#define CHANNELS_KEPT 256u	 /* idle channels beyond this many are closed */
#define OWN_KEPT      (1u << 20) /* a larger memory for a reserved message isn't kept for the next */

void outbox_init(struct outbox *outbox, struct transport *transport, const struct outbox_callbacks *callbacks)
{
	*outbox = (struct outbox){.transport = transport, .callbacks = callbacks};
	channel_table_init(&outbox->by_number, 0, CHANNEL_NUMBERS / 2);
}

bool outbox_leave(struct outbox *outbox, struct sender *sender)
{
	if (outbox->last == sender)
		outbox->last = NULL;
	if (!sender->hh.tbl)
		return false;
	if (sender->kind == CHANNEL_CALL)
		HASH_DELETE(hh, outbox->calls_by_address, sender);
	else
		HASH_DELETE(hh, outbox->by_address, sender);
	sender->hh.tbl = NULL;
	return true;
}

/* Notes whether the channel has bytes queued and credit for them. */
static void outbox_set_ready(struct outbox *outbox, struct sender *sender)
{
	bool ready = fifo_size(&sender->queue) > 0 && sender_budget(sender) > 0;

	if (ready == sender->ready)
		return;
	sender->ready = ready;
	if (ready)
		DL_APPEND(outbox->ready, sender);
	else
		DL_DELETE(outbox->ready, sender);
}

/* Tells those that wait for answers on the channel that none comes any more. */
static void outbox_end_caller(struct outbox *outbox, struct sender *sender)
{
	if (sender->caller)
		outbox->callbacks->ended(sender->caller);
	sender->caller = NULL;
}

/* Tells those that wait for room on the channel that there is some. */
static void outbox_tell_room(struct outbox *outbox, struct sender *sender)
{
	if (sender->rooms)
		outbox->callbacks->room(sender, OUTBOX_MORE_ROOM);
}

/* Removes a channel, on which nothing waits for its outcome. What waits for room there may be sent on another
 * channel; but not when the session is over, with this error. */
static void outbox_remove(struct outbox *outbox, struct sender *sender, int error)
{
	if (sender->rooms)
		outbox->callbacks->room(sender, error);
	outbox_leave(outbox, sender);
	outbox_end_caller(outbox, sender);
	outbox_detach(outbox, sender);
	channel_table_remove(&outbox->by_number, sender->number);
	sender_free(sender);
}

void outbox_free(struct outbox *outbox)
{
	struct sender *sender;
	uint32_t number = 0;

	while ((sender = channel_table_next(&outbox->by_number, &number)))
		outbox_remove(outbox, sender, 0);
	channel_table_free(&outbox->by_number);
	outbox_unreserve(outbox);
	free(outbox->reserved.own);
	for (uint32_t i = 0; i < outbox->settled.count; i++)
		op_result_drop(
			&outbox->settled.list[(outbox->settled.head + i) & (outbox->settled.capacity - 1)]
				 .result);
	free(outbox->settled.list);
}

bool outbox_is_settled(const struct outbox *outbox)
{
	const struct sender *sender;
	uint32_t number = 0;

	while ((sender = channel_table_next(&outbox->by_number, &number))) {
		if (sender->awaited)
			return false;
		for (uint32_t i = sender->ops_count; i > 0;
		     i--) /* the last is the likeliest to be under way */
			if (!sender_op(sender, i - 1)->told)
				return false;
	}
	return outbox->settled.count == 0;
}

/* ---- opening and closing ------------------------------------------------------------------ */

static void send_fin(struct outbox *outbox, struct sender *sender)
{
	transport_offset(outbox->transport, FRAME_FIN, sender->number, sender->accepted);
	sender->state = SENDER_CLOSING;
	outbox_leave(outbox, sender);
	if (sender->fin_received && sender->ops_count == 0)
		outbox_remove(outbox, sender, 0);
}

void outbox_finish(struct outbox *outbox)
{
	struct sender *sender;
	uint32_t number = 0;

	while ((sender = channel_table_next(&outbox->by_number, &number)))
		if (sender->state < SENDER_CLOSING && fifo_size(&sender->queue) == 0)
			send_fin(outbox, sender);
}

static struct sender *least_recently_used(struct sender *by_address, struct sender *oldest)
{
	struct sender *sender, *next;

	HASH_ITER(hh, by_address, sender, next)
		if (sender->state == SENDER_OPEN && sender->ops_count == 0 &&
		    sender->consumed == sender->accepted && sender->awaited == 0 &&
		    (!oldest || sender->used < oldest->used))
			oldest = sender;
	return oldest;
}

static void close_least_recently_used(struct outbox *outbox)
{
	struct sender *oldest = least_recently_used(outbox->by_address, NULL);

	oldest = least_recently_used(outbox->calls_by_address, oldest);
	if (oldest)
		send_fin(outbox, oldest);
}

static int remember_address(struct outbox *outbox, struct sender *sender)
{
	if (sender->kind == CHANNEL_CALL)
		HASH_ADD_STR(outbox->calls_by_address, address, sender);
	else
		HASH_ADD_STR(outbox->by_address, address, sender);
	return HASH_ADDED(sender) ? 0 : -ENOMEM;
}

static int open_channel(struct outbox *outbox, const char *address, enum channel_kind kind,
			struct sender **opened)
{
	struct frame_open open = {.kind = (uint8_t)kind, .name = {.data = address, .size = strlen(address)}};
	uint8_t payload[512]; /* a checked address has at most ADDRESS_MAX */
	struct address parsed;
	struct sender *sender;
	uint32_t number;
	int r;

	r = address_parse(address, strlen(address), &parsed, NULL);
	if (r < 0)
		return r;
	if (outbox->by_number.count >= CHANNELS_KEPT)
		close_least_recently_used(outbox);
	r = channel_table_number(&outbox->by_number, &number);
	if (r < 0)
		return r;
	sender = sender_new(address, number, kind);
	if (!sender)
		return -ENOMEM;
	r = channel_table_put(&outbox->by_number, number, sender);
	if (r == 0)
		r = remember_address(outbox, sender);
	if (r == 0) {
		r = transport_control(outbox->transport, FRAME_OPEN, number, payload,
				      frame_open_encode(&open, payload));
		if (r < 0)
			outbox_leave(outbox, sender);
	}
	if (r < 0) {
		channel_table_remove(&outbox->by_number, number);
		sender_free(sender);
		return r;
	}
	TRACE(outbox->transport, "%s: opens channel %u, %u.%d.%u", address, number, outbox->transport->domid,
	      (int)getpid(), sender_serial(sender));
	sender->max_message = outbox->transport->max_message;
	*opened = sender;
	return 0;
}

struct sender *outbox_lookup(const struct outbox *outbox, const char *address, enum channel_kind kind)
{
	struct sender *sender;

	HASH_FIND_STR(kind == CHANNEL_CALL ? outbox->calls_by_address : outbox->by_address, address, sender);
	return sender;
}

static int find_channel(struct outbox *outbox, const char *address, enum channel_kind kind,
			struct sender **sender)
{
	*sender = outbox_lookup(outbox, address, kind);
	if (!*sender) {
		int r = open_channel(outbox, address, kind, sender);

		if (r < 0)
			return r;
	}
	outbox->last = *sender;
	return 0;
}

static inline bool is_last(const struct outbox *outbox, const char *address, enum channel_kind kind)
{
	return outbox->last && outbox->last->kind == kind && strcmp(outbox->last->address, address) == 0;
}

int outbox_channel(struct outbox *outbox, const char *address, enum channel_kind kind, size_t size,
		   bool at_once, struct sender **sender)
{
	/* A new channel never takes more at once, so another try would be in vain. */
	_Static_assert(OUTBOX_AT_ONCE_MAX + MESSAGE_HEAD_SIZE + MESSAGE_TRAILER_SIZE == CHANNEL_INITIAL_LIMIT,
		       "what the header promises");
	if (size > outbox->transport->max_message || (at_once && size > OUTBOX_AT_ONCE_MAX))
		return -EMSGSIZE;
	if (!is_last(outbox, address, kind))
		return find_channel(outbox, address, kind, sender);
	*sender = outbox->last;
	return 0;
}

/* ---- sending ------------------------------------------------------------------------------ */

/* Checks whether the whole message fits into the ring, each of its frames with a header. Returns 0, -EAGAIN
 * or -EPROTO. */
static int fits_at_once(struct outbox *outbox, struct sender *sender, uint64_t span)
{
	uint64_t need = span + FRAME_HEADER_SIZE * (span / FRAME_PAYLOAD_MAX + 1);
	bool blocked;
	int r;

	if (fifo_size(&sender->queue) > 0 || sender_budget(sender) < span ||
	    need > outbox->transport->out.ring.size)
		return -EAGAIN;
	r = transport_flush_backlog(outbox->transport, &blocked);
	if (r == 0 && !blocked)
		r = transport_space(outbox->transport, (uint32_t)need);
	return r < 0 ? r : r >= (int)need ? 0 : -EAGAIN;
}

/* Puts as much of the message as possible into the ring, the rest into the queue; the caller updates
 * `accepted`. Returns 0; -ENOMEM if nothing was accepted; -EPROTO if the session is over. */
static int frame_or_queue(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces)
{
	uint64_t span = message_pieces_span(pieces);
	int64_t framed = 0;
	int r;

	if (fifo_size(&sender->queue) == 0 && fifo_size(&outbox->transport->backlog) == 0) {
		framed = sender_frame_pieces(sender, outbox->transport, pieces);
		if (framed < 0)
			return (int)framed;
	}
	if ((uint64_t)framed < span) {
		r = fifo_reserve(&sender->queue, span - (uint64_t)framed);
		if (r < 0)
			return framed ? -EPROTO : r; /* half a message can't be taken back */
		sender_queue_pieces(sender, pieces, (uint64_t)framed);
	}
	return 0;
}

/* Makes room for one more that is to come. Returns 0 or -ENOMEM. */
static int settled_grow(struct settled_queue *queue)
{
	void *list =
		circular_grow(queue->list, sizeof(*queue->list), queue->head, queue->count, &queue->capacity);

	if (!list)
		return -ENOMEM;
	queue->list = list;
	queue->head = 0;
	return 0;
}

/* Reserves room to remember the message, and for its outcome. */
static inline int reserve_op(struct outbox *outbox, struct sender *sender, const struct op *op)
{
	int r = sender->ops_count < sender->ops_capacity ? 0 : sender_grow_ops(sender);

	if (r == 0 && op_is_reported(op) && outbox->settled.outstanding == outbox->settled.capacity)
		r = settled_grow(&outbox->settled);
	return r;
}

/* Adds the op of an accepted message. */
static inline __attribute__((always_inline)) void push_op(struct outbox *outbox, struct sender *sender,
							  const struct op *op, uint64_t span)
{
	struct op *pushed = sender_op(sender, sender->ops_count++);

	sender->accepted += span;
	sender->used = outbox->clock++;
	*pushed = *op;
	pushed->end = sender->accepted;
	TRACE(outbox->transport, "%s: sends a %s in %llu bytes, %u.%d.%u@%llu", sender->address,
	      sender->kind == CHANNEL_CALL ? "call" : "message", (unsigned long long)span,
	      outbox->transport->domid, (int)getpid(), sender_serial(sender),
	      (unsigned long long)pushed->end);
	PROBE(4, xenmsg, send, sender->address, sender->number, span, pushed->end);
	outbox->settled.outstanding += op_is_reported(op);
}

/* Sends a message that is large or that waits behind others. */
static int put_slowly(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces,
		      bool at_once)
{
	uint64_t span = message_pieces_span(pieces);
	bool held = false;
	int r;

	if (sender->state == SENDER_OPENING && (span > CHANNEL_INITIAL_LIMIT || pieces->block_size) &&
	    sender->hold == UINT64_MAX) {
		sender->hold = sender->accepted;
		held = true;
	}
	r = at_once ? fits_at_once(outbox, sender, span) : 0;
	if (r == 0)
		r = frame_or_queue(outbox, sender, pieces);
	if (r < 0 && held)
		sender->hold = UINT64_MAX;
	return r;
}

/* Inline, so that the values that make up `op` go from registers to their place. */
static inline __attribute__((always_inline)) int put(struct outbox *outbox, struct sender *sender,
						     const struct message_pieces *pieces, bool at_once,
						     const struct op *op)
{
	uint64_t span = message_pieces_span(pieces);
	bool is_framed;
	int r;

	if (pieces->size > sender->max_message)
		return -EMSGSIZE;
	if (!sender_has_room(sender, span))
		return -EAGAIN;
	r = reserve_op(outbox, sender, op);
	if (r < 0)
		return r;
	is_framed = !(pieces->block_size && sender->state == SENDER_OPENING) &&
		    sender_frame_small(sender, outbox->transport, pieces, span);
	if (!is_framed) {
		r = put_slowly(outbox, sender, pieces, at_once);
		if (r < 0)
			return r;
	}
	push_op(outbox, sender, op, span);
	if (is_framed) {
		sender->ops_framed = sender->ops_count;
		return 0;
	}
	sender_count_framed(sender);
	outbox_set_ready(outbox, sender);
	return 0;
}

int outbox_put(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces,
	       bool at_once, const struct op *op)
{
	return put(outbox, sender, pieces, at_once, op);
}

int outbox_put_reply(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces)
{
	uint64_t span = message_pieces_span(pieces);
	int r = sender_frame_small(sender, outbox->transport, pieces, span)
			? 0
			: frame_or_queue(outbox, sender, pieces);

	if (r == 0) {
		sender->accepted += span;
		outbox_set_ready(outbox, sender);
	}
	return r;
}

void outbox_credit(struct outbox *outbox, struct sender *sender, uint64_t limit)
{
	if (limit > sender->limit)
		sender->limit = limit;
	outbox_set_ready(outbox, sender);
}

void outbox_detach(struct outbox *outbox, struct sender *sender)
{
	if (sender->ready)
		DL_DELETE(outbox->ready, sender);
	sender->ready = false;
}

int outbox_send(struct outbox *outbox, const char *address, const void *data, size_t size, bool at_once,
		xenmsg_done done, void *userdata)
{
	const struct op op = {.done = done, .userdata = userdata};
	const struct message_pieces pieces = message_pieces(data, size);
	struct sender *sender;
	int r;

	r = outbox_channel(outbox, address, CHANNEL_MESSAGE, size, at_once, &sender);
	return r < 0 ? r : put(outbox, sender, &pieces, at_once, &op);
}

/* ---- messages that the program writes where they are sent from ---------------------------- */

static int reserve_own(struct reservation *reserved, size_t size)
{
	uint8_t *own;

	if (size <= reserved->capacity && reserved->own)
		return 0;
	own = malloc(size ? size : 1);
	if (!own)
		return -ENOMEM;
	free(reserved->own);
	reserved->own = own;
	reserved->capacity = size;
	return 0;
}

int outbox_reserve(struct outbox *outbox, const char *address, size_t size, void **data)
{
	struct reservation *reserved = &outbox->reserved;
	struct sender *sender;
	uint8_t *lent;
	int r;

	if (reserved->data)
		return -EBUSY;
	r = outbox_channel(outbox, address, CHANNEL_MESSAGE, size, false, &sender);
	if (r < 0)
		return r;
	if (size > sender->max_message)
		return -EMSGSIZE;
	if (!sender_has_room(sender, message_span(size)))
		return -EAGAIN;
	lent = sender_lend(sender, outbox->transport, size);
	r = lent ? 0 : reserve_own(reserved, size);
	if (r < 0)
		return r;
	if (lent) {
		reserved->mirror = outbox->transport->out_mirror;
		mirror_use(reserved->mirror);
	}
	reserved->data = lent ? lent : reserved->own;
	reserved->size = size;
	memcpy(reserved->address, sender->address, sizeof(reserved->address));
	*data = reserved->data;
	return 0;
}

void outbox_unreserve(struct outbox *outbox)
{
	struct reservation *reserved = &outbox->reserved;

	if (reserved->mirror)
		transport_end_loan(outbox->transport);
	mirror_release(reserved->mirror);
	reserved->mirror = NULL;
	reserved->data = NULL;
	if (reserved->capacity > OWN_KEPT) {
		free(reserved->own);
		reserved->own = NULL;
		reserved->capacity = 0;
	}
}

static int commit(struct outbox *outbox, size_t size, const struct properties *properties,
		  const struct op *op, struct sender **chosen)
{
	struct transport *transport = outbox->transport;
	struct message_pieces pieces = message_pieces(outbox->reserved.data, size);
	uint8_t block[PROPERTIES_WRITE];
	uint64_t span = message_span(size);
	struct sender *sender;
	int r = outbox_channel(outbox, outbox->reserved.address, CHANNEL_MESSAGE, size, false, &sender);

	if (r < 0)
		return r;
	*chosen = sender;
	/* Before its payload there is no room for properties. */
	if (properties && properties_are_there(properties))
		message_pieces_add(&pieces, block, properties_encode(properties, block));
	/* Meanwhile its room in the ring may have been needed, or its channel may have ended and another have
	 * begun. */
	if (pieces.block_size || !transport->lent_room || !sender_can_frame(sender, transport, span) ||
	    size > sender->max_message)
		return put(outbox, sender, &pieces, false, op);
	r = reserve_op(outbox, sender, op);
	if (r < 0)
		return r;
	sender_frame_lent(sender, transport, (uint32_t)size);
	push_op(outbox, sender, op, span);
	sender->ops_framed = sender->ops_count;
	return 0;
}

int outbox_commit(struct outbox *outbox, size_t size, const struct properties *properties,
		  const struct op *op, struct sender **sender)
{
	int r;

	if (!outbox->reserved.data || size > outbox->reserved.size)
		return -EINVAL;
	r = commit(outbox, size, properties, op, sender);
	if (r != -EAGAIN && r != -ENOMEM && r != -ENOBUFS)
		outbox_unreserve(outbox);
	return r;
}

int outbox_flush(struct outbox *outbox, uint32_t *want_space)
{
	bool blocked;
	int r;

	*want_space = 0;
	r = transport_flush_backlog(outbox->transport, &blocked);
	if (r < 0)
		return r;
	if (blocked) {
		*want_space = frame_size(get_u32(fifo_front(&outbox->transport->backlog)));
		return 0;
	}
	while (outbox->ready) {
		struct sender *sender = outbox->ready;

		r = sender_frame_queue(sender, outbox->transport, want_space);
		if (r <= 0)
			return r;
		transport_publish(outbox->transport);
		/* Move it to the end of the queue. */
		DL_DELETE(outbox->ready, sender);
		sender->ready = false;
		outbox_set_ready(outbox, sender);
		outbox_tell_room(outbox, sender);
	}
	return 0;
}

/* ---- what becomes of messages ------------------------------------------------------------- */

static inline void settled_put(struct settled_queue *queue, xenmsg_done done, void *userdata,
			       const struct op_result *result)
{
	queue->list[(queue->head + queue->count++) & (queue->capacity - 1)] =
		(struct settled){done, userdata, *result};
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
		settled_put(&outbox->settled, op->done, op->userdata, result);
}

/* Tells the next one. Nearly all are delivered, of which there is nothing more to say. */
static inline void settled_tell(struct settled_queue *queue)
{
	static const struct xenmsg_result delivered = {.fate = XENMSG_FATE_DONE, .reason = "", .stream = -1};
	const struct settled settled = queue->list[queue->head];
	struct xenmsg_result result;

	queue->head = (queue->head + 1) & (queue->capacity - 1);
	queue->count--;
	queue->outstanding--;
	if (settled.result.error == 0) {
		settled.done(settled.userdata, &delivered);
		return;
	}
	result = op_result_told(&settled.result, NULL);
	settled.done(settled.userdata, &result);
	op_result_drop(&settled.result);
}

int outbox_run(struct outbox *outbox, int budget)
{
	int count = 0;

	for (; outbox->settled.count > 0 && count < budget && transport_is_here(outbox->transport); count++)
		settled_tell(&outbox->settled);
	return count;
}

/* Settles as delivered everything up to `consumed`, except a message that is being cancelled and those behind
 * it. */
static void outbox_settle_delivered(struct outbox *outbox, struct sender *sender)
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

void outbox_say(const struct outbox *outbox, const struct sender *sender, struct op_result *result)
{
	char words[512];
	struct kept_words *said;

	if (result->reason ||
	    !address_words(result->error, outbox->transport->domid, sender->address, words, sizeof(words)))
		return;
	said = malloc(sizeof(*said) + strlen(words) + 1);
	if (!said)
		return; /* the words of the error itself remain */
	said->keepers = 1;
	strcpy(said->text, words);
	result->reason = said->text;
	result->is_said = true;
}

/* Gives a result the words that the one before has, which needn't be made again, or its own. */
static void say_as_before(const struct outbox *outbox, const struct sender *sender, struct op_result *result,
			  struct op_result *before)
{
	if (result->reason || result->error >= 0)
		return;
	if (result->error != before->error) {
		op_result_drop(before);
		*before = *result;
		outbox_say(outbox, sender, before);
	}
	*result = *before;
}

/* Settles all messages of a channel that has ended (protocol.md, 2.3): one that isn't in the ring was
 * certainly not delivered and gets `unsent`, whatever the other end says; one that begins at `unsure` or
 * behind it `error`. `refused`: what the program there said of the message that begins at `unsure`; 0:
 * nothing. */
static void outbox_settle_all(struct outbox *outbox, struct sender *sender, uint64_t unsure, int error,
			      int unsent, uint16_t refused)
{
	struct op_result said = {.error = 0};

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
		if (result.error == (sender->is_denied ? -EACCES : -ECONNRESET))
			result.reason = sender->why_reset;
		else if (result.error == -ENOMEM)
			result.reason = WORDS_OF_PEERS_LACK;
		say_as_before(outbox, sender, &result, &said);
		if (op.done || op.settled) /* who gets the result keeps the words */
			op_result_keep(&result);
		settle(outbox, sender, &op, &result);
	}
	op_result_drop(&said);
}

void outbox_fail(struct outbox *outbox, int unsent)
{
	struct sender *sender;
	uint32_t number = 0;

	while ((sender = channel_table_next(&outbox->by_number, &number))) {
		outbox_settle_all(outbox, sender, UINT64_MAX, -ECONNRESET, unsent, 0);
		outbox_remove(outbox, sender, unsent);
	}
}

/* ---- cancelling --------------------------------------------------------------------------- */

/* Settles one that stays in the list until those before it have their outcome. */
static void outbox_settle_now(struct outbox *outbox, const struct sender *sender, struct op *op,
			      struct op_result result)
{
	settle(outbox, sender, op, &result);
	op->done = NULL;
	op->settled = NULL;
	op->cancelling = false;
	op->told = true;
}

int outbox_cancel(struct outbox *outbox, struct sender *sender, const void *userdata)
{
	uint64_t begin, state;
	uint32_t index;
	struct op *op = sender_find_of(sender, userdata, &index);

	if (!op || op->cancelling)
		return 0;
	state = op->end - MESSAGE_TRAILER_SIZE;
	begin = index > 0 ? sender_op(sender, index - 1)->end : sender->settled;
	if (state < sender->framed) {
		int r = transport_offset(outbox->transport, FRAME_CANCEL, sender->number, state);

		op->cancelling = true;
		return r < 0 ? r : 1;
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

void outbox_abandon(struct outbox *outbox, struct sender *sender, const void *userdata)
{
	uint32_t index;
	struct op *op = sender_find_of(sender, userdata, &index);

	if (!op)
		return;
	outbox_settle_now(outbox, sender, op, op_result_unknown(-ECONNRESET, OUTBOX_UNSETTLED));
	outbox_settle_delivered(outbox, sender);
}

/* ---- what the daemon says ----------------------------------------------------------------- */

/* Returns how many bytes of properties the queued message has. */
static uint32_t block_of(const uint8_t *message)
{
	return message[4] & MESSAGE_PROPERTIES ? get_u16(message + MESSAGE_HEAD_SIZE) : 0;
}

/* Looks through the queue, now that the other side's limit is known: removes messages that are larger than it
 * accepts. */
static void revise_queue(struct outbox *outbox, struct sender *sender)
{
	const struct op_result too_large = op_result(-EMSGSIZE);
	uint64_t begin = sender->settled, removed = 0;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < sender->ops_count; i++) {
		struct op op = *sender_op(sender, i);
		uint64_t span = op.end - begin;
		bool queued = begin >= sender->framed;
		uint8_t *at = queued ? fifo_front(&sender->queue) + (begin - sender->framed) : NULL;

		begin += span;
		if (queued && get_u32(at) - block_of(at) > sender->max_message) {
			settle(outbox, sender, &op, &too_large);
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

static int outbox_on_opened(struct outbox *outbox, struct sender *sender, const uint8_t *payload,
			    uint32_t length)
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

static int outbox_on_credit(struct outbox *outbox, struct sender *sender, const uint8_t *payload,
			    uint32_t length)
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

int outbox_reject(struct outbox *outbox, struct sender *sender)
{
	if (sender->rooms)
		outbox->callbacks->room(sender, 0);
	outbox_leave(outbox, sender);
	outbox_detach(outbox, sender);
	sender->state = SENDER_RESET_SENT;
	/* The reason for the rejection says nothing about what the other side may still take. */
	outbox_settle_all(outbox, sender, UINT64_MAX, -ECONNRESET, -EPROTO, 0);
	outbox_end_caller(outbox, sender);
	return transport_reset(outbox->transport, sender->number, EPROTO, 0, sender->taken);
}

static int outbox_on_reset(struct outbox *outbox, struct sender *sender, const uint8_t *payload,
			   uint32_t length)
{
	struct frame_reset reset;
	bool refused;
	int error, r;

	if (frame_reset_decode(payload, length, &reset) < 0 || reset.consumed > sender->framed)
		return -EPROTO;
	error = frame_error(reset.error, -EPROTO);
	sender->why_reset = words_of_reset(reset.flags);
	sender->is_denied = (reset.flags & RESET_BY) == RESET_BY_RELAY;
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
	outbox_remove(outbox, sender, 0);
	return 0;
}

/* Settles what may have been taken by the program that had the channel; another one goes on behind that. */
static int on_reassigned(struct outbox *outbox, struct sender *sender, const uint8_t *payload,
			 uint32_t length)
{
	struct frame_reassigned reassigned;

	if (frame_reassigned_decode(payload, length, &reassigned) < 0 ||
	    reassigned.consumed > sender->framed || reassigned.unsure > sender->framed)
		return -EPROTO;
	TRACE(outbox->transport, "%s: another program goes on with channel %u at %llu", sender->address,
	      sender->number, (unsigned long long)reassigned.unsure);
	if (reassigned.consumed > sender->consumed)
		sender->consumed = reassigned.consumed;
	outbox_settle_delivered(outbox, sender);
	for (uint32_t i = 0; i < sender->ops_count; i++) {
		struct op *op = sender_op(sender, i);

		if (op->end > reassigned.unsure)
			break;
		if (op->end > reassigned.consumed && !op->cancelling)
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
	op = sender_find_op(sender, cancelled.offset + MESSAGE_TRAILER_SIZE, &index);
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

/* The other side of a channel of messages sends nothing, so its FIN comes first or answers ours. */
static int on_fin(struct outbox *outbox, struct sender *sender)
{
	sender->fin_received = true;
	if (sender->state == SENDER_CLOSING)
		outbox_remove(outbox, sender, 0);
	else if (sender->kind == CHANNEL_CALL) /* a server that answers no more can't be called either */
		return outbox_reject(outbox, sender);
	return 0;
}

struct sender *outbox_find(const struct outbox *outbox, uint32_t number)
{
	struct sender *sender = channel_table_find(&outbox->by_number, number);

	return sender && sender->state != SENDER_RESET_SENT ? sender : NULL;
}

static int on_frame(struct outbox *outbox, struct sender *sender, const struct frame_header *header,
		    const uint8_t *payload)
{
	if (sender->state == SENDER_RESET_SENT) {
		if (header->type == FRAME_RESET)
			outbox_remove(outbox, sender, 0);
		return 0;
	}
	switch (header->type) {
	case FRAME_OPENED:
		return outbox_on_opened(outbox, sender, payload, header->length);
	case FRAME_CREDIT:
		return outbox_on_credit(outbox, sender, payload, header->length);
	case FRAME_SENDER: /* the domain of who answers was restored */
		return frame_u32_decode(payload, header->length, &sender->identity.domid);
	case FRAME_CANCELLED:
		return on_cancelled(outbox, sender, payload, header->length);
	case FRAME_RESET:
		return outbox_on_reset(outbox, sender, payload, header->length);
	case FRAME_REASSIGNED:
		return on_reassigned(outbox, sender, payload, header->length);
	case FRAME_FIN:
		return on_fin(outbox, sender);
	default:
		return -EPROTO;
	}
}

int outbox_frame(struct outbox *outbox, const struct frame_header *header, const uint8_t *payload)
{
	struct sender *sender = channel_table_find(&outbox->by_number, header->channel);

	return sender ? on_frame(outbox, sender, header, payload)
		      : transport_take_late(outbox->transport, header, payload);
}
