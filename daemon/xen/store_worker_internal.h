/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STORE_WORKER_INTERNAL_H
#define XENMSG_DAEMON_STORE_WORKER_INTERNAL_H

/*
 * The thread's own, in two files: store_worker.c has its loop and the requests, store_watched.c what it
 * watches, on one connection after the other.
 *
 * A guest's processes share one quota of watches, so others can use it up. And the kernel's /dev/xen/xenbus
 * fails the write of a refused watch, after which libxenstore closes its descriptor: the connection is gone
 * with all watches. Asking for the same watch again on each new connection would never end. So a refused
 * watch waits, and the connection is made anew without it. If one is refused that is needed, the last one
 * that isn't waits in its place.
 *
 * A watch that has ended stays with XenStore, until there are many, so that its path can be watched again.
 * Linux suspends a guest in the thread that tells of watches. That thread waits until all programs stand
 * still, and a program that unwatches waits for that thread, so the guest can't be saved. A save lets links
 * end, and their watches.
 */

#include <stdbool.h>

#include "daemon/xen/store_worker.h"

/* Carry out STORE_WATCH and STORE_UNWATCH, also without a connection. 0: it is set, or will be on the
 * connection that is made next. */
int watched_add(struct store_worker *worker, struct store_request *request);
int watched_remove(struct store_worker *worker, struct store_request *request);
/* Returns the number of the watch that was set with a token; 0: nobody's. */
unsigned watched_of(const struct store_worker *worker, unsigned token);

/* Sets all watches but those that wait. False: the connection is gone, perhaps by one more that was
 * refused. */
bool watched_set_all(struct store_worker *worker);
/* Sets those that wait, as far as there is room by now. */
void watched_try_refused(struct store_worker *worker);

/* It begins and ends to wait for xenstored. */
void store_mark_busy(struct store_worker *worker);
void store_mark_idle(struct store_worker *worker);
/* Has a watch fire. */
void store_push_event(struct store_worker *worker, unsigned watch, const char *path);
/* Passes on the watch events. False if the connection is gone: libxenstore closes its descriptor when it
 * breaks, but shows that only here, by EINVAL instead of EAGAIN when there is no event, and doesn't wake who
 * polls for one. */
bool store_drain_events(struct store_worker *worker);

/* --- store_write.c */
/* Carries out some STORE_WRITE in one transaction, once. -EAGAIN: another client has changed what it read;
 * -EDQUOT, -EBUSY, -ENOSPC: a quota, or the connection is gone. */
int store_write_once(struct xs_handle *xs, struct store_request *const *requests, unsigned count);

/* Returns the negative errno for a failed call of libxenstore, which reports the quotas as EINVAL (it doesn't
 * know EQUOTA's name), and a transaction that couldn't be started sometimes with no errno at all. */
int store_error(int saved_errno);

#endif
