/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STORE_WRITE_H
#define XENMSG_DAEMON_STORE_WRITE_H

/*
 * Writes leaves in one transaction, so that nobody sees them before they have their permissions, with the
 * directories above them, which nobody else may read. Used by the thread behind `struct store`, which decides
 * whether to try again.
 */

struct store_request;
struct xs_handle;

/* Carries out a STORE_WRITE, once. -EAGAIN: another client has changed what it read; -EDQUOT, -EBUSY,
 * -ENOSPC: a quota, or the connection is gone. */
int store_write_once(struct xs_handle *xs, const struct store_request *request);

/* Returns the negative errno for a failed call of libxenstore, which reports the quotas as EINVAL (it doesn't
 * know EQUOTA's name), and a transaction that couldn't be started sometimes with no errno at all. */
int store_error(int saved_errno);

#endif
