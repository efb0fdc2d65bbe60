/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CHANNEL_H
#define XENMSG_DAEMON_CHANNEL_H

/*
 * A channel as it passes through this daemon: in at one hop, out at another (doc/protocol.md, section 2). It
 * has two ends, the opener's and the acceptor's; each lies on a hop, under a number of that hop. The daemon
 * doesn't look into the streams. Offsets count the bytes of a stream; for the stream that comes in at an end
 * and goes out at the other one,
 *
 *    taken by the receiver  ≤  sent out  ≤  received  ≤  granted to the sender
 *      other->consumed         other->sent   end->received   end->granted
 *
 * and what was received but not sent out lies in other->queue.
 *
 * An end lives from its OPEN until the channel has ended on that hop: both FINs and everything taken, or a
 * RESET each way. It may outlive the other end, then only to finish this handshake. A channel is freed when
 * both ends are gone, at the end of the turn.
 *
 * Its two directions end independently, so it has two states, which channel.c's move() moves on: `in`, what the
 * hop's other side has said, and `out`, what we have.
 *
 *   in           FIN comes   RESET comes       out          OPEN sent   FIN sent   we reset it   RESET sent
 *   IN_OPEN      IN_FIN      IN_RESET          OUT_NEW      OUT_OPEN               OUT_RESET *
 *   IN_FIN       violation   IN_RESET          OUT_OPEN                 OUT_FIN    OUT_RESETTING
 *   IN_RESET     violation   violation         OUT_FIN                             OUT_RESETTING
 *                                              OUT_RESETTING                                     OUT_RESET
 *
 *   * and IN_RESET: nobody on this hop has heard of it, so there is nothing to say and no answer to wait for.
 *
 * From OUT_RESETTING on, everything that comes for the channel is ignored, but for a RESET. Which frames are
 * to be sent besides is not a state but a set, `owed`.
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/buffer.h>

#include "daemon/base/quota.h"
#include "wire/frame.h"

struct channel_cancels;
struct event;
struct hop;
struct relay;

#define CHANNEL_WINDOW_MAX 1048576u /* how far a sender may run ahead of what the receiver has taken */

enum channel_in {
	IN_OPEN,
	IN_FIN,
	IN_RESET,
};

enum channel_out {
	OUT_NEW, /* the acceptor's, whose OPEN is to be sent */
	OUT_OPEN,
	OUT_FIN,
	OUT_RESETTING, /* RESET comes next, before all that waits */
	OUT_RESET,
};

/* Frames to be sent when the time comes; the last two behind the data that waits. */
enum channel_owed {
	OWED_OPENED = 1,
	OWED_CREDIT = 2,
	OWED_FIN = 4,
	OWED_RESET = 8, /* by a program, the data must have been taken, too */
};

struct channel_end {
	struct channel *channel;
	struct hop *hop; /* NULL: gone */
	uint32_t number;
	bool is_opener;

	/* the stream that comes in here */
	uint64_t received;
	uint64_t granted;
	uint64_t told_consumed; /* what our last CREDIT said */

	/* the stream that goes out here */
	uint64_t sent;
	uint64_t limit; /* the other side's credit (links; for a program it is the window that bounds) */
	uint64_t consumed;
	uint32_t window;
	struct evbuffer *queue;
	uint32_t queued_messages;
	uint32_t newest_handed; /* ledger.h: the entry of what went out last */

	enum channel_in in;
	enum channel_out out;
	uint8_t owed; /* enum channel_owed */
	uint32_t reset_error;
	uint64_t reset_consumed, reset_unsure;

	bool in_urgent, in_backlog;
	struct channel_end *urgent_prev, *urgent_next, *backlog_prev, *backlog_next;
};

struct channel {
	struct relay *relay;
	enum channel_kind kind;
	struct frame_identity identity;
	char *endpoint;	   /* the name that goes into OPEN */
	char *domain_name; /* of the sender, for programs; NULL: unknown */
	uint64_t max_message;
	struct channel_end opener, acceptor;
	struct charge charge; /* of who opened it, for the channel and its windows */
	/* cancel.h: asked of the acceptor's hop, not yet answered; NULL: none ever was */
	struct channel_cancels *cancels;
	bool opened; /* the acceptor's daemon has said so */
	bool ended;
	struct channel *ended_next;
};

static inline struct channel_end *channel_other(struct channel_end *end)
{
	return end->is_opener ? &end->channel->acceptor : &end->channel->opener;
}

/* From here on nothing that comes in at this end counts. */
static inline bool channel_is_reset(const struct channel_end *end)
{
	return end->out >= OUT_RESETTING;
}

/* Bytes that wait for room here. */
static inline size_t channel_queued(const struct channel_end *end)
{
	return end->queue ? evbuffer_get_length(end->queue) : 0;
}

static inline bool channel_has_backlog(const struct channel_end *end)
{
	return channel_queued(end) > 0;
}

/* What has to be said here before any data. */
static inline bool channel_is_unannounced(const struct channel_end *end)
{
	return end->out == OUT_NEW || (end->owed & OWED_OPENED);
}

/* A channel with an opener's end at `number` of `hop`, entered in the hop's table. -ENOBUFS, -ENOMEM; -EPROTO
 * if the number is in use. */
int channel_new(struct hop *hop, uint32_t number, enum channel_kind kind,
		const struct frame_identity *identity, struct channel **channel);
/* Gives it its other end on `hop`, where `endpoint` is. -ENOBUFS: the hop has no number left, or the opener's
 * account no room. */
int channel_accept(struct channel *channel, struct hop *hop, const char *endpoint);
/* The sender's domain by name ("" if unknown), before it is accepted. */
void channel_set_domain_name(struct channel *channel, const char *name);
/* Ends it for its opener: nothing was taken. */
void channel_refuse(struct channel *channel, int error);

/* Ends a channel that was refused before its acceptor heard of it, so that only the refusal is left to be sent.
 * True: it has ended, and the caller sends `error`; false: nothing was changed. */
bool channel_drop_if_refused(struct channel *channel, int *error);

/* It may not go on, by policy or because its endpoint is gone: ends it on both sides, `error` for what wasn't
 * taken. */
void channel_forbid(struct channel *channel, int error);

/* Frames about the channel came in at `end`. Below zero: a violation, the hop's session ends. */
int channel_opened(struct channel_end *end, const struct frame_opened *opened);
int channel_credit(struct channel_end *end, const struct frame_credit *credit);
int channel_fin(struct channel_end *end, uint64_t total);
int channel_reset(struct channel_end *end, const struct frame_reset *reset);

/* The other side of end->hop has taken its stream up to `offset`. */
void channel_taken(struct channel_end *end, uint64_t offset);
/* The hop of `end` is gone. `unsure`: bytes that were sent out there may have been taken without our knowing,
 * over a link, or by a program that died between taking and saying so; else only what was reported taken has
 * been. `error` is for what certainly wasn't. */
void channel_lost(struct channel_end *end, int error, bool unsure);

/* Control frames that `end` wants sent: fills in the next one. False: nothing (more) can be sent now. */
struct channel_frame {
	struct frame_header header;
	uint8_t payload[FRAME_SMALL_MAX];
};
bool channel_next_control(struct channel_end *end, struct channel_frame *frame);
/* It has spilled data, which its hop sends when there is room. */
void channel_mark_backlog(struct channel_end *end);
/* All of that has gone. */
void channel_backlog_gone(struct channel_end *end);
void channel_check_ended(struct channel_end *end);
void channel_free(struct channel *channel);

#endif
