/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The connection as the program sees it, and the loop that drives it. */

#include <errno.h>
#include <stdlib.h>

#include <utlist.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/transport.h"
#include "libclient/helpers.h"

/* callbacks in one call of xenmsg_process(), so that the loop's other sources get their turn */
#define BUDGET	     1024
#define NO_MEMORY_MS 100 /* after which it is tried again */

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
static int process(struct xenmsg *conn, bool sleeps)
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
static int api_open_enter(struct xenmsg *conn)
{
	if (conn->depth > 0 && conn_is_here(conn))
		return -EBUSY;
	if (conn_clear(conn) < 0)
		return -ECHILD;
	conn_enter(conn);
	return 0;
}

/* To be called last. Returns `r`, or -ECANCELED if a callback has closed the connection, which is gone
 * then. */
static int api_open_leave(struct xenmsg *conn, int r)
{
	bool closing = conn->closing;

	return conn_leave(conn, closing ? -ECANCELED : r);
}

int xenmsg_process(struct xenmsg *conn)
{
	int r = api_open_enter(conn);

	if (r < 0)
		return r;
	if (!conn->dead)
		while (conn_poll(conn, 0) == -EINTR)
			;
	return api_open_leave(conn, process(conn, false));
}

static int wait_until(struct xenmsg *conn, int64_t deadline)
{
	/* What waits for xenmsg_recv() or xenmsg_accept(), or a wake-up that came before, ends this at once,
	 * so it wouldn't come to the sleep in which the socket is read. */
	if (!conn->dead &&
	    (conn->recv_waits || conn->incoming.waiting || __atomic_load_n(&conn->woken, __ATOMIC_RELAXED)))
		while (conn_poll(conn, 0) == -EINTR)
			;
	for (;;) {
		int r;

		/* A program that answers after this returns notifies the daemon once, of the answer and of
		 * what was taken. If the program doesn't call again soon, the daemon looks by itself. */
		conn->comes_back = true;
		r = process(conn, true);
		conn->comes_back = false;
		if (r != 0)
			return r;
		if (__atomic_exchange_n(&conn->woken, false, __ATOMIC_ACQUIRE)) {
			if (!conn->opening.pending)
				conn_remind(conn);
			return 0;
		}
		r = conn_sleep(conn, deadline, true);
		if (r == -EINTR || r == -ETIMEDOUT)
			return r == -EINTR ? r : 0;
	}
}

int xenmsg_wait(struct xenmsg *conn, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);
	int r = api_open_enter(conn);

	if (r < 0)
		return r;
	return api_open_leave(conn, wait_until(conn, deadline));
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

static int flush(struct xenmsg *conn, int64_t deadline)
{
	int r = 0;

	for (;;) {
		conn_pump(conn);
		if (conn_run_outcomes(conn, BUDGET) >= BUDGET)
			continue;
		if (conn->dead || is_settled(conn))
			r = conn->dead;
		else
			r = conn_sleep(conn, deadline, false);
		if (r <= 0)
			break;
	}
	conn_remind(conn);
	return r;
}

int xenmsg_flush(struct xenmsg *conn, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);
	int r = api_open_enter(conn);

	if (r < 0)
		return r;
	return api_open_leave(conn, flush(conn, deadline));
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
