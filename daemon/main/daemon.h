/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DAEMON_H
#define XENMSG_DAEMON_DAEMON_H

/*
 * The daemon as a whole: makes the modules, connects their callbacks, runs the event loop until it is told to
 * stop, and takes everything down in reverse order. Its only task of its own is to answer requests.
 */

#include <stdbool.h>

#include "base/config.h"
#include "daemon/main/handover.h"

struct daemon;

/* What the daemon knows of its own program: by which it hands over to the one that is installed under that
 * name. */
struct daemon_program {
	const char *path;
	char **argv;
	struct inherited inherited; /* what it was handed; no sockets: nothing */
};

/* Starts everything. Returns 0, or a negative errno after logging what failed and what to do about it;
 * -EBADMSG: the policy can't be read; -EINTR: asked to stop meanwhile. */
int daemon_new(struct daemon **daemon, const struct config *config, const struct daemon_program *program);
/* Runs the event loop until SIGTERM or SIGINT, or until it is to hand over. Returns 0 or a negative errno. */
int daemon_run(struct daemon *daemon);
/* Whether it has ended to hand over. */
bool daemon_hands_over(const struct daemon *daemon);
/* Hands over to the next program, and doesn't return. If that can't be started, this one takes over from
 * itself; if there can be no image, it returns, and daemon_run() is to go on. */
void daemon_hand_over(struct daemon *daemon, const struct daemon_program *program);
/* Whether it has ended since its service is restarted, and the next program can take over. */
bool daemon_is_restarted(const struct daemon *daemon);
/* Has the service manager keep for that what is to go on. If it returns 0, nothing is left of this daemon,
 * and daemon_free() must not be called; else everything is as before. */
int daemon_store(struct daemon *daemon);
void daemon_free(struct daemon *daemon);

#endif
