/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_SUBSCRIPTION_H
#define XENMSG_LIBCLIENT_SUBSCRIPTION_H

/* A subscription to one topic, by its address: a binding of the inbox, without kinds. */

#include "libclient/inbox.h"
#include "libclient/op.h"
#include "libclient/requests.h"
#include "xenmsg.h"

/* Returns 0 or -EINVAL: what the subscriber wants makes no sense. */
int subscription_check(const struct how *how);
/* Enters it, and asks the daemon. Returns as xenmsg_begin_subscribe(). */
int subscription_begin(struct xenmsg *conn, const char *address, const struct how *how,
		       xenmsg_message_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		       struct request **request);
/* Ends it, and tells the daemon. Returns 0 or a negative errno. */
int subscription_end(struct xenmsg *conn, struct binding *binding);
/* Ends what is bound under this name, and tells the daemon by a frame of this type. Likewise. */
int binding_end(struct xenmsg *conn, struct binding *binding, uint8_t type, const char *endpoint);

#endif
