/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_FIRST_LIST_H
#define XENMSG_CLI_FIRST_LIST_H

/*
 * What is there when a watch begins. Its first events come as the daemon finds them, domains and endpoints mixed, and no
 * event says that they were all: a first watch lets the daemon ask all domains. So the daemon is asked for its lists, too,
 * which it answers once all have been asked; events are kept until all that is listed was told, and then handed on, each
 * domain before its endpoints. What is listed and isn't told, since it has gone meanwhile, is waited for as long as events
 * come, and a second. While an answer takes long, as of a host that is slow, nothing is kept for longer than 2 s behind the
 * last event, and 10 s in all.
 */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg.h"

struct first_list {
	/* These are set by the caller. */
	const char *pattern;
	xenmsg_event_handler print;
	void *userdata;
	/* These aren't. */
	struct first_entry *entries; /* by key */
	size_t awaited;		     /* of them, listed and not yet told */
	unsigned questions;	     /* without an answer */
	int64_t quiet_from;	     /* as interrupt_deadline() */
	int64_t keeps_until, keeps_at_most_until;
	bool passes; /* nothing is kept any more, though the list isn't over */
	bool is_over;
	uint32_t own;
};

/* Asks, behind the watch. The list lives until the connection is closed. */
void first_list_begin(struct first_list *list, struct xenmsg *conn);
/* Takes an event: keeps it, or hands it on once the list is over. */
void first_list_take(struct first_list *list, const struct xenmsg_event *event);
/* Looks whether the list is over now, and if so, or after a while, hands on what is in it. Returns whether it is over now, and
 * wasn't before. */
bool first_list_ends(struct first_list *list);
/* Returns until when that is to be looked at again, as interrupt_deadline(). */
int64_t first_list_deadline(const struct first_list *list);
void first_list_free(struct first_list *list);

#endif
