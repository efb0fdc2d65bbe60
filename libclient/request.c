/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a program asks its daemon: bind, watch, query, ping. Each waits for its REPLY, while the rest of the
 * connection goes on. */

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/conn.h"
#include "wire/address.h"
#include "wire/bytes.h"

#define PATIENCE_MS 30000	 /* the daemon answers these by itself, so this is long */
#define REPLY_MAX   (256u << 20) /* more than any answer */

static void free_request(struct request *request)
{
	fifo_free(&request->body);
	free(request);
}

void request_fail_all(struct xenmsg *conn, int error)
{
	struct request *request, *next;

	DL_FOREACH_SAFE(conn->requests, request, next) {
		request->finished = true;
		request->error = error;
	}
}

void request_free_all(struct xenmsg *conn)
{
	struct request *request, *next_request;
	struct watch *watch, *next_watch;
	struct pending_event *event, *next_event;

	DL_FOREACH_SAFE(conn->requests, request, next_request)
		free_request(request);
	DL_FOREACH_SAFE(conn->watches, watch, next_watch)
		free(watch);
	DL_FOREACH_SAFE(conn->events, event, next_event)
		free(event);
}

static struct watch *find_watch(struct xenmsg *conn, uint32_t number)
{
	struct watch *watch;

	DL_SEARCH_SCALAR(conn->watches, watch, number, number);
	return watch;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int on_reply(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_reply reply;
	struct request *request;

	if (frame_reply_decode(payload, header->length, &reply) < 0)
		return -EPROTO;
	DL_SEARCH_SCALAR(conn->requests, request, number, header->channel);
	if (!request || request->finished || fifo_size(&request->body) + reply.body.size > REPLY_MAX)
		return -EPROTO;
	if (fifo_append(&request->body, reply.body.data, reply.body.size) < 0)
		return -ENOMEM;
	if (header->flags & FRAME_FLAG_MORE)
		return 0;
	request->finished = true;
	if (reply.error)
		request->error = reply.error < 4096 ? -(int)reply.error : -EPROTO;
	return 0;
}

static int on_event(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_event event;
	struct pending_event *pending;
	char *domain_name;

	if (frame_event_decode(payload, header->length, &event) < 0)
		return -EPROTO;
	/* Kinds of a later minor version, and events that were on their way when the watch was ended. */
	if (event.kind < EVENT_DOMAIN_UP || event.kind > EVENT_ENDPOINT_DOWN ||
	    !find_watch(conn, header->channel))
		return 0;
	if (event.kind < EVENT_ENDPOINT_UP)
		event.domain_name = event.text;
	pending = calloc(1, sizeof(*pending) + event.text.size + 1 + event.domain_name.size + 1);
	if (!pending)
		return -ENOMEM;
	domain_name = pending->name + event.text.size + 1;
	memcpy(pending->name, event.text.data, event.text.size);
	if (event.domain_name.size)
		memcpy(domain_name, event.domain_name.data, event.domain_name.size);
	pending->watch = header->channel;
	pending->event = (struct xenmsg_event){.kind = (enum xenmsg_event_kind)event.kind,
					       .domid = event.domid,
					       .name = pending->name,
					       .domain_name = domain_name};
	DL_APPEND(conn->events, pending);
	return 0;
}

int request_frame(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	return header->type == FRAME_REPLY ? on_reply(conn, header, payload)
					   : on_event(conn, header, payload);
}

int request_run_events(struct xenmsg *conn, int budget)
{
	int count = 0;

	while (conn->events && count < budget) {
		struct pending_event *pending = conn->events;
		struct watch *watch = find_watch(conn, pending->watch);

		DL_DELETE(conn->events, pending);
		if (watch) {
			count++;
			watch->handler(watch->userdata, &pending->event);
		}
		free(pending);
	}
	return count;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static bool number_is_taken(struct xenmsg *conn, uint32_t number)
{
	struct request *request;

	DL_SEARCH_SCALAR(conn->requests, request, number, number);
	return request || find_watch(conn, number);
}

static int start(struct xenmsg *conn, uint8_t type, const void *payload, size_t size,
		 struct request **started)
{
	struct request *request;
	int r;

	if (conn->dead)
		return conn->dead;
	if (size > FRAME_PAYLOAD_MAX)
		return -EINVAL;
	if (conn->request_count >= REQUESTS_MAX)
		return -ENOBUFS;
	request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	/* A positive int, since a watch's number goes to the program as one. */
	do
		conn->last_number = conn->last_number % INT_MAX + 1;
	while (number_is_taken(conn, conn->last_number));
	request->number = conn->last_number;
	r = conn_check(conn, hop_control(&conn->hop, type, request->number, payload, (uint32_t)size));
	if (r < 0) {
		free(request);
		return r;
	}
	DL_APPEND(conn->requests, request);
	conn->request_count++;
	*started = request;
	return 0;
}

/* Waits for the answer, or for its next piece, and removes the request. `interruptible`: -EINTR when a signal
 * comes. A request that isn't waited for any longer stays until its answer comes, so that its number isn't
 * used again before. */
static int finish(struct xenmsg *conn, struct request *request, int timeout_ms, bool interruptible,
		  struct fifo *body)
{
	int64_t deadline = conn_deadline(timeout_ms);
	size_t size = 0;
	int r = 0;

	conn_pump(conn);
	while (!request->finished) {
		if (fifo_size(&request->body) > size) {
			size = fifo_size(&request->body);
			deadline = conn_deadline(timeout_ms);
		}
		r = conn_sleep(conn, deadline, false);
		conn_pump(conn);
		if (r == -EINTR && !interruptible)
			continue;
		if (r == 0 && conn_left(deadline) == 0)
			r = -ETIMEDOUT;
		if (r < 0 || conn->dead)
			break;
		r = 0;
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
	DL_DELETE(conn->requests, request);
	conn->request_count--;
	free_request(request);
	return r;
}

/* Requests that nobody waited for until their answer came. */
static void sweep(struct xenmsg *conn)
{
	struct request *request, *next;

	DL_FOREACH_SAFE(conn->requests, request, next)
		if (request->finished) {
			DL_DELETE(conn->requests, request);
			conn->request_count--;
			free_request(request);
		}
}

static int ask(struct xenmsg *conn, uint8_t type, const void *payload, size_t size, int timeout_ms,
	       bool interruptible, struct fifo *body)
{
	struct request *request;
	int r;

	conn->reason[0] = '\0';
	r = start(conn, type, payload, size, &request);
	if (r < 0)
		return r;
	return finish(conn, request, timeout_ms, interruptible, body);
}

/* ---- public ---------------------------------------------------------------------------------- */

int request_bind(struct xenmsg *conn, const char *endpoint, uint32_t kinds)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_bind bind = {.kinds = kinds, .endpoint = {.data = endpoint, .size = strlen(endpoint)}};

	sweep(conn);
	return ask(conn, FRAME_BIND, payload, frame_bind_encode(&bind, payload), PATIENCE_MS, false, NULL);
}

int xenmsg_bind(struct xenmsg *conn, const char *endpoint, unsigned options, xenmsg_message_handler handler,
		void *userdata)
{
	const unsigned known = XENMSG_BIND_MESSAGES | XENMSG_BIND_CALLS;
	size_t size = strlen(endpoint);
	struct binding *binding;
	int r;

	if ((options & ~known) || !endpoint_name_is_valid(endpoint, size))
		return -EINVAL;
	if (inbox_find(&conn->inbox, endpoint, size))
		return -EEXIST;
	/* Ours before the daemon's: a message may come right behind its answer. */
	r = inbox_bind(&conn->inbox, endpoint, handler, userdata);
	if (r < 0)
		return r;
	r = request_bind(conn, endpoint, options ? options : known);
	binding = inbox_find(&conn->inbox, endpoint, size);
	if (r < 0 && binding)
		inbox_unbind(&conn->inbox, binding);
	return r;
}

int xenmsg_unbind(struct xenmsg *conn, const char *endpoint)
{
	size_t size = strlen(endpoint);
	struct binding *binding = inbox_find(&conn->inbox, endpoint, size);
	int r;

	if (!binding && !connect_forget(conn, endpoint))
		return -ENOENT;
	if (conn->dead)
		return conn->dead;
	if (!binding) {
		sweep(conn);
		return ask(conn, FRAME_UNBIND, endpoint, size, PATIENCE_MS, false, NULL);
	}
	/* First what is there, so that all of it is told that nothing more was taken; what comes until the
	 * daemon knows meets no binding. */
	conn->recv_waits = false;
	r = inbox_unbind(&conn->inbox, binding);
	if (r < 0) {
		conn_fail(conn, r);
		return conn->dead;
	}
	sweep(conn);
	return ask(conn, FRAME_UNBIND, endpoint, size, PATIENCE_MS, false, NULL);
}

static bool pattern_is_possible(const char *pattern)
{
	const char *colon = strchr(pattern, ':');
	size_t size = strlen(pattern);

	if (size == 0 || size > DOMAIN_NAME_MAX + 1 + ENDPOINT_NAME_MAX)
		return false;
	return !colon || (colon != pattern && colon[1] != '\0' && !strchr(colon + 1, ':'));
}

int xenmsg_watch(struct xenmsg *conn, const char *pattern, xenmsg_event_handler handler, void *userdata)
{
	struct request *request;
	struct watch *watch;
	uint32_t number;
	int r;

	conn->reason[0] = '\0';
	if (!pattern_is_possible(pattern) || !handler)
		return -EINVAL;
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	sweep(conn);
	r = start(conn, FRAME_WATCH, pattern, strlen(pattern), &request);
	if (r < 0) {
		free(watch);
		return r;
	}
	number = request->number;
	*watch = (struct watch){.number = number, .handler = handler, .userdata = userdata};
	DL_APPEND(conn->watches, watch);
	r = finish(conn, request, PATIENCE_MS, false, NULL);
	if (r < 0) {
		DL_DELETE(conn->watches, watch);
		free(watch);
		return r;
	}
	return (int)number;
}

int xenmsg_unwatch(struct xenmsg *conn, int number)
{
	struct watch *watch = find_watch(conn, (uint32_t)number);
	uint8_t payload[4];

	if (!watch)
		return -ENOENT;
	DL_DELETE(conn->watches, watch);
	free(watch);
	sweep(conn);
	return ask(conn, FRAME_UNWATCH, payload, frame_u32_encode((uint32_t)number, payload), PATIENCE_MS,
		   false, NULL);
}

int xenmsg_query(struct xenmsg *conn, const char *what, char **json)
{
	struct fifo body = {0};
	size_t size;
	int r;

	sweep(conn);
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

int xenmsg_status(struct xenmsg *conn, char **json)
{
	return xenmsg_query(conn, "status", json);
}

int xenmsg_ping(struct xenmsg *conn, const char *domain, int timeout_ms, uint64_t *rtt_ns)
{
	struct fifo body = {0};
	int r;

	conn->reason[0] = '\0';
	if (!domain_name_is_valid(domain, strlen(domain)))
		return -EINVAL;
	sweep(conn);
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
