/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a program asks its daemon: bind, listen, watch, query, ping; and streams. Each of these is begun; the
 * form that waits for its REPLY lets the rest of the connection go on meanwhile, but calls nobody back. What
 * ends something (unbind, unwatch) waits for nothing. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "wire/address.h"

#define BAD_NAME  "an endpoint's name is 1 to 63 letters, digits, _ and -, and begins with a letter or digit"
#define NO_DOMAIN "that can't be a domain: a name, a number, or self, perhaps behind HOST/"
#define NOT_BOUND "this program has bound no endpoint of that name"

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
		return conn_say(conn, -EINVAL, -EINVAL, BAD_NAME);
	if (conn_has_bound(conn, endpoint))
		return -EEXIST;
	if (flags & XENMSG_TOPIC) {
		if ((flags & ~(unsigned)(XENMSG_RETAIN | XENMSG_COUNT_LISTENERS)) != XENMSG_TOPIC ||
		    handler || (opts->keys && !(flags & XENMSG_RETAIN)) || opts->keys > XENMSG_KEYS_MAX)
			return conn_say(
				conn, -EINVAL, -EINVAL,
				"a topic takes no messages, so it has no handler and no flags for that, "
				"and up to 4095 keys with XENMSG_RETAIN");
		*kinds = BIND_TOPIC | (flags & XENMSG_RETAIN ? BIND_RETAIN : 0) |
			 (flags & XENMSG_COUNT_LISTENERS ? BIND_LISTENERS : 0) |
			 opts->keys << BIND_KEYS_SHIFT;
		return inbox_bind(&conn->inbox, endpoint, *kinds, false, NULL, userdata);
	}
	if ((flags & (XENMSG_RETAIN | XENMSG_COUNT_LISTENERS)) || opts->keys)
		return conn_say(conn, -EINVAL, -EINVAL, "keeping and listeners are for topics: XENMSG_TOPIC");
	if ((flags & both) == both)
		return conn_say(conn, -EINVAL, -EINVAL, "only messages and only calls exclude each other");
	*kinds = (flags & both ? flags & both : both) | (flags & XENMSG_SHARED ? BIND_SHARED : 0);
	return inbox_bind(&conn->inbox, endpoint, *kinds, flags & XENMSG_LEND, handler, userdata);
}

/* `done` has a userdata of its own here. */
static int bind_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		    xenmsg_message_handler handler, void *userdata, xenmsg_done done, void *done_userdata,
		    struct request **request)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct op_options opts;
	struct binding *binding;
	uint32_t kinds = 0;
	int r = options_read_first(conn, &opts, options,
				   XENMSG_ONLY_MESSAGES | XENMSG_ONLY_CALLS | XENMSG_LEND | XENMSG_SHARED |
					   XENMSG_TOPIC | XENMSG_RETAIN | XENMSG_COUNT_LISTENERS | OP_KEYS,
				   PATIENCE_MS);

	if (r == 0)
		r = conn->dead;
	if (r == 0)
		r = enter_binding(conn, endpoint, &opts, handler, userdata, &kinds);
	if (r < 0)
		return r;
	binding = inbox_find(&conn->inbox, endpoint, strlen(endpoint));
	r = conn_ask(conn, FRAME_BIND, payload, encode_bind(endpoint, kinds, payload), &opts, done,
		     done_userdata, request);
	if (r == 0)
		binding->asked = (*request)->number;
	else
		inbox_unbind(&conn->inbox, binding);
	return r;
}

int xenmsg_begin_bind(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		      xenmsg_message_handler handler, xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = bind_for(conn, endpoint, options, handler, userdata, done, userdata, &request);
	return request_begun(conn, r, request, op);
}

int xenmsg_bind(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		xenmsg_message_handler handler, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = bind_for(conn, endpoint, options, handler, userdata, outcome_note, &outcome, &request);

	return request_finish(conn, r, request, &outcome);
}

int xenmsg_unbind(struct xenmsg *conn, const char *endpoint)
{
	size_t size = strlen(endpoint);
	struct binding *binding = inbox_find(&conn->inbox, endpoint, size);

	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (binding && !binding->kinds)
		return conn_say(conn, -ENOENT, -ENOENT, NOT_BOUND);
	if (!binding && conn->mux && mux_find(conn->mux, endpoint, size))
		return conn->dead ? conn->dead : conn_check(conn, mux_unlisten(conn->mux, endpoint, false));
	if (!binding && !incoming_forget(&conn->incoming, endpoint))
		return conn_say(conn, -ENOENT, -ENOENT, NOT_BOUND);
	if (conn->dead)
		return conn->dead;
	if (!binding)
		return conn_tell_daemon(conn, FRAME_UNBIND, endpoint, size);
	return conn_unbind(conn, binding, endpoint);
}

/* ---- draining ----------------------------------------------------------------------------- */

static int drain_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		     xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	bool has_streams = conn->mux && mux_find(conn->mux, endpoint, strlen(endpoint));
	struct binding *binding;
	struct op_options opts;
	struct call *drain;
	int r = conn_ready(conn);

	if (r == 0)
		r = conn_say_options(conn, options_read(&opts, options, 0, FOR_EVER), &opts);
	if (r < 0)
		return r;
	binding = inbox_find(&conn->inbox, endpoint, strlen(endpoint));
	if (!has_streams && (!binding || !binding->kinds))
		return conn_say(conn, -ENOENT, -ENOENT, NOT_BOUND);
	r = calls_await(&conn->calls, done, userdata, &drain);
	if (r < 0)
		return r;
	drain->op.conn = conn;
	call_expires(drain, deadline_in(opts.timeout_ms), opts.timeout_ms);
	conn->recv_waits = false;
	/* What goes wrong from here on ends the session, and with it this. */
	r = has_streams ? mux_unlisten(conn->mux, endpoint, true)
			: conn_tell_daemon(conn, FRAME_DRAIN, endpoint, strlen(endpoint));
	if (r == 0 && !has_streams)
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
	int r = conn_needs(conn, done);

	return r < 0 ? r : drain_for(conn, endpoint, options, done, userdata, op);
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
	int r = options_read_first(conn, &opts, options, XENMSG_FROM_HOSTS | XENMSG_SHARED, PATIENCE_MS);

	if (r == 0 && !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		r = conn_say(conn, -EINVAL, -EINVAL, BAD_NAME);
	if (r == 0)
		r = conn->dead;
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
	r = conn_ask(conn, FRAME_BIND, payload, encode_bind(endpoint, kinds, payload), &opts, done, userdata,
		     request);
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
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = listen_for(conn, endpoint, options, done, userdata, &request);
	return request_begun(conn, r, request, op);
}

int xenmsg_listen(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = listen_for(conn, endpoint, options, outcome_note, &outcome, &request);

	return request_finish(conn, r, request, &outcome);
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
	int r = options_read_first(conn, &opts, options, 0, PATIENCE_MS);

	if (r == 0)
		r = conn->dead;
	if (r == 0 && !pattern_is_possible(pattern))
		r = conn_say(conn, -EINVAL, -EINVAL,
			     "a pattern is DOMAIN or DOMAIN:ENDPOINT, perhaps behind HOST/");
	if (r == 0 && !handler)
		r = conn_say(conn, -EINVAL, -EINVAL, "a watch needs a handler");
	if (r == 0)
		r = conn_watch(conn, pattern, opts.timeout_ms, handler, userdata, done, done_userdata,
			       request);
	return r;
}

int xenmsg_begin_watch(struct xenmsg *conn, const char *pattern, const struct xenmsg_options *options,
		       xenmsg_event_handler handler, xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = watch_for(conn, pattern, options, handler, userdata, done, userdata, &request);
	r = request_begun(conn, r, request, op);
	return r < 0 ? r : (int)request->number;
}

int xenmsg_watch(struct xenmsg *conn, const char *pattern, const struct xenmsg_options *options,
		 xenmsg_event_handler handler, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	uint32_t number;
	int r = watch_for(conn, pattern, options, handler, userdata, outcome_note, &outcome, &request);

	number = r < 0 ? 0 : request->number;
	r = request_finish(conn, r, request, &outcome);
	return r < 0 ? r : (int)number;
}

int xenmsg_unwatch(struct xenmsg *conn, int number)
{
	return conn_clear(conn) < 0 ? -ECHILD
				    : conn_say(conn, conn_unwatch(conn, (uint32_t)number), -ENOENT,
					       "this program has no watch of that number");
}

/* --- what the daemon is asked ----------------------------------------------------------------- */

/* Makes of a call's result that of a question. */
static void api_requests_read_answer(const struct call *call, struct xenmsg_result *result)
{
	struct xenmsg *conn = call->op.conn;
	const char *text = result->reply ? xenmsg_message_data(result->reply) : NULL;
	size_t size = result->reply ? xenmsg_message_size(result->reply) : 0;

	if (result->error == -EREMOTEIO) {
		conn_set_reason(conn, text, size);
		result->error = frame_error((uint32_t)result->code, -EPROTO);
		conn_say(conn, result->error, -ENOMEM, WORDS_OF_PEERS_LACK);
		result->fate = (enum xenmsg_fate)op_result(result->error).fate;
		result->reason = conn_reason(conn, result->error);
		result->code = 0;
	} else if (result->error == -ECONNRESET && conn->dead) {
		result->error = conn->dead;
		result->reason = conn_reason(conn, conn->dead);
	} else if (result->error == -ETIMEDOUT ||
		   (result->error == -ECONNRESET && !strcmp(result->reason, OUTBOX_UNSETTLED))) {
		result->error = conn_say(conn, -ETIMEDOUT, -ETIMEDOUT, "xenmsgd has not answered in time");
		result->reason = conn_reason(conn, -ETIMEDOUT);
	} else if (result->error == 0) {
		result->json = malloc(size + 1);
		if (result->json) {
			if (size)
				memcpy(result->json, text, size);
			result->json[size] = '\0';
		} else {
			result->error = -ENOMEM;
			result->reason = xenmsg_error_text(-ENOMEM);
		}
	}
	xenmsg_message_free(result->reply);
	result->reply = NULL;
}

/* Calls the daemon of a domain, which has `size` bytes of name. */
static int call_daemon(struct xenmsg *conn, const char *domain, size_t size, const char *what,
		       const struct xenmsg_options *options, xenmsg_done done, void *userdata,
		       struct call **call)
{
	const struct properties none = {.has_deadline = false};
	char address[ADDRESS_MAX + 1];
	struct op_options opts;
	int r = options_read_first(conn, &opts, options, 0, PATIENCE_MS);

	if (r == 0)
		r = conn->dead;
	if (r == 0 && snprintf(address, sizeof(address), "%.*s:" DAEMON_ENDPOINT, (int)size, domain) >=
			      (int)sizeof(address))
		r = conn_say(conn, -EINVAL, -EINVAL, NO_DOMAIN);
	if (r == 0)
		r = conn_check(conn, calls_start(&conn->calls, address, what, strlen(what), &none, done,
						 userdata, call));
	if (r < 0)
		return r == -EAGAIN ? -ENOBUFS : r;
	(*call)->read_answer = api_requests_read_answer;
	call_begun(conn, *call, &opts, NULL);
	return 0;
}

/* Returns what follows "WORD of ". NULL: it doesn't begin so. */
static const char *begins_of(const char *what, const char *word)
{
	size_t size = strlen(word);

	return !strncmp(what, word, size) && !strncmp(what + size, " of ", 4) ? what + size + 4 : NULL;
}

/* Asks the own daemon, or by "WORD of DOMAIN ..." that of another domain what it sees. */
static int query_for(struct xenmsg *conn, const char *what, const struct xenmsg_options *options,
		     xenmsg_done done, void *userdata, struct call **call)
{
	static const char *const words[] = {"status", "trace"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const char *domain = begins_of(what, words[i]);
		size_t size = domain ? strcspn(domain, " ") : 0;
		char question[FRAME_SMALL_MAX];

		if (size && snprintf(question, sizeof(question), "%s%s", words[i], domain + size) <
				    (int)sizeof(question))
			return call_daemon(conn, domain, size, question, options, done, userdata, call);
	}
	return call_daemon(conn, "self", 4, what, options, done, userdata, call);
}

int xenmsg_begin_query(struct xenmsg *conn, const char *what, const struct xenmsg_options *options,
		       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct call *call;
	int r = conn_needs(conn, done);

	if (r == 0)
		r = query_for(conn, what, options, done, userdata, &call);
	if (r == 0 && op)
		*op = &call->op;
	return r;
}

/* Waits for a daemon's answer. Returns its error. */
static int await_daemon(struct xenmsg *conn, struct call *call, struct outcome *outcome)
{
	bool interrupted = wait_for_answer(conn, &call->op);

	call_tell(call);
	conn_remind(conn);
	if (outcome->result.error < 0)
		conn_set_reason(conn, outcome->result.reason, strlen(outcome->result.reason));
	return interrupted && outcome->result.error == -ETIMEDOUT ? -EINTR : outcome->result.error;
}

int xenmsg_query(struct xenmsg *conn, const char *what, const struct xenmsg_options *options, char **json)
{
	struct outcome outcome = {.known = false};
	struct call *call;
	int r = query_for(conn, what, options, outcome_note, &outcome, &call);

	if (r == 0)
		r = await_daemon(conn, call, &outcome);
	if (r == 0)
		*json = outcome.result.json;
	return r;
}

static void read_pong(const struct call *call, struct xenmsg_result *result)
{
	api_requests_read_answer(call, result);
	free(result->json);
	result->json = NULL;
	if (result->error == 0)
		result->round_trip_ns = call->took_ns;
}

static int ping_for(struct xenmsg *conn, const char *domain, const struct xenmsg_options *options,
		    xenmsg_done done, void *userdata, struct call **call)
{
	uint64_t began_ns = now_ns();
	struct address parsed;
	int r = conn_clear(conn) < 0 ? -ECHILD : conn->dead;

	if (r == 0 && address_parse_domain(domain, strlen(domain), &parsed) < 0)
		r = conn_say(conn, -EINVAL, -EINVAL, NO_DOMAIN);
	if (r == 0)
		r = call_daemon(conn, domain, strlen(domain), "ping", options, done, userdata, call);
	if (r < 0)
		return r;
	(*call)->began_ns = began_ns;
	(*call)->read_answer = read_pong;
	return 0;
}

int xenmsg_begin_ping(struct xenmsg *conn, const char *domain, const struct xenmsg_options *options,
		      xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct call *call;
	int r = conn_needs(conn, done);

	if (r == 0)
		r = ping_for(conn, domain, options, done, userdata, &call);
	if (r == 0 && op)
		*op = &call->op;
	return r;
}

int xenmsg_ping(struct xenmsg *conn, const char *domain, const struct xenmsg_options *options,
		uint64_t *round_trip_ns)
{
	struct outcome outcome = {.known = false};
	struct call *call;
	int r = ping_for(conn, domain, options, outcome_note, &outcome, &call);

	if (r == 0)
		r = await_daemon(conn, call, &outcome);
	if (r == 0 && round_trip_ns)
		*round_trip_ns = outcome.result.round_trip_ns;
	return r;
}

/* ---- byte streams ------------------------------------------------------------------------- */

/* Those that the program opens, and those that come to it, which its session only announces. sockets.c opens
 * them. */

static int connect_for(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
		       xenmsg_done done, void *userdata, struct stream_dial **dial)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {.data = address, .size = strlen(address)}};
	uint8_t payload[FRAME_SMALL_MAX];
	struct address parsed;
	struct op_options opts;
	int r = options_read_first(conn, &opts, options, 0, FOR_EVER);

	if (r < 0)
		return r;
	if (address_parse(address, strlen(address), &parsed, NULL) < 0)
		return conn_explain_address(conn, address, -EINVAL);
	if (conn->dead)
		return conn->dead;
	return dials_begin(&conn->dials, FRAME_OPEN, payload, frame_open_encode(&open, payload),
			   opts.timeout_ms, done, userdata, dial);
}

/* Begins an attempt of one that waits. */
static int begin_attempt(struct xenmsg *conn, enum channel_kind kind, const char *address, const void *data,
			 size_t size, const struct op_options *opts, xenmsg_done done, void *userdata,
			 struct xenmsg_op **op)
{
	return xenmsg_begin_connect(conn, address, XENMSG_WITHIN(opts->timeout_ms), done, userdata, op);
}

static bool waits(const struct xenmsg *conn, const struct xenmsg_options *options, struct op_options *opts)
{
	return conn_is_here(conn) && !conn->dead && options_read(opts, options, XENMSG_WAIT, FOR_EVER) == 0 &&
	       (opts->flags & XENMSG_WAIT);
}

/* As xenmsg_connect(), of one that waits, during which the program is called back. */
static int connect_waiting(struct xenmsg *conn, const char *address, const struct op_options *opts)
{
	struct xenmsg_result result;
	int r;

	conn_forget_reason(conn);
	conn_enter(conn);
	r = await_outcome(conn, begin_attempt, CHANNEL_STREAM, address, NULL, 0, opts,
			  deadline_in(opts->timeout_ms), &result);
	return conn_leave(conn, r < 0 ? conn_explain_address(conn, address, r) : result.stream);
}

int xenmsg_begin_connect(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			 xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct stream_dial *dial;
	struct op_options opts;
	int r;

	if (done && waits(conn, options, &opts)) {
		conn_forget_reason(conn);
		return conn_explain_address(conn, address,
					    await_begin(conn, begin_attempt, CHANNEL_STREAM, address, NULL, 0,
							&opts, done, userdata, op));
	}
	r = conn_needs(conn, done);
	if (r == 0)
		r = connect_for(conn, address, options, done, userdata, &dial);
	if (r < 0)
		return r;
	dial->op.conn = conn;
	if (op)
		*op = &dial->op;
	conn_remind(conn); /* it may be settled */
	return 0;
}

int xenmsg_connect(struct xenmsg *conn, const char *address, const struct xenmsg_options *options)
{
	struct outcome outcome = {.known = false};
	struct stream_dial *dial;
	bool interrupted;
	struct op_options opts;
	int r;

	if (waits(conn, options, &opts))
		return connect_waiting(conn, address, &opts);
	r = connect_for(conn, address, options, outcome_note, &outcome, &dial);
	if (r < 0)
		return r;
	interrupted = wait_for_answer(conn, &dial->op);
	conn_tell_stream(conn, dial);
	conn_remind(conn);
	if (interrupted && outcome.result.error == -ETIMEDOUT)
		return -EINTR;
	r = outcome.result.error;
	return r < 0 ? conn_explain_address(conn, address, r) : outcome.result.stream;
}

/* ---- streams that come in ----------------------------------------------------------------- */

/* Begins to fetch the first waiting stream. */
static int fetch(struct xenmsg *conn)
{
	struct incoming *incoming = &conn->incoming;
	uint8_t payload[8];

	return dials_begin(&conn->dials, FRAME_ACCEPT, payload,
			   frame_u64_encode(incoming->waiting->token, payload), HANDSHAKE_MS, NULL, NULL,
			   &incoming->fetch);
}

/* Takes the one that was fetched. Returns its descriptor, or -ENOENT if it has ended meanwhile. */
static int take_fetched(struct xenmsg *conn)
{
	struct incoming *incoming = &conn->incoming;
	const struct arrival *arrival = incoming->waiting;
	struct stream_dial *dial = incoming->fetch;
	int fd = dial->error < 0 ? dial->error : dial->fd;

	if (fd >= 0) {
		incoming->peer = arrival->peer;
		dial_take_sender(dial, &incoming->peer);
	}
	if (fd < 0)
		conn_set_reason(conn, dial->reason, strlen(dial->reason));
	dial->fd = -1;
	dial_free(dial);
	incoming->fetch = NULL;
	/* The stream waits at the daemon until it was fetched, or has ended, and its opener with it: if
	 * descriptors have run out, here or by a limit of the daemon's, or the daemon hasn't answered in
	 * time, it can still be fetched later. */
	if (fd >= 0 || fd == -ENOENT)
		incoming_drop(incoming);
	else
		incoming_rest(incoming);
	return fd == -ETIMEDOUT ? -ECONNREFUSED : fd;
}

/* Returns a stream, or -EAGAIN if none is there yet, or an error of xenmsg_accept(). */
static int accept_now(struct xenmsg *conn)
{
	int r = 0;

	conn_pump(conn);
	incoming_look(&conn->incoming);
	while (!conn->dead && incoming_is_ready(&conn->incoming)) {
		r = conn->incoming.fetch ? 0 : fetch(conn);
		if (r == 0 && conn->incoming.fetch->op.settled)
			r = take_fetched(conn);
		else if (r == 0)
			break;
		if (r != -ENOENT)
			return r;
	}
	return conn->dead ? conn->dead : -EAGAIN;
}

int xenmsg_accept(struct xenmsg *conn, const struct xenmsg_options *options, const struct xenmsg_peer **peer)
{
	struct conn_wait wait = {.what = FOR_ANSWER};
	struct op_options opts;
	int r = options_read_first(conn, &opts, options, 0, FOR_EVER);

	if (r < 0)
		return r;
	wait.deadline = deadline_in(opts.timeout_ms);
	while ((r = accept_now(conn)) == -EAGAIN) {
		r = conn_sleep(conn, &wait);
		if (r == -ETIMEDOUT && opts.timeout_ms == 0)
			r = -EAGAIN;
		if (r < 0)
			break;
	}
	conn_remind(conn);
	if (r >= 0 && peer)
		*peer = &conn->incoming.peer;
	conn_say(conn, r, -EAGAIN, "no stream is there yet");
	return conn_say(conn, r, -ETIMEDOUT, "no stream came in time");
}

/* ---- streams in one connection ------------------------------------------------------------ */

/* The functions of xenmsg-stream.h that have to do with the whole connection; those of a stream are in
 * mux.c. */

static int mux_ready(struct xenmsg *conn)
{
	int r = conn_ready(conn);

	return r < 0 ? r : conn_mux(conn) ? 0 : -ENOMEM;
}

static int stream_listen_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
			     xenmsg_stream_incoming incoming, void *userdata, xenmsg_done done,
			     void *done_userdata, struct request **request)
{
	uint32_t kinds = BIND_STREAMS;
	struct op_options opts;
	int r = options_read_first(conn, &opts, options, XENMSG_FROM_HOSTS | XENMSG_SHARED, PATIENCE_MS);

	if (r < 0)
		return r;
	if (!incoming || !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return conn_say(conn, -EINVAL, -EINVAL,
				incoming ? BAD_NAME : "an endpoint for streams needs a handler");
	if (opts.flags & XENMSG_FROM_HOSTS)
		kinds |= BIND_HOSTS;
	if (opts.flags & XENMSG_SHARED)
		kinds |= BIND_SHARED;
	r = mux_ready(conn);
	if (r == 0 && conn_has_bound(conn, endpoint))
		r = -EEXIST;
	if (r == 0)
		r = conn_check(conn, mux_listen(conn->mux, endpoint, kinds, incoming, userdata,
						opts.timeout_ms, done, done_userdata, request));
	if (r == 0)
		(*request)->op.conn = conn;
	return r;
}

int xenmsg_begin_stream_listen(struct xenmsg *conn, const char *endpoint,
			       const struct xenmsg_options *options, xenmsg_stream_incoming incoming,
			       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = stream_listen_for(conn, endpoint, options, incoming, userdata, done, userdata, &request);
	if (r < 0)
		return r;
	if (op)
		*op = &request->op;
	conn_pump(conn); /* dials */
	conn_remind(conn);
	return 0;
}

/* Waits for the daemon's answer, which comes among what there is to be told of streams. Returns its error. */
static int await_answer(struct xenmsg *conn, struct request *request, struct outcome *outcome)
{
	struct conn_wait wait = {.deadline = -1};
	bool interrupted = false;

	for (;;) {
		conn_pump(conn);
		conn_run_streams(conn);
		if (request->op.settled || conn->closing || conn->dead == -ECHILD)
			break;
		if (conn_sleep(conn, &wait) == -EINTR && !interrupted) {
			interrupted = true;
			conn_withdraw(conn, &request->op);
		}
	}
	if (!request->op.settled)
		return conn->closing ? -ECANCELED : -ECHILD;
	conn_tell_answer(conn, request);
	return interrupted && outcome->result.error == -ETIMEDOUT ? -EINTR : outcome->result.error;
}

int xenmsg_stream_listen(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
			 xenmsg_stream_incoming incoming, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = conn_clear(conn) < 0 ? -ECHILD : conn->depth > 0 ? -EBUSY : 0;

	conn_say(conn, r, -EBUSY, CONN_IN_CALLBACK);
	if (r == 0)
		r = stream_listen_for(conn, endpoint, options, incoming, userdata, outcome_note, &outcome,
				      &request);
	if (r < 0)
		return r;
	conn_enter(conn);
	r = await_answer(conn, request, &outcome);
	if (!conn->closing && conn_is_here(conn))
		conn_remind(conn);
	return conn_leave(conn, r);
}

int xenmsg_stream_connect(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			  const struct xenmsg_stream_callbacks *callbacks, void *userdata,
			  struct xenmsg_stream **stream)
{
	struct address parsed;
	struct op_options opts;
	int r = options_read_first(conn, &opts, options, 0, FOR_EVER);

	if (r == 0 && address_parse(address, strlen(address), &parsed, NULL) < 0)
		r = conn_explain_address(conn, address, -EINVAL);
	if (r == 0)
		r = mux_ready(conn);
	if (r == 0)
		r = mux_connect(conn->mux, address, opts.timeout_ms, callbacks, userdata, stream);
	if (r < 0)
		return r;
	conn_pump(conn);
	conn_set_alarm(conn);
	return 0;
}

void xenmsg_stream_resume(struct xenmsg_stream *stream)
{
	struct xenmsg *conn = stream->mux->conn;

	if (conn)
		conn_enter(conn);
	stream_resume(stream);
	if (conn)
		conn_leave(conn, 0);
}
