/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <string.h>

#include <utlist.h>

#include "libclient/inbox.h"
#include "libclient/inbox_internal.h"
#include "libclient/message.h"
#include "libclient/replies.h"
#include "libclient/sender.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"
#include "wire/probes.h"
#include "wire/untrusted_copy.h"

/* The message at the front of `deliveries`: it is found, copied, taken or refused there. */

static void tell_taken(const struct inbox *inbox, const struct receiver *receiver,
		       const struct xenmsg_message *message)
{
	TRACE(inbox->transport, "%s: took a message of %zu bytes from domain %u, %u.%u.%u@%llu",
	      message->sender.endpoint, message->size, receiver->sender.domid, receiver->sender.domid,
	      receiver->sender.pid, receiver->serial, (unsigned long long)receiver->taken);
	PROBE(6, xenmsg, receive, message->sender.endpoint, receiver->sender.domid, message->size,
	      receiver->sender.pid, receiver->serial, receiver->taken);
}

static void mark_dirty(struct inbox *inbox, struct receiver *receiver)
{
	if (!inbox->transport->pump || receiver->dirty)
		return;
	receiver->dirty = true;
	DL_APPEND(inbox->dirty, receiver);
}

/* Consumes bytes of the frame at the front. */
static void consume(struct inbox *inbox, struct receiver *receiver, uint32_t size)
{
	ring_reader_consume(&inbox->transport->deliveries, size);
	inbox->unreported += size;
	inbox->frame_left -= size;
	if (receiver) {
		receiver->taken += size;
		mark_dirty(inbox, receiver);
	}
	if (inbox->frame_left == 0) {
		ring_reader_consume(&inbox->transport->deliveries, inbox->frame_padding);
		inbox->unreported += inbox->frame_padding;
		inbox->frame_stale = false;
	}
}

void inbox_skip_frame(struct inbox *inbox)
{
	if (inbox->frame_left > 0)
		consume(inbox, NULL, inbox->frame_left);
}

/* Goes to the next frame. Returns 1 if there is one, with at least one byte; 0; or a negative errno. */
static int next_frame(struct inbox *inbox)
{
	struct ring_reader *ring = &inbox->transport->deliveries;

	for (;;) {
		struct frame_header header;
		uint32_t ready, size;
		int r = frame_next(ring, &header, &ready);

		/* A writer publishes whole frames only. */
		if (r <= 0)
			return r < 0 || ready == 0 ? r : -EPROTO;
		if (header.type != FRAME_DATA && header.type < FRAME_OPTIONAL)
			return -EPROTO;
		size = frame_size(header.length);
		if (header.type != FRAME_DATA || header.length == 0) {
			ring_reader_consume(ring, size);
			inbox->unreported += size;
			continue;
		}
		ring_reader_consume(ring, FRAME_HEADER_SIZE);
		inbox->unreported += FRAME_HEADER_SIZE;
		inbox->frame_channel = header.channel;
		inbox->receiver = NULL;
		inbox->frame_left = header.length;
		inbox->frame_padding = size - FRAME_HEADER_SIZE - header.length;
		inbox->frame_stale = false;
		return 1;
	}
}

/* Fills in who sent it. Usually an unused message was one of the same channel before and has all of it. */
static void fill_in(const struct receiver *receiver, struct xenmsg_message *message)
{
	if (message->origin == receiver->origin)
		return;
	message->origin = receiver->origin;
	message->sender.identity = receiver->sender;
	memcpy(message->sender.endpoint, receiver->binding->endpoint, sizeof(message->sender.endpoint));
	memcpy(message->sender.domain_name, receiver->sender_name, sizeof(message->sender.domain_name));
	memcpy(message->sender.host, receiver->sender_host, sizeof(message->sender.host));
	message->sender.serial = receiver->serial;
}

/* Adds the bytes of the frame to the message, or as many as lie in one piece. Returns 1 if only the trailer
 * is missing, 0 if more is to come, or -ENOMEM. */
static int continue_part(struct inbox *inbox, struct receiver *receiver)
{
	uint64_t wanted = assembly_wants(&receiver->part);
	struct iovec pieces[2];
	uint32_t size;

	if (wanted > inbox->frame_left)
		wanted = inbox->frame_left;
	if (wanted > 0) {
		ring_reader_peek(&inbox->transport->deliveries, 0, (uint32_t)wanted, pieces);
		size = (uint32_t)pieces[0].iov_len;
		if (assembly_add(&receiver->part, pieces[0].iov_base, size) < 0)
			return -ENOMEM;
		consume(inbox, receiver, size);
	}
	return inbox->frame_left > 0 && assembly_wants(&receiver->part) == 0;
}

static bool head_is_possible(const struct receiver *receiver, uint8_t type)
{
	type &= (uint8_t)~MESSAGE_PROPERTIES;
	return type == (receiver->replies ? MESSAGE_REQUEST : MESSAGE_PLAIN);
}

/* Copies the head to where the message may be assembled. Returns 1 if it makes sense, 0 if the channel was
 * reset, or a negative errno. */
static int read_head(struct inbox *inbox, struct receiver *receiver)
{
	struct assembly *part = &receiver->part;
	uint64_t most = inbox->transport->max_message;

	ring_reader_copy(&inbox->transport->deliveries, 0, part->head, sizeof(part->head));
	if (!head_is_possible(receiver, assembly_type(part)))
		return inbox_reset_receiver(inbox, receiver, EPROTO);
	if (assembly_has_block(part))
		most += PROPERTIES_MAX;
	if (assembly_size(part) > most)
		return inbox_reset_receiver(inbox, receiver, EMSGSIZE);
	return 1;
}

int inbox_front(struct inbox *inbox, struct inbox_front *front, bool *unknown_channel)
{
	*unknown_channel = false;
	for (;;) {
		struct receiver *receiver;
		struct assembly *part;
		bool whole = false; /* the message lies in this frame as a whole */
		int r;

		if (inbox->frame_left == 0) {
			r = next_frame(inbox);
			if (r <= 0)
				return r;
		}
		if (!inbox->receiver && !inbox->frame_stale)
			inbox->receiver = channel_table_find(&inbox->by_number, inbox->frame_channel);
		receiver = inbox->receiver;
		if (!receiver && !inbox->frame_stale) {
			*unknown_channel = true;
			return 0;
		}
		if (!receiver || receiver->state != RECEIVER_OPEN) {
			inbox_skip_frame(inbox);
			continue;
		}
		/* Frames carry multiples of 8 bytes, so a state word never straddles two of them. */
		if (inbox->frame_left % 8 != 0) {
			r = inbox_reset_receiver(inbox, receiver, EPROTO);
			if (r < 0)
				return r;
			continue;
		}
		part = &receiver->part;
		if (part->at == 0) {
			r = read_head(inbox, receiver);
			if (r < 0)
				return r;
			if (r == 0)
				continue;
			whole = message_span(assembly_size(part)) <= inbox->frame_left;
			if (!whole) {
				if (assembly_begin(part, inbox->pool, inbox->frame_left - MESSAGE_HEAD_SIZE) <
				    0)
					return -ENOMEM;
				consume(inbox, receiver, MESSAGE_HEAD_SIZE);
			}
		}
		r = whole ? 1 : continue_part(inbox, receiver);
		if (r > 0) {
			*front = (struct inbox_front){receiver, receiver->binding, assembly_size(part),
						      assembly_has_block(part)};
			if (!receiver->binding->drains)
				return 1;
			r = inbox_refuse_request(inbox, front);
		}
		if (r < 0)
			return r;
	}
}

bool inbox_front_quick(struct inbox *inbox, struct inbox_front *front)
{
	struct receiver *receiver = inbox->receiver;
	uint8_t copy[MESSAGE_HEAD_SIZE];
	const uint8_t *at;
	uint64_t head;
	uint32_t size;

	if (inbox->frame_left < MESSAGE_HEAD_SIZE || inbox->frame_left % 8 || !receiver ||
	    receiver->state != RECEIVER_OPEN || receiver->part.at)
		return false;
	at = ring_reader_piece(&inbox->transport->deliveries, MESSAGE_HEAD_SIZE);
	if (!at)
		return false;
	untrusted_copy(copy, at, sizeof(copy));
	head = get_u64(copy);
	size = (uint32_t)head;
	if (receiver->replies || head >> 32 != MESSAGE_PLAIN || size > inbox->transport->max_message ||
	    message_span(size) > inbox->frame_left)
		return false;
	*front = (struct inbox_front){receiver, receiver->binding, size, false};
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

/* Returns how many bytes lie in the ring before the trailer of the message at the front. */
static uint32_t before_trailer(const struct inbox_front *front)
{
	return front->receiver->part.message ? 0 : (uint32_t)message_span(front->size) - MESSAGE_TRAILER_SIZE;
}

/* Copies the block of properties that stands before the payload of a message that lies in the ring as a
 * whole. Returns its length, or -EPROTO: it makes no sense. */
static int copy_block(struct inbox *inbox, const struct inbox_front *front, uint8_t block[PROPERTIES_MAX],
		      struct properties *properties)
{
	const struct ring_reader *ring = &inbox->transport->deliveries;
	int length, r;

	if (front->size < PROPERTIES_HEAD)
		return -EPROTO;
	ring_reader_copy(ring, MESSAGE_HEAD_SIZE, block, PROPERTIES_HEAD);
	length = properties_length(block, front->size);
	if (length < 0)
		return length;
	ring_reader_copy(ring, MESSAGE_HEAD_SIZE, block, (uint32_t)length);
	r = properties_decode(block, (uint32_t)length, properties);
	return r < 0 ? r : length;
}

/* Makes a message for what lies in the ring as a whole, behind `before` bytes of properties, where it is lent
 * if `lends`. Returns NULL if memory has run out. */
static inline struct xenmsg_message *make_whole(struct inbox *inbox, uint32_t size, uint32_t before,
						bool lends)
{
	struct xenmsg_message *message = message_new(inbox->pool, lends ? 0 : size);

	if (message && lends && !inbox_lend(inbox, message, size, MESSAGE_HEAD_SIZE + before) &&
	    message_grow(message, size, size) < 0) {
		xenmsg_message_free(message);
		message = NULL;
	}
	return message;
}

/* Does the same for one with properties. Returns 0, -ENOMEM, or -EPROTO. */
static __attribute__((noinline)) int make_with_block(struct inbox *inbox, const struct inbox_front *front,
						     bool lends, struct xenmsg_message **made,
						     uint32_t *before)
{
	struct properties properties;
	uint8_t block[PROPERTIES_MAX];
	int length = copy_block(inbox, front, block, &properties);
	struct xenmsg_message *message;

	if (length < 0)
		return length;
	if (properties.notice.kind && front->size > (uint32_t)length)
		return -EPROTO; /* a notice has no payload */
	message = make_whole(inbox, front->size - (uint32_t)length, (uint32_t)length, lends);
	if (!message || message_set_properties(message, &properties) < 0) {
		xenmsg_message_free(message);
		return -ENOMEM;
	}
	*made = message;
	*before = (uint32_t)length;
	return 0;
}

int inbox_take(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **taken)
{
	struct receiver *receiver = front->receiver;
	struct ring_reader *ring = &inbox->transport->deliveries;
	struct xenmsg_message *message = receiver->part.message;
	bool whole = !message, lends;
	uint32_t before = before_trailer(front), block = 0;
	uint8_t number[4];
	uint32_t sent = htole32(MESSAGE_SENT);
	bool mine;
	int r = 0;

	/* FIN, if it has come, is answered when the last one is taken: nothing may be held then. */
	lends = whole && front->binding->lends &&
		!(receiver->fin && receiver->taken + message_span(front->size) >= receiver->total);
	if (front->has_block)
		r = whole ? make_with_block(inbox, front, lends, &message, &block)
			  : message_take_block(message);
	else if (whole)
		message = make_whole(inbox, front->size, 0, lends);
	if (r < 0)
		return r == -EPROTO ? inbox_reset_receiver(inbox, receiver, EPROTO) : r;
	if (!message)
		return -ENOMEM;
	mine = !was_cancelled(receiver, receiver->taken + before) &&
	       __atomic_compare_exchange_n(ring_reader_word(ring, before), &sent, htole32(MESSAGE_TAKEN),
					   false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	if (whole) {
		if (mine && !message->lent)
			ring_reader_copy(ring, MESSAGE_HEAD_SIZE + block, message->data, front->size - block);
		message->size = front->size - block;
	}
	if (mine)
		fill_in(receiver, message);
	message->offset = receiver->taken + before;
	ring_reader_copy(ring, before + 4, number, sizeof(number));
	assembly_take(&receiver->part);
	consume(inbox, receiver, before + MESSAGE_TRAILER_SIZE);
	if (!mine) {
		xenmsg_message_free(message);
		/* The state is neither sent nor cancelled: the writer has violated the protocol. */
		if (sent != htole32(MESSAGE_SENT) && sent != htole32(MESSAGE_CANCELLED))
			return inbox_reset_receiver(inbox, receiver, EPROTO);
	} else {
		r = receiver->replies ? replies_add(receiver->replies, message, get_u32(number)) : 0;
		if (r < 0) {
			xenmsg_message_free(message);
			return inbox_reset_receiver(inbox, receiver, (uint32_t)-r);
		}
		tell_taken(inbox, receiver, message);
		*taken = message;
	}
	if (!receiver->fin)
		return mine;
	r = inbox_end_if_finished(inbox, receiver);
	/* -ENOMEM would say that it wasn't taken. It was, and the channel's end can't be said. */
	return r == -ENOMEM ? -EPROTO : r < 0 ? r : mine;
}

int inbox_peek(struct inbox *inbox, const struct inbox_front *front, struct xenmsg_message **copy)
{
	struct receiver *receiver = front->receiver;
	struct ring_reader *ring = &inbox->transport->deliveries;
	const struct xenmsg_message *part = receiver->part.message;
	uint32_t before = before_trailer(front);
	uint64_t offset = receiver->taken + before;
	bool sent =
		__atomic_load_n(ring_reader_word(ring, before), __ATOMIC_ACQUIRE) == htole32(MESSAGE_SENT);
	struct xenmsg_message *message;

	if (receiver->replies)
		return -EPROTOTYPE;
	for (uint32_t i = 0; i < receiver->cancelled_count; i++)
		sent = sent && receiver->cancelled[i] != offset;
	if (!sent)
		return inbox_take(inbox, front, copy);
	message = message_new(inbox->pool, front->size);
	if (!message)
		return -ENOMEM;
	if (part)
		memcpy(message->data, part->data, front->size);
	else
		ring_reader_copy(ring, MESSAGE_HEAD_SIZE, message->data, front->size);
	message->size = front->size;
	if (front->has_block) {
		int r = message_take_block(message);

		if (r < 0) {
			xenmsg_message_free(message);
			return r == -EPROTO ? inbox_reset_receiver(inbox, receiver, EPROTO) : r;
		}
	}
	message->offset = offset;
	fill_in(receiver, message);
	*copy = message;
	return 1;
}

bool inbox_is_front(const struct inbox_front *front, const struct xenmsg_message *copy)
{
	return front->receiver->origin == copy->origin &&
	       front->receiver->taken + before_trailer(front) == copy->offset;
}

/* ---- what stays in the ring ----------------------------------------------------------------- */

/* Messages that stay in the ring while the program has them, and what becomes of them when it has them for
 * too long. */

#define PAUSE_MIN 16u
#define PAUSE_MAX 4096u

static void note_held(struct inbox *inbox)
{
	inbox->transport->holds = inbox->held != NULL;
	if (inbox->held)
		inbox->transport->held_at = inbox->held->begin;
}

/* Puts private pages in place of those of the first held message, and of those that follow it closely. */
static int keep_some(struct inbox *inbox)
{
	struct xenmsg_message *message = inbox->held, *last = message;
	uint8_t *from = message->lent, *to = from + message->size;
	int r;

	while ((last = last->held_next) && last->mirror == message->mirror && last->lent >= to &&
	       last->lent - to < LEND_MIN)
		to = last->lent + last->size;
	r = mirror_keep(message->mirror, from, (uint32_t)(to - from));
	if (r < 0)
		return r;
	if (inbox->mirror == message->mirror) {
		mirror_release(inbox->mirror);
		inbox->mirror = NULL;
	}
	while (inbox->held != last) {
		message = inbox->held;
		DL_DELETE2(inbox->held, message, held_prev, held_next);
		message->holds = false;
	}
	note_held(inbox);
	return 0;
}

/* Lets the program keep what it holds of the ring, in private pages. Returns 0; or -ENOMEM: some of it is
 * still held. */
int inbox_keep_held(struct inbox *inbox)
{
	uint32_t pause = inbox->lend_pause * 2;
	int r = 0;

	if (!inbox->held)
		return 0;
	inbox->lend_pause = inbox->lend_later = pause < PAUSE_MIN   ? PAUSE_MIN
						: pause > PAUSE_MAX ? PAUSE_MAX
								    : pause;
	while (r == 0 && inbox->held)
		r = keep_some(inbox);
	return r;
}

/* Lends the message whose payload begins `offset` bytes behind the front of the ring. Returns false if it is
 * to be copied. */
bool inbox_lend(struct inbox *inbox, struct xenmsg_message *message, uint32_t size, uint32_t offset)
{
	struct transport *transport = inbox->transport;
	const struct ring_reader *ring = &transport->deliveries;
	uint32_t begin = ring->tail;

	if (!transport->shared || size < LEND_MIN || size > ring->ring.size / 4)
		return false;
	if (inbox->lend_later) {
		inbox->lend_later--;
		return false;
	}
	if (inbox->held && begin - transport->held_at + size > ring->ring.size / 2) {
		inbox_keep_held(inbox);
		return false;
	}
	if (inbox->mirror && inbox->mirror_of != transport->memories) { /* the ring lies elsewhere now */
		mirror_release(inbox->mirror);
		inbox->mirror = NULL;
	}
	if (!inbox->mirror) {
		inbox->mirror = mirror_new(&ring->ring);
		inbox->mirror_of = transport->memories;
	}
	if (!inbox->mirror) {
		inbox->lend_later = PAUSE_MAX;
		return false;
	}
	message->begin = begin;
	message->lent = mirror_at(inbox->mirror, begin + offset);
	message->mirror = inbox->mirror;
	message->holds = true;
	mirror_use(message->mirror);
	DL_APPEND2(inbox->held, message, held_prev, held_next);
	note_held(inbox);
	return true;
}

void inbox_take_back(struct inbox *inbox, struct xenmsg_message *message)
{
	DL_DELETE2(inbox->held, message, held_prev, held_next);
	message->holds = false;
	note_held(inbox);
	inbox->lend_pause /= 2;
	inbox->unreported +=
		(uint32_t)message->size; /* it may have been reported that nothing more was taken */
	/* Behind a RESET that isn't published yet, nothing is released. */
	if (!inbox->reset_sent)
		transport_release_quietly(inbox->transport);
}
