/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_OUTBOX_H
#define XENMSG_LIBCLIENT_OUTBOX_H

/*
 * What the program sends: one channel of kind message and one of kind call for each address, opened at first
 * use and kept for the next message. What comes back on those for calls is calls.c's. Each message is an `op`
 * that waits in its channel, in the order of the stream, until the daemon's CREDIT has passed its end, or a
 * RESET decides over it (protocol.md, section 2.3). What has an outcome moves to the list of the settled,
 * from which outbox_run() calls the program back: so a callback may send, and no channel changes under the
 * feet of who walks it.
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

#include "libclient/transport.h"
#include "wire/channel_table.h"
#include "xenmsg.h"

/* What xenmsg_reason() says when nobody answers for what was withdrawn. */
#define OUTBOX_UNSETTLED                                                                                     \
	"timed out, and the other side doesn't say whether it was taken: whether it was delivered can't be known"

struct caller;
struct sender;
struct message_pieces;
struct op;

struct settled {
	xenmsg_done done;
	void *userdata;
	int result;
};

/* A channel of kind call has ended, and its messages are settled. */
typedef void (*outbox_ended)(struct caller *caller);

struct outbox {
	struct transport *transport;
	/* uthash; those that take new messages, and those that take new calls */
	struct sender *by_address, *calls_by_address;
	struct sender *last;		/* the one used last: most programs talk to one address at a time */
	struct channel_table by_number; /* ours are the even numbers */
	struct sender *ready;		/* utlist: those that have bytes queued and credit for them */
	uint64_t clock;			/* counts posts, to tell which channel was used least recently */
	/* A ring: `outstanding` counts the ops that are to be reported in all, so there is always room for
	 * those that settle. */
	struct settled *settled;
	uint32_t settled_head, settled_count, settled_capacity, outstanding;
	outbox_ended ended;
};

/* What is needed to withdraw a message again. Valid until its `done` was called. */
struct outbox_ticket {
	struct sender *sender;
	const void *userdata;
};

void outbox_init(struct outbox *outbox, struct transport *transport, outbox_ended ended);
/* Calls no one back: outbox_fail() and outbox_run() come first. */
void outbox_free(struct outbox *outbox);

/* Accepts a message; the errors are those of xenmsg_post(). With `at_once` it is not queued: -EAGAIN if it
 * can't go into the ring as a whole. */
int outbox_post(struct outbox *outbox, const char *address, const void *data, size_t size, bool at_once,
		xenmsg_done done, void *userdata, struct outbox_ticket *ticket);
/* Gives up a message that has no outcome. It gets one: -ETIMEDOUT at once if its end hasn't been handed to
 * the daemon, else after a CANCEL was answered. */
int outbox_cancel(struct outbox *outbox, const struct outbox_ticket *ticket);
/* The same for the message posted last with this userdata. -ENOENT: there is none without an outcome. */
int outbox_withdraw(struct outbox *outbox, const char *address, const void *userdata);
/* For how many milliseconds to wait for that answer, after a time-out of so many (negative: there was none). Most
 * come within a round trip; the daemon gives one after 2 s, even if the other end doesn't. */
int outbox_settle_ms(int timeout_ms);
/* The answer to a CANCEL doesn't come: -ECONNRESET. */
void outbox_abandon(struct outbox *outbox, const struct outbox_ticket *ticket);

/* The channel to an address; NULL: there is none. */
struct sender *outbox_lookup(const struct outbox *outbox, const char *address, enum channel_kind kind);
/* The same, opened if there is none. -EINVAL, -ENOBUFS, -ENOMEM. */
int outbox_channel(struct outbox *outbox, const char *address, enum channel_kind kind,
		   struct sender **sender);
/* Puts a message on it, as outbox_post(). `op` says who wants to know; its `end` is filled in. */
int outbox_put(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces,
	       const struct op *op);
/* Puts it on a stream of replies, where nobody waits for an outcome. */
int outbox_put_reply(struct outbox *outbox, struct sender *sender, const struct message_pieces *pieces);
/* The stream may go further than before. */
void outbox_credit(struct outbox *outbox, struct sender *sender, uint64_t limit);
/* A stream of replies isn't to be sent any further. */
void outbox_detach(struct outbox *outbox, struct sender *sender);
/* We can't make sense of what comes on a channel: RESET. */
int outbox_reject(struct outbox *outbox, struct sender *sender, uint32_t error);
/* Moves queued bytes to the ring. *want_space: how much room it waits for, 0 if it doesn't. */
int outbox_flush(struct outbox *outbox, uint32_t *want_space);
/* Calls `done` for up to `budget` of the settled. Returns for how many. */
int outbox_run(struct outbox *outbox, int budget);
/* The hop is lost: everything gets its outcome, `unsent` being that of messages of which no byte went into
 * the ring. */
void outbox_fail(struct outbox *outbox, int unsent);
/* Sends FIN on every channel: an orderly end. */
void outbox_finish(struct outbox *outbox);

/* The channel of this number, if it exists and wasn't rejected. */
struct sender *outbox_find(const struct outbox *outbox, uint32_t number);
/* A frame about a channel that we opened, DATA excepted. -EPROTO if it can't be. */
int outbox_frame(struct outbox *outbox, const struct frame_header *header, const uint8_t *payload);

#endif
