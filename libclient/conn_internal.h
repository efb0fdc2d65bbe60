/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CONN_INTERNAL_H
#define XENMSG_LIBCLIENT_CONN_INTERNAL_H

/* What the parts of a connection share: conn.c, what goes over it; conn_life.c, how it begins and ends, and
 * what the daemon has answered. */

#include <stdbool.h>

#include "xenmsg.h"

/* Called when a callback has returned. Returns false in a child that it has made. */
bool conn_came_back(struct xenmsg *conn);
/* What became of something that only the daemon has to do with, and that isn't done if there was an error. */
struct xenmsg_result conn_result_of(int error);
/* Tells what became of something; the connection's reason has the daemon's words. */
void conn_tell(struct xenmsg *conn, xenmsg_done done, void *userdata, struct xenmsg_result result);

#endif
