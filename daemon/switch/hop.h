/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOP_H
#define XENMSG_DAEMON_HOP_H

/*
 * The daemon's end of one hop: to a local program (rings in a memfd, or a socket pumped through private
 * rings) or to the daemon of another domain (a vchan). It takes frames in and hands them to its owner or to
 * the channels; it writes frames out, fairly over the channels that have something to send; and it remembers
 * which bytes of which channel lie where in a program's ring, since what the program releases there is what
 * it has taken.
 *
 * A payload moves from ring to ring with one copy. It is kept in private memory ("spilled") only where its
 * way out is full and it may not wait in the ring that it came in. What came over a link never waits in the
 * link's ring, since others come behind it. What came from a program waits there for a link that is merely
 * busy, and is spilled once the link has been stuck for a while. Spilled bytes are bounded by the windows of
 * the channels.
 *
 * So no daemon ever waits for another one: a link is always read to its end. The only waiting is that of a
 * program for its own peers.
 *
 * A hop is attached (it has rings) or detached (a link that isn't up; a program that is gone). Frames for a
 * detached hop wait in its channels. A link's hop may also be paused: it has lost its rings but not its
 * session, keeps what it wrote and the other end hasn't processed, and goes on over other rings, where it
 * first writes that again, as if nothing had happened. hop_life.h has the table of all that.
 *
 * hop_fail() ends a hop's session from wherever the fault was found; the
 * owner is told at the end of the turn, when nothing on the stack uses the hop any more.
 *
 * `struct switchboard` (`switch` is a word of C) holds the hops of one event loop. An event handler only
 * records what has happened: hop_event() makes a hop's input due, and a hop with something to write is marked
 * dirty. All the work is done by one function, switch.c's pass(), in phases:
 *
 *   take input of the hop whose turn it is (turns.h), and note what its program has taken
 *     → write what is there to be written, publish it, notify the links that sleep
 *     → tell the owners of hops that have failed
 *     → notify the programs that sleep
 *   and when no input is due any more: ask to be notified, and look once more before the loop sleeps.
 *
 * Output never calls input: where it finds input, or makes room for a hop that waits, it makes that hop's
 * input due. A pass is bounded (TURNS_PASS); what is left then is for the next pass of the loop.
 *
 * The daemons of other domains are notified at once, since they run on CPUs of their own; programs are
 * notified after all output, since on one CPU each of them runs at once, and other domains would wait while
 * it does.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/switch/call.h"
#include "daemon/switch/outlet.h"
#include "base/clock.h"
#include "base/quota.h"
#include "daemon/switch/hop_life.h"
#include "daemon/switch/refused.h"
#include "daemon/switch/traits.h"
#include "base/turns.h"
#include "wire/channel_table.h"
#include "wire/frame.h"
#include "wire/ring.h"

struct channel;
struct channel_end;
struct work_pool;
struct memfd_lifetimes;
struct event;
struct event_base;
struct evbuffer;
struct hop;
struct quota;
struct steps;

/* What is to be done for a hop, in the order of the phases. */
enum hop_mark {
	MARK_DIRTY,	/* something was written or is to be written */
	MARK_FAILED,	/* its owner is to be told */
	MARK_TO_NOTIFY, /* its program asked to be notified */
	MARK_AWAKE,	/* it is to be asked for notifications before the loop sleeps */
	MARK_RETIRED,	/* its channels end, by its task, and then it is freed (hop_retire()) */
	HOP_MARKS
};

struct switchboard {
	struct event_base *base;
	struct turns turns;
	struct hop *marked[HOP_MARKS];
	struct channel *ended;			 /* to be freed */
	struct quota *quota;			 /* NULL: nothing is limited */
	struct work_pool *work_pool;		 /* NULL: what may take long is done at once */
	struct memfd_lifetimes *memfd_lifetimes; /* NULL: memory that programs keep isn't charged */
	struct carried_memory *rings;		 /* private_ring.h: their bytes */
	uint64_t max_message;
	uint64_t last_stream;	 /* the number of the byte stream that came last */
	struct orphans *orphans; /* orphans.h: all of them */
	uint32_t orphans_patience_ms;
	uint32_t cancel_ms; /* how long the next hop may take to say whether it could cancel a message */
	/* Leads a channel that the program on its acceptor's hop leaves to another one that shares the
	 * endpoint. Returns whether there was one. NULL: there never is. */
	bool (*pass_on)(void *userdata, struct channel *channel);
	void *pass_on_userdata;
	const struct steps *steps; /* steps.h; NULL: nobody traces */
	/* a program is let go on before we ask for the next notification: it has notified us, or we it */
	bool woken;
	uint64_t now_ns;			/* switch_now() */
	bool skipped_yield;			/* in the last pass, though a program was to be let go on */
	uint8_t yields_to_skip, yields_skipped; /* since those before were in vain (switch.c) */
	struct channel *channels;		/* utlist: all that there are, the newest first */
	struct channel *to_review;		/* review.h: the next one; NULL: there is no more */
};

int switch_init(struct switchboard *board, struct event_base *base, uint64_t max_message);
/* Runs a pass now, for a caller that can't wait for the loop. */
void switch_pass(struct switchboard *board);
/* Runs passes until nothing is left to do, but no more than so many. */
void switch_run(struct switchboard *board, unsigned passes);
/* The time, in ns of clock_ns(): in a pass, the one at which somebody asked first since others could run. */
static inline uint64_t switch_now(struct switchboard *board)
{
	if (!board->now_ns || !board->turns.in_pass)
		board->now_ns = clock_ns();
	return board->now_ns;
}
/* Whether there is something for the next pass. */
bool switch_is_busy(const struct switchboard *board);
#ifdef XENMSG_INVARIANTS
/* Each channel adds up. */
void switch_check(const struct switchboard *board);
#else
static inline void switch_check(const struct switchboard *board)
{
}
#endif
/* Runs passes until what has ended is freed. The hops were cleaned up before. */
void switch_cleanup(struct switchboard *board);

/* Memory that the owner of an inner hop has, and where bytes wait for him: so he needn't copy them. */
struct hop_memory {
	uint8_t *bytes;
	/* He has taken all of them, or they are wanted no more. */
	void (*release)(const void *bytes, size_t length, void *userdata);
	void *userdata;
};

/* Given by the owner of a hop (session.c, link.c), and called with `owner`. */
struct hop_callbacks {
	/* A frame that isn't about a channel has come; the payload is a private copy. A negative errno ends
	 * the session with that error. */
	int (*control)(void *owner, const struct frame_header *header, const uint8_t *payload);
	/* An OPEN has come; its channel is in the hop's table and has only this end. Returns as `control`
	 * does. */
	int (*open)(void *owner, struct channel *channel, const struct frame_open *open);
	/* The other end asked to be notified. Must not block, whatever the other end does; COST_SYSCALL is
	 * charged already. */
	void (*notify)(void *owner);
	/* After hop_hold_input(): does a piece of what comes before all further input. True: there is more of
	 * it. */
	bool (*before_input)(void *owner);
	/* Brings in more input, as far as there is room; called when it is the hop's turn. True: there may be
	 * more. NULL: nothing to bring in. */
	bool (*refill)(void *owner);
	/* OPENED has come from a daemon: says of whom it may have told as the acceptor. May be NULL. */
	void (*opened)(void *owner, struct channel *channel);
	/* The hop's turn is over. `took_in`: input was taken in; `more`: there is more, for which the hop
	 * will get another turn. May be NULL. */
	void (*after_turn)(void *owner, bool took_in, bool more);
	/* The end of a channel waits until all that was sent to the other end is known to be taken. NULL: the
	 * owner tells it anyway, without being asked. */
	void (*tell_taken)(void *owner);
	/* Whether this domain wasn't restored since the hop got its rings. Asked of a guarded hop (below). */
	bool (*is_sound)(void *owner);
	/* The other end goes on in another ring behind this, and hop_move() hasn't been called: the callee
	 * calls it, or returns a negative errno, with which the session ends. NULL: it may not. */
	int (*move)(void *owner);
	/* Both ends are in the rings of hop_move(). */
	void (*moved)(void *owner);
	/* It is the turn of the hop's task: of an inner hop (inner.h) alone, which needs no other
	 * callback. */
	void (*turn)(void *owner);
	/* Gives memory for so many bytes that are about to wait at this end of an inner hop. False: they lie
	 * in the switch's. */
	bool (*give_memory)(void *owner, struct channel_end *end, uint32_t length, struct hop_memory *memory);
	/* The session is over because of `error` (a negative errno); `why` says what the other end did. Must
	 * detach or free the hop. */
	void (*failed)(void *owner, int error, const char *why);
};

/* The ring in, and how far it was read. */
struct inlet {
	struct ring_reader reader;
	uint32_t progress; /* bytes of the DATA frame at its head that were forwarded already */
	uint32_t sequence;
	uint64_t position; /* bytes of frames in this session */
	uint32_t unreleased;
	uint32_t missing;  /* bytes that must be there before it is worth looking again */
	bool has_asked;	   /* for a notification of input, which hasn't come yet */
	bool must_not_ask; /* its owner polls for input (hop_dont_ask) */
	bool has_moved;	   /* input was forwarded in this turn */
	bool has_asked_us; /* the last frame of this piece asks for something */
	bool was_woken;	   /* by its program, which is let go on before we ask for more */
};

/* hop_retire(): how the channels end, and which one is next. */
struct retired {
	int error;
	uint32_t number;
};

/* A program sends the RESET of a channel before it releases bytes of it that weren't taken. So what it had
 * released when we looked (outlet.taken_upto) counts only once everything that it had sent by then has been
 * read. */
struct taken {
	bool pending;
	uint32_t mark;	     /* position in the ring in */
	struct event *timer; /* polls for what a program has taken without waking us */
	uint32_t poll_ms;
};

/* The other end has gone: its input need not wait for anybody, and `left` counts how often what it took is
 * still to be noted before the session ends. */
struct finishing {
	unsigned left;
	int error;
	char why[160];
};

/* What a paused hop wrote and the other end hasn't processed, as it lay in the ring: whole frames with their
 * numbers. The other end can write there, too, so what is here isn't to be believed: only it gets to read
 * it. */
struct hop_replay {
	uint8_t *bytes;		/* NULL: none */
	uint32_t size, written; /* of them, so many lie in the new ring again */
	struct charge charge;
};

/*
 * hop_output.c: a link's hop goes on in other rings. Each end says MOVE as the last frame in the old ring,
 * waits until it was read, and goes on in the new one: so what isn't processed lies in one ring, and a loss
 * is like any other.
 */
enum moving_out {
	MOVING_NOT,
	MOVING_DUE,  /* MOVE is to be written, */
	MOVING_SAID, /* and lies in the old ring, or was read */
};
struct moving {
	enum moving_out out;
	bool in; /* the other end's MOVE hasn't been read */
	struct ring_reader reader;
	struct ring_writer writer;
};

/* control.c: a hop's input waits for room in the output of a link. */
struct hop_waiting {
	struct hop *blocked_on; /* the hop whose output our input waits for */
	struct hop *granted_by; /* the hop that lets us go on */
	struct hop *prev, *next;
	struct hop *waiters;	   /* hops whose input waits for our output; the first one's turn is next */
	struct hop *granted;	   /* the one of them that goes on now, before all others */
	struct event *stuck_timer; /* runs while there are waiters */
	uint64_t stuck_from;	   /* the main outlet's position when it was started */
	bool stuck;		   /* our output has been full for long: what is for it is spilled */
	bool lacks;		   /* memory for that: who waits tries again by the timer */
};

#define PROGRAM_NAME_SIZE 17

/* The program at the other end of a hop, or that publishes a topic. Zeroed behind other hops. */
struct hop_program {
	bool is_known; /* its session has begun: who it is, those are told with which it has channels */
	bool carries_streams; /* it carries streams and nothing else (doc/protocol.md, 6.1) */
	struct frame_identity identity;
	char comm[PROGRAM_NAME_SIZE]; /* as its kernel tells (program_name()); "": not asked yet */
};

#define HOP_LAST_TURNS 16u /* where two accounts have the same place, one may have more turns */

struct hop {
	struct switchboard *board;
	const struct hop_callbacks *callbacks;
	void *owner;
	const struct hop_traits *traits;
	struct account *account; /* pays for what is opened here; a reference */
	struct hop_program who;
	struct {
		bool is_set;
		struct hop *prev, *next;
	} marks[HOP_MARKS];
	struct task input;	   /* due: there may be some input */
	struct call_history calls; /* into the kernel, about what the program holds, too */
	bool is_to_notify;	   /* in its next turn */
	bool has_made_room;	   /* of which its program asked to be notified */
	uint64_t to_notify_since;  /* turns.spent when it was marked */
	struct inlet in;
	struct outlet out[HOP_OUTLETS];
	struct channel_table channels;
	struct refused refused;
	struct taken taken;
	struct hop_waiting waiting;
	struct finishing finishing;
	struct retired retired;
	enum hop_life life;
	bool holds_input; /* the owner has something to do first, as soon as there are rings */
	/* This domain may be saved and restored, and what the other end wrote into the rings is then stale or
	 * torn: so what was copied out of them counts only if is_sound() says so afterwards, and what was
	 * written into them is given out only if it says so before (doc/protocol.md 5.7, rule 8). */
	bool guarded;
	/* And nothing that was written into them is there any more after a restore, since they are the other
	 * end's. */
	bool keeps_copy;
	uint64_t sure; /* the position up to which it was so when it was given out */
	struct hop_replay replay;
	struct moving moving;
	bool is_silent;	   /* nothing is written until hop_speak(); no image has it (links_greet()) */
	bool said_goodbye; /* the program has sent GOODBYE: it has reported what it took, and takes no more */
	uint8_t goodbye_cause;

	uint64_t emit_from;	    /* turns.spent when this piece of output was begun */
	struct channel_end *urgent; /* ends with control frames to send */
	/* ends of forbidden channels, in the order of `settled_at` (channel_forbid()) */
	struct channel_end *unsettled;
	/* by outlet, or what is paced behind what isn't: ends with spilled data (or a FIN behind it), in the
	 * order of their turns */
	struct channel_end *backlogs[HOP_OUTLETS];
	uint64_t turn, most_turn; /* of the one that has sent some last; that was given last of all */
	struct hop_last_turn {
		const struct account *account; /* only compared */
		uint64_t turn;
	} last_turns[HOP_LAST_TURNS]; /* that accounts have there, by a hash of them */
	struct evbuffer *control;     /* frames of the session itself that wait; NULL: none do */
	/* the account pays for what waits in `control` beyond what everybody may let wait */
	struct charge queued;
	uint32_t beyond; /* bytes that wait there by hop_answer() though hop_send() refuses */

	int error; /* why the session has failed: a negative errno */
	char why[160];
	struct hop_stats tx, rx;
	uint32_t image_number; /* hop_image.h: among those of an image */
};
#define HOP_NOT_IN_IMAGE UINT32_MAX

/* The most memory, in bytes, that a program's hop may take beside its rings, its ledgers and its channels:
 * 256 KiB of frames that the program leaves unread, the questions that wait, the table of channels, and the
 * refused numbers. */
#define HOP_MEMORY 393216u

int hop_init(struct hop *hop, struct switchboard *board, enum hop_kind kind,
	     const struct hop_callbacks *callbacks, void *owner, uint32_t parity, uint32_t channels_max);
/* The same in memory of its own, for an owner that may call hop_retire(). NULL: out of memory. */
struct hop *hop_new(struct switchboard *board, enum hop_kind kind, const struct hop_callbacks *callbacks,
		    void *owner, uint32_t parity, uint32_t channels_max);
/* Sets how a program wants to be spoken to, once it has said so. Only before the hop is attached. */
void hop_set_kind(struct hop *hop, enum hop_kind kind);
/* This domain was restored, and has this number now, which the hop's program is told by SELF. */
void hop_set_domid(struct hop *hop, uint32_t domid);
/* Sets the account that pays for what comes in here, and takes over the caller's reference. Only before the
 * hop is attached, or while it is paused. */
void hop_set_account(struct hop *hop, struct account *account);
/* Resets every channel (see hop_reset_channels) and frees what the hop holds. */
void hop_cleanup(struct hop *hop);
/* Detaches a hop of hop_new(), of which its owner knows nothing any more. Its channels end as by
 * hop_reset_channels(), but in pieces, at the cost of its account, since a peer may have thousands; until it
 * is its turn, nothing goes through a channel. Then the hop is freed. */
void hop_retire(struct hop *hop, int error);
/* Ends at once what is left of all hops that have retired, whose channels would otherwise end in turns to
 * come. */
void hop_free_retired(struct switchboard *board);
static inline bool hop_is_retired(const struct hop *hop)
{
	return hop->life == HOP_RETIRED;
}

static inline bool hop_has_backlog(const struct hop *hop)
{
	return hop->backlogs[OUTLET_MAIN] || hop->backlogs[OUTLET_DELIVERIES];
}

/* Says of the rings that the hop gets next whether it is guarded there, and keeps a copy. */
void hop_guard(struct hop *hop, bool guarded, bool keeps_copy);

struct hop_rings {
	struct ring_view in;
	struct ring_view out[HOP_OUTLETS]; /* as many as its traits say */
	bool adopt;			   /* take the indices from the rings, don't begin at zero */
};
/* Gives a detached hop its rings. -EPROTO: impossible indices; -ENOMEM. */
int hop_attach(struct hop *hop, const struct hop_rings *rings);
/* Gives a hop that was read from an image (hop_image.h) its rings: those that it had, in which the indices
 * are where they were; or with `adopt` others, whose indices are taken. -EPROTO: impossible indices. */
int hop_attach_again(struct hop *hop, const struct hop_rings *rings);
/* Takes the rings away. What was in the channels' queues stays there. */
void hop_detach(struct hop *hop);

/* Takes the rings away, and keeps the session, with a copy of what the other end hasn't processed, at the
 * cost of the hop's account, even if that is full. -ENOMEM: it couldn't be kept, and the hop is detached.
 * Only for a link. */
int hop_pause(struct hop *hop);
/* The positions of a session (doc/protocol.md 5.4): what was sent; of one that is paused, what the other end
 * has processed of it as far as is known; and what was received. */
static inline uint64_t hop_sent(const struct hop *hop)
{
	return hop->out[OUTLET_MAIN].position;
}
/* What of it can have reached the other end: not what was written after this domain was restored. */
uint64_t hop_given_out(const struct hop *hop);
uint64_t hop_acked(const struct hop *hop);
uint64_t hop_received(const struct hop *hop);
/* Gives a paused hop other rings, read and written so far by the caller. What the other end has received,
 * between hop_acked() and hop_sent(), isn't sent again. */
void hop_resume(struct hop *hop, const struct ring_reader *in, const struct ring_writer *out,
		uint64_t received);
/* Gives a detached hop rings, in which the caller has read and written the first frame of each direction. */
void hop_attach_begun(struct hop *hop, const struct ring_reader *in, const struct ring_writer *out);

/* Goes on in other rings (the first outlet's alone counts), empty ones with indices of zero, each direction
 * behind its MOVE. The old ones must stay until callback `moved`, or until the hop is paused or detached.
 * -EINVAL: bad sizes. Only for a link that isn't moving, with callbacks for it. */
int hop_move(struct hop *hop, const struct hop_rings *rings);
static inline bool hop_is_moving(const struct hop *hop)
{
	return hop->moving.out != MOVING_NOT || hop->moving.in;
}
/* Looks whether the other end has read MOVE, after which callback `moved` may come. */
void hop_look_at_move(struct hop *hop);

/* Makes the hop's input due, since the other end has notified us, or may have moved. In its turn the hop
 * takes in what is there, notes what was taken, and lets waiting output go on. */
void hop_event(struct hop *hop);
/* Does the same without a notification: one may have been lost. */
void hop_look(struct hop *hop);
/* Does the same after a program's own notification: the program may have more to send, and is let go on
 * before we ask for the next notification. */
void hop_woken(struct hop *hop);
/* Takes nothing more in, also not after a pause, before callback `before_input` has done what there is to
 * do. */
void hop_hold_input(struct hop *hop);
/* Asks the other end not to notify us of what it writes, until the next hop_event(), hop_look() or
 * hop_may_ask(): the caller polls hop_has_input(), and calls hop_polled() when there is some. */
void hop_dont_ask(struct hop *hop);
void hop_may_ask(struct hop *hop);
void hop_polled(struct hop *hop);
/* Takes in everything that the other end wrote before it went, and notes what it had taken; then the session
 * ends as by hop_fail(). */
void hop_finish(struct hop *hop, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Sends a frame of the session itself (not about a channel), or queues it. -ENOBUFS: the other end has let
 * too many pile up; -ENOMEM. */
int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	     uint32_t length);
/* Sends what keeps the session alive, or answers a frame of the other end's that was read just now. What
 * others let pile up for a link doesn't keep it back, as the number of these is the other end's choice: it
 * has a room of its own. */
int hop_answer(struct hop *hop, uint8_t type, uint32_t channel, const void *payload, uint32_t length);
/* Writes a frame behind which nothing is written before hop_speak(), also after a pause: what comes meanwhile
 * waits. False: something waits already, or there is no room. Only for a link. */
bool hop_fall_silent(struct hop *hop, uint8_t type, const void *payload, uint32_t length);
void hop_speak(struct hop *hop);
static inline bool hop_is_silent(const struct hop *hop)
{
	return hop->is_silent;
}
/* Whether there is something in a ring that its reader doesn't see yet. */
static inline bool hop_has_unpublished(const struct hop *hop)
{
	for (unsigned i = 0; i < HOP_OUTLETS; i++)
		if (outlet_is_ahead(&hop->out[i]))
			return true;
	return false;
}
/* Whether frames of hop_send() wait for room. */
static inline bool hop_has_unsent(const struct hop *hop)
{
	return hop->control;
}
/* Ends the session at the end of this turn, with a negative errno and a reason for the log. Only the first
 * reason counts. */
void hop_fail(struct hop *hop, int error, const char *format, ...)
	__attribute__((cold, format(printf, 3, 4)));
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
/* Whether of what had to be written again all was, or at least the beginning. */
static inline bool hop_has_sent_again(const struct hop *hop)
{
	return !hop->replay.size || hop->replay.written > 0;
}
/* Whether something is still to be written again, before everything else. */
static inline bool hop_is_catching_up(const struct hop *hop)
{
	return hop->replay.bytes != NULL;
}
/* Whether what was copied out of the rings by now is what the other end wrote. */
static inline bool hop_is_sound(const struct hop *hop)
{
	return !hop->guarded || hop->callbacks->is_sound(hop->owner);
}
/* Whether what comes for the other end has to wait, though there may be room. */
static inline bool hop_is_held(const struct hop *hop)
{
	return hop_is_catching_up(hop) || hop->is_silent || hop->moving.out != MOVING_NOT;
}
/* Whether the hop has rings and no fault was found. */
static inline bool hop_is_up(const struct hop *hop)
{
	return hop->life == HOP_UP || hop->life == HOP_FINISHING;
}
static inline bool hop_has_rings(const struct hop *hop)
{
	return hop_life_has_rings(hop->life);
}
/* Whether the other end has gone, and what it left is being taken in. Nothing is written any more: what was
 * never in the rings has a certain end. */
static inline bool hop_is_finishing(const struct hop *hop)
{
	return hop->life == HOP_FINISHING;
}

/* Whether something lies there unread. An impossible index counts, so that hop_look() finds it. */
static inline bool hop_has_input(struct hop *hop)
{
	return hop_has_rings(hop) && ring_reader_ready(&hop->in.reader, 1) != 0;
}
/* Whether what lies in the rings may be looked at: while the owner is told of a failure, too, but not
 * before. */
static inline bool hop_is_readable(const struct hop *hop)
{
	return hop_has_rings(hop) && !hop_is_marked(hop, MARK_FAILED);
}

/* Writes bytes of the stream from the owner of an inner hop (inner.h), no more than inner_room(), of which
 * the last end `messages` messages. What finds no room further on is copied. -EPIPE: nobody gets them any
 * more, and a RESET is on its way; -ENOMEM. */
int hop_push(struct channel_end *end, const struct iovec *pieces, unsigned count, uint32_t length,
	     uint32_t messages);
/* Does it without a copy, if the other end is at an inner hop, too: the bytes wait for its owner where they
 * lie. They are released in any case. -EPIPE; -ENOMEM: nothing was written. */
int hop_give(struct channel_end *end, const struct hop_memory *memory, uint32_t length, uint32_t messages);
/* Sends a GOODBYE with this payload at once, behind everything that was written, if there is room: the hop is
 * about to be detached. */
void hop_farewell(struct hop *hop, const void *payload, uint32_t length);

/* Sets which channel numbers are given out here (hop_init()), unless there are channels. */
void hop_set_parity(struct hop *hop, uint32_t parity);

/* Whether a program that has gone may have taken more than it has reported. */
bool hop_is_unsure(const struct hop *hop);
/* Ends every channel of this hop, and tells the other end of each what is certain about its messages. The
 * outcome of the others is ECONNRESET, and for what was never sent out `error`, a positive errno. */
void hop_reset_channels(struct hop *hop, int error);

/* Returns how many bytes were sent to the other end that it isn't known to have taken out of the ring. */
uint32_t hop_unacknowledged(struct hop *hop);

/* --- what the owner of a hop and others may know of it; nobody outside of daemon/switch/ touches its
 * fields */

static inline struct account *hop_account(const struct hop *hop)
{
	return hop->account;
}
/* Counts `units` of work that the hop's account has caused. */
static inline void hop_spend(const struct hop *hop, uint64_t units)
{
	turns_spend(&hop->board->turns, hop->input.line, units); /* the account's */
}
/* The same for work that was measured. */
static inline void hop_spend_measured(struct hop *hop, uint64_t units)
{
	turns_spend_measured(&hop->board->turns, hop->input.line, units);
}
/* Returns how much work was done in all, by which a caller ends its piece. */
static inline uint64_t hop_spent_by_all(const struct hop *hop)
{
	return hop->board->turns.spent;
}
/* Whether its other end is a part of this daemon (inner.h). */
static inline bool hop_is_inner(const struct hop *hop)
{
	return hop->traits->is_inner;
}
/* Whether its owner is the session of a program. */
static inline bool hop_is_session(const struct hop *hop)
{
	return hop->traits->asks;
}
static inline void *hop_owner(const struct hop *hop)
{
	return hop->owner;
}
static inline const struct hop_program *hop_program(const struct hop *hop)
{
	return &hop->who;
}
/* For the hop's owner, who writes it. */
static inline struct hop_program *hop_own_program(struct hop *hop)
{
	return &hop->who;
}
static inline uint32_t hop_channel_count(const struct hop *hop)
{
	return hop->channels.count;
}
/* Returns the number that the next channel is given here. */
static inline uint32_t hop_next_number(const struct hop *hop)
{
	return hop->channels.next;
}
/* Returns how many pages a walk over the channels looks at. */
static inline uint32_t hop_channel_pages(const struct hop *hop)
{
	return hop->channels.page_count;
}
/* Returns the end of the first channel whose number here is *number or above, and sets *number to the one
 * after it. NULL: there is none. The channel may end between two calls. */
static inline struct channel_end *hop_next_channel(const struct hop *hop, uint32_t *number)
{
	return channel_table_next(&hop->channels, number);
}
/* NULL: no channel has this number. */
static inline struct channel_end *hop_find_channel(const struct hop *hop, uint32_t number)
{
	return channel_table_find(&hop->channels, number);
}
static inline const struct hop_stats *hop_tx(const struct hop *hop)
{
	return &hop->tx;
}
static inline const struct hop_stats *hop_rx(const struct hop *hop)
{
	return &hop->rx;
}
/* Goes on counting where another hop, which this one replaces, has stopped. */
static inline void hop_count_on(struct hop *hop, const struct hop *before)
{
	hop->tx = before->tx;
	hop->rx = before->rx;
}
/* Returns the size of the main ring out. */
static inline uint32_t hop_ring_size(const struct hop *hop)
{
	return hop->out[OUTLET_MAIN].writer.ring.size;
}
static inline bool hop_tells_late(const struct hop *hop)
{
	return hop->traits->tells_late;
}
static inline bool hop_holds_input(const struct hop *hop)
{
	return hop->holds_input;
}
/* Whether it is a link's whose domain may be another one by its number, until its session goes on and its
 * owner has seen to what comes before input. */
static inline bool hop_is_away(const struct hop *hop)
{
	return hop->traits->is_daemon && (hop->life == HOP_PAUSED || hop->holds_input);
}
/* Whether input waits for room in another hop's output. */
static inline bool hop_is_blocked(const struct hop *hop)
{
	return hop->waiting.blocked_on;
}
/* Notes that the program has sent GOODBYE: it has reported what it took, and takes no more. `cause`: the
 * errno that it gives for that (RESET_CAUSE), or 0. */
static inline void hop_note_goodbye(struct hop *hop, uint8_t cause)
{
	hop->said_goodbye = true;
	hop->goodbye_cause = cause;
}
/* Begins a call into the kernel about what the program holds, too, for switch_spend_call(). */
static inline void hop_begin_call(struct hop *hop, struct kernel_call *call)
{
	call_begin(call, &hop->calls);
}
/* Whether the last of these that was measured exactly took long. */
static inline bool hop_calls_are_long(const struct hop *hop)
{
	return hop->calls.is_long;
}

#endif
