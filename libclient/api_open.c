/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The connection as the program sees it, and the loop that drives it. */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/handshake.h"

/* callbacks in one call of xenmsg_process(), so that the loop's other sources get their turn */
#define BUDGET 1024

int xenmsg_open(struct xenmsg **opened, const char *socket_path)
{
	return xenmsg_open_timed(opened, socket_path, HANDSHAKE_MS);
}

int xenmsg_open_timed(struct xenmsg **opened, const char *socket_path, int timeout_ms)
{
	return conn_new(opened, handshake_path(socket_path), deadline_in(timeout_ms));
}

int xenmsg_open_post(struct xenmsg **opened, const char *socket_path, xenmsg_done done, void *userdata)
{
	return conn_new_post(opened, handshake_path(socket_path), done, userdata);
}

void xenmsg_close(struct xenmsg *conn)
{
	if (!conn)
		return;
	if (!conn_is_here(conn)) { /* what has no outcome gets it in the process that sent it */
		outbox_fail(&conn->outbox, -ECANCELED);
		conn_free(conn);
		return;
	}
	if (conn->opening.pending) {
		conn->opening.pending = false;
		if (conn->opening.done)
			conn->opening.done(conn->opening.userdata, -ECANCELED);
	}
	if (!conn->dead) {
		conn_pump(conn);
		outbox_finish(&conn->outbox);
		outbox_fail(&conn->outbox, -ECANCELED);
		requests_fail(&conn->requests, -ECANCELED);
		conn->dead = -ENOTCONN;
	}
	outbox_run(&conn->outbox, INT_MAX);
	calls_run(&conn->calls, INT_MAX);
	conn_run_answers(conn, INT_MAX);
	conn_free(conn);
}

int xenmsg_fd(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	return conn->transport.epoll;
}

int xenmsg_events(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	return POLLIN;
}

int xenmsg_timeout(struct xenmsg *conn)
{
	int64_t until;

	if (!conn_is_here(conn))
		return -ECHILD;
	if (conn->opening.pending)
		return deadline_left(conn->opening.expires);
	if (conn_has_outcomes(conn) || conn->requests.events)
		return 0;
	until = conn->calls.timed ? conn->calls.timed->expires : -1;
	if (conn->incoming.again && (until < 0 || until > conn->incoming.again))
		until = conn->incoming.again;
	return deadline_left(until);
}

static int process(struct xenmsg *conn)
{
	int count = 0, r;

	if (conn->opening.pending) {
		count = conn_open_further(conn);
		if (count == 0)
			return 0;
	}
	incoming_look(&conn->incoming);
	do {
		conn_pump(conn);
		r = conn_run(conn, BUDGET - count);
		if (r < 0)
			break;
		count += r;
		if (count >= BUDGET) {
			transport_poke(&conn->transport);
			break;
		}
		r = conn_arm(conn, true);
	} while (r > 0);
	if (count > 0 || r >= 0)
		return count + (conn->recv_waits || incoming_is_ready(&conn->incoming));
	return r;
}

int xenmsg_process(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (!conn->dead)
		while (conn_poll(conn, 0) == -EINTR)
			;
	return process(conn);
}

int xenmsg_wait(struct xenmsg *conn, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	/* What waits for xenmsg_recv() or xenmsg_accept() ends this at once, so it wouldn't come to the sleep in
	 * which the socket is read. */
	if (!conn->dead && (conn->recv_waits || conn->incoming.waiting))
		while (conn_poll(conn, 0) == -EINTR)
			;
	for (;;) {
		int r;

		/* A program that answers after this returns notifies the daemon once, of the answer and of
		 * what was taken. If the program doesn't call again soon, the daemon looks by itself. */
		conn->comes_back = true;
		r = process(conn);
		conn->comes_back = false;
		if (r != 0)
			return r;
		r = conn_sleep(conn, deadline, true);
		if (r == -EINTR || r == -ETIMEDOUT)
			return r == -EINTR ? r : 0;
	}
}

const char *xenmsg_reason(struct xenmsg *conn)
{
	return conn->calls.words ? conn->calls.words : conn->reason;
}

uint32_t xenmsg_domid(struct xenmsg *conn)
{
	return conn->transport.domid;
}

size_t xenmsg_max_message(struct xenmsg *conn)
{
	return (size_t)conn->transport.max_message;
}
