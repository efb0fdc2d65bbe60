/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_ASSEMBLY_H
#define XENMSG_LIBCLIENT_ASSEMBLY_H

/*
 * A message that is put together from the bytes of a stream as they arrive (protocol.md, section 2.1): head,
 * payload with padding, trailer. All zero: none has begun.
 *
 * Who has filled `head` begins the message, if the head makes sense; then come the bytes up to the trailer, and
 * the trailer, unless that stays where it is.
 */

#include <stdint.h>

#include "libclient/message.h"

struct assembly {
	uint64_t at;			/* how many bytes have come */
	uint64_t trailer_at;		/* where the trailer begins, once the message has begun */
	struct xenmsg_message *message; /* NULL: the payload is skipped */
	uint8_t head[MESSAGE_HEAD_SIZE], trailer[MESSAGE_TRAILER_SIZE];
};

/* These are known when the head is there. */
static inline uint32_t assembly_size(const struct assembly *assembly)
{
	return get_u32(assembly->head);
}

static inline uint8_t assembly_type(const struct assembly *assembly)
{
	return assembly->head[4];
}

/* The head is there, and the payload is kept in a message that grows as the bytes arrive, so that a head alone
 * costs nothing; `here` of them have come already. -ENOMEM: it hasn't begun. */
int assembly_begin(struct assembly *assembly, struct message_pool *pool, uint32_t here);
/* The same, if the payload isn't to be kept. */
void assembly_skip(struct assembly *assembly);

/* How many bytes are missing up to the trailer. */
static inline uint64_t assembly_wants(const struct assembly *assembly)
{
	return assembly->trailer_at - assembly->at;
}

/* The next bytes, no more than it wants. -ENOMEM. */
int assembly_add(struct assembly *assembly, const void *data, uint32_t size);
/* Gives the message to the caller, and is ready for the next one. */
static inline struct xenmsg_message *assembly_take(struct assembly *assembly)
{
	struct xenmsg_message *message = assembly->message;

	assembly->message = NULL;
	assembly->at = assembly->trailer_at = 0;
	return message;
}
void assembly_drop(struct assembly *assembly);

#endif
