/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_TOPIC_BOUND_H
#define XENMSG_DAEMON_TOPIC_BOUND_H

/*
 * A subscriber's own bound, beside the log's: how many messages may wait for it, and whether the oldest or
 * the newest are dropped beyond that. Nothing is queued for that. A subscriber that loses some moves on in
 * the log without reading: its position counts what it has had, so the next step tells how many were lost
 * (topic_log.h).
 *
 *                  sent, not taken      wait in the log
 *   oldest go:    [ up to `most` ]   ... lost ...  [ the last `most` ] next
 *   newest go:    [ up to `most`, as far as `cut` ]  ... lost, once it is at `cut` ...  next
 *
 * Notices aren't counted, and a topic's last state (subscribed, waiting) isn't lost by either.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/topic/topic_log.h"

#define TOPIC_BOUND_MARKS 8u

struct topic_bound {
	uint32_t most; /* 0: he has none */
	bool keeps_oldest;
	bool is_cut;
	uint64_t cut;	/* index: from here on what came is lost when he is there */
	uint64_t sent;	/* messages that were sent to him; notices don't count */
	uint64_t taken; /* so many of them for certain */
	uint64_t end;	/* offset in the stream, behind the last one */
	/* where some of them end, from the oldest, as many as tell what was taken to an eighth of `most` */
	struct topic_mark {
		uint64_t sent, end;
	} marks[TOPIC_BOUND_MARKS];
	unsigned first_mark, mark_count;
};

/* Another stream begins, of the same reader, which has taken all of the one before. */
void topic_bound_restart(struct topic_bound *bound);
/* A message was sent whole, and ends at this offset of the stream. */
void topic_bound_sent(struct topic_bound *bound, uint64_t end);
/* The stream was taken up to this offset. */
void topic_bound_taken(struct topic_bound *bound, uint64_t offset);
/* Returns how many may be sent now. */
static inline uint64_t topic_bound_room(const struct topic_bound *bound)
{
	uint64_t under_way = bound->sent - bound->taken;

	return !bound->most ? UINT64_MAX : under_way < bound->most ? bound->most - under_way : 0;
}
/* Moves the reader's position over what he loses, before he reads; and before what he has taken meanwhile is
 * counted, so that what came when there was no room is what is lost. */
void topic_bound_apply(struct topic_bound *bound, const struct topic_log *log,
		       struct topic_position *position);
/* Whether he may read on from here, until the bound is applied again. */
static inline bool topic_bound_reads_on(const struct topic_bound *bound,
					const struct topic_position *position)
{
	return !bound->is_cut || position->index < bound->cut;
}

#endif
