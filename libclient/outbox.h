/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OUTBOX_H
#define XENMSG_LIBCLIENT_OUTBOX_H

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

#include <stdbool.h>
#include <stdint.h>

#include "libclient/op.h"
#include "libclient/transport.h"
#include "wire/address.h"
#include "wire/channel_table.h"
#include "xenmsg.h"

/* The reason in the result if a CANCEL wasn't answered. */
#define OUTBOX_UNSETTLED                                                                                     \
	"timed out, and the other side doesn't say whether it was taken: whether it was delivered can't be known"

struct caller;
struct sender;
struct message_pieces;
struct op;
struct properties;

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

/* Names a message, by its op's userdata, so that it can be withdrawn. Valid until it has its outcome. */
struct outbox_ticket {
	struct sender *sender;
	const void *userdata;
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
/* Gives up a message that has no outcome. Its outcome is -ETIMEDOUT at once if its end hasn't been handed to
 * the daemon, else it follows from the answer to a CANCEL. */
int outbox_cancel(struct outbox *outbox, const struct outbox_ticket *ticket);
/* Settles with -ECONNRESET a message whose CANCEL isn't answered. */
void outbox_abandon(struct outbox *outbox, const struct outbox_ticket *ticket);

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
