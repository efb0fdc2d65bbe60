/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SINGLETON_H
#define XENMSG_DAEMON_SINGLETON_H

/*
 * That there is one daemon in a domain. Two would write the same nodes of XenStore, and each end the other's links, whichever sockets
 * they listen at. So a daemon holds a lock before it touches XenStore: on the device of the event channels, since that is there once in
 * each domain, and who can't open it can't keep us from starting. The kernel ends the lock with the process.
 */

/* fd [out]: holds the lock until it is closed. -EBUSY: another daemon holds it; else as open(2), flock(2). */
int singleton_claim(int *fd);

#endif
