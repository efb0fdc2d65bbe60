/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_FIRST_LIST_H
#define XENMSG_CLI_FIRST_LIST_H

/*
 * What is there when a watch begins. Its first events come as the daemon finds them, domains and endpoints
 * mixed, so they are kept until XENMSG_LISTED says that they were all, and then handed on, each domain before
 * its endpoints. While that takes long, as of a host that is slow, and where the daemon is so old that it
 * never says it, nothing is kept for longer than 2 s behind the last event, and 10 s in all.
 */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg.h"

struct first_list {
	struct first_entry *entries;		  /* by key */
	int64_t keeps_until, keeps_at_most_until; /* as interrupt_deadline() */
	bool passes;				  /* nothing is kept any more */
	xenmsg_event_handler print;
	void *userdata;
};

void first_list_begin(struct first_list *list, xenmsg_event_handler print, void *userdata);
/* Takes an event: keeps it, or prints it. */
void first_list_take(struct first_list *list, const struct xenmsg_event *event);
/* Prints what was kept for too long. */
void first_list_look(struct first_list *list);
/* Returns until when that is to be called again, as interrupt_deadline(); -1: it needn't. */
int64_t first_list_deadline(const struct first_list *list);
void first_list_free(struct first_list *list);

#endif
