/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REASSIGN_H
#define XENMSG_DAEMON_REASSIGN_H

/*
 * A channel to a shared endpoint goes on with another program when the one that had it leaves
 * (doc/decisions/0039, and doc/protocol.md, 2.7). What the one has not taken goes to the other, from the
 * beginning of a message on:
 *
 *   it has said up to where it took (RESET, GOODBYE) ──▶ what lies behind that goes on
 *   it has died ──▶ each message in its ring is taken away from it by compare-and-swap; what it may have taken is in doubt
 *
 * The opener hears nothing of it unless there is something in doubt, or it has calls that may have been
 * taken: then REASSIGNED tells it, behind the answers of the one that leaves. A channel whose opener can't be
 * told so, or of which a message is torn (sharing.h), ends as any other.
 *
 * Calls don't go on if the program that has died drained the endpoint: their caller makes those again that
 * were refused, and what lies behind them would overtake these. They end with ENOENT, as if each had been
 * refused.
 */

#include <stdbool.h>

#include "wire/frame.h"

/* Of which an opener that doesn't read is still to be told: then the channel ends. */
#define REASSIGNED_MAX 16u

struct channel;
struct channel_end;
struct hop;
struct worker;

/* Moves the channel from its program to another one on `hop`. `sure`: the program takes nothing more, and all
 * that it took has been noted. -EOPNOTSUPP: this channel can't go on; -ENOBUFS: no number is left there;
 * -ENOMEM. On error it is where it was, and it must end if `sure` is false. */
int channel_go_on(struct channel *channel, struct hop *hop, struct worker *worker, bool sure);
/* Ends a channel of calls whose program has gone while it drained the endpoint. `sure`: see above. False: it
 * is another one. */
bool channel_give_back(struct channel *channel, bool sure);
/* Whether the program at `end`, which has sent this RESET, only leaves the channel to others, and one of them
 * has it now. */
bool channel_passes_on(struct channel_end *end, const struct frame_reset *reset);
/* Puts a REASSIGNED behind those that wait, which is to be told behind so many bytes of answers. -ENOMEM. */
int reassign_wait(struct channel *channel, const struct frame_reassigned *frame, uint64_t at);
/* Handles a REASSIGNED that came in at `end`. -EPROTO. */
int channel_take_reassigned(struct channel_end *end, const struct frame_reassigned *reassigned);

#endif
