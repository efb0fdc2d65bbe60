/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* xenmsg_post(), xenmsg_send() and xenmsg_recv(). */

#include <errno.h>
#include <stdbool.h>

#include "libclient/conn.h"

#define RUN_BUDGET	256
#define CANCEL_PATIENCE 5000 /* ms; the daemon answers within 2 s, even if the other end doesn't */

int xenmsg_post(struct xenmsg *conn, const char *address, const void *data, size_t size, xenmsg_done done,
		void *userdata)
{
	int r;

	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = conn_check(conn, outbox_post(&conn->outbox, address, data, size, false, done, userdata, NULL));
	if (r < 0)
		return r;
	conn_push(conn);
	return 0;
}

struct outcome {
	bool known;
	int result;
};

static void note_outcome(void *userdata, int result)
{
	struct outcome *outcome = userdata;

	*outcome = (struct outcome){.known = true, .result = result};
}

/* Until the outcome is known or the time is up. */
static void await(struct xenmsg *conn, const struct outcome *outcome, int64_t deadline)
{
	for (;;) {
		int r;

		conn_pump(conn);
		do
			conn_run_outcomes(conn, RUN_BUDGET);
		while (!outcome->known && outbox_has_outcomes(&conn->outbox));
		if (outcome->known)
			return;
		r = conn_sleep(conn, deadline, false);
		if (r == 0 && conn_left(deadline) == 0)
			return;
	}
}

/* Posts as soon as there is room. */
static int post_in_time(struct xenmsg *conn, const char *address, const void *data, size_t size,
			int64_t deadline, struct outcome *outcome, struct outbox_ticket *ticket)
{
	for (;;) {
		int r = outbox_post(&conn->outbox, address, data, size, false, note_outcome, outcome, ticket);

		if (r != -EAGAIN)
			return r;
		r = conn_sleep(conn, deadline, false);
		if (r == -EINTR)
			return r;
		if (r == 0 && conn_left(deadline) == 0)
			return -ETIMEDOUT;
		if (conn_pump(conn) < 0)
			return -ENOTCONN;
		conn_run_outcomes(conn, RUN_BUDGET);
	}
}

static int send_at_once(struct xenmsg *conn, const char *address, const void *data, size_t size)
{
	int r = conn_check(conn, outbox_post(&conn->outbox, address, data, size, true, NULL, NULL, NULL));

	if (conn_flush(conn) < 0)
		return -ENOTCONN;
	if (conn->hop.stream)
		hop_poke(&conn->hop);
	return r;
}

static int send_in_time(struct xenmsg *conn, const char *address, const void *data, size_t size,
			int64_t deadline)
{
	struct outcome outcome = {.known = false, .result = -ECONNRESET};
	struct outbox_ticket ticket;
	int r;

	r = conn_check(conn, post_in_time(conn, address, data, size, deadline, &outcome, &ticket));
	if (r < 0) {
		conn_remind(conn);
		return r;
	}
	await(conn, &outcome, deadline);
	if (!outcome.known) {
		r = outbox_cancel(&conn->outbox, &ticket);
		if (r < 0)
			conn_fail(conn, r);
		await(conn, &outcome, conn_deadline(CANCEL_PATIENCE));
	}
	if (!outcome.known) {
		outbox_abandon(&conn->outbox, &ticket);
		while (!outcome.known && outbox_has_outcomes(&conn->outbox))
			conn_run_outcomes(conn, RUN_BUDGET);
	}
	conn_remind(conn);
	return outcome.result;
}

int xenmsg_send(struct xenmsg *conn, const char *address, const void *data, size_t size, int timeout_ms)
{
	struct again again = {0};
	int64_t deadline;
	int r;

	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	if (timeout_ms == 0)
		return send_at_once(conn, address, data, size);
	deadline = conn_deadline(timeout_ms);
	do
		r = send_in_time(conn, address, data, size, deadline);
	while (r == -ENODATA && (r = conn_pause_again(conn, &again, deadline)) == 0);
	return r;
}

int xenmsg_recv(struct xenmsg *conn, struct xenmsg_message **message, int timeout_ms)
{
	int64_t deadline = -1;
	bool timed = false;

	conn->reason[0] = '\0';
	for (;;) {
		const struct binding *binding;
		int r;

		if (conn_pump(conn) < 0) {
			conn_run_outcomes(conn, RUN_BUDGET);
			return conn->dead;
		}
		/* Those for handlers that lie before it come first; there may be none of either. */
		r = conn_run(conn, RUN_BUDGET);
		if (r >= RUN_BUDGET)
			continue;
		if (r == -ENOMEM)
			return r;
		r = conn->recv_waits ? conn_take(conn, true, message, &binding) : 0;
		if (r < 0)
			return r;
		if (r > 0) {
			if (*message)
				return 0;
			continue;
		}
		/* The clock is read only by those who have to wait. */
		if (!timed) {
			deadline = timeout_ms == 0 ? 0 : conn_deadline(timeout_ms);
			timed = true;
		}
		r = conn_sleep(conn, deadline, true);
		if (r == -EINTR)
			return r;
		if (r == 0 && conn_left(deadline) == 0)
			return timeout_ms == 0 ? -EAGAIN : -ETIMEDOUT;
	}
}
