/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STARTUP_H
#define XENMSG_DAEMON_STARTUP_H

/*
 * The start's dealings with Xen: it opens the devices, sees that no other daemon runs in this domain, and
 * asks XenStore which domain this is. Where it waits, it runs the event loop until an answer has come, a
 * limit has passed, or SIGTERM or SIGINT asks to stop. What is made here is the daemon's to free. What failed
 * has been logged, with what to do about it.
 */

struct daemon;

/* Makes daemon->host, singleton and store, and fills in domid. -ENODEV: what no new attempt will mend;
 * -EINTR: asked to stop. */
int startup_xen(struct daemon *daemon);
/* Who finds us listening may count on other domains' finding us too, so our presence is written before the
 * socket is there. -EINTR as above; a XenStore that doesn't answer is no error. */
int startup_await_presence(struct daemon *daemon);

#endif
