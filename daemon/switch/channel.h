/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CHANNEL_H
#define XENMSG_DAEMON_CHANNEL_H

/*
 * A channel as it passes through this daemon: in at one hop, out at another (doc/protocol.md, section 2). It
 * has two ends, the opener's and the acceptor's; each lies on a hop, under a number of that hop. The daemon
 * doesn't look into the streams. Offsets count the bytes of a stream. For the stream that comes in at an end
 * and goes out at the other one,
 *
 *    taken by the receiver  ≤  sent out  ≤  received  ≤  granted to the sender
 *      other->consumed         other->sent   end->received   end->granted
 *
 * and the bytes that were received but not sent out lie in other->queue.
 *
 * An end lives from its OPEN until the channel has ended on that hop: both FINs and everything taken, or a
 * RESET each way. It may outlive the other end, but only to finish this handshake. A channel is freed when
 * both ends are gone, at the end of the turn.
 *
 * Its two directions end independently, so it has two states, which move() in channel.c changes: `in`, what
 * the hop's other side has sent, and `out`, what we have sent.
 *
 *   in           FIN comes   RESET comes       out          OPEN sent   FIN sent   we reset it   RESET sent
 *   IN_OPEN      IN_FIN      IN_RESET          OUT_NEW      OUT_OPEN               OUT_RESET *
 *   IN_FIN       violation   IN_RESET          OUT_OPEN                 OUT_FIN    OUT_RESETTING
 *   IN_RESET     violation   violation         OUT_FIN                             OUT_RESETTING
 *                                              OUT_RESETTING                                     OUT_RESET
 *
 *   * and IN_RESET: the hop's other side doesn't know the channel, so nothing is sent and no answer awaited.
 *
 * From OUT_RESETTING on, everything that comes for the channel is ignored, except a RESET. The other frames
 * that are to be sent are not a state but a set, `owed`.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/buffer.h>

#include "base/durations.h"
#include "base/peer_id.h"
#include "base/quota.h"
#include "wire/frame.h"

struct channel_cancels;
struct channel_withdrawals;
struct hop;
struct switchboard;
struct sharing;

/* How far a sender may run ahead of what the receiver has taken. On its way through two daemons a stream lies
 * in three rings, and the program that writes hears of it last: with twice as much all of them are at work.
 * Measured, through rings of 1 MiB between sessions that carry streams: 1.2 times as fast. */
#define CHANNEL_WINDOW_MAX 1048576u
#define STREAM_WINDOW_MAX  2097152u

enum channel_in {
	IN_OPEN,
	IN_FIN,
	IN_RESET,
};

enum channel_out {
	OUT_NEW, /* of the acceptor: its OPEN is still to be sent */
	OUT_OPEN,
	OUT_FIN,
	OUT_RESETTING, /* RESET is sent next, before everything that waits */
	OUT_RESET,
};

/* Frames that are to be sent, in this order; the last two behind the data that waits. */
enum channel_owed {
	OWED_SENDER = 1,
	OWED_OPENED = 2,
	OWED_REASSIGNED = 4, /* the first that waits, behind the answers before it */
	OWED_CREDIT = 8,
	OWED_FIN = 16,
	OWED_RESET = 32, /* a program must have taken the data, too */
};

struct channel_end {
	struct channel *channel;
	struct hop *hop; /* NULL: the end is gone */
	uint32_t number;
	bool is_opener;

	/* the stream that comes in here */
	uint64_t received;
	uint64_t granted;
	uint64_t told_consumed; /* what our last CREDIT reported */

	/* the stream that goes out here */
	uint64_t sent;
	uint64_t limit; /* the other side's credit (links; a program is bounded by the window) */
	uint64_t consumed;
	uint32_t window;
	uint32_t flight; /* bytes that a program was given and hasn't reported, where that is paced */
	struct evbuffer *queue;
	uint32_t queued_messages;
	uint32_t newest_handed; /* ledger.h: the entry of the bytes that were sent out last */

	enum channel_in in;
	enum channel_out out;
	uint8_t owed; /* enum channel_owed */
	uint32_t reset_error;
	bool is_stopped;   /* the receiver of what goes out here wants no more: CREDIT_STOP */
	bool is_refused;   /* that error is a program's own: RESET_REFUSED */
	uint32_t reset_by; /* RESET_BY, RESET_CAUSE; only for words, so it isn't handed over */
	uint64_t reset_consumed, reset_unsure;

	/* channel_forbid() of a program's end: what it had released by then counts once its input was read up
	 * to `settled_at`, unless its own RESET comes before that. Until then the opener isn't told. */
	bool is_unsettled;
	bool leaves_rest; /* the program doesn't take what it hadn't released by then */
	uint32_t settled_at;
	uint64_t released;

	void *participant; /* of an inner hop's owner (inner.h): what it has to do with the channel */
	uint64_t begun;	   /* it may have acted on what lies before this, though it hasn't taken it */

	bool in_urgent, in_backlog;
	uint64_t turn; /* in the backlog */
	struct channel_end *unsettled_prev, *unsettled_next;
	struct channel_end *urgent_prev, *urgent_next, *backlog_prev, *backlog_next;
};

/* What the channels to one endpoint have carried. It lives as long as the endpoint and the last of them,
 * since a stream may outlive its endpoint; the router remembers it for who binds that again. */
struct channel_tally {
	unsigned references;
	uint64_t opened, refused;      /* channels */
	uint64_t bytes_to, bytes_from; /* of the streams, towards the endpoint and back */
	uint64_t messages;	       /* to it: messages and calls */
	/* latency.h: how long some of these took, from when this daemon had them; these are no topic's */
	struct durations taken;	   /* messages and calls, until the program had taken them */
	struct durations answered; /* calls, until this daemon had the answer, or the caller has given up */
	/* Messages of topics of this endpoint that are no more. */
	struct {
		uint64_t published, delivered, missed, gaps;
	} topics;
};

/* What is measured of a channel now: latency.h. */
struct channel_latency {
	uint64_t upto, came_ns;	       /* the end of a message (0: none), and when it came */
	uint64_t asked_ns, asked_upto; /* when a call came (0: none), and the end of its request */
	uint32_t number;	       /* of that call */
	uint32_t answers;	       /* to others since then */
};

/* What policy, which has allowed the channel, can say of it since. It is asked again, about each of them by
 * the same function, when it may decide otherwise: by other rules, in another daemon, by names that have
 * come or gone, and once a session is resumed.
 *
 *   state          since                                 asked again        names unknown       passed on
 *   DECIDED        it was asked last                     whenever it may    it ends; if one of  yes
 *                                                        decide otherwise   its domains is away
 *                                                                           ──▶ AWAITS_NUMBER
 *   AWAITS_NAME    one of its domains has another        likewise           it goes on          yes
 *                  number, and its name is unknown
 *   AWAITS_NUMBER  this domain was restored, or one of   when nobody is     it goes on          no: a program would
 *                  its domains is away and its name is   away               ──▶ AWAITS_NAME     be told of another
 *                  no more: by its number another one                                           domain
 *                  may be meant now */
enum channel_verdict {
	CHANNEL_DECIDED,
	CHANNEL_AWAITS_NAME,
	CHANNEL_AWAITS_NUMBER,
};

/* That another program goes on: the opener is to be told behind so many bytes of answers, before the others,
 * and before a CREDIT counts what is in doubt as taken. */
struct channel_reassigned {
	struct frame_reassigned frame;
	uint64_t at;
	struct channel_reassigned *next;
};

/* Where a channel comes from, besides its sender's identity (doc/protocol.md, 5.10). A host's number is this
 * daemon's own (daemon/hosts/hosts.h). */
struct channel_origin {
	char *domain; /* NULL: unknown */
	char *host;   /* that the sender is on; NULL: this one */
	bool is_remote;
	uint32_t from, to; /* the hosts' numbers; 0: this host, or an unknown one */
};

struct channel {
	struct switchboard *board;
	enum channel_kind kind;
	struct frame_identity identity; /* the sender's, on its own host */
	char *endpoint;			/* sent in OPEN */
	/* as its program wrote it, of a byte stream in a session that carries them; else NULL */
	char *address;
	/* which byte stream of this daemon its opener has, in the order in which they came; the next one is
	 * the acceptor's; 0: it is none */
	uint64_t stream;
	struct channel_origin *origin; /* NULL: nothing more is known than the identity */
	uint64_t max_message;
	struct channel_end opener, acceptor;
	struct charge charge; /* the opener pays, for the channel and its windows */
	struct orphans *orphans_of_hop, *orphans_of_account; /* among which it is counted; NULL: it isn't */
	struct channel_tally *tally;	/* a reference; NULL: it leads to no endpoint here */
	struct channel_latency latency; /* of what the tally has durations of */
	struct sharing *sharing;	/* sharing.h; NULL: it leads to no endpoint here that is shared */
	struct channel_reassigned *reassigned; /* utlist: of which the opener is to be told */
	/* cancel.h: cancellations without an answer from the acceptor's hop; NULL: there never was one */
	struct channel_cancels *cancels;
	struct channel_withdrawals *withdrawals; /* cancel.h: those that are to be sent; NULL: none */
	bool opened;				 /* the acceptor's daemon has sent OPENED */
	bool administers;			 /* the sender may administer its own daemon */
	/* of it, its sender's domid and pid its name in traces is made; 0: the sender's daemon doesn't say */
	uint16_t serial;
	/* The program that takes what is sent here, as callers are told; domid is that of its own host. */
	bool knows_acceptor;
	struct frame_identity acceptor_identity;
	bool accepted_by_topic; /* and it has subscribed to a topic */
	uint8_t verdict;	/* enum channel_verdict */
	bool ended;
	struct channel *ended_next;
	struct channel *prev, *next; /* board->channels */
};

/* Gives the channel, whose acceptor is known, another endpoint for its OPEN. -ENOMEM: it keeps the one that
 * it has. */
int channel_rename(struct channel *channel, const char *endpoint);

static inline struct channel_end *channel_other(struct channel_end *end)
{
	return end->is_opener ? &end->channel->acceptor : &end->channel->opener;
}

/* Whether the channel is reset at this end, so that whatever comes in there is ignored. */
static inline bool channel_is_reset(const struct channel_end *end)
{
	return end->out >= OUT_RESETTING;
}

/* Whether the channel leads by way of domain 0, so that its endpoint is an address. */
static inline bool channel_is_relayed(const struct channel *channel)
{
	return channel->endpoint && address_is_meant(channel->endpoint, strlen(channel->endpoint));
}

/* Whether one of the two sessions that it goes through is away. */
bool channel_is_away(const struct channel *channel);
/* Which rules have let it be: none, those for what is here, or domain 0's for what it passes on. */
enum channel_rules { RULES_NONE, RULES_HERE, RULES_ON_THE_WAY };
enum channel_rules channel_rules(const struct channel *channel);
/* Whether policy can be asked about the channel now. */
bool channel_can_be_judged(const struct channel *channel);
/* Notes what it says: 0, -EACCES or -ENODATA. `is_renumbered`: one of its domains has another number. Returns
 * 0, or the negative errno with which it is to end. */
int channel_note_verdict(struct channel *channel, int r, bool is_renumbered);

/* Returns how many bytes wait for room at this end. */
static inline size_t channel_queued(const struct channel_end *end)
{
	return end->queue ? evbuffer_get_length(end->queue) : 0;
}

static inline bool channel_has_backlog(const struct channel_end *end)
{
	return channel_queued(end) > 0;
}

/* Whether OPEN, OPENED or REASSIGNED must be sent here before any data. */
static inline bool channel_is_unannounced(const struct channel_end *end)
{
	return end->out == OUT_NEW || (end->owed & (OWED_OPENED | OWED_REASSIGNED));
}

/* Makes a channel whose opener's end has `number` on `hop`, and enters it in the hop's table. -ENOBUFS;
 * -ENOMEM; -EPROTO: the number is in use. */
int channel_new(struct hop *hop, uint32_t number, enum channel_kind kind,
		const struct frame_identity *identity, struct channel **channel);
/* Returns a tally with one reference, or NULL: out of memory. */
struct channel_tally *channel_tally_new(void);
/* NULL is allowed. */
void channel_tally_unref(struct channel_tally *tally);
void channel_tally_image(struct image *image, struct channel_tally *tally);
/* Counts what the channel carries from now on. */
void channel_count(struct channel *channel, struct channel_tally *tally);
/* Gives the channel its acceptor's end on `hop`, for `endpoint` (or an address: protocol.md, 5.8). If that is
 * a waiting room (traits.h), the opener isn't told that it was accepted. A later call moves a channel that
 * waits, with all that has come, from there to another hop. -ENOBUFS: the hop has no number left, the
 * opener's account has no room, or the hop's owner doesn't answer (orphans.h); -ENOMEM. On error a channel
 * that waits goes on waiting. */
int channel_accept(struct channel *channel, struct hop *hop, const char *endpoint);
/* Sets whose account pays for the channel, before channel_accept(): not that of the hop on which it was
 * opened. */
void channel_charge_to(struct channel *channel, struct account *account);
/* Charges the channel beyond what its opener may have; channel_accept() charges nothing then. False: there is
 * such a channel of the opener's already. */
bool channel_exceed(struct channel *channel);
/* Whether the channel waits where nothing of it was sent on: in a waiting room, or at a link that isn't
 * there. */
bool channel_is_waiting(const struct channel *channel);
/* Returns the number of the byte stream at this end, which no other one has in this daemon. */
uint64_t channel_stream_number(const struct channel_end *end);
/* Whether the opener is told that there is an acceptor, or was. */
bool channel_is_accepted(const struct channel *channel);
/* Whether it is a call or a stream whose opener has given up or gone, so that nobody wants what it would
 * bring. Messages that were sent are still wanted. */
bool channel_is_abandoned(const struct channel *channel);
/* Whether the acceptor's hop has been told who the sender is, and still has the channel. */
bool channel_has_told_sender(const struct channel *channel);
/* Tells a daemon there by SENDER that the sender's domain has another number now. */
void channel_tell_source(struct channel *channel);
/* Tells a program there likewise, by SENDER, or that it is called otherwise, which another host is told, too.
 * Tells the opener's program that the domain of who answers has another number, also by SENDER through the
 * daemon to which it is relayed. */
void channel_tell_sender(struct channel *channel);
void channel_tell_acceptor(struct channel *channel);
/* Sets the name of the sender's domain ("": unknown), before channel_accept(). */
void channel_set_from_domain(struct channel *channel, const char *name);
/* Sets on which host the sender is, likewise: one with this number. -ENOMEM. */
int channel_set_from_host(struct channel *channel, uint32_t number, const char *name);
/* Sets that the acceptor is on another host, likewise: in domain 0 on one with this number, elsewhere 0.
 * -ENOMEM. */
int channel_set_to_host(struct channel *channel, uint32_t number);
/* Returns the name of the sender's domain, or NULL: it is unknown. */
const char *channel_from_domain(const struct channel *channel);
/* Returns the name of the host that the sender is on, or NULL: this one. */
const char *channel_from_host(const struct channel *channel);
/* Returns, in domain 0, the number of the host that the acceptor is on, or 0: it isn't on another one. */
uint32_t channel_to_host(const struct channel *channel);
/* Whether the sender or the acceptor is on another host. */
bool channel_is_remote(const struct channel *channel);
void channel_origin_free(struct channel *channel);
/* Returns who answers for the sender: its domain, or the host that it is on. */
struct peer_id channel_source(const struct channel *channel);
/* Ends the channel for its opener, with the positive errno `error`: nothing was taken. */
void channel_refuse(struct channel *channel, int error);

/* Ends a channel that was refused before its acceptor heard of it, so that only the refusal is left to send.
 * True: it has ended, and the caller sends *reset; false: nothing was changed. */
bool channel_drop_if_refused(struct channel *channel, struct frame_reset *reset);

/* Ends the channel on both sides, because policy forbids it or its endpoint is gone. `error`, a positive
 * errno, is for messages that weren't taken. What a program had released by now counts as taken, unless it
 * had sent a RESET before: so its opener is told only when what the program had sent by now has been read. */
void channel_forbid(struct channel *channel, int error);
/* Does it with ENOENT, since its program has unbound the endpoint, and takes nothing more that it hasn't
 * released before. */
void channel_unbound(struct channel *channel);
/* Tells the opener of a channel that was forbidden what its program had taken. */
void channel_settle(struct channel_end *end);

/* Handle frames about the channel that came in at `end`. Negative errno: a violation, which ends the hop's
 * session. */
int channel_opened(struct channel_end *end, const struct frame_opened *opened);
int channel_credit(struct channel_end *end, const struct frame_credit *credit);
int channel_fin(struct channel_end *end, uint64_t total);
int channel_reset(struct channel_end *end, const struct frame_reset *reset);

/* Notes that the other side of end->hop has taken the stream up to `offset`. */
void channel_taken(struct channel_end *end, uint64_t offset);
/* Ends the channel at `end`, whose hop is gone. What lies before `unsure` may have been taken without our
 * knowing, over a link, or by a program that died between taking and reporting it. `error`, a positive errno,
 * is for messages that certainly weren't taken. */
void channel_lost(struct channel_end *end, int error, uint64_t unsure);

/* Fills in the next control frame that `end` has to send. False: no (further) frame can be sent now. */
struct channel_frame {
	struct frame_header header;
	uint8_t payload[FRAME_SMALL_MAX];
};
bool channel_next_control(struct channel_end *end, struct channel_frame *frame);
/* Whether it may have one: at once, or when something else was sent or taken. */
static inline bool channel_has_control(const struct channel_end *end)
{
	return end->owed || end->out == OUT_NEW || end->out == OUT_RESETTING || end->channel->cancels ||
	       end->channel->withdrawals;
}
/* Owes the opener the first REASSIGNED that waits, if the answers before it were sent. */
void channel_owe_reassigned(struct channel *channel);
/* Notes that all spilled data has been sent. */
void channel_backlog_gone(struct channel_end *end);
/* Removes the end from its hop if the channel has ended there. */
void channel_check_ended(struct channel_end *end);
void channel_free(struct channel *channel);

#endif
