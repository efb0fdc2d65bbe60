/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_SENDER_H
#define XENMSG_LIBCLIENT_SENDER_H

/*
 * One stream that goes out: the offsets of its bytes, those that are not in the ring yet, and the messages
 * that have no outcome yet. It is a channel of the outbox, or the replies on a channel of the inbox. Offsets
 * count from the channel's start:
 *
 *   consumed ≤ framed ≤ accepted     taken by the receiver ≤ put into the ring ≤ promised to the program
 */

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "libclient/fifo.h"
#include "libclient/transport.h"
#include "libclient/pieces.h"
#include "wire/address.h"
#include "xenmsg.h"

struct caller;

enum sender_state {
	SENDER_OPENING,
	SENDER_OPEN,
	SENDER_CLOSING,
	SENDER_RESET_SENT,
};

/* A message without an outcome. It begins where the one before it ends. */
struct op {
	uint64_t end;
	xenmsg_done done; /* NULL: nobody wants to know */
	void *userdata;
	/* CANCEL was sent: only its answer decides, since `consumed` passes skipped messages too */
	bool cancelling;
	bool internal; /* `done` is ours: called at once, it does nothing to the outbox */
};

struct sender {
	char address[DOMAIN_NAME_MAX + 1 + ENDPOINT_NAME_MAX + 1];
	UT_hash_handle hh;
	struct sender *prev, *next; /* in the list of the ready */
	bool ready;
	enum sender_state state;
	enum channel_kind kind;
	bool fin_received;
	uint32_t number;
	uint64_t framed, accepted, limit, consumed;
	uint64_t hold;	  /* don't frame from here: a message that may be too large, until OPENED tells */
	uint64_t settled; /* end of the last op that got its outcome */
	uint64_t max_message;
	uint64_t used;	   /* outbox->clock when it was used last */
	struct fifo queue; /* the bytes from `framed` to `accepted` */
	struct op *ops;	   /* a ring */
	uint32_t ops_head, ops_count, ops_capacity;
	uint32_t ops_framed; /* how many of them, from the head, are wholly in the ring */
	/* of a channel of kind call */
	struct caller *caller; /* who gets what comes back; NULL: nobody */
	uint32_t awaited;      /* answers that are still to come: it isn't idle */
	uint64_t taken;	       /* bytes of the stream of answers that have come */
};

static inline struct op *sender_op(const struct sender *sender, uint32_t index)
{
	return &sender->ops[(sender->ops_head + index) & (sender->ops_capacity - 1)];
}

/* How far the stream may go into the ring now. */
static inline uint64_t sender_budget(const struct sender *sender)
{
	uint64_t end = sender->limit < sender->hold ? sender->limit : sender->hold;

	return end > sender->framed ? (end - sender->framed) & ~(uint64_t)7 : 0;
}

/* For most messages there is room. */
static inline bool sender_has_room_for_op(const struct sender *sender)
{
	return sender->ops_count < sender->ops_capacity;
}

/* The first `count` have their outcome. */
static inline void sender_drop_ops(struct sender *sender, uint32_t count)
{
	if (count == 0)
		return;
	sender->settled = sender_op(sender, count - 1)->end;
	sender->ops_head += count;
	sender->ops_count -= count;
	sender->ops_framed -= count < sender->ops_framed ? count : sender->ops_framed;
}

struct sender *sender_new(const char *address, uint32_t number, enum channel_kind kind);
void sender_free(struct sender *sender);
/* Makes room for one more op. -ENOMEM. */
int sender_grow_ops(struct sender *sender);
/* After `framed` has moved. Returns how many messages ended in what was framed. */
uint16_t sender_count_framed(struct sender *sender);

/* Puts a message into the ring as a frame of its own, if it is small and nothing stands in its way. */
bool sender_frame_small(struct sender *sender, struct transport *transport,
			const struct message_pieces *pieces);
/* Puts as much of a message into the ring as credit and space allow. Returns the number of bytes, or
 * -EPROTO. */
int64_t sender_frame_pieces(struct sender *sender, struct transport *transport,
			    const struct message_pieces *pieces);
/* Appends what follows byte `from` to the queue, for which the room was reserved. */
void sender_queue_pieces(struct sender *sender, const struct message_pieces *pieces, uint64_t from);
/* Puts one frame from the queue into the ring. 1: done; 0: no room for it, *want_space says how much it
 * takes; -EPROTO. */
int sender_frame_queue(struct sender *sender, struct transport *transport, uint32_t *want_space);

#endif
