/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CHANNEL_INTERNAL_H
#define XENMSG_DAEMON_CHANNEL_INTERNAL_H

/* What the parts of a channel share: its life and its frames out (channel.c); the states of its ends, and the
 * frames about it that come in (channel_state.c). */

#include "daemon/switch/channel.h"
#include "daemon/switch/sharing.h"

/* --- where a program's streams begin */
/* Where the stream to the program at this end begins in that of the opener, since it has taken the channel
 * over (reassign.h). */
static inline uint64_t channel_base_to(const struct channel_end *end)
{
	return end->is_opener ? 0 : sharing_base_to(end->channel->sharing);
}

/* Likewise the stream that comes from it. */
static inline uint64_t channel_base_from(const struct channel_end *end)
{
	return end->is_opener || !end->channel->sharing ? 0 : end->channel->sharing->base_from;
}

/* Returns what an offset of the stream from the program is for it. Before it begins, it has taken nothing. */
static inline uint64_t channel_seen_from(const struct channel_end *end, uint64_t offset)
{
	return offset > channel_base_from(end) ? offset - channel_base_from(end) : 0;
}

/* --- channel.c */
/* Counts it among all that there are, which are looked at after each pass (base/invariant.h). */
void channel_enlist(struct channel *channel);

/* Whether what lies between the ends is as much as one has received and the other wasn't sent, unless it is
 * dropped. */
bool channel_adds_up(const struct channel_end *out);

/* --- channel_state.c */
enum channel_change {
	FIN_CAME,
	RESET_CAME,
	OPEN_SENT,
	FIN_SENT,
	RESET_DECIDED,
	RESET_SENT,
};
/* Changes the state by the table in channel.h. False: the change isn't possible in this state. */
bool channel_move(struct channel_end *end, enum channel_change change);
void channel_drop_reassigned(struct channel *channel);
/* Gives back what the bytes of an orphan could take, once none of them is sent on any more. */
void channel_release_bytes(struct channel *channel);
/* Removes the end from its hop, where no frame about the channel is sent any more. When both ends are gone,
 * the channel is to be freed. */
void channel_end_gone(struct channel_end *end);
/* Sends RESET at this end next, before all that waits. */
void channel_reset_now(struct channel_end *end, int error, uint64_t consumed, uint64_t unsure);
/* Ends the one side since the other one has ended; the opener's, since the acceptor's was forbidden. */
void channel_reset_acceptor(struct channel_end *acceptor, int error);
void channel_reset_opener(struct channel_end *opener, int error, uint64_t consumed, uint64_t unsure);
void channel_tell_opener(struct channel_end *acceptor, int error, uint64_t unsure);

#endif
