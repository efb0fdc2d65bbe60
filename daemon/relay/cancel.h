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
 * Cancellations that wait belong to the channel, and its opener pays for them; only this module looks into
 * them. Their number is bounded: further ones are answered ECONNRESET at once.
 */

#include <stdint.h>

#include "wire/frame.h"

struct channel;
struct channel_end;

/* Handle CANCEL and CANCELLED that came in at `end`. Negative errno: a violation, which ends the hop's
 * session. */
int channel_cancel(struct channel_end *end, uint64_t offset);
int channel_cancelled(struct channel_end *end, const struct frame_cancelled *cancelled);

/* Settles the cancellations below offset `taken`, up to which the acceptor's program has taken the stream. */
void cancels_taken(struct channel *channel, uint64_t taken);
/* Frees the cancellations without answering them. */
void cancels_free(struct channel *channel);

#endif
