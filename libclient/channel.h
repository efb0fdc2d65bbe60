/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CHANNEL_H
#define XENMSG_LIBCLIENT_CHANNEL_H

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
#include "libclient/hop.h"
#include "libclient/call.h"
#include "libclient/pieces.h"
#include "wire/address.h"
#include "xenmsg.h"

enum channel_state {
	CHANNEL_OPENING,
	CHANNEL_OPEN,
	CHANNEL_CLOSING,
	CHANNEL_RESET_SENT,
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

struct channel {
	char address[DOMAIN_NAME_MAX + 1 + ENDPOINT_NAME_MAX + 1];
	UT_hash_handle hh;
	struct channel *prev, *next; /* in the list of the ready */
	bool ready;
	enum channel_state state;
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
	struct channel_calls calls;
};

static inline struct op *channel_op(const struct channel *channel, uint32_t index)
{
	return &channel->ops[(channel->ops_head + index) & (channel->ops_capacity - 1)];
}

/* How far the stream may go into the ring now. */
static inline uint64_t channel_budget(const struct channel *channel)
{
	uint64_t end = channel->limit < channel->hold ? channel->limit : channel->hold;

	return end > channel->framed ? (end - channel->framed) & ~(uint64_t)7 : 0;
}

/* For most messages there is room. */
static inline bool channel_has_room_for_op(const struct channel *channel)
{
	return channel->ops_count < channel->ops_capacity;
}

/* The first `count` have their outcome. */
static inline void channel_drop_ops(struct channel *channel, uint32_t count)
{
	if (count == 0)
		return;
	channel->settled = channel_op(channel, count - 1)->end;
	channel->ops_head += count;
	channel->ops_count -= count;
	channel->ops_framed -= count < channel->ops_framed ? count : channel->ops_framed;
}

struct channel *channel_new(const char *address, uint32_t number, enum channel_kind kind);
void channel_free(struct channel *channel);
/* Makes room for one more op. -ENOMEM. */
int channel_grow_ops(struct channel *channel);
/* After `framed` has moved. Returns how many messages ended in what was framed. */
uint16_t channel_count_framed(struct channel *channel);

/* Puts a message into the ring as a frame of its own, if it is small and nothing stands in its way. */
bool channel_frame_small(struct channel *channel, struct hop *hop, const struct message_pieces *pieces);
/* Puts as much of a message into the ring as credit and space allow. Returns the number of bytes, or
 * -EPROTO. */
int64_t channel_frame_pieces(struct channel *channel, struct hop *hop, const struct message_pieces *pieces);
/* Appends what follows byte `from` to the queue, for which the room was reserved. */
void channel_queue_pieces(struct channel *channel, const struct message_pieces *pieces, uint64_t from);
/* Puts one frame from the queue into the ring. 1: done; 0: no room for it, *want_space says how much it
 * takes; -EPROTO. */
int channel_frame_queue(struct channel *channel, struct hop *hop, uint32_t *want_space);

#endif
