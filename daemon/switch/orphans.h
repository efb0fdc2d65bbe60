/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ORPHANS_H
#define XENMSG_DAEMON_ORPHANS_H

/*
 * Orphans are channels whose opener's end has gone, while the other side hasn't said yet that they ended for
 * it, too. Their opener goes on paying for them, so who never says so could use up the account of everybody
 * who talks to him, and with it their way to all others. So they are counted, and a channel isn't led on
 *
 *   to anybody whose account's side has so many orphans of the payer as are half of what the payer may have;
 *   to a program that has ORPHANS_STALE of them or more, and has answered none of them for
 *   ORPHANS_PATIENCE_MS. A peer's daemon answers as its programs do, and has this rule for them itself.
 */

#include <stdbool.h>

#define ORPHANS_STALE	    64u
#define ORPHANS_PATIENCE_MS 5000u

struct channel;
struct hop;

/* Returns whether the channel may be led to `hop`, by these rules. */
bool orphans_allow(const struct channel *channel, const struct hop *hop);
/* Counts the channel, whose opener's end has gone; without memory it isn't counted. */
void orphans_add(struct channel *channel);
/* Ends that, if it was counted: its other end goes, too. */
void orphans_remove(struct channel *channel);

#endif
