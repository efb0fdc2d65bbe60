/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OUTBOX_H
#define XENMSG_LIBCLIENT_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "libclient/helpers.h"
#include "libclient/message.h"
#include "libclient/op.h"
#include "libclient/transport.h"
#include "wire/address.h"
#include "wire/channel_table.h"
#include "xenmsg.h"

/*
 * One outgoing stream: its offsets, the bytes that are not in the ring yet, and the messages that have no
 * outcome yet. It is a channel of the outbox, or the replies on a channel of the inbox. Offsets count from
 * the channel's start:
 *
 *   consumed ≤ framed ≤ accepted     taken by the receiver ≤ put into the ring ≤ promised to the program
 */

struct call;
struct caller;
struct properties;

enum sender_state { SENDER_OPENING, SENDER_OPEN, SENDER_CLOSING, SENDER_RESET_SENT };

/* Gets the result's words, too, to keep or to drop. */
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
	const char *why_reset; /* a text that stays: why its outcomes can't be known; NULL: nobody knows */
	bool is_denied;	       /* no: who has denied it */
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
 * is longer (calls.c). */
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
struct op *sender_find_of(struct sender *sender, const void *userdata, uint32_t *index);
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

/*
 * What the program sends: one channel of kind message and one of kind call for each address, opened at first
 * use and kept for the next message. calls.c handles what comes back on those for calls. Each message is an
 * `op` that waits in its channel, in the order of the stream, until the daemon's CREDIT has passed its end,
 * or a RESET decides its outcome (protocol.md, section 2.3). A message with an outcome moves to the list
 * `settled`, from which outbox_run() calls the program back: so a callback may send, and no channel changes
 * while a function iterates over its messages.
 *
 * States of a channel:
 *
 *   OPENING ──OPENED──▶ OPEN ──unused for long, all settled──▶ CLOSING (FIN sent) ──FIN from the other side──▶ gone
 *   any ──RESET (answered)──▶ gone; the next message to the address opens another
 *   any ──the answers on it make no sense: RESET──▶ RESET_SENT ──RESET──▶ gone
 *
 * Bytes go into the ring at once as far as credit and space allow; the rest is copied to the channel's queue.
 * Channels with a queue and credit take turns, a frame each, so none holds up the others.
 */

/* The reason in the result if a CANCEL wasn't answered. */
#define OUTBOX_UNSETTLED                                                                                     \
	"timed out, and the other side doesn't say whether it was taken: whether it was delivered can't be known"

/* What happens to a channel. */
struct outbox_callbacks {
	/* One of kind call has ended, and its messages are settled. */
	void (*ended)(struct caller *caller);
	/* Another server goes on with it, and the one before answers nothing more. */
	void (*taken_over)(struct caller *caller);
	/* Less is queued there than before, with OUTBOX_MORE_ROOM, or the channel has ended, with what that
	 * means to those that wait for room. */
	void (*room)(struct sender *sender, int error);
};
#define OUTBOX_MORE_ROOM 1

/* A message that the program writes where it is sent from, or in memory of our own. */
struct reservation {
	uint8_t *data; /* NULL: there is none */
	size_t size;
	struct mirror *mirror; /* in which it lies, perhaps as private pages by now; NULL: in `own` */
	uint8_t *own;
	size_t capacity; /* of `own`, which is kept for the next */
	char address[ADDRESS_MAX + 1];
};

struct settled {
	xenmsg_done done;
	void *userdata;
	struct op_result result;
};

/* Outcomes of which the program is to be told, in their order: a circular buffer. */
struct settled_queue {
	struct settled *list;
	uint32_t head, count, capacity;
	uint32_t outstanding; /* all that are to come, too: so there is always room for those */
};

struct outbox {
	struct transport *transport;
	struct reservation reserved;
	/* uthash; channels that take new messages, and those that take new calls */
	struct sender *by_address, *calls_by_address;
	struct sender *last; /* the channel used last: most programs talk to one address at a time */
	struct channel_table by_number; /* this end gives out the even numbers */
	struct sender *ready;		/* utlist: channels with bytes queued and credit for them */
	uint64_t clock;			/* counts posts, to find the channel that was used least recently */
	struct settled_queue settled;
	const struct outbox_callbacks *callbacks;
};

void outbox_init(struct outbox *outbox, struct transport *transport,
		 const struct outbox_callbacks *callbacks);
/* Frees the outbox without any callback. outbox_fail() and outbox_run() come first. */
void outbox_free(struct outbox *outbox);

/* The size of the largest message that can be sent without waiting for anything. */
#define OUTBOX_AT_ONCE_MAX 65520

/* Accepts a message. Returns as xenmsg_begin_send(). With `at_once` the message is never queued: -EAGAIN if
 * it doesn't fit into the ring as a whole. */
int outbox_send(struct outbox *outbox, const char *address, const void *data, size_t size, bool at_once,
		xenmsg_done done, void *userdata);
/* Reserves memory for a message. Returns as xenmsg_reserve(). */
int outbox_reserve(struct outbox *outbox, const char *address, size_t size, void **data);
/* Sends it, with this size and these properties (NULL: none), on *sender; `op` is as for outbox_put().
 * Returns as xenmsg_commit(). */
int outbox_commit(struct outbox *outbox, size_t size, const struct properties *properties,
		  const struct op *op, struct sender **sender);
/* Gives it up, if there is one. */
void outbox_unreserve(struct outbox *outbox);
/* Gives up a message that has no outcome, which its op's userdata names. Its outcome is -ETIMEDOUT at once if
 * its end hasn't been handed to the daemon: returns 0; the caller may have freed what `userdata` is. Else it
 * follows from the answer to a CANCEL: returns 1, or a negative errno. */
int outbox_cancel(struct outbox *outbox, struct sender *sender, const void *userdata);
/* Settles with -ECONNRESET a message whose CANCEL isn't answered. */
void outbox_abandon(struct outbox *outbox, struct sender *sender, const void *userdata);

/* Adds words to a result that has none, where more can be said than its error says: who may not reach this
 * channel's address, or which domain isn't there. The caller drops them. */
void outbox_say(const struct outbox *outbox, const struct sender *sender, struct op_result *result);
/* Returns the channel to an address, NULL if there is none. */
struct sender *outbox_lookup(const struct outbox *outbox, const char *address, enum channel_kind kind);
/* Finds the channel to an address for a message of that size, or opens one. Returns 0, -EMSGSIZE, -EINVAL,
 * -ENOBUFS or -ENOMEM. */
int outbox_channel(struct outbox *outbox, const char *address, enum channel_kind kind, size_t size,
		   bool at_once, struct sender **sender);
/* Puts a message on a channel. `op` says who is told of the outcome; its `end` is filled in. Returns as
 * outbox_send(). */
int outbox_put(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces,
	       bool at_once, const struct op *op);
/* Puts a message on a stream of replies, whose outcomes nobody waits for. */
int outbox_put_reply(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces);
/* Raises the limit of a stream. */
void outbox_credit(struct outbox *outbox, struct sender *sender, uint64_t limit);
/* Lets the next message to the address of this channel open another one. Returns false if it did already. */
bool outbox_leave(struct outbox *outbox, struct sender *sender);
/* Stops sending a stream of replies. */
void outbox_detach(struct outbox *outbox, struct sender *sender);
/* Sends RESET on a channel whose incoming frames make no sense. */
int outbox_reject(struct outbox *outbox, struct sender *sender);
/* Moves queued bytes to the ring. *want_space is how much room it waits for, 0 if it doesn't wait. Returns 0
 * or a negative errno. */
int outbox_flush(struct outbox *outbox, uint32_t *want_space);
/* Calls `done` for up to `budget` settled messages. Returns for how many. */
int outbox_run(struct outbox *outbox, int budget);
/* Returns whether nothing that was put on a channel waits for its outcome, or for its answer. */
bool outbox_is_settled(const struct outbox *outbox);
/* Settles everything after the hop was lost; `unsent` is the outcome of messages of which no byte went into
 * the ring. */
void outbox_fail(struct outbox *outbox, int unsent);
/* Sends FIN on every channel, for an orderly end. */
void outbox_finish(struct outbox *outbox);

/* Returns the channel of this number, NULL if there is none or it was rejected. */
struct sender *outbox_find(const struct outbox *outbox, uint32_t number);
/* Handles a frame about a channel that this end opened, except DATA. Returns 0, or -EPROTO if the frame is
 * impossible. */
int outbox_frame(struct outbox *outbox, const struct frame_header *header, const uint8_t *payload);

#endif
