/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_WORKERS_H
#define XENMSG_CLI_WORKERS_H

/*
 * Threads for work that may take a while, such as looking up a name. Most takes none, so a few threads do all
 * of it, one item after the other; what has to wait for them for longer than a moment gets a thread of its
 * own.
 */

struct event_base;
struct work;
struct workers;

/* An item of work; zeroed, and part of what the caller works on. */
struct work {
	struct workers *workers;
	struct work *prev, *next;
};

/* Makes workers. `run` is called in a thread, and then `done` in the loop. NULL: out of memory or
 * descriptors. They stay until the process ends, since threads may be at work. */
struct workers *workers_new(struct event_base *base, void (*run)(struct work *work),
			    void (*done)(struct work *work));
/* Gives them work. Returns 0 or a negative errno. */
int workers_give(struct workers *workers, struct work *work);

#endif
