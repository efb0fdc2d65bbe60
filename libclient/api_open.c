/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The connection as the program sees it: how it begins and ends, and the loop that drives it. */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/transport.h"
#include "libclient/calls.h"
#include "libclient/helpers.h"
#include "wire/ut.h"

/* callbacks in one call of xenmsg_process(), so that the loop's other sources get their turn */
#define BUDGET	     1024
#define NO_MEMORY_MS 100 /* after which it is tried again */

/* ---- how it begins and ends --------------------------------------------------------------- */

/* Doesn't read, which would be a surprise in a function that frees. */
static void api_open_abandon(struct xenmsg *conn, struct xenmsg_message *request)
{
	if (!conn->dead && conn_is_here(conn))
		conn_reply(conn, request, MESSAGE_ERROR, (struct message_error){.number = XENMSG_UNANSWERED},
			   NULL, 0);
	if (request->reply == REPLY_OWED)
		reply_lose(request);
}

static void api_open_give_back(struct xenmsg *conn, struct xenmsg_message *message)
{
	if (conn_is_here(conn))
		inbox_take_back(&conn->inbox, message);
}

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

static void api_open_on_stream(void *userdata, int fd)
{
	struct xenmsg *conn = userdata;

	dials_ready(&conn->dials, fd);
}

/* Makes a connection, without a daemon as yet. */
static int conn_start(struct xenmsg **made, const char *socket_path)
{
	struct xenmsg *conn = calloc(1, sizeof(*conn));
	struct message_pool *pool;
	int r = -ENOMEM;

	if (!conn)
		return -ENOMEM;
	pool = message_pool_new(conn, api_open_abandon, api_open_give_back);
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
	conn->calls = (struct calls){.outbox = &conn->outbox, .pool = pool};
	inbox_init(&conn->inbox, &conn->transport, &conn->outbox, pool);
	requests_init(&conn->requests, &conn->transport, &conn->calls);
	conn->dials = (struct dials){.transport = &conn->transport, .due = -1};
	conn->reconnect.parts.transport = &conn->transport;
	conn->transport.on_stream = api_open_on_stream;
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
	int r = conn_start(&conn, socket_path);

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

/* Connects, until the deadline, with these flags of xenmsg_open(). Returns 0, or its errors. */
static int conn_new(struct xenmsg **made, const char *socket_path, unsigned flags, int64_t deadline)
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
static void conn_rest(struct xenmsg *conn, int error)
{
	struct opening *opening = &conn->opening;

	transport_hang_up(&conn->transport);
	opening->error = error;
	opening->pause_ms = pause_grown(opening->pause_ms);
	opening->due = deadline_in(pause_with_jitter(opening->pause_ms));
	transport_set_alarm(&conn->transport, opening->due);
	transport_set_alarm(&conn->transport, opening->expires);
}

/* Begins to connect, without waiting. Returns 0, or the errors of xenmsg_begin_open(). */
static int conn_begin(struct xenmsg **made, const char *socket_path, unsigned flags, int timeout_ms,
		      xenmsg_done done, void *userdata)
{
	struct xenmsg *conn;
	int r = conn_start(&conn, socket_path);

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
		conn_rest(conn, r);
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
		conn_rest(conn, r);
		return false;
	}
	*error = r;
	return is_over || r != -ETIMEDOUT;
}

/* Looks whether the daemon has answered a connection that is being opened, or the time for it is up. Returns
 * 0 if it goes on waiting, 1 if it has called `done`. */
static __attribute__((noinline)) int conn_open_further(struct xenmsg *conn)
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
		requests_let_go(&conn->requests);
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
		requests_let_go(&conn->requests);
		outbox_fail(&conn->outbox, -ECANCELED);
		inbox_fail(&conn->inbox, -ECANCELED);
		awaited_fail(conn->awaited, -ECANCELED);
	}
	free_conn(conn);
}

uint32_t xenmsg_version(void)
{
	return XENMSG_VERSION;
}

int xenmsg_open(struct xenmsg **opened, const char *socket_path, const struct xenmsg_options *options)
{
	struct op_options opts;

	*opened = NULL;
	if (options_read(&opts, options, XENMSG_RECONNECT | XENMSG_WAIT, HANDSHAKE_MS) < 0)
		return -EINVAL;
	return conn_new(opened, handshake_path(socket_path), opts.flags, deadline_in(opts.timeout_ms));
}

int xenmsg_begin_open(struct xenmsg **opened, const char *socket_path, const struct xenmsg_options *options,
		      xenmsg_done done, void *userdata)
{
	struct op_options opts;

	*opened = NULL;
	if (options_read(&opts, options, XENMSG_RECONNECT | XENMSG_WAIT, HANDSHAKE_MS) < 0)
		return -EINVAL;
	return conn_begin(opened, handshake_path(socket_path), opts.flags, opts.timeout_ms, done, userdata);
}

void xenmsg_on_change(struct xenmsg *conn, xenmsg_change_handler handler, void *userdata)
{
	conn->reconnect.handler = handler;
	conn->reconnect.userdata = userdata;
}

void xenmsg_close(struct xenmsg *conn)
{
	if (!conn)
		return;
	if (conn->depth > 0)
		conn->closing = true;
	else
		conn_end(conn);
}

int xenmsg_fd(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	return conn->transport.epoll;
}

/* ---- the loop ----------------------------------------------------------------------------- */

/* The word first, then the bell: a waiter that finds no word hears the bell, and then finds it
 * (tests/model/order/wake.litmus). */
int xenmsg_wake(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	__atomic_store_n(&conn->woken, true, __ATOMIC_RELEASE);
	transport_wake(&conn->transport);
	return 0;
}

/* Returns whether nothing has come, and nothing waits, but for streams. */
static bool has_only_streams(struct xenmsg *conn)
{
	return !conn->dead && transport_is_armed(&conn->transport) && conn_is_quiet(conn) &&
	       !conn_has_outcomes(conn) && !conn->inbox.unreported && !conn->inbox.held && !conn->want_space;
}

/* With `sleeps`, conn_sleep() comes next if nothing has happened, which asks for wake-ups. */
static int api_open_process(struct xenmsg *conn, bool sleeps)
{
	int count = 0, r;

	if (conn->opening.pending) {
		count = conn_open_further(conn);
		if (count == 0)
			return 0;
	}
	incoming_look(&conn->incoming);
	if (conn->mux)
		count += conn_run_streams(conn);
	if (conn->closing || (conn->mux && has_only_streams(conn)))
		return count + incoming_is_ready(&conn->incoming);
	do {
		conn_pump(conn);
		r = conn_run(conn, BUDGET - count);
		if (r == -ENOMEM) /* of a message, which stays */
			transport_set_alarm(&conn->transport, deadline_in(NO_MEMORY_MS));
		if (r < 0)
			break;
		count += r;
		if (conn->closing)
			break;
		if (count >= BUDGET) {
			transport_poke(&conn->transport);
			break;
		}
		if (sleeps && count == 0 && !conn->recv_waits && !incoming_is_ready(&conn->incoming))
			return 0;
		r = conn_arm(conn, true);
	} while (r > 0);
	conn_set_alarm(conn);
	if (count > 0 || r >= 0)
		return count + (conn->recv_waits || incoming_is_ready(&conn->incoming));
	return r;
}

/* To be called first. Returns 0, or why the connection can't be processed now. */
static int enter(struct xenmsg *conn)
{
	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (conn->depth > 0)
		return conn_say(conn, -EBUSY, -EBUSY, CONN_IN_CALLBACK);
	conn_enter(conn);
	return 0;
}

/* To be called last. Returns `r`, or -ECANCELED if a callback has closed the connection, which is gone
 * then. */
static int leave(struct xenmsg *conn, int r)
{
	bool closing = conn->closing;

	return conn_leave(conn, closing ? -ECANCELED : r);
}

int xenmsg_process(struct xenmsg *conn)
{
	int r = enter(conn);

	if (r < 0)
		return r;
	if (!conn->dead)
		conn_poll(conn, 0);
	return leave(conn, api_open_process(conn, false));
}

static int api_open_wait_until(struct xenmsg *conn, int64_t deadline)
{
	struct conn_wait wait = {.deadline = deadline, .what = FOR_MESSAGES};
	int failed = 0;

	/* What waits for xenmsg_recv() or xenmsg_accept(), or a wake-up that came before, ends this at once,
	 * so it wouldn't come to the sleep in which the socket is read. */
	if (!conn->dead &&
	    (conn->recv_waits || conn->incoming.waiting || __atomic_load_n(&conn->woken, __ATOMIC_RELAXED)))
		conn_poll(conn, 0);
	for (;;) {
		int r;

		/* A program that answers after this returns notifies the daemon once, of the answer and of
		 * what was taken. If the program doesn't call again soon, the daemon looks by itself, where
		 * it shares memory. */
		conn->comes_back = !conn->transport.pump;
		r = api_open_process(conn, true);
		conn->comes_back = false;
		if (r != 0 || failed)
			return r ? r : failed;
		if (__atomic_exchange_n(&conn->woken, false, __ATOMIC_ACQUIRE)) {
			if (!conn->opening.pending)
				conn_remind(conn);
			return 0;
		}
		r = conn_sleep(conn, &wait);
		if (r == -EINTR || r == -ETIMEDOUT)
			return r == -EINTR ? r : 0;
		failed = r < 0 ? r : 0; /* once what is left was told */
	}
}

int xenmsg_wait(struct xenmsg *conn, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);
	int r = enter(conn);

	if (r < 0)
		return r;
	return leave(conn, api_open_wait_until(conn, deadline));
}

/* Returns whether all that the program has begun has its outcome; what is settled was reported before. */
static bool is_settled(const struct xenmsg *conn)
{
	const struct stream_dial *dial;

	DL_FOREACH(conn->dials.begun, dial)
		if (dial->done) /* else it fetches a stream that has come */
			return false;
	return outbox_is_settled(&conn->outbox) && !conn->calls.rooms && !conn->calls.completed &&
	       !requests_are_begun(&conn->requests) &&
	       (!conn->mux || !requests_are_begun(&conn->mux->requests));
}

/* Returns whether nothing is left to wait for, or nobody to be told. */
static bool is_flushed(struct xenmsg *conn)
{
	return conn->closing || conn->dead == -ECHILD ||
	       (!conn_has_outcomes(conn) && (conn->dead || is_settled(conn)));
}

static int flush(struct xenmsg *conn, int64_t deadline)
{
	struct conn_wait wait = {.deadline = deadline, .what = FOR_OUTCOMES};
	int r;

	for (;;) {
		conn_pump(conn);
		conn_run_outcomes(conn, BUDGET);
		r = conn->dead;
		if (is_flushed(conn))
			break;
		r = conn_sleep(conn, &wait);
		if (r == -EINTR || r == -ETIMEDOUT)
			break;
	}
	conn_remind(conn);
	return r;
}

int xenmsg_flush(struct xenmsg *conn, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);
	int r = enter(conn);

	if (r < 0)
		return r;
	return leave(conn, conn_say(conn, flush(conn, deadline), -ETIMEDOUT,
				    "timed out; some of what was begun has no outcome yet"));
}

int xenmsg_pause(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->paused = true;
	conn->recv_waits = false;
	return 0;
}

int xenmsg_resume(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	if (conn->paused && !conn->dead)
		transport_poke(&conn->transport);
	conn->paused = false;
	return 0;
}

const char *xenmsg_reason(struct xenmsg *conn, int error)
{
	return conn ? conn_reason(conn, error) : words_of_opening(error);
}

uint32_t xenmsg_domid(struct xenmsg *conn)
{
	return conn->transport.domid;
}

size_t xenmsg_max_message(struct xenmsg *conn)
{
	return (size_t)conn->transport.max_message;
}
