/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STARTER_H
#define XENMSG_DAEMON_STARTER_H

/*
 * Starts programs: units by systemd (units.h), commands by fork and exec. Nothing here waits: a start has
 * begun when start_new() returns, and what goes wrong later is told by `failed`.
 *
 * A command gets /dev/null as stdin, the daemon's stderr as its output, no other descriptor, a process group
 * of its own, and XENMSG_SOCKET. The starter reaps it whenever it ends, also when its owner has long forgotten
 * it, and stops all when the daemon ends: without it they have nothing to do.
 */

#include <stdbool.h>

struct activation_settings;
struct event_base;
struct start;
struct starter;

/* `socket`: where programs find this daemon; must outlive the starter. 0 or -ENOMEM. */
int starter_new(struct starter **starter, struct event_base *base, const char *socket);
/* Stops the commands. Their owners aren't told. */
void starter_free(struct starter *starter);

/* Tells that the program can't be started or has ended; the start is then over and must not be used. */
typedef void (*start_failed_fn)(void *userdata, const char *why);

/* Begins to start the program. NULL: it can't even begin, and *error is a negative errno. */
struct start *start_new(struct starter *starter, const struct activation_settings *settings,
			start_failed_fn failed, void *userdata, int *error);
/* Forgets the start, so that `failed` isn't called any more. With `stop` a command gets SIGTERM, and SIGKILL
 * if it doesn't end by that; a unit is systemd's own affair. */
void start_forget(struct start *start, bool stop);

#endif
