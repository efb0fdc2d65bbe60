/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DAEMON_H
#define XENMSG_DAEMON_DAEMON_H

/*
 * The daemon as a whole: makes the modules, wires their callbacks together, runs the event loop until it is
 * told to stop, and takes everything down in reverse order. It has no business of its own but the answers to
 * requests.
 */

#include "daemon/base/config.h"

struct daemon;

/* Starts everything. On failure -errno, and what failed has been logged, with what to do about it; -EBADMSG:
 * the policy can't be read; -EINTR: asked to stop meanwhile. */
int daemon_new(struct daemon **daemon, const struct config *config);
/* Until SIGTERM or SIGINT. */
int daemon_run(struct daemon *daemon);
void daemon_free(struct daemon *daemon);

#endif
