/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MESSAGE_H
#define XENMSG_LIBCLIENT_MESSAGE_H

/*
 * Received messages, and the pool that keeps them for the next use, so that steady traffic allocates nothing.
 * The pool outlives the connection until the program has freed its last message.
 */

#include <stdbool.h>

#include <uthash.h>

#include "wire/address.h"
#include "wire/frame.h"
#include "xenmsg.h"

struct replies;

/*
 * Whether a message that the program holds is a request of a call, and what became of its reply:
 *
 *   OWED ──reply or error (also that of freeing it)──▶ SENT
 *   OWED ──withdrawn by the caller, the channel or the connection ends──▶ LOST
 *
 * Only while it is OWED does the message refer to its connection; so a request may outlive that.
 */
enum reply_state {
	REPLY_NONE, /* it is a message, to which there is no reply */
	REPLY_OWED,
	REPLY_SENT,
	REPLY_LOST,
};

/* The program frees a request while the reply is owed: afterwards it isn't any more. */
typedef void (*message_abandon)(struct xenmsg *conn, struct xenmsg_message *request);

struct message_pool {
	struct xenmsg_message *unused;
	unsigned unused_count, out;
	struct xenmsg *conn; /* NULL: it was closed */
	message_abandon abandon;
};

struct xenmsg_message {
	struct message_pool *pool;
	struct xenmsg_message *next; /* in the pool */
	uint8_t *data;
	size_t size, capacity;
	uint64_t origin; /* of whom the following is known, as a number of its owner's; 0: nobody */
	struct frame_identity sender;
	char endpoint[ENDPOINT_NAME_MAX + 1];
	char sender_name[DOMAIN_NAME_MAX + 1];
	enum reply_state reply;
	uint32_t number;	 /* of the call */
	struct replies *replies; /* where the reply goes, while it is owed */
	UT_hash_handle hh;	 /* in replies->requests */
};

/* NULL: no memory. */
struct message_pool *message_pool_new(struct xenmsg *conn, message_abandon abandon);
/* Messages that are still out there stay valid. */
void message_pool_close(struct message_pool *pool);

/* An empty message with room for `capacity` bytes. It still has its origin. NULL: no memory. */
static inline struct xenmsg_message *message_new(struct message_pool *pool, size_t capacity);
/* Makes room for `size` bytes, of `most` in the end; what is there is kept. -ENOMEM. */
static inline int message_grow(struct xenmsg_message *message, size_t size, size_t most);

/* Of message_new(), where none is unused or that one has no room; and of message_grow(). */
struct xenmsg_message *message_make(struct message_pool *pool, size_t capacity);
int message_enlarge(struct xenmsg_message *message, size_t size, size_t most);

static inline int message_grow(struct xenmsg_message *message, size_t size, size_t most)
{
	return size <= message->capacity ? 0 : message_enlarge(message, size, most);
}

static inline struct xenmsg_message *message_new(struct message_pool *pool, size_t capacity)
{
	struct xenmsg_message *message = pool->unused;

	if (!message || message->capacity < capacity)
		return message_make(pool, capacity);
	pool->unused = message->next;
	pool->unused_count--;
	pool->out++;
	message->size = 0;
	message->reply = REPLY_NONE;
	return message;
}

#endif
