/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/wait.h"

#include <errno.h>
#include <string.h>

#include "libclient/deadline.h"

int wait_for_room(struct xenmsg *conn, int64_t deadline)
{
	int r = conn_sleep(conn, deadline, false);

	if (r == -EINTR || r == -ETIMEDOUT)
		return r;
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	conn_run_outcomes(conn, RUN_BUDGET);
	return 0;
}

static void wait_for_outcome(struct xenmsg *conn, struct xenmsg_op *op, struct outcome *outcome)
{
	bool interrupted = false;

	for (;;) {
		conn_pump(conn);
		do
			conn_run_outcomes(conn, RUN_BUDGET);
		while (!outcome->known && conn_has_outcomes(conn) && conn->dead != -ECHILD);
		if (outcome->known || conn->dead == -ECHILD)
			break;
		if (conn_sleep(conn, -1, false) == -EINTR && !interrupted) {
			interrupted = true;
			conn_withdraw(conn, op);
		}
	}
	if (interrupted && outcome->result.error == -ETIMEDOUT)
		outcome->result.error = -EINTR;
}

bool wait_for_answer(struct xenmsg *conn, struct xenmsg_op *op)
{
	bool interrupted = false;

	conn_pump(conn);
	while (!op->settled) {
		if (conn_sleep(conn, -1, false) == -EINTR && !interrupted) {
			interrupted = true;
			conn_withdraw(conn, op);
		}
		conn_pump(conn);
	}
	return interrupted;
}

void outcome_note(void *userdata, const struct xenmsg_result *result)
{
	struct outcome *outcome = userdata;

	outcome->known = true;
	outcome->result = *result;
}

int result_without_op(struct xenmsg_result *result, int error)
{
	const struct op_result known = op_result(error);

	*result = op_result_told(&known, NULL);
	return error;
}

int outcome_await(struct xenmsg *conn, struct xenmsg_op *op, struct outcome *outcome, int r,
		  struct xenmsg_result *result)
{
	if (r == 0) {
		wait_for_outcome(conn, op, outcome);
		r = conn->dead == -ECHILD ? -ECHILD : 0;
	}
	conn_remind(conn);
	if (r == 0 && outcome->known)
		*result = outcome->result;
	else
		result_without_op(result, r < 0 ? r : -ECONNRESET);
	if (r == -EINVAL && conn->reason[0]) /* conn_explain_address() */
		result->reason = "";
	if (*result->reason)
		conn_set_reason(conn, result->reason, strlen(result->reason));
	else
		result->reason = conn->reason;
	return result->error;
}

int room_begin(struct xenmsg *conn, struct sender *sender, size_t size, const struct op_options *opts,
	       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct call *call;
	int r = calls_await_room(&conn->calls, sender, size, done, userdata, &call);

	if (r < 0)
		return r;
	call->op.conn = conn;
	if (!call->op.settled)
		call_expires(call, deadline_in(opts->timeout_ms), opts->timeout_ms);
	if (op)
		*op = &call->op;
	conn_remind(conn);
	return 0;
}

int room_wait(struct xenmsg *conn, struct sender *sender, size_t size, const struct op_options *opts)
{
	struct outcome outcome = {.known = false};
	struct xenmsg_result result;
	struct xenmsg_op *op = NULL;
	int r;

	conn_enter(conn);
	r = room_begin(conn, sender, size, opts, outcome_note, &outcome, &op);
	outcome_await(conn, op, &outcome, r, &result);
	return result_leave(conn, &result);
}

int wait_again(struct xenmsg *conn, struct again *again, int64_t deadline)
{
	int pause_ms = again_pause(again, deadline), r = 0;
	int64_t end = deadline_in(pause_ms);

	if (pause_ms < 0)
		return pause_ms;
	while (r == 0 && deadline_left(end) > 0)
		r = wait_for_room(conn, end);
	return r == -ETIMEDOUT ? 0 : r;
}
