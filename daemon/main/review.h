/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REVIEW_H
#define XENMSG_DAEMON_REVIEW_H

/*
 * Looks at all channels in turns, since there may be many, of many users, and others have to be served
 * meanwhile.
 *
 *   idle ──review_begin()──▶ a walk ──the last channel──▶ over() ──▶ idle
 *                            ▲   │ a piece: the next turn   │
 *                            └───┘                          └─review_begin() meanwhile──▶ one more walk
 *
 * A change during a walk has another walk behind it, and that walk isn't begun anew: so even
 * changes without end can't keep it from its last channel. A channel that is made during a walk isn't looked
 * at, since it was made by what holds now. A walk isn't handed over: the next daemon has one from its start.
 */

#include <stdint.h>

#include "base/turns.h"

struct channel;
struct switchboard;

struct review {
	struct switchboard *board;
	struct task task;
	uint8_t now, next; /* bits of this walk, and of the one behind it; 0: there is none */
	uint64_t begun;	   /* walks, ever */
	/* Looks for `what` (review_begin()) at one channel, and spends what that costs for nobody. It may end
	 * the channel. */
	void (*look)(void *userdata, struct channel *channel, uint8_t what);
	void (*over)(void *userdata, uint64_t walk);
	void *userdata;
};

/* Prepares a review; the caller has set its callbacks. One for each board. */
void review_init(struct review *review, struct switchboard *board);
/* Has all channels that there are looked at, for `what`: bits of the caller's. Returns the number of the walk
 * that does it, which over() gets behind its last turn, never before this has returned. */
uint64_t review_begin(struct review *review, uint8_t what);
/* Ends it, without over(). */
void review_cancel(struct review *review);

#endif
