/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_ASSEMBLY_H
#define XENMSG_LIBCLIENT_ASSEMBLY_H

/*
 * A message that is assembled from the bytes of a stream as they arrive (protocol.md, section 2.1): head,
 * payload with padding, trailer. All zero: none has begun.
 *
 * The caller fills `head` and begins the message, if the head makes sense. Then it adds the bytes up to the
 * trailer, and the trailer, unless that stays where it is.
 */

#include <stdint.h>
#include <string.h>

#include "libclient/message.h"
#include "wire/bytes.h"
#include "wire/frame.h"

/* A message as it lies in a channel's stream (protocol.md, section 2.1), with its payload still in the
 * program's memory. */

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

struct assembly {
	uint64_t at;			/* how many bytes have come */
	uint64_t trailer_at;		/* where the trailer begins, once the message has begun */
	struct xenmsg_message *message; /* NULL: the payload is skipped */
	uint8_t head[MESSAGE_HEAD_SIZE], trailer[MESSAGE_TRAILER_SIZE];
};

/* These are valid once the head is complete. */
static inline uint32_t assembly_size(const struct assembly *assembly)
{
	return get_u32(assembly->head);
}

static inline uint8_t assembly_type(const struct assembly *assembly)
{
	return assembly->head[4];
}

static inline bool assembly_has_block(const struct assembly *assembly)
{
	return assembly_type(assembly) & MESSAGE_PROPERTIES;
}

static inline struct message_error assembly_error(const struct assembly *assembly)
{
	return (struct message_error){.number = get_u16(assembly->head + 6),
				      .exit_status = assembly->head[5]};
}

/* Begins a message whose head is complete. Its payload is kept in a message that grows as the bytes arrive,
 * so that a head alone costs nothing; `here` bytes of it have arrived already. Returns 0, or -ENOMEM if it
 * couldn't begin. */
int assembly_begin(struct assembly *assembly, struct message_pool *pool, uint32_t here);
/* Begins a message whose payload isn't kept. */
void assembly_skip(struct assembly *assembly);

/* Returns how many bytes are missing up to the trailer. */
static inline uint64_t assembly_wants(const struct assembly *assembly)
{
	return assembly->trailer_at - assembly->at;
}

/* Adds the next bytes, no more than assembly_wants(). Returns 0 or -ENOMEM. */
int assembly_add(struct assembly *assembly, const void *data, uint32_t size);
/* Gives the message to the caller, and gets ready for the next one. */
static inline struct xenmsg_message *assembly_take(struct assembly *assembly)
{
	struct xenmsg_message *message = assembly->message;

	assembly->message = NULL;
	assembly->at = assembly->trailer_at = 0;
	return message;
}
void assembly_drop(struct assembly *assembly);

#endif
