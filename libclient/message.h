/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MESSAGE_H
#define XENMSG_LIBCLIENT_MESSAGE_H

/*
 * Received messages, and the pool that keeps freed ones for reuse, so that steady traffic allocates nothing.
 * The pool outlives the connection until the program has freed its last message.
 */

#include <stdbool.h>

#include "libclient/numbers.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/properties.h"
#include "xenmsg.h"

/* The other end of a message or a stream, as a program asks for it. */

struct xenmsg_peer {
	struct frame_identity identity;
	char endpoint[ADDRESS_MAX +
		      1]; /* that it has sent to, or opened a stream to; or the address of a topic */
	char domain_name[DOMAIN_NAME_MAX + 1]; /* "": unknown */
	char host[HOST_NAME_SIZE];	       /* "": this one */
	uint16_t serial; /* of its channel, for its name in traces; 0: that isn't known, or it has none */
};

/* Sets *peer as a daemon's frame has it. Returns 0, or -EPROTO: it isn't an endpoint. */
int peer_set(struct xenmsg_peer *peer, const struct frame_identity *identity, struct frame_text endpoint,
	     struct frame_text domain_name, struct frame_text host);

struct replies;
struct mirror;

/*
 * Says whether a message that the program holds is the request of a call, and what became of its reply:
 *
 *   OWED ──reply or error (also that of freeing it)──▶ SENT
 *   OWED ──withdrawn by the caller, the channel or the connection ends──▶ LOST
 *
 * The message refers to its connection only while the reply is OWED, so a request may outlive the connection.
 */
enum reply_state {
	REPLY_NONE, /* it is a plain message, which has no reply */
	REPLY_OWED,
	REPLY_SENT,
	REPLY_LOST,
};

/* Called when the program frees a request whose reply is owed; afterwards it is owed no more. */
typedef void (*message_abandon)(struct xenmsg *conn, struct xenmsg_message *request);
/* Called when the program frees a message that holds a part of the ring. */
typedef void (*message_give_back)(struct xenmsg *conn, struct xenmsg_message *message);

struct message_pool {
	struct xenmsg_message *unused;
	struct xenmsg_message *withdrawn; /* utlist: calls of which the program is to be told */
	unsigned unused_count, out;
	struct xenmsg *conn; /* NULL: it was closed */
	message_abandon abandon;
	message_give_back give_back;
};

struct xenmsg_message {
	struct message_pool *pool;   /* NULL: detached from it */
	struct xenmsg_message *next; /* in the pool */
	uint8_t *data;		     /* memory of its own */
	size_t size, capacity;
	size_t skipped; /* bytes there before the payload; 0 unless there are properties */
	uint8_t *lent;	/* where the payload lies instead, in `mirror`; else NULL */
	struct mirror *mirror;
	/* While it holds a part of the ring, from `begin` on, it is in inbox->held. */
	bool holds;
	uint32_t begin;
	struct xenmsg_message *held_prev, *held_next;
	uint64_t origin; /* the owner's number for the sender that the following fields describe; 0: none */
	struct xenmsg_peer sender;
	enum reply_state reply;
	struct numbered numbered; /* of the call, in replies->requests */
	uint64_t offset;	  /* where its state word lies in the stream */
	struct replies *replies;  /* where the reply goes, while it is owed */
	bool has_properties;
	struct message_properties *properties; /* kept for the next message, too; NULL: it never had some */
	/* Called when its reply gets LOST: then it is in pool->withdrawn until that was done. NULL: nobody
	 * wants to know. */
	xenmsg_withdrawn withdrawn;
	void *withdrawn_userdata;
	bool is_due;
	struct xenmsg_message *due_prev, *due_next;
};

/* What came with a message beside its payload. */
struct message_properties {
	int64_t deadline; /* deadline.h: until when an answer is wanted; -1: without an end */
	char trace[TRACE_MAX + 1], key[TRACE_MAX + 1];
	struct xenmsg_notice notice; /* of a topic's daemon; its kind is 0: there is none */
};

/* Makes a pool. Returns NULL if memory has run out. */
struct message_pool *message_pool_new(struct xenmsg *conn, message_abandon abandon,
				      message_give_back give_back);
/* Detaches the pool from the connection. Messages that the program still holds stay valid. */
void message_pool_close(struct message_pool *pool);

/* Returns an empty message with room for `capacity` bytes, or NULL if memory has run out. It keeps its
 * origin. */
static inline struct xenmsg_message *message_new(struct message_pool *pool, size_t capacity);
/* Makes room for `size` bytes, of `most` in the end, and keeps the content. Returns 0 or -ENOMEM. */
static inline int message_grow(struct xenmsg_message *message, size_t size, size_t most);

/* The slow path of message_new(), when no message is unused or that one is too small, and of
 * message_grow(). */
struct xenmsg_message *message_make(struct message_pool *pool, size_t capacity);
int message_enlarge(struct xenmsg_message *message, size_t size, size_t most);

/* Gives the message its properties. Returns 0, or -ENOMEM: nothing has changed. */
int message_set_properties(struct xenmsg_message *message, const struct properties *properties);
/* Takes the block of properties that stands before the payload in the message's own memory. Returns 0,
 * -EPROTO: it makes no sense, or -ENOMEM: nothing has changed. */
int message_take_block(struct xenmsg_message *message);

/* Notes that its reply got LOST, so that message_tell_withdrawn() tells. */
void message_note_lost(struct xenmsg_message *message);
/* Calls back for up to `budget` calls whose answer is no longer wanted. Returns for how many. */
int message_tell_withdrawn(struct message_pool *pool, int budget, const bool *stop);

/* Takes the message out of its pool. Returns as xenmsg_message_detach(). */
int message_detach(struct xenmsg_message *message);

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
