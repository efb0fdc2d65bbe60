/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CANCEL_H
#define XENMSG_DAEMON_CANCEL_H

/*
 * Cancelling messages of a channel, as its opener asks (doc/protocol.md, section 2.2). The place of the
 * message decides who answers:
 *
 *   taken already ─────────────────────────────▶ 0
 *   in our queue ───────────────────────────────▶ ECANCELED, it is marked there
 *   in the ring of a program ───────────────────▶ what the compare-and-swap there says
 *   released there, not yet counted as taken ───▶ 0 when it is; ECONNRESET after a while
 *   beyond a link or a socket ──CANCEL──▶ asked ─▶ what is answered there; ECONNRESET after a while
 *
 * Cancellations that wait, for their answer or to be sent, belong to the channel, and its opener pays for
 * them; only this module looks into them. Their number is bounded, whatever they wait for: further ones are
 * answered ECONNRESET at once. So an opener that asks and doesn't read ends its own session, and a hop that
 * takes nothing for a while, as that of a domain that is being saved, holds none of them.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"
#include "daemon/switch/channel.h"

#define CANCELS_MAX 4096u /* that a channel has, answered or not */
#define CANCEL_COST 160u  /* bytes for each, including what the hash and malloc need */

struct channel;
struct channel_end;
struct channel_frame;
struct image;

/* Handle CANCEL and CANCELLED that came in at `end`. Negative errno: a violation, which ends the hop's
 * session. */
int channel_cancel(struct channel_end *end, uint64_t offset);
int channel_cancelled(struct channel_end *end, const struct frame_cancelled *cancelled);

/* Marks the message whose state lies at `offset`, in what waits at this end, as cancelled. Returns
 * -ECANCELED, or -ECONNRESET: it doesn't wait there. */
int channel_cancel_queued(struct channel_end *out, uint64_t offset);
/* Makes the next CANCEL or CANCELLED that is to be sent at `end`. False: there is none. */
bool cancels_next_frame(struct channel_end *end, struct channel_frame *frame);
/* Whether the opener, at `end`, is still to be sent an answer. */
bool cancels_answer(const struct channel_end *end);
/* Settles the cancellations below offset `taken`, up to which the acceptor's program has taken the stream. */
void cancels_taken(struct channel *channel, uint64_t taken);
/* Settles all that aren't answered, since the program that had the channel has left it: another one gets what
 * lies behind `begin`, and that is in our queue. */
void cancels_left(struct channel *channel, uint64_t begin);
/* Writes those of the channel, or reads them, for which it has paid. They have as much time as at first. */
void cancels_image(struct image *image, struct channel *channel);
/* Frees the cancellations without answering them. What they cost stays charged to the channel, which is about
 * to give it back. */
void cancels_free(struct channel *channel);

/*
 * Withdrawals of calls on their way to the server (doc/protocol.md, 2.3): each says that an answer is no
 * longer wanted. They go past the data, so that a server hears of them though it takes nothing. Nothing
 * depends on their arrival: of those that can't be passed on yet a channel keeps WITHDRAWALS_MAX, at the
 * opener's cost, and drops further ones.
 */

#define WITHDRAWALS_MAX 1024u

/* Handles a WITHDRAW that came in at `end`. -EPROTO: it may not come from there, or not to this acceptor. */
int channel_withdraw(struct channel_end *end, uint32_t number);
/* Fills in the next WITHDRAW to be sent at the acceptor's end. False: there is none. */
bool withdrawals_next_frame(struct channel_end *end, struct channel_frame *frame);
void withdrawals_free(struct channel *channel);

#endif
