/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/bytes.h"

/* A frame for the last few bytes of space in the ring costs more than it brings, unless that is all there is
 * to send. */
#define WORTHWHILE 4096u
#define SMALL_SPAN 512u

struct channel *channel_new(const char *address, uint32_t number, enum channel_kind kind)
{
	struct channel *channel = calloc(1, sizeof(*channel));

	if (!channel)
		return NULL;
	memcpy(channel->address, address, strlen(address) + 1);
	channel->number = number;
	channel->kind = kind;
	channel->limit = CHANNEL_INITIAL_LIMIT;
	channel->hold = UINT64_MAX;
	return channel;
}

void channel_free(struct channel *channel)
{
	call_drop_answer(channel);
	fifo_free(&channel->queue);
	free(channel->ops);
	free(channel);
}

int channel_grow_ops(struct channel *channel)
{
	uint32_t capacity = channel->ops_capacity ? channel->ops_capacity * 2 : 64;
	struct op *ops = malloc(capacity * sizeof(*ops));

	if (!ops)
		return -ENOMEM;
	for (uint32_t i = 0; i < channel->ops_count; i++)
		ops[i] = *channel_op(channel, i);
	free(channel->ops);
	channel->ops = ops;
	channel->ops_head = 0;
	channel->ops_capacity = capacity;
	return 0;
}

uint16_t channel_count_framed(struct channel *channel)
{
	uint32_t before = channel->ops_framed, count;

	while (channel->ops_framed < channel->ops_count &&
	       channel_op(channel, channel->ops_framed)->end <= channel->framed)
		channel->ops_framed++;
	count = channel->ops_framed - before;
	return count > UINT16_MAX ? 0 : (uint16_t)count;
}

/* Hands the bytes [from, from + size) of a message to `put`, piece by piece. */
typedef void (*put_bytes)(void *to, const void *data, uint32_t size);

static void put_range(const struct message_pieces *pieces, uint64_t from, uint64_t size, put_bytes put,
		      void *to)
{
	const uint64_t head = htole64(pieces->head), padding = 0, trailer = htole64(pieces->trailer);
	const struct {
		const void *data;
		uint64_t size;
	} parts[] = {
		{&head, MESSAGE_HEAD_SIZE},
		{pieces->data, pieces->size},
		{&padding, -pieces->size & 7u},
		{&trailer, MESSAGE_TRAILER_SIZE},
	};

	for (unsigned i = 0; i < 4 && size > 0; i++) {
		uint64_t n;

		if (from >= parts[i].size) {
			from -= parts[i].size;
			continue;
		}
		n = parts[i].size - from < size ? parts[i].size - from : size;
		put(to, (const uint8_t *)parts[i].data + from, (uint32_t)n);
		size -= n;
		from = 0;
	}
}

static void put_in_ring(void *to, const void *data, uint32_t size)
{
	ring_writer_put(to, data, size);
}

static void put_in_queue(void *to, const void *data, uint32_t size)
{
	fifo_append(to, data, size);
}

/* The size of the next frame's payload for `left` bytes, or 0: then *want_space says for how much room to
 * wait. */
static int64_t next_chunk(struct hop *hop, uint64_t left, uint32_t *want_space)
{
	uint32_t most = hop->out.ring.size - FRAME_HEADER_SIZE;
	uint64_t chunk = left < FRAME_PAYLOAD_MAX ? left : FRAME_PAYLOAD_MAX;
	int space;

	if (chunk > most)
		chunk = most;
	space = hop_space(hop, FRAME_HEADER_SIZE + (uint32_t)chunk);
	if (space < 0)
		return space;
	if ((uint32_t)space >= FRAME_HEADER_SIZE + chunk)
		return (int64_t)chunk;
	if ((uint32_t)space >= FRAME_HEADER_SIZE + WORTHWHILE)
		return ((uint32_t)space - FRAME_HEADER_SIZE) & ~7u;
	*want_space = FRAME_HEADER_SIZE + (chunk < WORTHWHILE ? (uint32_t)chunk : WORTHWHILE);
	return 0;
}

static void encode_header(const struct channel *channel, uint32_t length, uint16_t messages,
			  uint8_t out[FRAME_HEADER_SIZE])
{
	struct frame_header header = {
		.length = length, .type = FRAME_DATA, .channel = channel->number, .messages = messages};

	frame_header_encode(&header, out);
}

static void put_header(const struct channel *channel, struct hop *hop, uint32_t length, uint16_t messages)
{
	uint8_t raw[FRAME_HEADER_SIZE];

	encode_header(channel, length, messages, raw);
	ring_writer_put(&hop->out, raw, sizeof(raw));
}

static void write_frame(const struct channel *channel, const struct message_pieces *pieces, uint32_t span,
			uint8_t *at)
{
	encode_header(channel, span, 1, at);
	message_pieces_write(pieces, at + FRAME_HEADER_SIZE);
}

bool channel_frame_small(struct channel *channel, struct hop *hop, const struct message_pieces *pieces)
{
	uint64_t span = message_span(pieces->size);
	uint32_t size = FRAME_HEADER_SIZE + (uint32_t)span;
	uint8_t *at;

	if (span > SMALL_SPAN || span > channel_budget(channel) || fifo_size(&channel->queue) ||
	    fifo_size(&hop->backlog) || ring_writer_space(&hop->out, size) < (int)size)
		return false;
	at = ring_writer_room(&hop->out, size);
	if (at) {
		write_frame(channel, pieces, (uint32_t)span, at);
		ring_writer_advance(&hop->out, size);
	} else { /* about the ring's end */
		uint8_t frame[FRAME_HEADER_SIZE + SMALL_SPAN];

		write_frame(channel, pieces, (uint32_t)span, frame);
		ring_writer_put(&hop->out, frame, size);
	}
	channel->framed += span;
	return true;
}

int64_t channel_frame_pieces(struct channel *channel, struct hop *hop, const struct message_pieces *pieces)
{
	uint64_t span = message_span(pieces->size), done = 0;
	uint32_t want;

	while (done < span) {
		uint64_t budget = channel_budget(channel);
		int64_t chunk = next_chunk(hop, span - done < budget ? span - done : budget, &want);

		if (chunk <= 0) {
			if (chunk < 0)
				return chunk;
			break;
		}
		put_header(channel, hop, (uint32_t)chunk, done + (uint64_t)chunk == span);
		put_range(pieces, done, (uint64_t)chunk, put_in_ring, &hop->out);
		channel->framed += (uint64_t)chunk;
		done += (uint64_t)chunk;
		/* The daemon relays the first part while we copy the next. */
		if (done < span)
			hop_publish(hop);
	}
	return (int64_t)done;
}

void channel_queue_pieces(struct channel *channel, const struct message_pieces *pieces, uint64_t from)
{
	uint64_t span = message_span(pieces->size);

	if (from == 0)
		message_pieces_write(pieces, fifo_extend(&channel->queue, span));
	else
		put_range(pieces, from, span - from, put_in_queue, &channel->queue);
}

int channel_frame_queue(struct channel *channel, struct hop *hop, uint32_t *want_space)
{
	uint64_t left = fifo_size(&channel->queue), budget = channel_budget(channel);
	int64_t chunk = next_chunk(hop, left < budget ? left : budget, want_space);

	if (chunk <= 0)
		return (int)chunk;
	channel->framed += (uint64_t)chunk;
	put_header(channel, hop, (uint32_t)chunk, channel_count_framed(channel));
	ring_writer_put(&hop->out, fifo_front(&channel->queue), (uint32_t)chunk);
	fifo_drop(&channel->queue, (size_t)chunk);
	return 1;
}
