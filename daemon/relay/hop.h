/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_H
#define XENMSG_DAEMON_HOP_H

/*
 * The daemon's end of one hop: to a local program (rings in a memfd, or a socket pumped through private
 * rings) or to the daemon of another domain (a vchan). It takes frames in and hands them to its owner or to
 * the channels; it puts frames out, fairly over the channels that have something to say; and it remembers
 * which bytes of which channel lie where in a program's ring, since what the program releases there is what
 * it has taken.
 *
 * A payload moves from ring to ring with one copy. It is kept in private memory ("spilled") only where its
 * way out is full and it may not wait in the ring that it came in: what came over a link never waits in the
 * link's ring, since others come behind it; what came from a program waits there for a link that is merely
 * busy, and is spilled once the link has been stuck for a while. Spilled bytes are bounded by the windows of
 * the channels.
 *
 * So no daemon ever waits for another one: a link is always read to its end. All waiting is that of a program
 * for its own peers.
 *
 * A hop is attached (it has rings) or detached (a link that isn't up; a program that is gone). Frames for a
 * detached hop wait in its channels. hop_fail() ends a hop's session from wherever the fault was found; the
 * owner hears of it at the end of the turn, when nothing on the stack uses the hop any more.
 *
 * `struct relay` is one event loop's worth of hops. Whoever handles an event only says what has happened:
 * hop_event() makes a hop's input due, what has something to be written is marked dirty. All the work is done
 * by one function, relay.c's pass(), in phases:
 *
 *   take input of the hop whose turn it is (turns.h), and note what its program has taken
 *     → write what is there to be written, publish it, notify the links that sleep
 *     → tell the owners of hops that have failed
 *     → notify the programs that sleep
 *   and when no input is due any more: ask to be notified, and look once more before the loop sleeps.
 *
 * Output never calls input: where it finds that there is some, or makes room for somebody who waits, it makes
 * that due. A pass is bounded (TURNS_PASS); what is left then is for the next pass of the loop.
 *
 * The daemons of other domains are notified at once, on CPUs of their own; programs after all output, since
 * on one CPU each of them runs at once, and what other domains wait for would wait with us.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/relay/outlet.h"
#include "daemon/base/quota.h"
#include "daemon/relay/refused.h"
#include "daemon/relay/traits.h"
#include "daemon/base/turns.h"
#include "wire/channel_table.h"
#include "wire/frame.h"
#include "wire/ring.h"

struct channel;
struct channel_end;
struct closer;
struct event;
struct event_base;
struct evbuffer;
struct hop;
struct quota;

/* What is to be done for a hop, in the order of the phases. */
enum hop_mark {
	MARK_DIRTY,	/* something was written or is to be written */
	MARK_FAILED,	/* its owner is to be told */
	MARK_TO_NOTIFY, /* its program asked for it */
	MARK_AWAKE,	/* it is to be asked for notifications before the loop sleeps */
	HOP_MARKS
};

struct relay {
	struct event_base *base;
	struct turns turns;
	struct hop *marked[HOP_MARKS];
	unsigned marks;	       /* in all of these */
	struct channel *ended; /* to be freed */
	struct quota *quota;   /* NULL: nothing is limited */
	struct closer *closer; /* NULL: descriptors that programs send can hold the loop */
	uint64_t max_message;
	uint32_t cancel_ms; /* how long the next hop may take to say whether it could cancel a message */
	/* one of those awake was notified by its program: it is let go on before it is asked for more */
	bool woken;
};

int relay_init(struct relay *relay, struct event_base *base, uint64_t max_message);
/* A pass now: for who can't wait for the loop. */
void relay_pass(struct relay *relay);
/* Is there something for the next pass? */
bool relay_is_busy(const struct relay *relay);
void relay_cleanup(struct relay *relay);
/* Counts work that `account` has caused (NULL: nobody). */
void relay_spend(struct relay *relay, struct account *account, uint64_t units);

/* Given by the owner of a hop (session.c, link.c). Called with `owner`. */
struct hop_callbacks {
	/* A frame that is not about a channel; the payload is a private copy. Below zero: the session ends
	 * with that error. */
	int (*control)(void *owner, const struct frame_header *header, const uint8_t *payload);
	/* OPEN of `number`, already entered in the table with a channel that has only this end. As above. */
	int (*open)(void *owner, struct channel *channel, const struct frame_open *open);
	/* The other end asked to be woken. Must not block, whatever the other end does. */
	void (*notify)(void *owner);
	/* NULL, or brings in more input, as far as there is room: called when it's the hop's turn. True:
	 * there may be more. */
	bool (*refill)(void *owner);
	/* NULL, or: its turn is over. `took_in`: input was taken in; `more`: there is more, for which it will
	 * be its turn again. */
	void (*after_turn)(void *owner, bool took_in, bool more);
	/* Nothing that hop_send() has queued waits any more. NULL: nobody wants to know. */
	void (*drained)(void *owner);
	/* The session is over because of `error` (negative); `why` says what the other end did. Detach or
	 * free the hop. */
	void (*failed)(void *owner, int error, const char *why);
};

/* The ring in, and how far it was read. */
struct inlet {
	struct ring_reader reader;
	uint32_t progress; /* bytes of the DATA frame at its head that have gone on already */
	uint32_t sequence;
	uint64_t position; /* bytes of frames in this session */
	uint32_t unreleased;
	uint32_t missing;  /* bytes that must be there before it's worth looking again */
	bool has_asked;	   /* for a notification of input, which hasn't come yet */
	bool must_not_ask; /* its owner looks by itself (hop_dont_ask) */
	bool has_moved;	   /* in this turn, input has gone on */
	bool was_woken;	   /* by its program, which is let go on before we ask for more */
};

/* A program sends the RESET of a channel before it releases bytes of it that weren't taken. So what it had
 * released when we looked (outlet.taken_upto) counts only once all that it had sent by then has been read. */
struct taken {
	bool pending;
	uint32_t mark;	     /* position in the ring in */
	struct event *timer; /* looks what a program has taken that doesn't wake us */
	uint32_t poll_ms;
};

/* The other end has gone: its input waits for nobody, and so often what it took is still to be noted; then
 * the session ends. */
struct finishing {
	unsigned left;
	int error;
	char why[160];
};

/* waiting.c: a hop's input waits for room in the output of a link. */
struct waiting {
	struct hop *blocked_on; /* whose output our input waits for */
	struct hop *granted_by; /* who lets us go on */
	struct hop *prev, *next;
	struct hop *waiters;	   /* whose input waits for our output; the first one's turn is next */
	struct hop *granted;	   /* the one of them that goes on now, before all others */
	struct event *stuck_timer; /* runs while somebody waits */
	uint64_t stuck_from;	   /* the main outlet's position when it was started */
	bool stuck;		   /* has been full for long: what is for it is spilled */
};

struct hop {
	struct relay *relay;
	const struct hop_callbacks *callbacks;
	void *owner;
	const struct hop_traits *traits;
	struct account *account; /* who pays for what is opened here; a reference */
	struct {
		bool is_set;
		struct hop *prev, *next;
	} marks[HOP_MARKS];
	struct task input; /* due: there may be some */
	struct inlet in;
	struct outlet out[HOP_OUTLETS];
	struct channel_table channels;
	struct refused refused;
	struct taken taken;
	struct waiting waiting;
	struct finishing finishing;
	bool attached;
	bool said_goodbye; /* a program that took its leave: it has told what it took, and takes no more */

	uint64_t emit_from;	     /* turns.spent when this piece of output was begun */
	struct channel_end *urgent;  /* ends with control frames to send */
	struct channel_end *backlog; /* ends with spilled data (or a FIN behind it) */
	struct evbuffer *control;    /* frames of the session itself */
	/* of the account, for what waits in `control` beyond what everybody may let wait */
	struct charge queued;

	int error; /* why it has failed */
	char why[160];
	struct hop_stats tx, rx;
};

/* What a program's hop may take beside its rings, its ledgers and its channels: 256 KiB of frames that it
 * leaves unread, the questions that wait, the table of channels, and what was refused. */
#define HOP_MEMORY 393216u

int hop_init(struct hop *hop, struct relay *relay, enum hop_kind kind, const struct hop_callbacks *callbacks,
	     void *owner, uint32_t parity, uint32_t channels_max);
/* How a program wants to be spoken to, when it has said so. Before it is attached. */
void hop_set_kind(struct hop *hop, enum hop_kind kind);
/* Who pays for what comes in here: takes over the reference. Before it is attached. */
void hop_set_account(struct hop *hop, struct account *account);
/* Resets every channel (see hop_reset_channels) and frees what the hop holds. */
void hop_cleanup(struct hop *hop);

struct hop_rings {
	struct ring_view in;
	struct ring_view out[HOP_OUTLETS]; /* as many as its traits say */
	bool adopt;			   /* indices are what the rings say, not zero */
};
/* -EPROTO: impossible indices. */
int hop_attach(struct hop *hop, const struct hop_rings *rings);
/* Takes the rings away. What was in the channels' queues stays there. */
void hop_detach(struct hop *hop);

/* The other end notified, or may have moved: takes in what is there, notes what was taken, lets waiting
 * output go on; all that when it's the hop's turn. */
void hop_event(struct hop *hop);
/* The same without a notification: one may have been lost. */
void hop_look(struct hop *hop);
/* The same after a program's own notification: it may have more to say, and is let do so before we ask for
 * the next one. */
void hop_woken(struct hop *hop);
/* Until the next hop_event() or hop_look() the other end needn't notify us of what it writes: we find it by
 * hop_has_input(). */
void hop_dont_ask(struct hop *hop);
bool hop_has_input(struct hop *hop);
/* The other end has gone: takes in all that it has written, and notes what it had taken; then the session
 * ends as by hop_fail(). */
void hop_finish(struct hop *hop, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Sends a frame of the session itself (not about a channel), or queues it. -ENOBUFS if the other end has let
 * too many pile up. */
int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length);
/* Frames of hop_send() wait for room. */
bool hop_has_unsent(const struct hop *hop);
/* Ends the session at the end of this turn. Only the first reason counts. */
void hop_fail(struct hop *hop, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static inline bool hop_is_marked(const struct hop *hop, enum hop_mark mark)
{
	return hop->marks[mark].is_set;
}
void hop_mark_anew(struct hop *hop, enum hop_mark mark);
static inline void hop_mark(struct hop *hop, enum hop_mark mark)
{
	if (!hop_is_marked(hop, mark))
		hop_mark_anew(hop, mark);
}
void hop_unmark(struct hop *hop, enum hop_mark mark);
/* It has rings, and no fault was found. */
static inline bool hop_is_up(const struct hop *hop)
{
	return hop->attached && !hop_is_marked(hop, MARK_FAILED);
}

/* A GOODBYE with this payload at once, behind all that was written, if there is room: the hop is about to be
 * detached. */
void hop_farewell(struct hop *hop, const void *payload, uint32_t length);

/* Every channel of this hop ends: what is certain about its messages is told to the other end of each; what
 * isn't, is ECONNRESET, and what never left is `error`. */
void hop_reset_channels(struct hop *hop, int error);

/* Bytes that were sent to the other end and that it hasn't taken out of the ring. */
uint32_t hop_unacknowledged(struct hop *hop);

#endif
