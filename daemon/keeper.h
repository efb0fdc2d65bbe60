/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_KEEPER_H
#define XENMSG_DAEMON_KEEPER_H

/*
 * Closing or unbinding an event channel that was bound before the domain was saved and restored is a kernel BUG (Linux 6.1,
 * drivers/xen/evtchn.c; the process never ends, and the kernel asks for a reboot), and so is the end of the process that has
 * it open. Such a handle is parked with a keeper: a process that holds it, sleeps, and outlives the daemon.
 */

/* Starts a keeper that holds a duplicate of `fd`. Afterwards the caller may close its own. 0, or -errno: then it may not. */
int keeper_hold(int fd);

#endif
