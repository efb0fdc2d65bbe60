/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_SENDER_H
#define XENMSG_LIBCLIENT_SENDER_H

/*
 * One outgoing stream: its offsets, the bytes that are not in the ring yet, and the messages that have no
 * outcome yet. It is a channel of the outbox, or the replies on a channel of the inbox. Offsets count from
 * the channel's start:
 *
 *   consumed ≤ framed ≤ accepted     taken by the receiver ≤ put into the ring ≤ promised to the program
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/message.h"
#include "libclient/helpers.h"
#include "libclient/op.h"
#include "libclient/transport.h"
#include "wire/address.h"
#include "xenmsg.h"

struct call;
struct caller;

enum sender_state {
	SENDER_OPENING,
	SENDER_OPEN,
	SENDER_CLOSING,
	SENDER_RESET_SENT,
};

typedef void (*op_settled)(void *userdata, const struct op_result *result);

/* A message without an outcome. It starts where the one before it ends. */
struct op {
	uint64_t end;
	xenmsg_done done; /* NULL: the program doesn't want to know the outcome */
	/* the library's own, instead of `done`: called at once, and doesn't change the outbox */
	op_settled settled;
	void *userdata;
	/* CANCEL was sent: only its answer decides, since `consumed` passes skipped messages, too */
	bool cancelling;
	bool told; /* its outcome is known, though its bytes still lie before the receiver */
};

/* Returns whether the outcome goes to the list of settled messages. */
static inline bool op_is_reported(const struct op *op)
{
	return op->done != NULL;
}

struct sender {
	char address[ADDRESS_MAX + 1];
	UT_hash_handle hh;
	struct sender *prev, *next; /* in the list outbox->ready */
	bool ready;
	enum sender_state state;
	enum channel_kind kind;
	bool fin_received;
	bool has_identity;
	struct frame_identity identity; /* of the program there, likewise */
	uint32_t number;
	uint64_t framed, accepted, limit, consumed;
	/* framing stops here: of the next message OPENED will tell whether it is too large, or it has a
	 * deadline, and its outcome can't be known for certain once it was sent */
	uint64_t hold;
	uint64_t settled; /* end of the last op with an outcome */
	uint64_t max_message;
	uint64_t used;	   /* outbox->clock when it was used last */
	struct fifo queue; /* the bytes from `framed` to `accepted` */
	struct op *ops;	   /* a circular buffer */
	uint32_t ops_head, ops_count, ops_capacity;
	uint32_t ops_framed; /* how many ops, from the head, are entirely in the ring */
	/* only in a channel of kind call: */
	struct caller *caller; /* gets what comes back; NULL: nobody does */
	uint32_t awaited;      /* answers still to come: while there are some, the channel isn't idle */
	uint64_t taken;	       /* received bytes of the stream of answers */
	struct call *rooms;    /* utlist: what waits for room in the queue */
	uint64_t queue_most;   /* of a stream of replies: how much may be queued; 0: it isn't one */
	const char
		*why_reset; /* that its outcomes can't be known: a text that stays; NULL: nothing is known */
};

static inline struct op *sender_op(const struct sender *sender, uint32_t index)
{
	return &sender->ops[(sender->ops_head + index) & (sender->ops_capacity - 1)];
}

/* Returns how many bytes the stream may put into the ring now. */
static inline uint64_t sender_budget(const struct sender *sender)
{
	uint64_t end = sender->limit < sender->hold ? sender->limit : sender->hold;

	return end > sender->framed ? (end - sender->framed) & ~(uint64_t)7 : 0;
}

/* Returns the number by which traces name the channel, as the daemon makes it. */
static inline unsigned sender_serial(const struct sender *sender)
{
	return sender->number / 2 + 1;
}

/* Returns whether there is room for an op: usually there is. */
static inline bool sender_has_room_for_op(const struct sender *sender)
{
	return sender->ops_count < sender->ops_capacity;
}

/* Removes the first `count` ops, which have their outcome. */
static inline void sender_drop_ops(struct sender *sender, uint32_t count)
{
	if (count == 0)
		return;
	sender->settled = sender_op(sender, count - 1)->end;
	sender->ops_head += count;
	sender->ops_count -= count;
	sender->ops_framed -= count < sender->ops_framed ? count : sender->ops_framed;
}

/* Limits of the queue of an address, before its channel is open and then; a single message may exceed
 * them. */
#define QUEUE_OPENING_MAX 262144u
#define QUEUE_MAX	  65536u

/* Returns whether a message with so many bytes of the stream is accepted. The queue is short: long enough
 * that a program needn't be woken for every piece of room; any more would only be copied twice. Of replies it
 * is longer (replies.c). */
static inline bool sender_has_room(const struct sender *sender, uint64_t span)
{
	uint64_t queued = fifo_size(&sender->queue);
	uint64_t most = sender->queue_most		  ? sender->queue_most
			: sender->state == SENDER_OPENING ? QUEUE_OPENING_MAX
							  : QUEUE_MAX;

	return queued == 0 || queued + span <= most;
}

struct sender *sender_new(const char *address, uint32_t number, enum channel_kind kind);
void sender_free(struct sender *sender);
/* Makes room for one more op. Returns 0 or -ENOMEM. */
int sender_grow_ops(struct sender *sender);
/* Finds the op whose message ends there, and its place in the list. NULL: there is none. */
struct op *sender_find_op(struct sender *sender, uint64_t end, uint32_t *index);
/* Finds it by the program's userdata, since offsets may change while a message waits in the queue. */
struct op *sender_find_ticket(struct sender *sender, const void *userdata, uint32_t *index);
/* Updates `ops_framed` after `framed` has moved. Returns how many messages ended in the bytes that were
 * framed, 0 if the number doesn't fit. */
uint16_t sender_count_framed(struct sender *sender);

/* Puts a message of `span` bytes, message_pieces_span(), into the ring as a frame of its own, if it is small
 * and nothing has to go before it. Returns whether it did. */
bool sender_frame_small(struct sender *sender, struct transport *transport,
			const struct message_pieces *pieces, uint64_t span);
/* Returns whether the next `span` bytes of the stream may go into the ring now, if there is room. */
bool sender_can_frame(const struct sender *sender, const struct transport *transport, uint64_t span);
/* Lends the program the place in the ring where a message with `size` bytes would lie as a frame of its own.
 * Returns where its payload goes, in transport->out_mirror; NULL: that isn't possible now. */
uint8_t *sender_lend(const struct sender *sender, struct transport *transport, uint64_t size);
/* Puts the message that the program has written there into the ring, with `size` bytes, no more than were
 * lent. sender_can_frame() was true. */
void sender_frame_lent(struct sender *sender, struct transport *transport, uint32_t size);
/* Puts as much of a message into the ring as credit and space allow. Returns the number of bytes, or
 * -EPROTO. */
int64_t sender_frame_pieces(struct sender *sender, struct transport *transport,
			    const struct message_pieces *pieces);
/* Appends the bytes from `from` on to the queue, in which room was reserved. */
void sender_queue_pieces(struct sender *sender, const struct message_pieces *pieces, uint64_t from);
/* Puts one frame from the queue into the ring. Returns 1; 0 if there is no room: then *want_space is how much
 * it needs; or -EPROTO. */
int sender_frame_queue(struct sender *sender, struct transport *transport, uint32_t *want_space);

#endif
