/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCH_EVENTS_H
#define XENMSG_DAEMON_WATCH_EVENTS_H

/* What watches of this host and of others have in common: what they tell programs, and what that costs. */

#include <stdbool.h>
#include <stdint.h>

struct frame_event;
struct session;

/* In units (turns.h). A match takes from 10 ns to 19 us, by the lengths of both texts. */
#define COST_VISIT			    4u
#define COST_TELL			    30u
#define COST_MATCH(pattern_size, text_size) ((uint64_t)(pattern_size) * (text_size) / 8)
/* units of work of one program's watches, then another's turn comes */
#define PIECE 4096u

/* Why a pattern is refused that no endpoint's name can match. */
#define WATCH_NO_ENDPOINT                                                                                     \
	"no endpoint can have such a name: that is letters, digits, _ and -, begins with a letter or digit, " \
	"and in a pattern *, ? and [...] stand for some"

/* Sends an event of a watch, unless the program is cut off, as one is that doesn't read its events. */
void watch_event(struct session *session, uint32_t watch, const struct frame_event *event, bool *is_cut_off);

#endif
