/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_INNER_H
#define XENMSG_DAEMON_INNER_H

/*
 * An inner hop: one whose other end is a part of this daemon, its owner. It is never attached. What a program
 * would find in its rings the owner takes by these functions, in its turns (callback `turn`), and what a
 * program would write it does by calls. So the channels with an end there are like all others: routed,
 * charged, relayed and resumed by the same code.
 *
 * The owner must take all frames and all data that are there, or say that it wants another turn
 * (inner_due()). What it has taken counts as taken by the receiver. It answers each RESET and each FIN that
 * it hasn't sent itself. An end is gone when both have been exchanged: `participant`, which is the
 * owner's, must be forgotten by then.
 */

#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"

/* Returns the next control frame for the owner, about the channel at *end. False: there is none, as far as it
 * was looked. */
bool inner_next_frame(struct hop *hop, struct channel_end **end, struct channel_frame *frame);
/* Returns an end at which data has come in for the owner; NULL: none. The data is end->queue. Each one in
 * turn, since whoever has some left goes behind the others (inner_taken()). */
static inline struct channel_end *inner_next_data(const struct hop *hop)
{
	return hop->backlogs[OUTLET_MAIN];
}
/* Whether there are frames or data, perhaps. */
static inline bool inner_has_input(const struct hop *hop)
{
	return hop->urgent || inner_next_data(hop);
}
/* Leaves what is there until more comes. */
void inner_wait_for_data(struct channel_end *end);
/* Counts `length` bytes as taken that the owner has removed from end->queue, and the work of it. */
void inner_taken(struct channel_end *end, size_t length);
/* Does the same for bytes that lay in the owner's memory, and that nobody has copied. */
void inner_taken_over(struct channel_end *end, size_t length);
/* Returns how much may be pushed at this end now. */
static inline uint64_t inner_room(const struct channel_end *end)
{
	return end->in == IN_OPEN && !channel_is_reset(end) ? end->granted - end->received : 0;
}
/* The stream from the owner ends here. */
void inner_fin(struct channel_end *end);
/* Ends the channel, with a positive errno: what the owner hasn't taken never will be. */
void inner_reset(struct channel_end *end, int error);
/* The owner has this end of a channel, and knows who has opened it: there comes no OPEN, and a RESET if the
 * channel ends, even before the owner's next turn. Also for an end on the hop of a stream. */
void inner_has(struct channel_end *end);
/* Makes a channel that the owner opens, which isn't led anywhere yet. -ENOBUFS, -ENOMEM. */
int inner_open(struct hop *hop, enum channel_kind kind, const struct frame_identity *identity,
	       struct channel **channel);
/* The owner wants another turn. */
static inline void inner_due(struct hop *hop)
{
	task_due(&hop->input);
}

#endif
