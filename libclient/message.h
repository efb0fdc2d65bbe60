/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MESSAGE_H
#define XENMSG_LIBCLIENT_MESSAGE_H

/*
 * Received messages, and the pool that keeps freed ones for reuse, so that steady traffic allocates nothing.
 * The pool outlives the connection until the program has freed its last message.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "libclient/helpers.h"
#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame.h"
#include "wire/properties.h"
#include "wire/ring.h"
#include "xenmsg.h"

/* ---- where one lies in the ring ----------------------------------------------------------- */

/*
 * A second mapping of a ring's bytes, twice in a row, in which a part that wraps around the ring's end lies
 * in one piece. What the program is lent of a ring lies there. If the ring must go on while the program still
 * has it, mirror_keep() puts private pages with the same content in its place: the program's pointers stay
 * valid, and the ring has lent nothing any more. Such a mirror isn't lent from again; its owner makes
 * another.
 *
 * The owner and each borrower release a mirror, in any order. A child made by fork() has no mirrors: it
 * releases them without touching what lay there.
 */

#define LEND_MIN      4096u  /* bytes: less is copied faster than it is lent */
#define LEND_RING_MIN 65536u /* of smaller rings nothing is lent */

struct mirror {
	uint8_t *base;
	uint32_t size; /* of the ring; the mirror has twice as much */
	unsigned users;
	pid_t pid; /* in which it lies */
};

/* Returns a mirror with one user, or NULL if there can't be one: the ring is small or isn't made of whole
 * pages, or there is no memory. */
struct mirror *mirror_new(const struct ring_view *ring);
void mirror_use(struct mirror *mirror);
/* NULL is allowed. */
void mirror_release(struct mirror *mirror);
/* Returns where the byte at this position of the ring lies. As many as the ring has follow it. */
static inline uint8_t *mirror_at(const struct mirror *mirror, uint32_t position)
{
	return mirror->base + (position & (mirror->size - 1));
}
/* Puts private pages in place of those that contain these `size` bytes. Returns 0, or -ENOMEM: nothing has
 * changed. */
int mirror_keep(struct mirror *mirror, const uint8_t *at, uint32_t size);

/* ---- messages ----------------------------------------------------------------------------- */

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
/* Its domain has this number and name now. */
void peer_rename(struct xenmsg_peer *peer, uint32_t domid, struct frame_text domain_name);

struct replies;

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
	bool is_part, has_more;	     /* of a reply that comes in several messages; another one follows */
	uint32_t part;		     /* which one it is */
};

/* Makes a pool. Returns NULL if memory has run out. */
struct message_pool *message_pool_new(struct xenmsg *conn, message_abandon abandon,
				      message_give_back give_back);
/* Appends another one's payload. Returns 0 or -ENOMEM. */
int message_append(struct xenmsg_message *message, const struct xenmsg_message *more);
/* Detaches the pool from the connection. Messages that the program still holds stay valid. */
void message_pool_close(struct message_pool *pool);

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

/* Makes room for `size` bytes, of `most` in the end, and keeps the content. Returns 0 or -ENOMEM. */
static inline int message_grow(struct xenmsg_message *message, size_t size, size_t most)
{
	return size <= message->capacity ? 0 : message_enlarge(message, size, most);
}

/* Returns an empty message with room for `capacity` bytes, or NULL if memory has run out. It keeps its
 * origin. */
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

/* ---- assembly ----------------------------------------------------------------------------- */

/*
 * A message that is assembled from the bytes of a stream as they arrive (protocol.md, section 2.1): head,
 * payload with padding, trailer. All zero: none has begun.
 *
 * The caller fills `head` and begins the message, if the head makes sense. Then it adds the bytes up to the
 * trailer, and the trailer, unless that stays where it is.
 */

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
