/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_PATTERN_H
#define XENMSG_LIBCLIENT_PATTERN_H

/*
 * Subscriptions to all domains' topics of one name (XENMSG_PATTERN), by a watch. Each endpoint that it tells
 * of is a member, which is subscribed to by its own address:
 *
 *   wanted ──SUBSCRIBE──▶ asked ──granted──▶ subscribed ──has gone, and what was published is taken; or ENDED──▶ gone
 *                           └──refused: told once──▶ refused ──has gone──▶ gone
 *
 * So many are asked for at a time, that the program has questions left of its own. One for which there was no
 * room is asked for again when another one goes.
 */

#include "libclient/inbox.h"
#include "libclient/op.h"
#include "libclient/requests.h"
#include "xenmsg.h"

/* A subscription to one topic, by its address: a binding of the inbox, without kinds. */

/* Returns 0 or -EINVAL: what the subscriber wants makes no sense. */
int subscription_check(const struct op_options *opts);
/* Enters it, and asks the daemon. Returns as xenmsg_begin_subscribe(). */
int subscription_begin(struct xenmsg *conn, const char *address, const struct op_options *opts,
		       xenmsg_message_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		       struct request **request);
/* Ends it, and tells the daemon. Returns 0 or a negative errno. */
int subscription_end(struct xenmsg *conn, struct binding *binding);
/* Ends what is bound under this name, and tells the daemon by a frame of this type. Likewise. */
int binding_end(struct xenmsg *conn, struct binding *binding, uint8_t type, const char *endpoint);

/* Begins to subscribe to all that the pattern means; the request is that of its watch. The rest is as for
 * xenmsg_begin_subscribe(). */
int pattern_begin(struct xenmsg *conn, const char *text, const struct op_options *opts,
		  xenmsg_message_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		  struct request **request);
/* Ends it. Returns 0, -ENOENT: there is no such pattern, or the errors of xenmsg_unsubscribe(). */
int pattern_end(struct xenmsg *conn, const char *text);
#endif
