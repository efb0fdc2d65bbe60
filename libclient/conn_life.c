/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "libclient/conn.h"
#include "libclient/conn_internal.h"
#include "libclient/deadline.h"
#include "libclient/replies.h"
#include "wire/bytes.h"

/* How a connection begins, is opened further, and ends; and what messages that outlive their handlers ask of
 * it. */

/* Doesn't read, which would be a surprise in a function that frees. */
static void abandon(struct xenmsg *conn, struct xenmsg_message *request)
{
	if (!conn->dead && conn_is_here(conn))
		conn_reply(conn, request, MESSAGE_ERROR, (struct message_error){.number = XENMSG_UNANSWERED},
			   NULL, 0);
	if (request->reply == REPLY_OWED)
		reply_lose(request);
}

static void conn_life_give_back(struct xenmsg *conn, struct xenmsg_message *message)
{
	if (conn_is_here(conn))
		inbox_take_back(&conn->inbox, message);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Frees a connection of which every outcome was reported. */
static void free_conn(struct xenmsg *conn)
{
	outbox_free(&conn->outbox);
	awaited_free(conn->awaited);
	if (conn->pattern_hooks)
		conn->pattern_hooks->free(conn->patterns);
	calls_free(&conn->calls);
	dials_free(&conn->dials);
	incoming_free(&conn->incoming);
	reconnect_free(&conn->reconnect);
	mux_close(conn->mux);
	if (conn_is_here(conn))
		inbox_release(&conn->inbox, true);
	/* Held for lack of memory, or taken behind a RESET for which there was no room: GOODBYE would say
	 * that they were not taken. */
	if (conn->inbox.held || conn->inbox.unreported)
		conn->transport.closed = true;
	transport_close(&conn->transport);
	inbox_free(&conn->inbox);
	requests_free(&conn->requests);
	free(conn->scratch);
	free(conn);
}

static void on_stream(void *userdata, int fd)
{
	struct xenmsg *conn = userdata;

	dials_ready(&conn->dials, fd);
}

/* Makes a connection, without a daemon as yet. */
static int conn_life_start(struct xenmsg **made, const char *socket_path)
{
	struct xenmsg *conn = calloc(1, sizeof(*conn));
	struct message_pool *pool;
	int r = -ENOMEM;

	if (!conn)
		return -ENOMEM;
	pool = message_pool_new(conn, abandon, conn_life_give_back);
	conn->scratch = malloc(FRAME_PAYLOAD_MAX);
	if (pool && conn->scratch)
		r = transport_init(&conn->transport, socket_path);
	if (r < 0) {
		if (pool && conn->scratch)
			transport_close(&conn->transport);
		message_pool_close(pool);
		free(conn->scratch);
		free(conn);
		return r;
	}
	outbox_init(&conn->outbox, &conn->transport, &calls_outbox_callbacks);
	calls_init(&conn->calls, &conn->outbox, pool);
	inbox_init(&conn->inbox, &conn->transport, &conn->outbox, pool);
	requests_init(&conn->requests, &conn->transport);
	dials_init(&conn->dials, &conn->transport);
	conn->reconnect.parts.transport = &conn->transport;
	conn->transport.on_stream = on_stream;
	conn->transport.userdata = conn;
	*made = conn;
	return 0;
}

static void begin_to_outlive(struct xenmsg *conn)
{
	const struct reconnect_parts parts = {.transport = &conn->transport,
					      .inbox = &conn->inbox,
					      .requests = &conn->requests,
					      .incoming = &conn->incoming};

	reconnect_init(&conn->reconnect, &parts);
}

static bool no_daemon_is_there(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED;
}

/* Connects to the daemon that is there now. */
static int open_now(struct xenmsg **made, const char *socket_path, unsigned flags, int64_t deadline)
{
	struct xenmsg *conn;
	int r = conn_life_start(&conn, socket_path);

	if (r < 0)
		return r;
	r = transport_dial(&conn->transport, 0, deadline);
	if (r == 0)
		r = transport_finish(&conn->transport, deadline);
	if (r < 0) {
		free_conn(conn);
		return r;
	}
	if (flags & XENMSG_RECONNECT)
		begin_to_outlive(conn);
	*made = conn;
	return 0;
}

/* Returns 0, or -EINTR. */
static int sleep_for(int pause_ms, int64_t deadline)
{
	int left = deadline_left(deadline);

	return poll(NULL, 0, left >= 0 && left < pause_ms ? left : pause_ms) < 0 ? -errno : 0;
}

int conn_new(struct xenmsg **made, const char *socket_path, unsigned flags, int64_t deadline)
{
	int r = open_now(made, socket_path, flags, deadline), pause_ms = 0;

	while ((flags & XENMSG_WAIT) && no_daemon_is_there(r) && deadline_left(deadline) != 0) {
		pause_ms = pause_grown(pause_ms);
		r = sleep_for(pause_with_jitter(pause_ms), deadline);
		if (r == 0)
			r = open_now(made, socket_path, flags, deadline);
	}
	return r;
}

/* Waits for the next attempt. */
static void conn_life_rest(struct xenmsg *conn, int error)
{
	struct opening *opening = &conn->opening;

	transport_hang_up(&conn->transport);
	opening->error = error;
	opening->pause_ms = pause_grown(opening->pause_ms);
	opening->due = deadline_in(pause_with_jitter(opening->pause_ms));
	transport_set_alarm(&conn->transport, opening->due);
	transport_set_alarm(&conn->transport, opening->expires);
}

int conn_begin(struct xenmsg **made, const char *socket_path, unsigned flags, int timeout_ms,
	       xenmsg_done done, void *userdata)
{
	struct xenmsg *conn;
	int r = conn_life_start(&conn, socket_path);

	if (r < 0)
		return r;
	r = transport_dial(&conn->transport, 0, 0);
	if (r < 0 && !((flags & XENMSG_WAIT) && no_daemon_is_there(r))) {
		free_conn(conn);
		return r == -ETIMEDOUT ? -EAGAIN : r;
	}
	conn->dead = -ENOTCONN;
	conn->opening = (struct opening){.pending = true,
					 .done = done,
					 .userdata = userdata,
					 .expires = deadline_in(timeout_ms),
					 .flags = flags,
					 .due = -1};
	if (r < 0)
		conn_life_rest(conn, r);
	transport_set_alarm(&conn->transport, conn->opening.expires);
	*made = conn;
	return 0;
}

/* Goes on with it. False: it isn't over; else *error is how it has ended. */
static bool has_opened(struct xenmsg *conn, int *error)
{
	struct opening *opening = &conn->opening;
	bool is_over = deadline_left(opening->expires) == 0;
	int r = 0;

	transport_poll(&conn->transport, 0); /* what has woken us: the alarm, or xenmsg_wake() */
	transport_set_alarm(&conn->transport, opening->expires);
	if (opening->due >= 0 && !is_over && deadline_left(opening->due) != 0) {
		transport_set_alarm(&conn->transport, opening->due);
		return false;
	}
	if (opening->due >= 0 && is_over) {
		*error = opening->error;
		return true;
	}
	if (opening->due >= 0) {
		opening->due = -1;
		r = transport_dial(&conn->transport, 0, 0);
		if (r == -ETIMEDOUT) /* its queue is full */
			r = -ECONNREFUSED;
	}
	if (r == 0)
		r = transport_finish(&conn->transport, 0);
	if (!is_over && (opening->flags & XENMSG_WAIT) && no_daemon_is_there(r)) {
		conn_life_rest(conn, r);
		return false;
	}
	*error = r;
	return is_over || r != -ETIMEDOUT;
}

int conn_open_further(struct xenmsg *conn)
{
	int r;

	if (!has_opened(conn, &r))
		return 0;
	conn->opening.pending = false;
	if (r == 0 && (conn->opening.flags & XENMSG_RECONNECT))
		begin_to_outlive(conn);
	if (r == 0)
		conn->dead = 0;
	else
		conn_set_reason(conn, conn->transport.reason, strlen(conn->transport.reason));
	conn_tell(conn, conn->opening.done, conn->opening.userdata, conn_result_of(r));
	conn_came_back(conn);
	return 1;
}

/* In a child, what has no outcome gets it in the process that sent it. */
static void settle_all(struct xenmsg *conn)
{
	if (conn->opening.pending) {
		conn->opening.pending = false;
		conn_tell(conn, conn->opening.done, conn->opening.userdata, conn_result_of(-ECANCELED));
	}
	conn->reconnect.state = RECONNECT_OFF;
	if (!conn->dead) {
		conn_pump(conn);
		outbox_finish(&conn->outbox);
		outbox_fail(&conn->outbox, -ECANCELED);
		inbox_fail(&conn->inbox, -ECANCELED);
		requests_fail(&conn->requests, -ECANCELED);
		dials_fail(&conn->dials, -ECANCELED);
		awaited_fail(conn->awaited, -ECANCELED);
		if (conn->mux)
			requests_fail(&conn->mux->requests, -ECANCELED);
		conn->dead = -ENOTCONN;
	}
	outbox_run(&conn->outbox, INT_MAX);
	calls_run(&conn->calls, INT_MAX);
	conn_run_answers(conn, INT_MAX);
}

void conn_end(struct xenmsg *conn)
{
	conn->depth++; /* closing it once more has no effect */
	if (conn_is_here(conn)) {
		settle_all(conn);
	} else {
		outbox_fail(&conn->outbox, -ECANCELED);
		inbox_fail(&conn->inbox, -ECANCELED);
		awaited_fail(conn->awaited, -ECANCELED);
	}
	free_conn(conn);
}

/* ---- what the daemon has answered ----------------------------------------------------------- */

/* What the daemon has answered, and what the program gets of it: to what it has asked, and of streams. What
 * wasn't to be had is undone. */

struct xenmsg_result conn_result_of(int error)
{
	return (struct xenmsg_result){
		.error = error, .fate = error < 0 ? XENMSG_FATE_NOT_DONE : XENMSG_FATE_DONE, .stream = -1};
}

void conn_tell(struct xenmsg *conn, xenmsg_done done, void *userdata, struct xenmsg_result result)
{
	if (!done)
		return;
	result.reason = result.error < 0 ? conn_reason(conn, result.error) : "";
	done(userdata, &result);
}

int conn_tell_daemon(struct xenmsg *conn, uint8_t type, const void *payload, size_t size)
{
	int r = conn_check(conn, requests_tell(&conn->requests, type, payload, size));

	if (r == 0)
		conn_push_now(conn);
	return r;
}

int conn_watch(struct xenmsg *conn, const char *pattern, int timeout_ms, xenmsg_event_handler handler,
	       void *userdata, xenmsg_done done, void *done_userdata, struct request **request)
{
	int r = conn_check(conn, requests_watch(&conn->requests, pattern, timeout_ms, handler, userdata, done,
						done_userdata, request));

	if (r == 0)
		(*request)->op.conn = conn;
	return r;
}

int conn_unwatch(struct xenmsg *conn, uint32_t number)
{
	uint8_t payload[4];

	if (!requests_unwatch(&conn->requests, number))
		return -ENOENT;
	if (conn->dead)
		return conn->dead;
	return conn_tell_daemon(conn, FRAME_UNWATCH, payload, frame_u32_encode(number, payload));
}

bool conn_has_bound(struct xenmsg *conn, const char *endpoint)
{
	size_t size = strlen(endpoint);

	return inbox_find(&conn->inbox, endpoint, size) || incoming_knows(&conn->incoming, endpoint) ||
	       (conn->mux && mux_find(conn->mux, endpoint, size));
}

/* What was to be bound isn't; one that was given up may be there by now, or soon. */
static void undo_bind(struct xenmsg *conn, const struct request *request)
{
	struct binding *binding = inbox_find_asked(&conn->inbox, request->number);
	const char *listening = incoming_find_asked(&conn->incoming, request->number);
	char endpoint[ADDRESS_MAX + 1] = "";
	uint8_t type = request->type == FRAME_SUBSCRIBE ? FRAME_UNSUBSCRIBE : FRAME_UNBIND;

	/* The daemon hasn't bound it, so nothing has come for it. */
	if (binding) {
		snprintf(endpoint, sizeof(endpoint), "%s", binding->endpoint);
		inbox_unbind(&conn->inbox, binding);
	} else if (listening) {
		snprintf(endpoint, sizeof(endpoint), "%s", listening);
		incoming_forget(&conn->incoming, endpoint);
	}
	if (!request->finished && endpoint[0] && !conn->dead)
		conn_tell_daemon(conn, type, endpoint, strlen(endpoint));
}

static char *text_of(const struct fifo *body)
{
	size_t size = fifo_size(body);
	char *text = malloc(size + 1);

	if (!text)
		return NULL;
	if (size)
		memcpy(text, fifo_front(body), size);
	text[size] = '\0';
	return text;
}

/* Returns the endpoint, or topic, for which this was asked; NULL: none that the program still wants. */
static const char *bound_by(struct xenmsg *conn, const struct request *request)
{
	const struct binding *binding;

	if (request->requests != &conn->requests)
		return mux_find_asked(conn->mux, request->number);
	binding = inbox_find_asked(&conn->inbox, request->number);
	return binding ? binding->endpoint : incoming_find_asked(&conn->incoming, request->number);
}

/* Takes from the answer what the program gets of it. */
static void read_answer(const struct request *request, struct xenmsg_result *result)
{
	if (request->type == FRAME_QUERY) {
		result->json = text_of(&request->body);
		result->error = result->json ? 0 : -ENOMEM;
	} else if (request->type == FRAME_PROBE && fifo_size(&request->body) < 8) {
		result->error = -EPROTO;
	} else if (request->type == FRAME_PROBE) {
		result->round_trip_ns = get_u64(fifo_front(&request->body));
	}
}

void conn_tell_answer(struct xenmsg *conn, struct request *request)
{
	struct xenmsg_result result = conn_result_of(request->error);

	request_take(request);
	if (request->after_loss && request->error < 0 &&
	    !(conn->pattern_hooks && conn->pattern_hooks->take_refusal(conn, request)) &&
	    !(request->type == FRAME_WATCH && awaited_take_refusal(conn->awaited, request->number)))
		reconnect_refused(&conn->reconnect, request, bound_by(conn, request));
	if (request->error == 0)
		read_answer(request, &result);
	else if (request->requests != &conn->requests)
		mux_undo(conn->mux, request, conn->dead);
	else if (request->type == FRAME_BIND || request->type == FRAME_SUBSCRIBE)
		undo_bind(conn, request);
	else if (request->type == FRAME_WATCH && request->finished)
		requests_unwatch(&conn->requests, request->number);
	else if (request->type == FRAME_WATCH)
		conn_unwatch(conn, request->number);
	else if (request->type == FRAME_QUERY && (!request->finished || conn->dead))
		result.fate = XENMSG_FATE_UNKNOWN; /* there are some that do something */
	if (request->error < 0 && !conn->dead)
		conn_set_reason(conn, fifo_front(&request->body),
				request->finished ? fifo_size(&request->body) : 0);
	conn_tell(conn, request->done, request->userdata, result);
	request_release(request);
}

void conn_tell_stream(struct xenmsg *conn, struct stream_dial *dial)
{
	struct xenmsg_result result = conn_result_of(dial->error);

	DL_DELETE(conn->dials.settled, dial);
	if (dial->error < 0 && !conn->dead)
		conn_set_reason(conn, dial->reason, strlen(dial->reason));
	result.stream = dial->fd;
	dial->fd = -1;
	conn_tell(conn, dial->done, dial->userdata, result);
	dial_free(dial);
}

int conn_run_answers(struct xenmsg *conn, int budget)
{
	int count = 0;

	while (count < budget && conn->requests.settled && conn_came_back(conn)) {
		count += conn->requests.settled->done != NULL;
		conn_tell_answer(conn, conn->requests.settled);
	}
	while (count < budget && conn->mux && conn->mux->requests.settled && conn_came_back(conn)) {
		count += conn->mux->requests.settled->done != NULL;
		conn_tell_answer(conn, conn->mux->requests.settled);
	}
	while (count < budget && conn->dials.settled && conn_came_back(conn)) {
		count++;
		conn_tell_stream(conn, conn->dials.settled);
	}
	return count;
}
