/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SINGLETON_H
#define XENMSG_DAEMON_SINGLETON_H

/*
 * That there is one daemon in a domain. Two would write the same nodes of XenStore, and each end the other's
 * links, whichever sockets they listen at. So a daemon holds a lock before it touches XenStore.
 *
 * A lock is anybody's who can open what it is on. So it is on a directory that nobody enters but root and the
 * daemon's user, and that is for nothing else:
 *
 *   not on /dev/xen/evtchn, though that is there once in each domain: other programs may be let at it, and could keep us from
 *   starting;
 *   not beside the socket: that can be anywhere, and the directory is for everybody;
 *   not on a file in it: a file would have an owner of its own, and root's would shut out the daemon that isn't root.
 *
 * The kernel ends the lock with the process, however it ends, and nothing stale is left. The directory stays,
 * empty, until the system goes down: who made it anew would have another lock (so the unit preserves its
 * runtime directory). Who can't open it doesn't start: two daemons do more harm than none. A daemon in a
 * container has to share the directory with all others of its domain, as it shares its socket with their
 * programs.
 */

#define SINGLETON_DIRECTORY "/run/xenmsgd"

/* Makes the directory if it isn't there, and closes it to others. fd [out]: holds the lock until it is
 * closed. -EBUSY: another daemon holds it; else why the directory can't be had: as mkdir(2), open(2),
 * fchmod(2). */
int singleton_claim(const char *directory, int *fd);

#endif
