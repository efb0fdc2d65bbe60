/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a program asks its daemon: bind, listen, watch, query, ping. Each of these functions waits for its REPLY while
 * the rest of the connection goes on; what ends something (unbind, unwatch) doesn't. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "wire/address.h"
#include "wire/bytes.h"

#define PATIENCE_MS 30000 /* the daemon answers these by itself, so this is ample */

/* Waits for the answer, or for its next piece, and removes the request. Returns -EINTR at a signal if
 * `interruptible`. A request that nobody waits for any longer stays until its answer comes, so that its
 * number isn't reused before. */
static int finish(struct xenmsg *conn, struct request *request, int timeout_ms, bool interruptible,
		  struct fifo *body)
{
	int64_t deadline = deadline_in(timeout_ms);
	size_t size = 0;
	int r = 0;

	conn_pump(conn);
	while (!request->finished && (r >= 0 || (r == -EINTR && !interruptible)) && !conn->dead) {
		if (fifo_size(&request->body) > size) {
			size = fifo_size(&request->body);
			deadline = deadline_in(timeout_ms);
		}
		r = conn_sleep(conn, deadline, false);
		conn_pump(conn);
	}
	conn_remind(conn);
	if (!request->finished)
		return r;
	r = request->error;
	if (r < 0 && !conn->dead)
		conn_set_reason(conn, fifo_front(&request->body), fifo_size(&request->body));
	if (r == 0 && body) {
		*body = request->body;
		request->body = (struct fifo){0};
	}
	request_end(&conn->requests, request);
	return r;
}

/* Prepares the connection for a request. */
static int begin(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	requests_sweep(&conn->requests);
	return conn->dead;
}

static int ask(struct xenmsg *conn, uint8_t type, const void *payload, size_t size, int timeout_ms,
	       bool interruptible, struct fifo *body)
{
	struct request *request;
	int r = begin(conn);

	if (r == 0)
		r = conn_check(conn, request_start(&conn->requests, type, payload, size, &request));
	return r < 0 ? r : finish(conn, request, timeout_ms, interruptible, body);
}

/* Tells the daemon something, without waiting. */
static int tell(struct xenmsg *conn, uint8_t type, const void *payload, size_t size)
{
	int r = conn_check(conn, requests_tell(&conn->requests, type, payload, size));

	if (r == 0)
		conn_push_now(conn);
	return r;
}

static uint32_t encode_bind(const char *endpoint, uint32_t kinds, uint8_t payload[FRAME_SMALL_MAX])
{
	struct frame_bind bind = {.kinds = kinds, .endpoint = {.data = endpoint, .size = strlen(endpoint)}};

	return frame_bind_encode(&bind, payload);
}

/* Sends BIND for these kinds of channels. */
static int ask_to_bind(struct xenmsg *conn, const char *endpoint, uint32_t kinds)
{
	uint8_t payload[FRAME_SMALL_MAX];

	return ask(conn, FRAME_BIND, payload, encode_bind(endpoint, kinds, payload), PATIENCE_MS, false,
		   NULL);
}

/* Checks the arguments and enters the binding, before the daemon does: a message may follow right behind its
 * answer. Sets *kinds to those of BIND. */
static int enter_binding(struct xenmsg *conn, const char *endpoint, unsigned options,
			 xenmsg_message_handler handler, void *userdata, uint32_t *kinds)
{
	const unsigned known = XENMSG_BIND_MESSAGES | XENMSG_BIND_CALLS;
	bool lends = options & XENMSG_BIND_LEND;
	size_t size = strlen(endpoint);

	options &= ~(unsigned)XENMSG_BIND_LEND;
	if ((options & ~known) || !endpoint_name_is_valid(endpoint, size))
		return -EINVAL;
	if (inbox_find(&conn->inbox, endpoint, size))
		return -EEXIST;
	*kinds = options ? options : known;
	return inbox_bind(&conn->inbox, endpoint, lends, handler, userdata);
}

static void leave_binding(struct xenmsg *conn, const char *endpoint)
{
	struct binding *binding = inbox_find(&conn->inbox, endpoint, strlen(endpoint));

	if (binding)
		inbox_unbind(&conn->inbox, binding);
}

int xenmsg_bind(struct xenmsg *conn, const char *endpoint, unsigned options, xenmsg_message_handler handler,
		void *userdata)
{
	uint32_t kinds;
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	r = enter_binding(conn, endpoint, options, handler, userdata, &kinds);
	if (r < 0)
		return r;
	r = ask_to_bind(conn, endpoint, kinds);
	if (r < 0)
		leave_binding(conn, endpoint);
	return r;
}

int xenmsg_bind_post(struct xenmsg *conn, const char *endpoint, unsigned options,
		     xenmsg_message_handler handler, xenmsg_done done, void *userdata)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct request *request;
	uint32_t kinds;
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	if (begin(conn) < 0)
		return -ENOTCONN;
	r = enter_binding(conn, endpoint, options, handler, userdata, &kinds);
	if (r < 0)
		return r;
	r = conn_check(conn, request_start(&conn->requests, FRAME_BIND, payload,
					   encode_bind(endpoint, kinds, payload), &request));
	if (r < 0) {
		leave_binding(conn, endpoint);
		return r;
	}
	request_post(request, done, userdata);
	inbox_find(&conn->inbox, endpoint, strlen(endpoint))->asked = request->number;
	conn_push(conn);
	return 0;
}

int xenmsg_unbind(struct xenmsg *conn, const char *endpoint)
{
	size_t size = strlen(endpoint);
	struct binding *binding = inbox_find(&conn->inbox, endpoint, size);
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	if (!binding && !incoming_forget(&conn->incoming, endpoint))
		return -ENOENT;
	if (conn->dead)
		return conn->dead;
	if (!binding)
		return tell(conn, FRAME_UNBIND, endpoint, size);
	/* First refuses what has arrived, so that every sender of it learns that nothing more was taken; what
	 * arrives until the daemon knows finds no binding. */
	conn->recv_waits = false;
	r = inbox_unbind(&conn->inbox, binding);
	if (r < 0)
		return conn_fail(conn, r);
	return tell(conn, FRAME_UNBIND, endpoint, size);
}

int xenmsg_listen(struct xenmsg *conn, const char *endpoint, unsigned options)
{
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	if ((options & ~(unsigned)XENMSG_LISTEN_HOSTS) || !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	if (conn->dead)
		return conn->dead;
	r = incoming_listen(&conn->incoming, endpoint);
	if (r < 0)
		return r;
	r = ask_to_bind(conn, endpoint, BIND_STREAMS | (options & XENMSG_LISTEN_HOSTS ? BIND_HOSTS : 0));
	if (r < 0)
		incoming_forget(&conn->incoming, endpoint);
	return r;
}

static bool pattern_is_possible(const char *pattern)
{
	size_t size = strlen(pattern);
	struct address_parts parts = address_split(pattern, size);

	if (size == 0 || size > HOST_NAME_SIZE + DOMAIN_NAME_MAX + 1 + ENDPOINT_NAME_MAX)
		return false;
	if (parts.host.data && !host_name_is_valid(parts.host.data, parts.host.size))
		return false;
	return parts.domain.size &&
	       (!parts.endpoint.data ||
		(parts.endpoint.size && !address_is_meant(parts.endpoint.data, parts.endpoint.size)));
}

int xenmsg_watch(struct xenmsg *conn, const char *pattern, xenmsg_event_handler handler, void *userdata)
{
	struct request *request;
	uint32_t number;
	int r;

	if (!pattern_is_possible(pattern) || !handler) {
		conn->reason[0] = '\0';
		return -EINVAL;
	}
	r = begin(conn);
	if (r == 0)
		r = conn_check(conn, requests_watch(&conn->requests, pattern, handler, userdata, &request));
	if (r < 0)
		return r;
	number = request->number;
	r = finish(conn, request, PATIENCE_MS, false, NULL);
	if (r == 0)
		return (int)number;
	requests_unwatch(&conn->requests, number);
	return r;
}

int xenmsg_unwatch(struct xenmsg *conn, int number)
{
	uint8_t payload[4];

	if (!conn_is_here(conn))
		return -ECHILD;
	if (!requests_unwatch(&conn->requests, (uint32_t)number))
		return -ENOENT;
	if (conn->dead)
		return conn->dead;
	return tell(conn, FRAME_UNWATCH, payload, frame_u32_encode((uint32_t)number, payload));
}

int xenmsg_query(struct xenmsg *conn, const char *what, char **json)
{
	struct fifo body = {0};
	size_t size;
	int r;

	r = ask(conn, FRAME_QUERY, what, strlen(what), PATIENCE_MS, true, &body);
	if (r < 0)
		return r;
	size = fifo_size(&body);
	*json = malloc(size + 1);
	if (*json) {
		if (size)
			memcpy(*json, fifo_front(&body), size);
		(*json)[size] = '\0';
	}
	fifo_free(&body);
	return *json ? 0 : -ENOMEM;
}

int xenmsg_ping(struct xenmsg *conn, const char *domain, int timeout_ms, uint64_t *rtt_ns)
{
	struct address parsed;
	struct fifo body = {0};
	int r;

	conn->reason[0] = '\0';
	if (address_parse_domain(domain, strlen(domain), &parsed) < 0)
		return -EINVAL;
	r = ask(conn, FRAME_PROBE, domain, strlen(domain), timeout_ms, true, &body);
	if (r < 0)
		return r;
	if (fifo_size(&body) < 8)
		r = -EPROTO;
	else if (rtt_ns)
		*rtt_ns = get_u64(fifo_front(&body));
	fifo_free(&body);
	return r;
}
