/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RENEWAL_H
#define XENMSG_DAEMON_RENEWAL_H

/*
 * Before a daemon hands over to the program that is installed now (handover.h), that program says whether it
 * would come up, and take what it gets: `xenmsgd --check-takeover` with the command line of this daemon.
 * Until then nothing is given up.
 */

#include <stdbool.h>

struct event_base;
struct renewal;

/* Tells what the program has said: 0, or a negative errno; and its words. */
typedef void (*renewal_done_fn)(void *userdata, int error, const char *words);

/* How it says which format of the image (base/image.h) it takes, in a line of its own. One that takes another
 * one than this daemon makes is refused. */
#define RENEWAL_FORMAT "takes over images of format "

/* `program` and `argv` are those of this daemon, and outlive it. NULL: no memory. */
struct renewal *renewal_new(struct event_base *base, const char *program, char **argv, renewal_done_fn done,
			    void *userdata);
void renewal_free(struct renewal *renewal);
/* Asks the program; `restarts`: also whether the service manager is about to start it. 0; -EBUSY: it is being
 * asked already; or why it can't be started. */
int renewal_begin(struct renewal *renewal, bool restarts);

/* Gives up to ask, if it does: `done` isn't called. Returns whether it did. */
bool renewal_give_up(struct renewal *renewal);

/* Returns the arguments of the next program: those of this one, behind these two (the second may be NULL).
 * NULL: no memory. */
char **renewal_arguments(char **argv, const char *option, const char *value);

#endif
