/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/frame_ring.h"

/* The least payload for which the last space in the ring is used, unless less is left to send: a frame for a
 * few bytes costs more than it gains. */
#define WORTHWHILE 4096u
#define SMALL_SPAN 512u

struct sender *sender_new(const char *address, uint32_t number, enum channel_kind kind)
{
	struct sender *sender = calloc(1, sizeof(*sender));

	if (!sender)
		return NULL;
	memcpy(sender->address, address, strlen(address) + 1);
	sender->number = number;
	sender->kind = kind;
	sender->limit = CHANNEL_INITIAL_LIMIT;
	sender->hold = UINT64_MAX;
	return sender;
}

void sender_free(struct sender *sender)
{
	fifo_free(&sender->queue);
	free(sender->ops);
	free(sender);
}

int sender_grow_ops(struct sender *sender)
{
	void *ops = circular_grow(sender->ops, sizeof(*sender->ops), sender->ops_head, sender->ops_count,
				  &sender->ops_capacity);

	if (!ops)
		return -ENOMEM;
	sender->ops = ops;
	sender->ops_head = 0;
	return 0;
}

struct op *sender_find_op(struct sender *sender, uint64_t end, uint32_t *index)
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

struct op *sender_find_of(struct sender *sender, const void *userdata, uint32_t *index)
{
	for (uint32_t i = sender->ops_count; i > 0; i--) {
		struct op *op = sender_op(sender, i - 1);

		if ((op->done || op->settled) && op->userdata == userdata) {
			*index = i - 1;
			return op;
		}
	}
	return NULL;
}

uint16_t sender_count_framed(struct sender *sender)
{
	uint32_t before = sender->ops_framed, count;

	while (sender->ops_framed < sender->ops_count &&
	       sender_op(sender, sender->ops_framed)->end <= sender->framed)
		sender->ops_framed++;
	count = sender->ops_framed - before;
	return count > UINT16_MAX ? 0 : (uint16_t)count;
}

/* Puts the bytes [from, from + size) of a message into the ring or, if `ring` is NULL, into the queue. */
static void put_range(const struct message_pieces *pieces, uint64_t from, uint64_t size,
		      struct ring_writer *ring, struct fifo *queue)
{
	const uint64_t head = htole64(pieces->head), padding = 0, trailer = htole64(pieces->trailer);
	const struct {
		const void *data;
		uint64_t size;
	} parts[] = {
		{&head, MESSAGE_HEAD_SIZE},	  {pieces->block, pieces->block_size},
		{pieces->data, pieces->size},	  {&padding, -pieces->size & 7u},
		{&trailer, MESSAGE_TRAILER_SIZE},
	};

	for (unsigned i = 0; i < 5 && size > 0; i++) {
		const uint8_t *at;
		uint64_t n;

		if (from >= parts[i].size) {
			from -= parts[i].size;
			continue;
		}
		at = (const uint8_t *)parts[i].data + from;
		n = parts[i].size - from < size ? parts[i].size - from : size;
		if (ring)
			ring_writer_put(ring, at, (uint32_t)n);
		else
			fifo_append(queue, at, n);
		size -= n;
		from = 0;
	}
}

/* Returns the size of the next frame's payload, for `left` bytes; 0 if there is no room: then *want_space is
 * how much room to wait for; or -EPROTO. */
static int64_t next_chunk(struct transport *transport, uint64_t left, uint32_t *want_space)
{
	uint32_t most = transport->out.ring.size - FRAME_HEADER_SIZE;
	uint64_t chunk = left < FRAME_PAYLOAD_MAX ? left : FRAME_PAYLOAD_MAX;
	int space;

	if (chunk > most)
		chunk = most;
	space = transport_space(transport, FRAME_HEADER_SIZE + (uint32_t)chunk);
	if (space < 0)
		return space;
	if ((uint32_t)space >= FRAME_HEADER_SIZE + chunk)
		return (int64_t)chunk;
	if ((uint32_t)space >= FRAME_HEADER_SIZE + WORTHWHILE)
		return ((uint32_t)space - FRAME_HEADER_SIZE) & ~7u;
	*want_space = FRAME_HEADER_SIZE + (chunk < WORTHWHILE ? (uint32_t)chunk : WORTHWHILE);
	return 0;
}

static struct frame_header data_header(const struct sender *sender, uint32_t length, uint16_t messages)
{
	return (struct frame_header){
		.length = length, .type = FRAME_DATA, .channel = sender->number, .messages = messages};
}

static void sender_write_frame(const struct sender *sender, const struct message_pieces *pieces,
			       uint32_t span, uint8_t *at)
{
	const struct frame_header header = data_header(sender, span, 1);

	frame_header_encode(&header, at);
	message_pieces_write(pieces, span, at + FRAME_HEADER_SIZE);
}

bool sender_frame_small(struct sender *sender, struct transport *transport,
			const struct message_pieces *pieces, uint64_t span)
{
	uint32_t size = FRAME_HEADER_SIZE + (uint32_t)span;
	uint8_t *at;

	if (span > SMALL_SPAN || span > sender_budget(sender) || fifo_size(&sender->queue) ||
	    fifo_size(&transport->backlog) || transport->lent_room ||
	    ring_writer_space(&transport->out, size) < (int)size)
		return false;
	at = ring_writer_room(&transport->out, size);
	if (at) {
		sender_write_frame(sender, pieces, (uint32_t)span, at);
		ring_writer_advance(&transport->out, size);
	} else { /* the frame wraps at the ring's end */
		uint8_t frame[FRAME_HEADER_SIZE + SMALL_SPAN];

		sender_write_frame(sender, pieces, (uint32_t)span, frame);
		ring_writer_put(&transport->out, frame, size);
	}
	sender->framed += span;
	return true;
}

uint8_t *sender_lend(const struct sender *sender, struct transport *transport, uint64_t size)
{
	uint64_t span = message_span(size);
	uint32_t frame = FRAME_HEADER_SIZE + (uint32_t)span;
	uint8_t *at;

	if (size < LEND_MIN || span > FRAME_PAYLOAD_MAX || transport->lent_room ||
	    !sender_can_frame(sender, transport, span) || frame > transport->out.ring.size / 2 ||
	    ring_writer_space(&transport->out, frame) < (int)frame)
		return NULL;
	at = transport_lend_room(transport, frame);
	return at ? at + FRAME_HEADER_SIZE + MESSAGE_HEAD_SIZE : NULL;
}

bool sender_can_frame(const struct sender *sender, const struct transport *transport, uint64_t span)
{
	return span <= sender_budget(sender) && fifo_size(&sender->queue) == 0 &&
	       fifo_size(&transport->backlog) == 0;
}

void sender_frame_lent(struct sender *sender, struct transport *transport, uint32_t size)
{
	const struct message_pieces pieces = message_pieces(NULL, size);
	uint32_t span = (uint32_t)message_span(size);
	const struct frame_header header = data_header(sender, span, 1);
	uint8_t *at = mirror_at(transport->out_mirror, transport->out.head);

	frame_header_encode(&header, at);
	at += FRAME_HEADER_SIZE;
	put_u64(at, pieces.head);
	memset(at + MESSAGE_HEAD_SIZE + size, 0, -size & 7u);
	put_u64(at + span - MESSAGE_TRAILER_SIZE, pieces.trailer);
	ring_writer_advance(&transport->out, FRAME_HEADER_SIZE + span);
	transport_end_loan(transport);
	sender->framed += span;
}

int64_t sender_frame_pieces(struct sender *sender, struct transport *transport,
			    const struct message_pieces *pieces)
{
	uint64_t span = message_pieces_span(pieces), done = 0;
	uint8_t raw[FRAME_HEADER_SIZE];
	uint32_t want;

	while (done < span) {
		uint64_t budget = sender_budget(sender);
		struct frame_header header;
		int64_t chunk = next_chunk(transport, span - done < budget ? span - done : budget, &want);

		if (chunk <= 0) {
			if (chunk < 0)
				return chunk;
			break;
		}
		header = data_header(sender, (uint32_t)chunk, done + (uint64_t)chunk == span);
		frame_header_encode(&header, raw);
		ring_writer_put(&transport->out, raw, sizeof(raw));
		put_range(pieces, done, (uint64_t)chunk, &transport->out, NULL);
		sender->framed += (uint64_t)chunk;
		done += (uint64_t)chunk;
		/* The daemon relays the first part while the next is copied. */
		if (done < span)
			transport_publish(transport);
	}
	return (int64_t)done;
}

void sender_queue_pieces(struct sender *sender, const struct message_pieces *pieces, uint64_t from)
{
	uint64_t span = message_pieces_span(pieces);

	if (from == 0)
		message_pieces_write(pieces, span, fifo_extend(&sender->queue, span));
	else
		put_range(pieces, from, span - from, NULL, &sender->queue);
}

int sender_frame_queue(struct sender *sender, struct transport *transport, uint32_t *want_space)
{
	uint64_t left = fifo_size(&sender->queue), budget = sender_budget(sender);
	int64_t chunk = next_chunk(transport, left < budget ? left : budget, want_space);
	struct frame_header header;

	if (chunk <= 0)
		return (int)chunk;
	sender->framed += (uint64_t)chunk;
	header = data_header(sender, (uint32_t)chunk, sender_count_framed(sender));
	frame_put(&transport->out, &header, fifo_front(&sender->queue));
	fifo_drop(&sender->queue, (size_t)chunk);
	return 1;
}
