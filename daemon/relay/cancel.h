/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CANCEL_H
#define XENMSG_DAEMON_CANCEL_H

/*
 * Messages of a channel that its opener wants back (doc/protocol.md, section 2.2). Where the message lies
 * decides who answers:
 *
 *   taken already ─────────────────────────────▶ 0
 *   in our queue ───────────────────────────────▶ ECANCELED, it is marked there
 *   in the ring of a program ───────────────────▶ what the compare-and-swap there says
 *   released there, not yet counted as taken ───▶ 0 when it is; ECONNRESET after a while
 *   beyond a link or a socket ──CANCEL──▶ asked ─▶ what is answered there; ECONNRESET after a while
 *
 * Those that wait are the channel's, and paid for by its opener; only this module looks into them. They are
 * bounded: further ones are answered ECONNRESET at once.
 */

#include <stdint.h>

#include "wire/frame.h"

struct channel;
struct channel_end;

/* The frames that came in at `end`. Below zero: a violation, the hop's session ends. */
int channel_cancel(struct channel_end *end, uint64_t offset);
int channel_cancelled(struct channel_end *end, const struct frame_cancelled *cancelled);

/* The acceptor's program has taken the stream so far. */
void cancels_taken(struct channel *channel, uint64_t taken);
void cancels_free(struct channel *channel);

#endif
