/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/channel.h"
#include "libclient/conn.h"
#include "libclient/reply.h"
#include "wire/bytes.h"

enum receiver_state {
	RECEIVER_OPEN,
	RECEIVER_RESET_SENT,
};

/* A channel that the daemon opened. */
struct receiver {
	struct receiver *prev, *next; /* in inbox->dirty */
	struct receiver *ending_prev, *ending_next;
	bool dirty, ending;
	enum receiver_state state;
	uint32_t number;
	uint64_t origin;	 /* for its messages */
	struct replies *replies; /* a channel of kind call */
	struct binding *binding; /* NULL once RESET was sent */
	struct frame_identity sender;
	char sender_name[DOMAIN_NAME_MAX + 1];
	uint64_t taken; /* offset in the stream that was consumed */
	bool fin;	/* no more comes beyond: */
	uint64_t total;
	struct xenmsg_message *part;	  /* a message that is spread over frames */
	uint32_t part_size, part_padding; /* its payload, and what is left of the padding */
	uint8_t part_type;
	uint64_t *cancelled; /* offsets of state words of messages that are to be skipped */
	uint32_t cancelled_count;
};

int inbox_init(struct inbox *inbox, struct xenmsg *conn)
{
	*inbox = (struct inbox){.conn = conn, .hop = &conn->hop, .pool = message_pool_new()};
	return inbox->pool ? 0 : -ENOMEM;
}

static void drop_part(struct receiver *receiver)
{
	xenmsg_message_free(receiver->part);
	receiver->part = NULL;
}

static void remove_receiver(struct inbox *inbox, struct receiver *receiver)
{
	drop_part(receiver);
	replies_free(receiver->replies);
	if (receiver->dirty)
		DL_DELETE(inbox->dirty, receiver);
	if (receiver->ending)
		DL_DELETE2(inbox->ending, receiver, ending_prev, ending_next);
	if (inbox->frame_left > 0 && inbox->frame_channel == receiver->number)
		inbox->frame_stale = true;
	inbox->by_number[receiver->number / 2] = NULL;
	free(receiver->cancelled);
	free(receiver);
}

void inbox_free(struct inbox *inbox)
{
	struct binding *binding, *next;

	for (uint32_t i = 0; i < inbox->places; i++)
		if (inbox->by_number[i])
			remove_receiver(inbox, inbox->by_number[i]);
	free(inbox->by_number);
	HASH_ITER(hh, inbox->bindings, binding, next) {
		HASH_DEL(inbox->bindings, binding);
		free(binding);
	}
	message_pool_close(inbox->pool);
}

/* ---- bindings -------------------------------------------------------------------------------- */

int inbox_bind(struct inbox *inbox, const char *endpoint, xenmsg_message_handler handler, void *userdata)
{
	struct binding *binding = calloc(1, sizeof(*binding));

	if (!binding)
		return -ENOMEM;
	memcpy(binding->endpoint, endpoint, strlen(endpoint) + 1);
	binding->handler = handler;
	binding->userdata = userdata;
	HASH_ADD_STR(inbox->bindings, endpoint, binding);
	return 0;
}

struct binding *inbox_find(struct inbox *inbox, const char *endpoint, size_t size)
{
	struct binding *binding;

	HASH_FIND(hh, inbox->bindings, endpoint, size, binding);
	return binding;
}

/* Whatever wasn't taken up to here never will be. */
static int send_reset(struct inbox *inbox, uint32_t number, uint64_t taken, uint32_t error)
{
	struct frame_reset reset = {.error = error, .consumed = taken, .unsure = taken};
	uint8_t payload[FRAME_SMALL_MAX];

	inbox->reset_sent = true;
	return hop_control(inbox->hop, FRAME_RESET, number, payload, frame_reset_encode(&reset, payload));
}

static int reset_receiver(struct inbox *inbox, struct receiver *receiver, uint32_t error)
{
	if (receiver->state == RECEIVER_RESET_SENT)
		return 0;
	receiver->state = RECEIVER_RESET_SENT;
	receiver->binding = NULL;
	drop_part(receiver);
	replies_free(receiver->replies);
	receiver->replies = NULL;
	return send_reset(inbox, receiver->number, receiver->taken, error);
}

int inbox_reset(struct inbox *inbox, uint32_t number, uint32_t error)
{
	return reset_receiver(inbox, inbox->by_number[number / 2], error);
}

int inbox_unbind(struct inbox *inbox, struct binding *binding)
{
	int r = 0;

	for (uint32_t i = 0; i < inbox->places; i++)
		if (inbox->by_number[i] && inbox->by_number[i]->binding == binding && r == 0)
			r = reset_receiver(inbox, inbox->by_number[i], ENOENT);
	HASH_DEL(inbox->bindings, binding);
	free(binding);
	return r;
}

/* ---- frames about channels ------------------------------------------------------------------- */

static int place_for(struct inbox *inbox, uint32_t place)
{
	uint32_t places = inbox->places ? inbox->places : 256;
	struct receiver **grown;

	while (places <= place)
		places *= 2;
	if (places == inbox->places)
		return 0;
	grown = calloc(places, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	if (inbox->places)
		memcpy(grown, inbox->by_number, inbox->places * sizeof(*grown));
	free(inbox->by_number);
	inbox->by_number = grown;
	inbox->places = places;
	return 0;
}

/* The sender's domain by name, if the daemon knows it. */
static void keep_sender_name(struct receiver *receiver, struct frame_text name)
{
	if (name.size > 0 && domain_name_is_valid(name.data, name.size))
		memcpy(receiver->sender_name, name.data, name.size);
}

static int on_open(struct inbox *inbox, uint32_t number, const uint8_t *payload, uint32_t length)
{
	struct receiver *receiver;
	struct frame_open open;
	int r;

	if (frame_open_decode(payload, length, &open) < 0 || number >= CHANNEL_NUMBERS)
		return -EPROTO;
	r = place_for(inbox, number / 2);
	if (r < 0)
		return r;
	if (inbox->by_number[number / 2])
		return -EPROTO;
	receiver = calloc(1, sizeof(*receiver));
	if (!receiver)
		return -ENOMEM;
	receiver->number = number;
	receiver->origin = ++inbox->last_origin;
	receiver->sender = open.identity;
	inbox->by_number[number / 2] = receiver;
	frame_text_split(&open.name, &open.domain_name);
	keep_sender_name(receiver, open.domain_name);
	receiver->binding = inbox_find(inbox, open.name.data, open.name.size);
	if (!receiver->binding)
		return reset_receiver(inbox, receiver, ENOENT);
	if (open.kind == CHANNEL_CALL) {
		receiver->replies = replies_new(inbox->conn, number);
		return receiver->replies ? 0 : -ENOMEM;
	}
	if (open.kind != CHANNEL_MESSAGE)
		return reset_receiver(inbox, receiver, EPROTONOSUPPORT);
	/* The daemon answers the opener for us: it knows our endpoints, and nothing but the ring limits what
	 * it may send here. */
	return 0;
}

/* Our FIN says that all was taken, so it follows the report of that: the ring's consumer index, or CREDIT. */
static int end_if_finished(struct inbox *inbox, struct receiver *receiver)
{
	uint8_t payload[8];
	int r;

	if (receiver->state != RECEIVER_OPEN || !receiver->fin || receiver->taken < receiver->total ||
	    receiver->dirty)
		return 0;
	if (receiver->replies && !replies_are_done(receiver->replies)) {
		if (!receiver->ending)
			DL_APPEND2(inbox->ending, receiver, ending_prev, ending_next);
		receiver->ending = true;
		return 0;
	}
	hop_release_deliveries(inbox->hop, true);
	r = hop_control(
		inbox->hop, FRAME_FIN, receiver->number, payload,
		frame_u64_encode(receiver->replies ? receiver->replies->channel->framed : 0, payload));
	remove_receiver(inbox, receiver);
	return r;
}

int inbox_end_answered(struct inbox *inbox)
{
	struct receiver *receiver, *next;
	int r = 0;

	DL_FOREACH_SAFE2(inbox->ending, receiver, next, ending_next)
	if (r == 0)
		r = end_if_finished(inbox, receiver);
	return r;
}

static int on_fin(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	if (frame_u64_decode(payload, length, &receiver->total) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_OPEN || receiver->fin)
		return 0;
	receiver->fin = true;
	return end_if_finished(inbox, receiver);
}

static int on_reset(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	struct frame_reset reset;
	int r = 0;

	if (frame_reset_decode(payload, length, &reset) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_RESET_SENT)
		r = send_reset(inbox, receiver->number, receiver->taken, reset.error);
	remove_receiver(inbox, receiver);
	return r;
}

static int on_cancel(struct inbox *inbox, struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	struct frame_cancelled answer;
	uint8_t out[FRAME_SMALL_MAX];
	uint64_t *grown;

	if (frame_u64_decode(payload, length, &answer.offset) < 0)
		return -EPROTO;
	if (receiver->state != RECEIVER_OPEN)
		return 0;
	if (answer.offset < receiver->taken) {
		answer.result = 0;
	} else {
		grown = realloc(receiver->cancelled, (receiver->cancelled_count + 1) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		receiver->cancelled = grown;
		grown[receiver->cancelled_count++] = answer.offset;
		answer.result = ECANCELED;
	}
	return hop_control(inbox->hop, FRAME_CANCELLED, receiver->number, out,
			   frame_cancelled_encode(&answer, out));
}

static int on_credit(struct receiver *receiver, const uint8_t *payload, uint32_t length)
{
	struct frame_credit credit;

	if (frame_credit_decode(payload, length, &credit) < 0)
		return -EPROTO;
	/* On a channel of messages we send nothing. */
	return receiver->replies ? replies_credit(receiver->replies, credit.consumed, credit.limit) : 0;
}

static struct receiver *find_receiver(const struct inbox *inbox, uint32_t number)
{
	return (number & 1) && number / 2 < inbox->places ? inbox->by_number[number / 2] : NULL;
}

int inbox_frame(struct inbox *inbox, const struct frame_header *header, const uint8_t *payload)
{
	struct receiver *receiver;

	if (header->type == FRAME_OPEN)
		return on_open(inbox, header->channel, payload, header->length);
	receiver = find_receiver(inbox, header->channel);
	/* Of a channel that has ended, frames may still be on their way; a RESET wants its answer. */
	if (!receiver)
		return header->type == FRAME_RESET
			       ? hop_control(inbox->hop, FRAME_RESET, header->channel, payload,
					     header->length < FRAME_SMALL_MAX ? header->length
									      : FRAME_SMALL_MAX)
			       : 0;
	switch (header->type) {
	case FRAME_FIN:
		return on_fin(inbox, receiver, payload, header->length);
	case FRAME_RESET:
		return on_reset(inbox, receiver, payload, header->length);
	case FRAME_CANCEL:
		return on_cancel(inbox, receiver, payload, header->length);
	case FRAME_CREDIT:
		return on_credit(receiver, payload, header->length);
	default:
		return -EPROTO;
	}
}

/* ---- messages -------------------------------------------------------------------------------- */

static void mark_dirty(struct inbox *inbox, struct receiver *receiver)
{
	if (!inbox->hop->stream || receiver->dirty)
		return;
	receiver->dirty = true;
	DL_APPEND(inbox->dirty, receiver);
}

/* Bytes of the frame at the front are done with. */
static void consume(struct inbox *inbox, struct receiver *receiver, uint32_t size)
{
	ring_reader_consume(&inbox->hop->deliveries, size);
	inbox->unreported += size;
	inbox->frame_left -= size;
	if (receiver) {
		receiver->taken += size;
		mark_dirty(inbox, receiver);
	}
	if (inbox->frame_left == 0) {
		ring_reader_consume(&inbox->hop->deliveries, inbox->frame_padding);
		inbox->unreported += inbox->frame_padding;
		inbox->frame_stale = false;
	}
}

void inbox_skip_frame(struct inbox *inbox)
{
	if (inbox->frame_left > 0)
		consume(inbox, NULL, inbox->frame_left);
}

/* Goes to the next frame. 1: there is one, with at least one byte. */
static int next_frame(struct inbox *inbox)
{
	struct ring_reader *ring = &inbox->hop->deliveries;

	for (;;) {
		int ready = ring_reader_ready(ring, FRAME_HEADER_SIZE);
		uint8_t raw[FRAME_HEADER_SIZE];
		struct frame_header header;

		if (ready <= 0)
			return ready;
		if ((uint32_t)ready < FRAME_HEADER_SIZE)
			return -EPROTO;
		ring_reader_copy(ring, 0, raw, sizeof(raw));
		if (frame_header_decode(raw, &header) < 0)
			return -EPROTO;
		/* A writer shows no half frames. */
		if ((uint32_t)ready < frame_size(header.length))
			return -EPROTO;
		if (header.type != FRAME_DATA && header.type < FRAME_OPTIONAL)
			return -EPROTO;
		if (header.type != FRAME_DATA || header.length == 0) {
			ring_reader_consume(ring, frame_size(header.length));
			inbox->unreported += frame_size(header.length);
			continue;
		}
		ring_reader_consume(ring, FRAME_HEADER_SIZE);
		inbox->unreported += FRAME_HEADER_SIZE;
		inbox->frame_channel = header.channel;
		inbox->frame_left = header.length;
		inbox->frame_padding = frame_size(header.length) - FRAME_HEADER_SIZE - header.length;
		inbox->frame_stale = false;
		return 1;
	}
}

/* Mostly an unused message was one of the same channel before. */
static void fill_in(const struct receiver *receiver, struct xenmsg_message *message)
{
	if (message->origin == receiver->origin)
		return;
	message->origin = receiver->origin;
	message->sender = receiver->sender;
	memcpy(message->endpoint, receiver->binding->endpoint, sizeof(message->endpoint));
	memcpy(message->sender_name, receiver->sender_name, sizeof(message->sender_name));
}

/* Begins a message whose end isn't in this frame. */
static int start_part(struct inbox *inbox, struct receiver *receiver, uint32_t size, uint8_t type)
{
	uint32_t here = inbox->frame_left - MESSAGE_HEAD_SIZE;

	receiver->part = message_new(inbox->pool, here < size ? here : size);
	if (!receiver->part)
		return -ENOMEM;
	receiver->part_size = size;
	receiver->part_type = type;
	receiver->part_padding = -size & 7u;
	consume(inbox, receiver, MESSAGE_HEAD_SIZE);
	return 0;
}

/* Adds what the frame has of it. 1: all but the trailer is there. */
static int continue_part(struct inbox *inbox, struct receiver *receiver)
{
	struct xenmsg_message *part = receiver->part;
	uint32_t n = receiver->part_size - (uint32_t)part->size;

	if (n > inbox->frame_left)
		n = inbox->frame_left;
	if (n > 0) {
		if (message_grow(part, part->size + n, receiver->part_size) < 0)
			return -ENOMEM;
		ring_reader_copy(&inbox->hop->deliveries, 0, part->data + part->size, n);
		part->size += n;
		consume(inbox, receiver, n);
	}
	n = receiver->part_padding < inbox->frame_left ? receiver->part_padding : inbox->frame_left;
	if (n > 0 && part->size == receiver->part_size) {
		receiver->part_padding -= n;
		consume(inbox, receiver, n);
	}
	return inbox->frame_left >= MESSAGE_TRAILER_SIZE;
}

static bool head_is_possible(const struct receiver *receiver, uint8_t type, uint32_t size)
{
	if (!receiver->replies)
		return type == MESSAGE_PLAIN;
	return type == MESSAGE_REQUEST || (type == MESSAGE_WITHDRAWAL && size == 0);
}

/* 1: a head with a size that can be; 0: the channel was reset. */
static int read_head(struct inbox *inbox, struct receiver *receiver, uint32_t *size, uint8_t *type)
{
	uint8_t head[MESSAGE_HEAD_SIZE];
	int r;

	ring_reader_copy(&inbox->hop->deliveries, 0, head, sizeof(head));
	*size = get_u32(head);
	*type = head[4];
	if (!head_is_possible(receiver, *type, *size))
		r = reset_receiver(inbox, receiver, EPROTO);
	else if (*size > inbox->hop->max_message)
		r = reset_receiver(inbox, receiver, EMSGSIZE);
	else
		return 1;
	return r;
}

/* The caller doesn't wait for an answer any longer. `before` bytes of the frame lie before the trailer. */
static int take_withdrawal(struct inbox *inbox, struct receiver *receiver, uint32_t before)
{
	uint8_t number[4];

	ring_reader_copy(&inbox->hop->deliveries, before + 4, number, sizeof(number));
	replies_withdraw(receiver->replies, get_u32(number));
	drop_part(receiver);
	consume(inbox, receiver, before + MESSAGE_TRAILER_SIZE);
	return end_if_finished(inbox, receiver);
}

int inbox_front(struct inbox *inbox, struct inbox_front *front, bool *unknown_channel)
{
	*unknown_channel = false;
	for (;;) {
		struct receiver *receiver;
		uint32_t size;
		uint8_t type;
		int r;

		if (inbox->frame_left == 0) {
			r = next_frame(inbox);
			if (r <= 0)
				return r;
		}
		receiver = inbox->frame_stale ? NULL : find_receiver(inbox, inbox->frame_channel);
		if (!receiver && !inbox->frame_stale) {
			*unknown_channel = true;
			return 0;
		}
		if (!receiver || receiver->state != RECEIVER_OPEN) {
			inbox_skip_frame(inbox);
			continue;
		}
		/* Frames carry multiples of 8, so that a state word never straddles anything. */
		if (inbox->frame_left % 8 != 0) {
			r = reset_receiver(inbox, receiver, EPROTO);
			if (r < 0)
				return r;
			continue;
		}
		if (!receiver->part) {
			r = read_head(inbox, receiver, &size, &type);
			if (r < 0)
				return r;
			if (r == 0)
				continue;
			if (MESSAGE_HEAD_SIZE + (((uint64_t)size + 7) & ~(uint64_t)7) +
				    MESSAGE_TRAILER_SIZE <=
			    inbox->frame_left) {
				if (type == MESSAGE_WITHDRAWAL) {
					r = take_withdrawal(inbox, receiver, MESSAGE_HEAD_SIZE);
					if (r < 0)
						return r;
					continue;
				}
				*front = (struct inbox_front){receiver, receiver->binding, size};
				return 1;
			}
			r = start_part(inbox, receiver, size, type);
			if (r < 0)
				return r;
			if (inbox->frame_left == 0)
				continue;
		}
		r = continue_part(inbox, receiver);
		if (r < 0)
			return r;
		if (r > 0 && receiver->part_type != MESSAGE_WITHDRAWAL) {
			*front = (struct inbox_front){receiver, receiver->binding, receiver->part_size};
			return 1;
		}
		if (r > 0)
			r = take_withdrawal(inbox, receiver, 0);
		if (r < 0)
			return r;
	}
}

bool inbox_take_simple(struct inbox *inbox, bool recv, struct xenmsg_message **taken,
		       const struct binding **binding)
{
	struct ring_reader *ring = &inbox->hop->deliveries;
	struct receiver *receiver = find_receiver(inbox, inbox->frame_channel);
	uint32_t sent = htole32(MESSAGE_SENT), size;
	struct xenmsg_message *message;
	const uint8_t *at;
	uint64_t head, span;

	if (inbox->frame_left < MESSAGE_HEAD_SIZE || inbox->frame_left % 8 || inbox->frame_stale ||
	    !receiver || receiver->state != RECEIVER_OPEN || receiver->part || receiver->replies ||
	    receiver->cancelled_count || receiver->fin || !receiver->binding->handler != recv)
		return false;
	at = ring_reader_piece(ring, MESSAGE_HEAD_SIZE);
	if (!at)
		return false;
	head = get_u64(at);
	size = (uint32_t)head;
	span = message_span(size);
	if (head >> 32 != MESSAGE_PLAIN || size > inbox->hop->max_message || span > inbox->frame_left ||
	    !ring_reader_piece(ring, (uint32_t)span))
		return false;
	message = message_new(inbox->pool, size);
	if (!message)
		return false;
	if (!__atomic_compare_exchange_n(ring_reader_word(ring, (uint32_t)span - MESSAGE_TRAILER_SIZE), &sent,
					 htole32(MESSAGE_TAKEN), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		xenmsg_message_free(message);
		return false;
	}
	memcpy(message->data, at + MESSAGE_HEAD_SIZE, size);
	message->size = size;
	fill_in(receiver, message);
	consume(inbox, receiver, (uint32_t)span);
	*taken = message;
	*binding = receiver->binding;
	return true;
}

static bool was_cancelled(struct receiver *receiver, uint64_t state)
{
	for (uint32_t i = 0; i < receiver->cancelled_count; i++)
		if (receiver->cancelled[i] == state) {
			receiver->cancelled[i] = receiver->cancelled[--receiver->cancelled_count];
			return true;
		}
	return false;
}

int inbox_take(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **taken)
{
	struct receiver *receiver = front->receiver;
	struct ring_reader *ring = &inbox->hop->deliveries;
	struct xenmsg_message *message = receiver->part;
	uint32_t before = message ? 0 : MESSAGE_HEAD_SIZE + ((front->size + 7) & ~7u);
	uint8_t number[4];
	uint32_t sent = htole32(MESSAGE_SENT);
	bool mine;
	int r;

	if (!message) {
		message = message_new(inbox->pool, front->size);
		if (!message)
			return -ENOMEM;
	}
	mine = !was_cancelled(receiver, receiver->taken + before) &&
	       __atomic_compare_exchange_n(ring_reader_word(ring, before), &sent, htole32(MESSAGE_TAKEN),
					   false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	if (mine && !receiver->part) {
		ring_reader_copy(ring, MESSAGE_HEAD_SIZE, message->data, front->size);
		message->size = front->size;
	}
	if (mine)
		fill_in(receiver, message);
	ring_reader_copy(ring, before + 4, number, sizeof(number));
	receiver->part = NULL;
	consume(inbox, receiver, before + MESSAGE_TRAILER_SIZE);
	if (!mine) {
		xenmsg_message_free(message);
		/* Neither sent nor cancelled: whoever wrote this has lost the thread. */
		if (sent != htole32(MESSAGE_SENT) && sent != htole32(MESSAGE_CANCELLED))
			return reset_receiver(inbox, receiver, EPROTO);
	} else if (receiver->replies && replies_add(receiver->replies, message, get_u32(number)) < 0) {
		xenmsg_message_free(message);
		return reset_receiver(inbox, receiver, EPROTO);
	} else {
		*taken = message;
	}
	r = end_if_finished(inbox, receiver);
	return r < 0 ? r : mine;
}

int inbox_release(struct inbox *inbox, bool now)
{
	struct receiver *receiver, *next;
	bool quietly = !now && inbox->unreported < INBOX_RELEASE_AFTER;
	int r = 0;

	if (inbox->unreported == 0)
		return 0;
	/* What is released counts as taken, unless the channel was reset before: the daemon must see that
	 * first. */
	if (inbox->reset_sent) {
		bool blocked;

		r = hop_flush_backlog(inbox->hop, &blocked);
		if (r < 0 || blocked)
			return r;
		hop_publish(inbox->hop);
		inbox->reset_sent = false;
	}
	if (!quietly)
		inbox->unreported = 0;
	hop_release_deliveries(inbox->hop, quietly);
	if (quietly || !inbox->dirty)
		return 0;
	DL_FOREACH_SAFE(inbox->dirty, receiver, next) {
		struct frame_credit credit = {.consumed = receiver->taken, .limit = INT64_MAX};
		uint8_t payload[FRAME_SMALL_MAX];

		DL_DELETE(inbox->dirty, receiver);
		receiver->dirty = false;
		if (receiver->state == RECEIVER_OPEN && r == 0)
			r = hop_control(inbox->hop, FRAME_CREDIT, receiver->number, payload,
					frame_credit_encode(&credit, payload));
		if (r == 0)
			r = end_if_finished(inbox, receiver);
	}
	return r;
}
