/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_PIECES_H
#define XENMSG_LIBCLIENT_PIECES_H

/* A message as it lies in a channel's stream (protocol.md, section 2.1), with its payload still in the
 * program's memory. */

#include <stdint.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/frame.h"

struct message_pieces {
	uint64_t head;
	const void *data;
	uint64_t size;
	uint64_t trailer;
	const void *block; /* properties, which stand before the payload */
	uint64_t block_size;
};

static inline struct message_pieces message_pieces(const void *data, size_t size)
{
	return (struct message_pieces){.head = size, .data = data, .size = size, .trailer = MESSAGE_SENT};
}

static inline uint64_t message_pieces_span(const struct message_pieces *pieces)
{
	return message_span(pieces->size + pieces->block_size);
}

/* Adds a block of properties, which stays where it is. */
static inline void message_pieces_add(struct message_pieces *pieces, const void *block, uint32_t size)
{
	pieces->block = block;
	pieces->block_size = size;
	pieces->head += size | (uint64_t)MESSAGE_PROPERTIES << 32;
}

/* What MESSAGE_ERROR says; all zero in other messages. */
struct message_error {
	uint16_t number;
	uint8_t exit_status; /* of the command that was run for the call; 0: none */
};

/* Marks the message as part of a call. */
static inline void message_pieces_mark(struct message_pieces *pieces, enum message_type type,
				       struct message_error error, uint32_t number)
{
	pieces->head |=
		(uint64_t)type << 32 | (uint64_t)error.exit_status << 40 | (uint64_t)error.number << 48;
	pieces->trailer |= (uint64_t)number << 32;
}

/* Writes the whole message, of `span` bytes: message_pieces_span(); to memory that may be shared: nothing is
 * read back. */
static inline void message_pieces_write(const struct message_pieces *pieces, uint64_t span, uint8_t *at)
{
	uint8_t *trailer = at + span - MESSAGE_TRAILER_SIZE;

	put_u64(trailer - 8, 0); /* writes the padding, together with the bytes before it in the same word */
	put_u64(at, pieces->head);
	at += MESSAGE_HEAD_SIZE;
	if (pieces->block_size)
		memcpy(at, pieces->block, pieces->block_size);
	if (pieces->size)
		memcpy(at + pieces->block_size, pieces->data, pieces->size);
	put_u64(trailer, pieces->trailer);
}

#endif
