/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DAEMON_H
#define XENMSG_DAEMON_DAEMON_H

/*
 * The daemon as a whole: makes the modules, connects their callbacks, runs the event loop until it is told to
 * stop, and takes everything down in reverse order. Its only task of its own is to answer requests.
 */

#include "base/config.h"

struct daemon;

/* Starts everything. Returns 0, or a negative errno after logging what failed and what to do about it;
 * -EBADMSG: the policy can't be read; -EINTR: asked to stop meanwhile. */
int daemon_new(struct daemon **daemon, const struct config *config);
/* Runs the event loop until SIGTERM or SIGINT. Returns 0 or a negative errno. */
int daemon_run(struct daemon *daemon);
void daemon_free(struct daemon *daemon);

#endif
