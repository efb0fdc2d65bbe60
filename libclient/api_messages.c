/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sending and receiving messages. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/wait.h"

int xenmsg_post(struct xenmsg *conn, const char *address, const void *data, size_t size, xenmsg_done done,
		void *userdata)
{
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = conn_check(conn, outbox_post(&conn->outbox, address, data, size, false, done, userdata, NULL));
	if (r < 0)
		return r;
	conn_push(conn);
	return 0;
}

int xenmsg_post_timed(struct xenmsg *conn, const char *address, const void *data, size_t size, int timeout_ms,
		      xenmsg_done done, void *userdata)
{
	struct call *message;
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	if (timeout_ms < 0)
		return xenmsg_post(conn, address, data, size, done, userdata);
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = conn_check(conn,
		       calls_start_message(&conn->calls, address, data, size, done, userdata, &message));
	if (r < 0)
		return r;
	call_expires(message, deadline_in(timeout_ms), timeout_ms);
	conn_set_alarm(conn);
	conn_push(conn);
	return 0;
}

int xenmsg_withdraw(struct xenmsg *conn, const char *address, const void *userdata)
{
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = outbox_withdraw(&conn->outbox, address, userdata);
	if (r == -ENOENT)
		r = calls_withdraw(&conn->calls, address, userdata);
	if (r < 0 && r != -ENOENT) {
		conn_fail(conn, r);
		return -ENOTCONN;
	}
	conn_push(conn);
	conn_remind(conn);
	return r;
}

int xenmsg_reserve(struct xenmsg *conn, const char *address, size_t size, void **data)
{
	int r;

	*data = NULL;
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = conn_check(conn, outbox_reserve(&conn->outbox, address, size, data));
	/* The channel may have been opened for it. What waits to be sent stays so: it would take the place. */
	if (!conn->dead)
		transport_publish(&conn->transport);
	return r;
}

int xenmsg_commit(struct xenmsg *conn, size_t size, xenmsg_done done, void *userdata)
{
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	/* Nothing is read before: to answer it could need the place where the message lies. */
	if (conn->dead) {
		outbox_unreserve(&conn->outbox);
		return -ENOTCONN;
	}
	r = conn_check(conn, outbox_commit(&conn->outbox, size, done, userdata));
	if (r < 0)
		return r;
	conn_push(conn);
	return 0;
}

void xenmsg_unreserve(struct xenmsg *conn)
{
	if (conn_is_here(conn))
		outbox_unreserve(&conn->outbox);
}

static int send_at_once(struct xenmsg *conn, const char *address, const void *data, size_t size)
{
	int r = conn_check(conn, outbox_post(&conn->outbox, address, data, size, true, NULL, NULL, NULL));

	if (conn_flush(conn) < 0)
		return -ENOTCONN;
	if (conn->transport.pump)
		transport_poke(&conn->transport);
	return r;
}

static int send_in_time(struct xenmsg *conn, const char *address, const void *data, size_t size,
			int timeout_ms, int64_t deadline, struct xenmsg_result *result)
{
	struct outcome outcome = {.known = false};
	struct outbox_ticket ticket;
	int r;

	do
		r = conn_check(conn, outbox_post(&conn->outbox, address, data, size, false, outcome_note,
						 &outcome, &ticket));
	while (r == -EAGAIN && (r = wait_for_room(conn, deadline)) == 0);
	if (r == 0) {
		wait_for_outcome(conn, &outcome.known, deadline);
		if (!outcome.known && conn->dead != -ECHILD) {
			r = outbox_cancel(&conn->outbox, &ticket);
			if (r < 0)
				conn_fail(conn, r);
			wait_for_outcome(conn, &outcome.known, deadline_in(outbox_settle_ms(timeout_ms)));
		}
		if (!outcome.known && conn->dead != -ECHILD) {
			outbox_abandon(&conn->outbox, &ticket);
			wait_for_outcome(conn, &outcome.known, 0);
		}
		r = conn->dead == -ECHILD ? -ECHILD : 0;
	}
	return outcome_give(conn, &outcome, r, result);
}

/* Tries again while the policy there isn't known. */
static int send_again(struct xenmsg *conn, const char *address, const void *data, size_t size, int timeout_ms,
		      struct xenmsg_result *result)
{
	int64_t deadline = deadline_in(timeout_ms);
	struct again again = {0};
	int r;

	do {
		r = send_in_time(conn, address, data, size, timeout_ms, deadline, result);
		if (r != -ENODATA)
			return r;
		r = wait_again(conn, &again, deadline);
	} while (r == 0);
	return result_without_op(result, r);
}

int xenmsg_send(struct xenmsg *conn, const char *address, const void *data, size_t size, int timeout_ms,
		struct xenmsg_result *result)
{
	struct xenmsg_result unwanted;
	int r;

	if (!result)
		result = &unwanted;
	if (!conn_is_here(conn))
		return result_without_op(result, -ECHILD);
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return result_without_op(result, -ENOTCONN);
	if (timeout_ms == 0) {
		r = result_without_op(result, send_at_once(conn, address, data, size));
		if (r == 0)
			result->fate = XENMSG_UNKNOWN;
		return r;
	}
	conn_enter(conn);
	send_again(conn, address, data, size, timeout_ms, result);
	return result_leave(conn, result);
}

static int recv_next(struct xenmsg *conn, struct xenmsg_message **message, int timeout_ms)
{
	int64_t deadline = -1;
	bool timed = false;

	for (;;) {
		const struct binding *binding;
		int r;

		if (conn_pump(conn) < 0) {
			conn_run_outcomes(conn, RUN_BUDGET);
			return conn->dead;
		}
		/* Messages for handlers that lie before it come first; there may be none of either. */
		r = conn_run(conn, RUN_BUDGET);
		if (conn->closing)
			return -ECANCELED;
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
		/* The clock is read only when there is nothing to return yet. */
		if (!timed) {
			deadline = timeout_ms == 0 ? 0 : deadline_in(timeout_ms);
			timed = true;
		}
		r = conn_sleep(conn, deadline, true);
		if (r == -ETIMEDOUT && timeout_ms == 0)
			return -EAGAIN;
		if (r == -EINTR || r == -ETIMEDOUT)
			return r;
	}
}

int xenmsg_recv(struct xenmsg *conn, struct xenmsg_message **message, int timeout_ms)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	conn_enter(conn);
	return conn_leave(conn, recv_next(conn, message, timeout_ms));
}

static int peek(struct xenmsg *conn, struct xenmsg_message **message)
{
	int r;

	do {
		if (conn_pump(conn) < 0) {
			conn_run_outcomes(conn, RUN_BUDGET);
			return conn->dead;
		}
		r = conn_run(conn, RUN_BUDGET);
		if (r < 0)
			return r;
		if (conn->closing)
			return -ECANCELED;
		if (r >= RUN_BUDGET) { /* it hasn't come to look who receives the next one */
			r = 0;
			continue;
		}
		/* What hasn't been run yet is still due. */
		if (!conn->recv_waits) {
			conn_remind(conn);
			return conn->dead ? conn->dead : -EAGAIN;
		}
		r = conn_peek(conn, message);
	} while (r == 0);
	return r < 0 ? r : 0;
}

int xenmsg_peek(struct xenmsg *conn, struct xenmsg_message **message)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	conn_enter(conn);
	return conn_leave(conn, peek(conn, message));
}

static int decide(struct xenmsg *conn, const struct xenmsg_message *message, uint32_t error)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return conn->dead;
	return conn_decide(conn, message, error);
}

int xenmsg_take(struct xenmsg *conn, const struct xenmsg_message *message)
{
	return decide(conn, message, 0);
}

int xenmsg_refuse(struct xenmsg *conn, const struct xenmsg_message *message, unsigned code)
{
	return code < 1 || code > 4095 ? -EINVAL : decide(conn, message, code);
}

int xenmsg_message_detach(struct xenmsg_message *message)
{
	const struct message_pool *pool = message->pool;

	return pool && pool->conn && !conn_is_here(pool->conn) ? -ECHILD : message_detach(message);
}
