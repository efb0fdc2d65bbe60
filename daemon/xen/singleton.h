/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SINGLETON_H
#define XENMSG_DAEMON_SINGLETON_H

/*
 * Makes sure that there is only one daemon in a domain. Two would write the same nodes of XenStore, and each
 * would end the other's links, whichever sockets they listen on. So a daemon holds a lock before it touches
 * XenStore.
 *
 * Anybody who can open a file can lock it. So the lock is on a directory that nobody can enter but root and
 * the daemon's user, and that serves nothing else:
 *
 *   not on /dev/xen/evtchn, though each domain has exactly one: other programs may be allowed to open it, and
 *   could keep us from starting;
 *   not beside the socket: that can be anywhere, and its directory is for everybody;
 *   not on a file in the directory: a file would have an owner of its own, and root's would shut out a daemon
 *   that isn't root.
 *
 * The kernel releases the lock with the process, however that ends, and nothing stale is left. The directory
 * stays, with the socket of our own keeper (keeper.h) and the host's policy (host_told.h) at most, until the
 * system goes down: if it were made anew, it would have another lock (so the unit preserves its runtime
 * directory). A daemon that can't open it doesn't start: two daemons do more harm than none. A daemon in a
 * container has to share the directory with all others of its domain, as it shares its socket with their
 * programs.
 */

#define SINGLETON_DIRECTORY "/run/xenmsgd"

/* Makes the directory if it isn't there, closes it to others, and locks it. *fd [out] holds the lock until it
 * is closed. -EBUSY: another daemon holds it; else why the directory can't be used: as mkdir(2), open(2),
 * fchmod(2). */
int singleton_claim(const char *directory, int *fd);

#endif
