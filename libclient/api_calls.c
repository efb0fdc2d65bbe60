/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls and the replies to them. */

#include <errno.h>
#include <string.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/wait.h"

int xenmsg_answered(struct xenmsg *conn)
{
	return conn->outbox.certainty == XENMSG_ANSWERED;
}

int xenmsg_certainty(struct xenmsg *conn)
{
	return conn->outbox.certainty;
}

int xenmsg_exit_status(struct xenmsg *conn)
{
	return conn->calls.exit_status;
}

int xenmsg_call_post_timed(struct xenmsg *conn, const char *address, const void *data, size_t size,
			   int timeout_ms, xenmsg_call_done done, void *userdata)
{
	struct call *call;
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = conn_check(conn, calls_start(&conn->calls, address, data, size, done, userdata, &call));
	if (r < 0)
		return r;
	if (timeout_ms >= 0)
		call_expires(call, deadline_in(timeout_ms), timeout_ms);
	conn_set_alarm(conn);
	conn_push(conn);
	return 0;
}

int xenmsg_call_post(struct xenmsg *conn, const char *address, const void *data, size_t size,
		     xenmsg_call_done done, void *userdata)
{
	return xenmsg_call_post_timed(conn, address, data, size, -1, done, userdata);
}

struct answer {
	const struct calls *calls;
	bool known;
	/* copies of what `calls` said when the answer came, since calls that end later change it */
	uint8_t certainty, exit_status;
	const char *words;
	int result;
	struct xenmsg_message *reply;
};

static void note_answer(void *userdata, int result, struct xenmsg_message *reply)
{
	struct answer *answer = userdata;

	answer->known = true;
	answer->certainty = answer->calls->outbox->certainty;
	answer->exit_status = answer->calls->exit_status;
	answer->words = answer->calls->words;
	answer->result = result;
	answer->reply = reply;
}

static int call_in_time(struct xenmsg *conn, const char *address, const void *data, size_t size,
			struct xenmsg_message **reply, int timeout_ms, int64_t deadline)
{
	struct answer answer = {.calls = &conn->calls, .result = -ECONNRESET};
	struct call *call;
	int r;

	do
		r = conn_check(conn,
			       calls_start(&conn->calls, address, data, size, note_answer, &answer, &call));
	while (r == -EAGAIN && (r = wait_for_room(conn, deadline)) == 0);
	if (r == 0) {
		if (deadline >= 0)
			call_expires(call, deadline, timeout_ms);
		/* A call whose time is up gets an answer, too. */
		wait_for_outcome(conn, &answer.known, -1);
		if (conn->dead == -ECHILD)
			return -ECHILD;
		if (answer.words)
			conn_set_reason(conn, answer.words, strlen(answer.words));
		else if (answer.result == -ECONNRESET && deadline_left(deadline) == 0)
			conn_set_reason(conn, OUTBOX_UNSETTLED, strlen(OUTBOX_UNSETTLED));
		conn_remind(conn);
		*reply = answer.reply;
		r = answer.result;
	}
	conn->outbox.certainty = answer.known ? answer.certainty : outcome_certainty(r);
	conn->calls.exit_status = answer.exit_status;
	return r;
}

/* Tries again while the policy there isn't known. */
static int call_again(struct xenmsg *conn, const char *address, const void *data, size_t size,
		      struct xenmsg_message **reply, int timeout_ms, int64_t deadline)
{
	struct again again = {0};
	int r;

	do {
		r = call_in_time(conn, address, data, size, reply, timeout_ms, deadline);
		if (r != -ENODATA || xenmsg_answered(conn))
			return r;
		r = wait_again(conn, &again, deadline);
	} while (r == 0);
	conn->outbox.certainty = XENMSG_NEVER_TAKEN;
	return r;
}

int xenmsg_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		struct xenmsg_message **reply, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);

	*reply = NULL;
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	conn->outbox.certainty = XENMSG_NEVER_TAKEN;
	conn->calls.exit_status = 0;
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	conn_enter(conn);
	return conn_leave(conn, call_again(conn, address, data, size, reply, timeout_ms, deadline));
}

/* ---- replies --------------------------------------------------------------------------------- */

int xenmsg_message_wants_reply(const struct xenmsg_message *message)
{
	return message->reply == REPLY_OWED && conn_is_here(message->pool->conn); /* it isn't detached */
}

static int answer(struct xenmsg_message *request, enum message_type type, struct message_error error,
		  const void *data, size_t size)
{
	struct xenmsg *conn = request->pool ? request->pool->conn : NULL;

	if (conn && !conn_is_here(conn))
		return -ECHILD;
	if (request->reply == REPLY_OWED)
		conn_pump(conn); /* the call may have been lost meanwhile, or credit may have come */
	switch (request->reply) {
	case REPLY_NONE:
		return -EINVAL;
	case REPLY_SENT:
		return -EALREADY;
	case REPLY_LOST:
		return -ECANCELED;
	case REPLY_OWED:
		break;
	}
	if (conn->dead)
		return -ENOTCONN;
	if (size > conn->transport.max_message)
		return -EMSGSIZE;
	return conn_reply(conn, request, type, error, data, size);
}

int xenmsg_reply(struct xenmsg_message *message, const void *data, size_t size)
{
	return answer(message, MESSAGE_REPLY, (struct message_error){0}, data, size);
}

int xenmsg_reply_error(struct xenmsg_message *message, int error)
{
	if (error < 0)
		error = -error;
	if (error < 1 || error > 4095)
		return -EINVAL;
	return answer(message, MESSAGE_ERROR, (struct message_error){.number = (uint16_t)error}, NULL, 0);
}

int xenmsg_reply_exit_status(struct xenmsg_message *message, int status)
{
	if (status < 1 || status > UINT8_MAX)
		return -EINVAL;
	return answer(message, MESSAGE_ERROR,
		      (struct message_error){.number = EIO, .exit_status = (uint8_t)status}, NULL, 0);
}
