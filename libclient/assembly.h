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

#include "libclient/message.h"
#include "libclient/pieces.h"

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
