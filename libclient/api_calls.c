/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Calls and the replies to them. */

#include <errno.h>
#include <string.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/replies.h"
#include "libclient/wait.h"

/* The server is told for how long the answer is wanted. */
static struct properties properties_of_call(const struct how *how, int left_ms)
{
	return (struct properties){.has_deadline = how->timeout_ms >= 0,
				   .deadline_ms = (uint32_t)left_ms,
				   .trace = frame_text_of(how->trace)};
}

static int begin_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		      const struct how *how, xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct properties properties = properties_of_call(how, how->timeout_ms);
	struct call *call;
	int r = conn_check(
		conn, calls_start(&conn->calls, address, data, size, &properties, done, userdata, &call));

	if (r < 0)
		return conn_explain_address(conn, address, r);
	call->op.conn = conn;
	if (op)
		*op = &call->op;
	if (how->timeout_ms >= 0) {
		call_expires(call, deadline_in(how->timeout_ms), how->timeout_ms);
		conn_set_alarm(conn);
	}
	conn_push(conn);
	return 0;
}

int xenmsg_begin_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		      const struct xenmsg_options *options, xenmsg_done done, void *userdata,
		      struct xenmsg_op **op)
{
	struct how how;
	int r = how_read(&how, options, XENMSG_WAIT | HOW_TRACE, FOR_EVER);

	if (r < 0 || (op && !done))
		return -EINVAL;
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	if (how.flags & XENMSG_WAIT)
		return await_begin(conn, begin_call, CHANNEL_CALL, address, data, size, &how, done, userdata,
				   op);
	return begin_call(conn, address, data, size, &how, done, userdata, op);
}

/* Begins it and waits. */
static int call_once(struct xenmsg *conn, const char *address, const void *data, size_t size,
		     const struct how *how, int64_t deadline, struct xenmsg_result *result)
{
	struct properties properties;
	struct outcome outcome = {.known = false};
	struct call *call;
	int r;

	if (how->flags & XENMSG_WAIT)
		return await_outcome(conn, begin_call, CHANNEL_CALL, address, data, size, how, deadline,
				     result);
	do {
		properties = properties_of_call(how, deadline_left(deadline));
		r = conn_check(conn, calls_start(&conn->calls, address, data, size, &properties, outcome_note,
						 &outcome, &call));
	} while (r == -EAGAIN && (r = wait_for_room(conn, deadline)) == 0);
	if (r == 0) {
		call_expires(call, deadline, how->timeout_ms);
		wait_for_outcome(conn, &call->op, &outcome);
		r = conn->dead == -ECHILD ? -ECHILD : 0;
	}
	return outcome_give(conn, &outcome, conn_explain_address(conn, address, r), result);
}

/* Begins it again while the policy there isn't known. */
static int call_again(struct xenmsg *conn, const char *address, const void *data, size_t size,
		      const struct how *how, struct xenmsg_result *result)
{
	int64_t deadline = deadline_in(how->timeout_ms);
	struct again again = {0};
	int r;

	do {
		r = call_once(conn, address, data, size, how, deadline, result);
		if (r != -ENODATA)
			return r;
		r = wait_again(conn, &again, deadline);
	} while (r == 0);
	return result_without_op(result, r);
}

int xenmsg_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		const struct xenmsg_options *options, struct xenmsg_result *result)
{
	struct xenmsg_result unwanted;
	struct how how;

	if (!result)
		result = &unwanted;
	conn->reason[0] = '\0';
	if (how_read(&how, options, XENMSG_WAIT | HOW_TRACE, FOR_EVER) < 0)
		return result_without_op(result, -EINVAL);
	if (!conn_is_here(conn))
		return result_without_op(result, -ECHILD);
	if (conn_pump(conn) < 0)
		return result_without_op(result, -ENOTCONN);
	conn_enter(conn);
	call_again(conn, address, data, size, &how, result);
	if (result == &unwanted)
		xenmsg_message_free(result->reply);
	return result_leave(conn, result);
}

/* ---- replies --------------------------------------------------------------------------------- */

int xenmsg_message_wants_reply(const struct xenmsg_message *message)
{
	return message->reply == REPLY_OWED && conn_is_here(message->pool->conn); /* it isn't detached */
}

int xenmsg_message_on_withdrawn(struct xenmsg_message *message, xenmsg_withdrawn withdrawn, void *userdata)
{
	struct xenmsg *conn = message->pool ? message->pool->conn : NULL;

	if (conn && !conn_is_here(conn))
		return -ECHILD;
	if (message->reply != REPLY_OWED)
		return message->reply == REPLY_NONE   ? -EINVAL
		       : message->reply == REPLY_SENT ? -EALREADY
						      : -ECANCELED;
	message->withdrawn = withdrawn;
	message->withdrawn_userdata = userdata;
	return 0;
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

/* Checks the arguments. Returns 0, or a negative errno. */
static int find_reply_room(const struct xenmsg_message *message, const struct xenmsg_options *options,
			   struct how *how)
{
	struct xenmsg *conn = message->pool ? message->pool->conn : NULL;
	int r = how_read(how, options, 0, FOR_EVER);

	if (r == 0 && conn && !conn_is_here(conn))
		r = -ECHILD;
	if (r < 0)
		return r;
	if (message->reply == REPLY_OWED)
		conn_pump(conn);
	if (message->reply != REPLY_OWED)
		return message->reply == REPLY_LOST ? -ECANCELED : -EINVAL;
	return conn->dead ? -ENOTCONN : 0;
}

int xenmsg_begin_await_reply_room(struct xenmsg_message *message, size_t size,
				  const struct xenmsg_options *options, xenmsg_done done, void *userdata,
				  struct xenmsg_op **op)
{
	struct how how;
	int r = done ? find_reply_room(message, options, &how) : -EINVAL;

	return r < 0 ? r
		     : room_begin(message->pool->conn, message->replies->sender, size, &how, done, userdata,
				  op);
}

int xenmsg_await_reply_room(struct xenmsg_message *message, size_t size, const struct xenmsg_options *options)
{
	struct how how;
	int r = find_reply_room(message, options, &how);

	return r < 0 ? r : room_wait(message->pool->conn, message->replies->sender, size, &how);
}

int xenmsg_reply_error(struct xenmsg_message *message, unsigned code, const void *data, size_t size)
{
	if (code < 1 || code > UINT16_MAX)
		return -EINVAL;
	return answer(message, MESSAGE_ERROR, (struct message_error){.number = (uint16_t)code}, data, size);
}

int xenmsg_reply_exit_status(struct xenmsg_message *message, int status)
{
	if (status < 1 || status > UINT8_MAX)
		return -EINVAL;
	return answer(message, MESSAGE_ERROR,
		      (struct message_error){.number = EIO, .exit_status = (uint8_t)status}, NULL, 0);
}
