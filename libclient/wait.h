/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_WAIT_H
#define XENMSG_LIBCLIENT_WAIT_H

/* Waiting, until a deadline, for what was posted. All functions call back for sends, calls and events
 * meanwhile, but not for messages. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/again.h"
#include "libclient/conn.h"

#define RUN_BUDGET 256 /* callbacks before the next look at the connection */

/* Waits until something comes, and handles it: what was refused with -EAGAIN may be tried again. Returns 0,
 * -EINTR, -ETIMEDOUT or -ENOTCONN. */
int wait_for_room(struct xenmsg *conn, int64_t deadline);
/* Waits until a callback sets *known, or until the deadline. */
void wait_for_outcome(struct xenmsg *conn, const bool *known, int64_t deadline);

/* Waits for as long as `again` says. Returns 0, -ENODATA, -EINTR or -ENOTCONN. */
int wait_again(struct xenmsg *conn, struct again *again, int64_t deadline);

#endif
