/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_WAIT_H
#define XENMSG_LIBCLIENT_WAIT_H

/* Waiting in time for what was posted. All of it calls back for sends, calls and events meanwhile, and not for
 * messages. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/conn.h"

#define RUN_BUDGET 256 /* how many are called back before one looks again */

/* Until something comes, which is dealt with: what was refused with -EAGAIN may be tried again. 0; -EINTR,
 * -ETIMEDOUT, -ENOTCONN. */
int wait_for_room(struct xenmsg *conn, int64_t deadline);
/* Until *known, which a callback sets, or the deadline. */
void wait_for_outcome(struct xenmsg *conn, const bool *known, int64_t deadline);

/* What a policy couldn't decide for want of a name, -ENODATA, is tried again: after pauses that grow, until
 * the deadline, or for a while where there is none, since nothing says that the name will ever be known. All
 * zero: there was no try yet. */
struct again {
	int64_t until;
	int pause_ms; /* of the last try */
};
/* Milliseconds until the next try; -ENODATA: that would be too late. */
int again_pause(struct again *again, int64_t deadline);
/* Waits as long. 0; -ENODATA; -EINTR; -ENOTCONN. */
int wait_again(struct xenmsg *conn, struct again *again, int64_t deadline);

#endif
