/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STARTUP_H
#define XENMSG_DAEMON_STARTUP_H

/*
 * The part of the start that needs Xen: opens the devices, checks that no other daemon runs in this domain,
 * and asks XenStore which domain this is. While it waits, it runs the event loop until an answer has come, a
 * time limit has passed, or SIGTERM or SIGINT asks to stop. The daemon frees what is made here. Functions log
 * what failed, with what to do about it.
 */

struct daemon;

/* Makes daemon->host, singleton and store, and fills in domid. Returns 0 or a negative errno; -ENODEV: a new
 * attempt won't help; -EINTR: asked to stop. */
int startup_xen(struct daemon *daemon);
#define STARTUP_OWN_LEAVES 3u /* a bit for each kind of presence */
/* Waits until our presence is written, before the socket is made: a program that finds us listening may
 * expect that other domains find us too. Returns 0 or -EINTR, as above; a XenStore that doesn't answer is no
 * error. */
int startup_await_presence(struct daemon *daemon);

/* Waits a second before another attempt, and tells the service manager that this goes on. For a daemon that
 * takes over: what it was handed over would end with it. */
void startup_pause(void);

/* Returns with which error the daemon ends where this one has come: `otherwise`, after which no service
 * manager starts it again (main.c), or, where memory or descriptors are short or users can't be looked up,
 * which may be otherwise then, the error. */
int startup_error(int error, int otherwise);

#endif
