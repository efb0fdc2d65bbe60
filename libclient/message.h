/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MESSAGE_H
#define XENMSG_LIBCLIENT_MESSAGE_H

/*
 * Received messages, and the pool that keeps them for the next use, so that steady traffic allocates nothing.
 * The pool outlives the connection until the program has freed its last message.
 */

#include <stdbool.h>

#include <uthash.h>

#include "libclient/reply.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "xenmsg.h"

struct message_pool {
	struct xenmsg_message *unused;
	unsigned unused_count, out;
	bool closed;
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
	enum request_state request;
	uint32_t number;	 /* of the call */
	struct replies *replies; /* where the reply goes, while the request is OPEN */
	UT_hash_handle hh;	 /* in replies->requests */
};

struct message_pool *message_pool_new(void);
/* Messages that are still out there stay valid. */
void message_pool_close(struct message_pool *pool);

/* An empty message with room for `capacity` bytes. It still has its origin. NULL: no memory. */
static inline struct xenmsg_message *message_new(struct message_pool *pool, size_t capacity);
/* Makes room for `size` bytes, of `most` in the end; what is there is kept. -ENOMEM. */
int message_grow(struct xenmsg_message *message, size_t size, size_t most);

/* Of message_new(), where none is unused or that one has no room. */
struct xenmsg_message *message_make(struct message_pool *pool, size_t capacity);

static inline struct xenmsg_message *message_new(struct message_pool *pool, size_t capacity)
{
	struct xenmsg_message *message = pool->unused;

	if (!message || message->capacity < capacity)
		return message_make(pool, capacity);
	pool->unused = message->next;
	pool->unused_count--;
	pool->out++;
	message->size = 0;
	message->request = REQUEST_NONE;
	return message;
}

#endif
