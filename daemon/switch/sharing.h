/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SHARING_H
#define XENMSG_DAEMON_SHARING_H

/*
 * What a channel to a shared endpoint has besides (doc/decisions/0039): how much its program has to do, and a
 * copy of what was sent there and isn't taken, from the beginning of a message on. If that program leaves the
 * endpoint, the copy goes to another one before what waits in the channel's queue. It is no more than the
 * window, for which the opener pays already:
 *
 *      from        consumed             sent            received
 *   ────┬──────────────┬──────────────────┬──────────────────┬────
 *       └────────── the copy ─────────────┴──── the queue ───┘
 *
 * `from` is before `consumed` if the program has read a part of a message; of one that is larger than the
 * window, what was read is dropped, and that message can't go to anybody else: `torn` is where it ends.
 *
 * The copy is ours, so no program changes what another one gets. The sender's words about sizes are read in
 * it, so a sender that lies harms only its own channel.
 *
 * A program that has the endpoint alone needs no copy, which costs each message a memcpy. Without it only the
 * ring, where that program may write, says where messages begin: so when it dies, all there is in doubt.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct channel;
struct evbuffer;

/* A program at a shared endpoint, and how much it has to do there. Its channels have references to it. */
struct worker {
	unsigned references;
	unsigned channels; /* that it has */
	unsigned given;	   /* so many of them came since it has last taken something */
	uint64_t turn;	   /* when it was given one last: the router counts */
	bool drains;	   /* it refuses the calls that it has, and their callers may make them again */
};

struct sharing {
	struct worker *worker; /* a reference; NULL: the channel has left it */
	struct evbuffer *copy;
	uint64_t from, torn;
	/* Where the streams of the program that has the channel now begin in those of the opener: it counts
	 * from 0. */
	uint64_t base_to, base_from;
	unsigned moves; /* to other programs since something was taken */
	bool broken;	/* for lack of memory there is no copy */
};

struct worker *worker_new(void);
/* NULL is allowed. */
void worker_unref(struct worker *worker);
/* Whether `a` has less to do than `b`: first, one that takes nothing of what it is given gets no more
 * while others do. */
bool worker_is_freer(const struct worker *a, const struct worker *b);

/* Makes the channel one to a shared endpoint, before it is accepted. -ENOMEM. */
int sharing_begin(struct channel *channel);
/* Counts the channel for this program; NULL: for none. */
void sharing_give(struct channel *channel, struct worker *worker);
/* Counts it for one that drains the endpoint, and has bound it no more. -ENOMEM. */
int sharing_drains(struct channel *channel);
/* Notes that `length` bytes, the first of the pieces, were sent to the program. */
void sharing_sent(struct channel *channel, const struct iovec *pieces, uint32_t length);
/* Notes up to where the program has taken the stream. */
void sharing_taken(struct channel *channel, uint64_t consumed);
/* Takes the copy, whose first byte is of a message's beginning at `from` from now on. NULL: there is none. */
struct evbuffer *sharing_take_copy(struct sharing *sharing, uint64_t from);
void sharing_free(struct channel *channel);

/* Where the stream to the program that has the channel begins in that of the opener. NULL: its channel isn't
 * shared. */
static inline uint64_t sharing_base_to(const struct sharing *sharing)
{
	return sharing ? sharing->base_to : 0;
}

#endif
