/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PAST_H
#define XENMSG_DAEMON_PAST_H

/*
 * The counters of what isn't there any more, by a text that names it: should it come again, it counts from
 * where it was, or what a short-lived program has done would never be seen. There are PAST_MOST at
 * most; the one that was put first goes first.
 */

#include <stddef.h>

#include "wire/ut.h"

#define PAST_MOST 256u

struct past_entry {
	void *counters; /* owned */
	UT_hash_handle hh;
	char name[];
};

struct past {
	struct past_entry *all; /* the oldest first */
	void (*drop)(void *counters);
};

/* Takes over `counters`; without memory for the name they are dropped. */
void past_put(struct past *past, const char *name, void *counters);
/* Returns what was put by that name last, which is the caller's then. NULL: nothing, or it was forgotten. */
void *past_take(struct past *past, const char *name);
void past_clear(struct past *past);

#endif
