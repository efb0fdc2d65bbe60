/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a program asks its daemon: bind, listen, watch, query, ping. Each of these is begun; the form that
 * waits for its REPLY lets the rest of the connection go on meanwhile, but calls nobody back. What ends
 * something (unbind, unwatch) waits for nothing. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/pattern.h"
#include "libclient/await.h"
#include "wire/address.h"

#define PATIENCE_MS 30000 /* what is usual: the daemon answers these by itself, so this is ample */

/* Prepares the connection for a request. */
static int api_queries_enter(struct xenmsg *conn)
{
	return conn_clear(conn) < 0 ? -ECHILD : conn->dead;
}

/* Begins a request. A caller that waits for it looks at it by itself. */
static int api_queries_begin(struct xenmsg *conn, uint8_t type, const void *payload, size_t size,
			     const struct op_options *opts, xenmsg_done done, void *userdata,
			     struct request **request)
{
	int r = conn_check(conn, request_begin(&conn->requests, type, payload, size, opts->timeout_ms, done,
					       userdata, request));

	if (r == 0)
		(*request)->op.conn = conn;
	return r;
}

/* Ends a function that has begun this. */
static void begun(struct xenmsg *conn, struct request *request, struct xenmsg_op **op)
{
	if (op)
		*op = &request->op;
	conn_set_alarm(conn);
	conn_push(conn);
}

/* Waits for what was begun for `outcome`, and ends it. Returns its error. */
static int api_queries_finish(struct xenmsg *conn, struct request *request, struct outcome *outcome)
{
	bool interrupted = wait_for_answer(conn, &request->op);

	conn_tell_answer(conn, request);
	conn_remind(conn);
	if (interrupted && outcome->result.error == -ETIMEDOUT)
		outcome->result.error = -EINTR;
	return outcome->result.error;
}

static uint32_t encode_bind(const char *endpoint, uint32_t kinds, uint8_t payload[FRAME_SMALL_MAX])
{
	struct frame_bind bind = {.kinds = kinds, .endpoint = {.data = endpoint, .size = strlen(endpoint)}};

	return frame_bind_encode(&bind, payload);
}

/* Checks the arguments and enters the binding, before the daemon does: a message may follow right behind its
 * answer. Sets *kinds to those of BIND. */
static int enter_binding(struct xenmsg *conn, const char *endpoint, const struct op_options *opts,
			 xenmsg_message_handler handler, void *userdata, uint32_t *kinds)
{
	unsigned flags = opts->flags;
	const unsigned both = XENMSG_ONLY_MESSAGES | XENMSG_ONLY_CALLS;

	if (!endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	if (conn_has_bound(conn, endpoint))
		return -EEXIST;
	if (flags & XENMSG_TOPIC) {
		if ((flags & ~(unsigned)(XENMSG_RETAIN | XENMSG_COUNT_LISTENERS)) != XENMSG_TOPIC ||
		    handler || (opts->keys && !(flags & XENMSG_RETAIN)) || opts->keys > XENMSG_KEYS_MAX)
			return -EINVAL;
		*kinds = BIND_TOPIC | (flags & XENMSG_RETAIN ? BIND_RETAIN : 0) |
			 (flags & XENMSG_COUNT_LISTENERS ? BIND_LISTENERS : 0) |
			 opts->keys << BIND_KEYS_SHIFT;
		return inbox_bind(&conn->inbox, endpoint, *kinds, false, NULL, userdata);
	}
	if ((flags & (XENMSG_RETAIN | XENMSG_COUNT_LISTENERS)) || opts->keys)
		return -EINVAL;
	*kinds = (flags & both ? flags & both : both) | (flags & XENMSG_SHARED ? BIND_SHARED : 0);
	return inbox_bind(&conn->inbox, endpoint, *kinds, flags & XENMSG_LEND, handler, userdata);
}

static void leave_binding(struct xenmsg *conn, const char *endpoint)
{
	struct binding *binding = inbox_find(&conn->inbox, endpoint, strlen(endpoint));

	if (binding)
		inbox_unbind(&conn->inbox, binding);
}

/* `done` has a userdata of its own here. */
static int bind_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		    xenmsg_message_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		    struct request **request)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct op_options opts;
	uint32_t kinds = 0;
	int r = options_read(&opts, options,
			     XENMSG_ONLY_MESSAGES | XENMSG_ONLY_CALLS | XENMSG_LEND | XENMSG_SHARED |
				     XENMSG_TOPIC | XENMSG_RETAIN | XENMSG_COUNT_LISTENERS | OP_KEYS,
			     PATIENCE_MS);

	if (r == 0)
		r = api_queries_enter(conn);
	if (r == 0)
		r = enter_binding(conn, endpoint, &opts, handler, userdata, &kinds);
	if (r < 0)
		return r;
	r = api_queries_begin(conn, FRAME_BIND, payload, encode_bind(endpoint, kinds, payload), &opts, done,
			      done_userdata, request);
	if (r == 0)
		inbox_find(&conn->inbox, endpoint, strlen(endpoint))->asked = (*request)->number;
	else
		leave_binding(conn, endpoint);
	return r;
}

int xenmsg_begin_bind(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		      xenmsg_message_handler handler, xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = op && !done ? -EINVAL
			    : bind_for(conn, endpoint, options, handler, userdata, done, userdata, &request);

	if (r == 0)
		begun(conn, request, op);
	return r;
}

int xenmsg_bind(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		xenmsg_message_handler handler, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = bind_for(conn, endpoint, options, handler, userdata, outcome_note, &outcome, &request);

	return r < 0 ? r : api_queries_finish(conn, request, &outcome);
}

int xenmsg_unbind(struct xenmsg *conn, const char *endpoint)
{
	size_t size = strlen(endpoint);
	struct binding *binding = inbox_find(&conn->inbox, endpoint, size);

	if (!conn_is_here(conn))
		return -ECHILD;
	if (binding && !binding->kinds)
		return -ENOENT;
	if (!binding && conn->mux && mux_find(conn->mux, endpoint, size))
		return conn->dead ? conn->dead : conn_check(conn, mux_unlisten(conn->mux, endpoint));
	if (!binding && !incoming_forget(&conn->incoming, endpoint))
		return -ENOENT;
	if (conn->dead)
		return conn->dead;
	if (!binding)
		return conn_tell_daemon(conn, FRAME_UNBIND, endpoint, size);
	return binding_end(conn, binding, FRAME_UNBIND, endpoint);
}

/* ---- topics ------------------------------------------------------------------------------- */

static int subscribe_for(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			 xenmsg_message_handler handler, void *userdata, xenmsg_done done,
			 void *done_userdata, struct request **request)
{
	struct op_options opts;
	int r = options_read(&opts, options, XENMSG_LEND | XENMSG_KEEP_OLDEST | XENMSG_PATTERN | OP_QUEUE,
			     PATIENCE_MS);

	if (r == 0)
		r = subscription_check(&opts);
	if (r == 0)
		r = api_queries_enter(conn);
	if (r < 0)
		return r;
	return (opts.flags & XENMSG_PATTERN ? pattern_begin : subscription_begin)(
		conn, address, &opts, handler, userdata, done, done_userdata, request);
}

int xenmsg_begin_subscribe(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			   xenmsg_message_handler handler, xenmsg_done done, void *userdata,
			   struct xenmsg_op **op)
{
	struct request *request;
	int r = op && !done
			? -EINVAL
			: subscribe_for(conn, address, options, handler, userdata, done, userdata, &request);

	if (r == 0)
		begun(conn, request, op);
	return r;
}

int xenmsg_subscribe(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
		     xenmsg_message_handler handler, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = subscribe_for(conn, address, options, handler, userdata, outcome_note, &outcome, &request);

	return r < 0 ? r : api_queries_finish(conn, request, &outcome);
}

int xenmsg_unsubscribe(struct xenmsg *conn, const char *address)
{
	struct binding *binding = inbox_find(&conn->inbox, address, strlen(address));

	if (!conn_is_here(conn))
		return -ECHILD;
	if (conn->dead)
		return conn->dead;
	if (!binding || binding->kinds)
		return pattern_end(conn, address);
	return subscription_end(conn, binding);
}

/* ---- draining ----------------------------------------------------------------------------- */

static int drain_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		     xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct binding *binding;
	struct op_options opts;
	struct call *drain;
	int r = options_read(&opts, options, 0, FOR_EVER);

	if (r == 0)
		r = api_queries_enter(conn);
	if (r < 0)
		return r;
	binding = inbox_find(&conn->inbox, endpoint, strlen(endpoint));
	if (!binding || !binding->kinds)
		return -ENOENT;
	r = calls_await(&conn->calls, done, userdata, &drain);
	if (r < 0)
		return r;
	drain->op.conn = conn;
	call_expires(drain, deadline_in(opts.timeout_ms), opts.timeout_ms);
	conn->recv_waits = false;
	/* What goes wrong from here on ends the session, and with it this. */
	r = conn_tell_daemon(conn, FRAME_DRAIN, endpoint, strlen(endpoint));
	if (r == 0)
		r = inbox_drain(&conn->inbox, binding, drain);
	else
		call_end(drain, r);
	if (r < 0)
		conn_fail(conn, -EPROTO);
	if (op)
		*op = &drain->op;
	conn_push_now(conn);
	conn_remind(conn);
	return 0;
}

int xenmsg_begin_drain(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	return done ? drain_for(conn, endpoint, options, done, userdata, op) : -EINVAL;
}

int xenmsg_drain(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	struct outcome outcome = {.known = false};
	struct xenmsg_result result;
	struct xenmsg_op *op = NULL;
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn_enter(conn);
	r = drain_for(conn, endpoint, options, outcome_note, &outcome, &op);
	outcome_await(conn, op, &outcome, r, &result);
	return result_leave(conn, &result);
}

static int listen_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		      xenmsg_done done, void *userdata, struct request **request)
{
	uint8_t payload[FRAME_SMALL_MAX];
	uint32_t kinds = BIND_STREAMS;
	struct op_options opts;
	int r = options_read(&opts, options, XENMSG_FROM_HOSTS | XENMSG_SHARED, PATIENCE_MS);

	if (r == 0 && !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		r = -EINVAL;
	if (r == 0)
		r = api_queries_enter(conn);
	if (opts.flags & XENMSG_FROM_HOSTS)
		kinds |= BIND_HOSTS;
	if (opts.flags & XENMSG_SHARED)
		kinds |= BIND_SHARED;
	if (r == 0 && conn_has_bound(conn, endpoint))
		r = -EEXIST;
	if (r == 0)
		r = incoming_listen(&conn->incoming, endpoint, kinds);
	if (r < 0)
		return r;
	r = api_queries_begin(conn, FRAME_BIND, payload, encode_bind(endpoint, kinds, payload), &opts, done,
			      userdata, request);
	if (r == 0)
		incoming_asked(&conn->incoming, (*request)->number);
	else
		incoming_forget(&conn->incoming, endpoint);
	return r;
}

int xenmsg_begin_listen(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
			xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = op && !done ? -EINVAL : listen_for(conn, endpoint, options, done, userdata, &request);

	if (r == 0)
		begun(conn, request, op);
	return r;
}

int xenmsg_listen(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = listen_for(conn, endpoint, options, outcome_note, &outcome, &request);

	return r < 0 ? r : api_queries_finish(conn, request, &outcome);
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

static int watch_for(struct xenmsg *conn, const char *pattern, const struct xenmsg_options *options,
		     xenmsg_event_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		     struct request **request)
{
	struct op_options opts;
	int r = options_read(&opts, options, 0, PATIENCE_MS);

	if (r == 0)
		r = api_queries_enter(conn);
	if (r == 0 && (!pattern_is_possible(pattern) || !handler))
		r = -EINVAL;
	if (r == 0)
		r = conn_watch(conn, pattern, opts.timeout_ms, handler, userdata, done, done_userdata,
			       request);
	return r;
}

int xenmsg_begin_watch(struct xenmsg *conn, const char *pattern, const struct xenmsg_options *options,
		       xenmsg_event_handler handler, xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = op && !done ? -EINVAL
			    : watch_for(conn, pattern, options, handler, userdata, done, userdata, &request);

	if (r < 0)
		return r;
	begun(conn, request, op);
	return (int)request->number;
}

int xenmsg_watch(struct xenmsg *conn, const char *pattern, const struct xenmsg_options *options,
		 xenmsg_event_handler handler, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	uint32_t number;
	int r = watch_for(conn, pattern, options, handler, userdata, outcome_note, &outcome, &request);

	if (r < 0)
		return r;
	number = request->number;
	r = api_queries_finish(conn, request, &outcome);
	return r < 0 ? r : (int)number;
}

int xenmsg_unwatch(struct xenmsg *conn, int number)
{
	return conn_is_here(conn) ? conn_unwatch(conn, (uint32_t)number) : -ECHILD;
}

static int query_for(struct xenmsg *conn, const char *what, const struct xenmsg_options *options,
		     xenmsg_done done, void *userdata, struct request **request)
{
	struct op_options opts;
	int r = options_read(&opts, options, 0, PATIENCE_MS);

	if (r == 0)
		r = api_queries_enter(conn);
	return r < 0 ? r
		     : api_queries_begin(conn, FRAME_QUERY, what, strlen(what), &opts, done, userdata,
					 request);
}

int xenmsg_begin_query(struct xenmsg *conn, const char *what, const struct xenmsg_options *options,
		       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = !done ? -EINVAL : query_for(conn, what, options, done, userdata, &request);

	if (r == 0)
		begun(conn, request, op);
	return r;
}

int xenmsg_query(struct xenmsg *conn, const char *what, const struct xenmsg_options *options, char **json)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = query_for(conn, what, options, outcome_note, &outcome, &request);

	if (r == 0)
		r = api_queries_finish(conn, request, &outcome);
	if (r == 0)
		*json = outcome.result.json;
	return r;
}

static int ping_for(struct xenmsg *conn, const char *domain, const struct xenmsg_options *options,
		    xenmsg_done done, void *userdata, struct request **request)
{
	struct address parsed;
	struct op_options opts;
	int r = options_read(&opts, options, 0, PATIENCE_MS);

	if (r == 0)
		r = api_queries_enter(conn);
	if (r == 0 && address_parse_domain(domain, strlen(domain), &parsed) < 0)
		r = -EINVAL;
	return r < 0 ? r
		     : api_queries_begin(conn, FRAME_PROBE, domain, strlen(domain), &opts, done, userdata,
					 request);
}

int xenmsg_begin_ping(struct xenmsg *conn, const char *domain, const struct xenmsg_options *options,
		      xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = !done ? -EINVAL : ping_for(conn, domain, options, done, userdata, &request);

	if (r == 0)
		begun(conn, request, op);
	return r;
}

int xenmsg_ping(struct xenmsg *conn, const char *domain, const struct xenmsg_options *options,
		uint64_t *round_trip_ns)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = ping_for(conn, domain, options, outcome_note, &outcome, &request);

	if (r == 0)
		r = api_queries_finish(conn, request, &outcome);
	if (r == 0 && round_trip_ns)
		*round_trip_ns = outcome.result.round_trip_ns;
	return r;
}
