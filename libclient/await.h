/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_AWAIT_H
#define XENMSG_LIBCLIENT_AWAIT_H

/*
 * What waits for its receiver (XENMSG_WAIT). A message, call or stream is tried as any other. If it ends
 * since nobody is there (nothing of it was taken), it is parked, and a watch of its address says when to try
 * again:
 *
 *   begun ──▶ trying ──its outcome──▶ told
 *              │  ▲
 *    nobody    ▼  │ the endpoint has come
 *    is there parked ──time is up, withdrawn──▶ told: -ETIMEDOUT, not done
 *
 * What is for one address is tried in the order in which it was begun: what comes behind something that is
 * parked is parked, too. An attempt that ended after a coming that it can't have met is made again at once;
 * and while the daemon lists what isn't there, after pauses.
 */

#include "libclient/calls.h"

/* Begins to send, call or connect: now, or, if its options have XENMSG_WAIT, when its receiver is there, with
 * `data` copied. Returns as xenmsg_begin_send(). */
int await_begin(struct xenmsg *conn, await_begin_fn begin, enum channel_kind kind, const char *address,
		const void *data, size_t size, const struct op_options *opts, xenmsg_done done,
		void *userdata, struct xenmsg_op **op);
/* Begins it, and waits for its outcome until the deadline. Returns the error of what became of it. */
int await_outcome(struct xenmsg *conn, await_begin_fn begin, enum channel_kind kind, const char *address,
		  const void *data, size_t size, const struct op_options *opts, int64_t deadline,
		  struct xenmsg_result *result);

#endif
