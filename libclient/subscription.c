/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/subscription.h"

#include <errno.h>
#include <string.h>

#include "libclient/conn.h"
#include "wire/address.h"

int subscription_check(const struct how *how)
{
	return how->queue > XENMSG_QUEUE_MAX || (how->flags & XENMSG_KEEP_OLDEST && !how->queue) ? -EINVAL
												 : 0;
}

static uint32_t flags_of(const struct how *how)
{
	return how->queue << SUBSCRIBE_QUEUE_SHIFT | (how->flags & XENMSG_KEEP_OLDEST ? SUBSCRIBE_OLDEST : 0);
}

int subscription_begin(struct xenmsg *conn, const char *address, const struct how *how,
		       xenmsg_message_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		       struct request **request)
{
	struct frame_subscribe subscribe = {.address = frame_text_of(address)};
	uint8_t payload[4 + ADDRESS_MAX];
	size_t size = strlen(address);
	struct binding *binding;
	struct address parsed;
	int r = subscription_check(how);

	if (r == 0)
		r = conn_explain_address(conn, address, address_parse(address, size, &parsed, NULL));
	if (r == 0 && inbox_find(&conn->inbox, address, size))
		r = -EEXIST;
	if (r == 0)
		r = inbox_bind(&conn->inbox, address, 0, how->flags & XENMSG_LEND, handler, userdata);
	if (r < 0)
		return r;
	binding = inbox_find(&conn->inbox, address, size);
	binding->subscribes = subscribe.flags = flags_of(how);
	r = conn_check(conn, request_begin(&conn->requests, FRAME_SUBSCRIBE, payload,
					   frame_subscribe_encode(&subscribe, payload), how->timeout_ms, done,
					   done_userdata, request));
	if (r < 0) {
		inbox_unbind(&conn->inbox, binding);
		return r;
	}
	binding->asked = (*request)->number;
	(*request)->op.conn = conn;
	return 0;
}

int binding_end(struct xenmsg *conn, struct binding *binding, uint8_t type, const char *endpoint)
{
	int r;

	/* First refuses what has arrived, so that every sender of it learns that nothing more was taken; what
	 * arrives until the daemon knows finds no binding. */
	conn->recv_waits = false;
	r = inbox_unbind(&conn->inbox, binding);
	return r < 0 ? conn_fail(conn, r) : conn_tell_daemon(conn, type, endpoint, strlen(endpoint));
}

int subscription_end(struct xenmsg *conn, struct binding *binding)
{
	char address[ADDRESS_MAX + 1];

	memcpy(address, binding->endpoint, sizeof(address));
	return binding_end(conn, binding, FRAME_UNSUBSCRIBE, address);
}
