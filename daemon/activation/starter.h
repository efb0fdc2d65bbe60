/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STARTER_H
#define XENMSG_DAEMON_STARTER_H

/*
 * Starts programs: units by systemd (units.h), commands by fork and exec. Nothing here waits: a start has
 * begun when start_new() returns, and what goes wrong later is told by `failed`.
 *
 * A command gets /dev/null as stdin, the daemon's log as its output, no other descriptor, the usual soft
 * limit of descriptors, a process group of its own, XENMSG_SOCKET, and of the daemon's environment what isn't
 * about the daemon's own service. The starter reaps it whenever it ends, also when its owner has long
 * forgotten it, and stops all when the daemon ends: without it they have nothing to do.
 */

#include <stdbool.h>

struct activation_settings;
struct event_base;
struct image;
struct start;
struct starter;

/* `socket`: where programs find this daemon; must outlive the starter. 0 or -ENOMEM. */
int starter_new(struct starter **starter, struct event_base *base, const char *socket);
/* Stops the commands, and waits for that: STOP_MS at most. Their owners aren't told. */
void starter_free(struct starter *starter);

/* Tells that the program can't be started or has ended; the start is then over and must not be used. */
typedef void (*start_ended_fn)(void *userdata, const char *why);

/* Begins to start the program. NULL: it can't even begin, and *error is a negative errno. */
struct start *start_new(struct starter *starter, const struct activation_settings *settings,
			start_ended_fn ended, void *userdata, int *error);
/* Whether it is a command, which lives until `ended` is called. A unit may be started again meanwhile:
 * systemd sees to it that it runs once. */
bool start_lives(const struct start *start);
/* Stops a command: its process group gets SIGTERM, and SIGKILL if that isn't enough. `ended` is still to be
 * called. */
void start_stop(struct start *start);
/* Forgets the start: `ended` isn't called any more. */
void start_forget(struct start *start);

/* Writes what is known of a command, or reads it. Its reader is told by `ended`; NULL: nobody is.
 * *start is NULL then if the command isn't a child of this process, whatever was done with it. */
void start_image(struct image *image, struct starter *starter, struct start **start, start_ended_fn ended,
		 void *userdata);
/* Writes a section for each command that nobody waits for. */
void starter_write_forgotten(struct starter *starter, struct image *image);
/* Looks which commands have ended: while there was another program in this process nobody was told. */
void starter_look(struct starter *starter);

#endif
