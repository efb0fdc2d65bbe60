/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/calls.h"
#include "libclient/outbox.h"

/* Sending and receiving messages. */

size_t xenmsg_max_at_once(struct xenmsg *conn)
{
	size_t most = xenmsg_max_message(conn);

	return most < OUTBOX_AT_ONCE_MAX ? most : OUTBOX_AT_ONCE_MAX;
}

int xenmsg_sent_name(struct xenmsg *conn, const char *address, unsigned flags, char *name, size_t size)
{
	enum channel_kind kind = flags & XENMSG_ONLY_CALLS ? CHANNEL_CALL : CHANNEL_MESSAGE;
	const struct sender *sender;

	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (!address || (flags & ~XENMSG_ONLY_CALLS))
		return -EINVAL;
	sender = outbox_lookup(&conn->outbox, address, kind);
	if (!sender || !sender->accepted)
		return -ENOENT;
	if ((size_t)snprintf(name, size, "%u.%d.%u@%llu", xenmsg_domid(conn), (int)getpid(),
			     sender_serial(sender), (unsigned long long)sender->accepted) >= size)
		return -ENOBUFS;
	return 0;
}

/* Begins what the functions are about. Returns 0, -ECHILD or -ENOTCONN. */
static inline __attribute__((always_inline)) int enter(struct xenmsg *conn)
{
	if (conn_clear(conn) < 0)
		return -ECHILD;
	return conn_pump(conn) < 0 ? -ENOTCONN : 0;
}

/* A message that nobody can withdraw, without a time-out and without properties, that doesn't wait for its
 * receiver, needs no call to remember it. */
static bool api_messages_is_plain(const struct op_options *opts, struct xenmsg_op **op)
{
	return !op && opts->timeout_ms < 0 && !opts->trace && !opts->key && !(opts->flags & XENMSG_WAIT);
}

/* A server is told for how long the answer is wanted. */
static struct properties properties_of(const struct op_options *opts, enum channel_kind kind)
{
	return (struct properties){.has_deadline = kind == CHANNEL_CALL && opts->timeout_ms >= 0,
				   .deadline_ms = (uint32_t)opts->timeout_ms,
				   .trace = frame_text_of(opts->trace),
				   .key = frame_text_of(opts->key)};
}

/* A message that is sent at once has no room for properties if it is the largest. */
static int read_options(struct op_options *opts, const struct xenmsg_options *options)
{
	int r = options_read(opts, options, XENMSG_AT_ONCE | XENMSG_WAIT | OP_TRACE | OP_KEY, FOR_EVER);
	bool waits, at_once;

	if (r < 0)
		return r;
	waits = opts->flags & XENMSG_WAIT;
	at_once = opts->flags & XENMSG_AT_ONCE;
	/* A publisher never waits for subscribers. */
	if ((at_once && (waits || opts->trace || opts->key)) || (waits && opts->key)) {
		opts->why = at_once ? "what is sent at once waits for nothing, and has no trace and no key"
				    : "a topic's message, with a key, waits for nobody";
		return -EINVAL;
	}
	return 0;
}

/* Begins a message that isn't plain, or a call. Returns as calls_start(). */
static int api_messages_begin(struct xenmsg *conn, enum channel_kind kind, const char *address,
			      const void *data, size_t size, const struct op_options *opts, xenmsg_done done,
			      void *userdata, struct xenmsg_op **op)
{
	const struct properties properties = properties_of(opts, kind);
	struct call *call;
	int r = kind == CHANNEL_CALL
			? calls_start(&conn->calls, address, data, size, &properties, done, userdata, &call)
			: calls_start_message(&conn->calls, address, data, size, &properties,
					      opts->flags & XENMSG_AT_ONCE, done, userdata, &call);

	r = conn_check(conn, r);
	if (r == 0)
		call_begun(conn, call, opts, op);
	return r;
}

static __attribute__((noinline)) int send_as_told(struct xenmsg *conn, const char *address, const void *data,
						  size_t size, const struct xenmsg_options *options,
						  xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct op_options opts;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = conn_say_options(conn, read_options(&opts, options), &opts);
	if (r == 0)
		r = enter(conn);
	if (r < 0)
		return r;
	if (!api_messages_is_plain(&opts, op))
		return await_begin(conn, api_messages_begin, CHANNEL_MESSAGE, address, data, size, &opts,
				   done, userdata, op);
	r = conn_check(conn, outbox_send(&conn->outbox, address, data, size, opts.flags & XENMSG_AT_ONCE,
					 done, userdata));
	if (r == 0)
		conn_push(conn);
	return r;
}

/* Most messages have no options, and nobody will withdraw them. */
int xenmsg_begin_send(struct xenmsg *conn, const char *address, const void *data, size_t size,
		      const struct xenmsg_options *options, xenmsg_done done, void *userdata,
		      struct xenmsg_op **op)
{
	int r;

	if (options || op) {
		r = send_as_told(conn, address, data, size, options, done, userdata, op);
		return r < 0 ? conn_explain_message(conn, address, size, r) : 0;
	}
	r = enter(conn);
	if (r == 0)
		r = conn_check(conn, outbox_send(&conn->outbox, address, data, size, false, done, userdata));
	if (r < 0)
		return conn_explain_message(conn, address, size, r);
	conn_push(conn);
	return 0;
}

int xenmsg_op_withdraw(struct xenmsg_op *op)
{
	return conn_clear(op->conn) < 0
		       ? -ECHILD
		       : conn_say(op->conn, conn_withdraw(op->conn, op), -EALREADY, "it has ended by now");
}

int xenmsg_reserve(struct xenmsg *conn, const char *address, size_t size, void **data)
{
	int r;

	*data = NULL;
	r = enter(conn);
	if (r < 0)
		return r;
	r = conn_check(conn, outbox_reserve(&conn->outbox, address, size, data));
	/* The channel may have been opened for it. What waits to be sent stays so: it would take the
	 * place. */
	if (!conn->dead)
		transport_publish(&conn->transport);
	conn_say(conn, r, -EBUSY, "another message is reserved already");
	return conn_explain_message(conn, address, size, r);
}

int xenmsg_commit(struct xenmsg *conn, size_t size, const struct xenmsg_options *options, xenmsg_done done,
		  void *userdata, struct xenmsg_op **op)
{
	const struct op plain = {.done = done, .userdata = userdata};
	struct call *message = NULL;
	struct properties properties;
	struct sender *sender;
	struct op_options opts;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = options_read_first(conn, &opts, options, OP_TRACE, FOR_EVER);
	if (r < 0)
		return r;
	/* Nothing is read before: to answer it could need the place where the message lies. */
	if (conn->dead) {
		outbox_unreserve(&conn->outbox);
		return -ENOTCONN;
	}
	properties = properties_of(&opts, CHANNEL_MESSAGE);
	r = api_messages_is_plain(&opts, op)
		    ? outbox_commit(&conn->outbox, size, NULL, &plain, &sender)
		    : calls_commit_message(&conn->calls, size, &properties, done, userdata, &message);
	r = conn_say(conn, conn_check(conn, r), -EINVAL, "nothing is reserved, or less than that");
	if (r < 0)
		return r;
	if (message)
		call_begun(conn, message, &opts, op);
	else
		conn_push(conn);
	return 0;
}

void xenmsg_unreserve(struct xenmsg *conn)
{
	if (conn_is_here(conn))
		outbox_unreserve(&conn->outbox);
}

/* Checks the arguments. Returns 0 with *sender the channel to the address (NULL: there is none), or a
 * negative errno. */
static int find_room(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
		     struct op_options *opts, struct sender **sender)
{
	struct address parsed;
	int r = options_read_first(conn, opts, options, XENMSG_ONLY_CALLS, FOR_EVER);

	if (r == 0)
		r = conn_explain_address(conn, address,
					 address_parse(address, strlen(address), &parsed, NULL));
	if (r == 0)
		r = conn_pump(conn) < 0 ? -ENOTCONN : 0;
	if (r == 0)
		*sender = outbox_lookup(&conn->outbox, address,
					opts->flags & XENMSG_ONLY_CALLS ? CHANNEL_CALL : CHANNEL_MESSAGE);
	return r;
}

int xenmsg_begin_await_room(struct xenmsg *conn, const char *address, size_t size,
			    const struct xenmsg_options *options, xenmsg_done done, void *userdata,
			    struct xenmsg_op **op)
{
	struct sender *sender;
	struct op_options opts;
	int r = conn_needs(conn, done);

	if (r == 0)
		r = find_room(conn, address, options, &opts, &sender);
	return r < 0 ? r : room_begin(conn, sender, size, &opts, done, userdata, op);
}

int xenmsg_await_room(struct xenmsg *conn, const char *address, size_t size,
		      const struct xenmsg_options *options)
{
	struct sender *sender;
	struct op_options opts;
	int r = find_room(conn, address, options, &opts, &sender);

	return r < 0 ? r : room_wait(conn, sender, size, &opts);
}

static int send_at_once(struct xenmsg *conn, const char *address, const void *data, size_t size)
{
	int r = conn_check(conn, outbox_send(&conn->outbox, address, data, size, true, NULL, NULL));

	if (conn_flush(conn) < 0)
		return -ENOTCONN;
	if (conn->transport.pump)
		transport_poke(&conn->transport);
	return r;
}

/* Tries again while the policy there isn't known. */
static int until_decided(struct xenmsg *conn, enum channel_kind kind, const char *address, const void *data,
			 size_t size, const struct op_options *opts, struct xenmsg_result *result)
{
	int64_t deadline = deadline_in(opts->timeout_ms);
	struct again again = {0};
	int r;

	do {
		r = await_outcome(conn, api_messages_begin, kind, address, data, size, opts, deadline,
				  result);
		if (r < 0 && conn_explain_address(conn, address, r) == conn->explained)
			result->reason = conn_reason(conn, r);
		if (r != -ENODATA)
			return r;
		r = wait_again(conn, &again, deadline);
	} while (r == 0);
	return result_without_op(result, r);
}

/* Does as result_without_op(), with what the connection has to say of the error. */
static int result_with_words(struct xenmsg *conn, struct xenmsg_result *result, int error)
{
	result_without_op(result, error);
	if (error < 0 && conn->reason[0])
		result->reason = conn->reason;
	return error;
}

int xenmsg_send(struct xenmsg *conn, const char *address, const void *data, size_t size,
		const struct xenmsg_options *options, struct xenmsg_result *result)
{
	struct xenmsg_result unwanted;
	struct op_options opts;
	int r = read_options(&opts, options);

	if (!result)
		result = &unwanted;
	conn_forget_reason(conn);
	conn_say_options(conn, r, &opts);
	if (r == 0)
		r = enter(conn);
	if (r < 0)
		return result_with_words(conn, result, r);
	if (opts.flags & XENMSG_AT_ONCE) {
		r = send_at_once(conn, address, data, size);
		if (size <= xenmsg_max_message(conn))
			conn_say(conn, r, -EMSGSIZE, "what is sent at once may have 65520 bytes at most");
		conn_explain_message(conn, address, size, r);
		result_with_words(conn, result, r);
		if (r == 0)
			result->fate = XENMSG_FATE_UNKNOWN;
		return r;
	}
	conn_enter(conn);
	until_decided(conn, CHANNEL_MESSAGE, address, data, size, &opts, result);
	return result_leave(conn, result);
}

/* messages that their senders have taken back, before the clock is looked at */
#define SKIP_MAX 65536

static int recv_next(struct xenmsg *conn, struct xenmsg_message **message, int timeout_ms)
{
	struct conn_wait wait = {.what = FOR_MESSAGES};
	unsigned skipped = 0;
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
		if (r == -ENOMEM)
			return r;
		r = conn->recv_waits ? conn_take(conn, true, message, &binding) : 0;
		if (r < 0)
			return r;
		if (r > 0 && *message)
			return 0;
		if (r > 0 && skipped++ < SKIP_MAX)
			continue;
		/* The clock is read only when there is nothing to return yet. */
		if (!timed) {
			wait.deadline = timeout_ms == 0 ? 0 : deadline_in(timeout_ms);
			timed = true;
		}
		r = conn_sleep(conn, &wait);
		if (r == -ETIMEDOUT && timeout_ms == 0)
			return -EAGAIN;
		if (r == -EINTR || r == -ETIMEDOUT)
			return r;
	}
}

int xenmsg_recv(struct xenmsg *conn, struct xenmsg_message **message, int timeout_ms)
{
	int r;

	if (conn_clear(conn) < 0)
		return -ECHILD;
	conn_enter(conn);
	r = recv_next(conn, message, timeout_ms);
	conn_say(conn, r, -EAGAIN, "no message is there yet");
	return conn_leave(conn, conn_say(conn, r, -ETIMEDOUT, "no message came in time"));
}

#define PEEK_ROUNDS 16 /* each of RUN_BUDGET callbacks, which may go on for ever */

static int peek(struct xenmsg *conn, struct xenmsg_message **message)
{
	int rounds = 0, r;

	do {
		if (conn_pump(conn) < 0) {
			conn_run_outcomes(conn, RUN_BUDGET);
			return conn->dead;
		}
		r = conn_run(conn, RUN_BUDGET);
		if (conn->closing)
			return -ECANCELED;
		if (r < 0)
			return r;
		/* It may not have come to look who receives the next one. */
		if (r >= RUN_BUDGET && !conn->recv_waits && rounds++ < PEEK_ROUNDS) {
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
	if (conn_clear(conn) < 0)
		return -ECHILD;
	conn_enter(conn);
	return conn_leave(conn, conn_say(conn, peek(conn, message), -EAGAIN, "no message is there yet"));
}

static int api_messages_decide(struct xenmsg *conn, const struct xenmsg_message *message, uint32_t error)
{
	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (conn_pump(conn) < 0)
		return conn->dead;
	return conn_decide(conn, message, error);
}

int xenmsg_take(struct xenmsg *conn, const struct xenmsg_message *message)
{
	return api_messages_decide(conn, message, 0);
}

int xenmsg_refuse(struct xenmsg *conn, const struct xenmsg_message *message, unsigned code)
{
	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (code < 1 || code > 4095)
		return conn_say(conn, -EINVAL, -EINVAL, "the code of what is refused is from 1 to 4095");
	return api_messages_decide(conn, message, code);
}

/* ---- calls -------------------------------------------------------------------------------- */

int xenmsg_begin_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		      const struct xenmsg_options *options, xenmsg_done done, void *userdata,
		      struct xenmsg_op **op)
{
	struct op_options opts;
	int r = conn_needs(conn, done || !op);

	if (r == 0)
		r = options_read_first(conn, &opts, options, XENMSG_WAIT | OP_TRACE, FOR_EVER);
	if (r == 0)
		r = enter(conn);
	if (r < 0)
		return r;
	r = await_begin(conn, api_messages_begin, CHANNEL_CALL, address, data, size, &opts, done, userdata,
			op);
	return conn_explain_message(conn, address, size, r);
}

int xenmsg_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		const struct xenmsg_options *options, struct xenmsg_result *result)
{
	struct xenmsg_result unwanted;
	struct op_options opts;
	int r = options_read(&opts, options, XENMSG_WAIT | OP_TRACE, FOR_EVER);

	if (!result)
		result = &unwanted;
	conn_forget_reason(conn);
	conn_say_options(conn, r, &opts);
	if (r == 0)
		r = enter(conn);
	if (r < 0)
		return result_with_words(conn, result, r);
	conn_enter(conn);
	until_decided(conn, CHANNEL_CALL, address, data, size, &opts, result);
	if (result == &unwanted)
		xenmsg_message_free(result->reply);
	return result_leave(conn, result);
}

/* ---- replies ------------------------------------------------------------------------------ */

int xenmsg_message_wants_reply(const struct xenmsg_message *message)
{
	return message->reply == REPLY_OWED && conn_is_here(message->pool->conn); /* it isn't detached */
}

/* A message that was detached has no connection, and so no words. */
static int say_of(const struct xenmsg_message *message, int error, const char *words)
{
	struct xenmsg *conn = message->pool ? message->pool->conn : NULL;

	return conn && error ? conn_say(conn, error, error, words) : error;
}

static int clear_for(const struct xenmsg_message *message)
{
	struct xenmsg *conn = message->pool ? message->pool->conn : NULL;

	return conn ? conn_clear(conn) : 0;
}

static int refuse_argument(const struct xenmsg_message *message, const char *words)
{
	return clear_for(message) < 0 ? -ECHILD : say_of(message, -EINVAL, words);
}

/* Returns why a call that isn't owed an answer can't be answered, and says it. */
static int why_no_reply(const struct xenmsg_message *request)
{
	if (request->reply == REPLY_NONE)
		return say_of(request, -EINVAL, "the message wants no answer");
	if (request->reply == REPLY_SENT)
		return say_of(request, -EALREADY, "it was answered before");
	return say_of(request, -ECANCELED,
		      "the answer is no longer wanted: the caller has gone, or its time is up");
}

int xenmsg_message_detach(struct xenmsg_message *message)
{
	int r = clear_for(message) < 0 ? -ECHILD : message_detach(message);

	return r == -EBUSY ? say_of(message, r, "a call that wasn't answered needs its connection") : r;
}

int xenmsg_message_on_withdrawn(struct xenmsg_message *message, xenmsg_withdrawn withdrawn, void *userdata)
{
	if (clear_for(message) < 0)
		return -ECHILD;
	if (message->reply != REPLY_OWED)
		return why_no_reply(message);
	message->withdrawn = withdrawn;
	message->withdrawn_userdata = userdata;
	return 0;
}

static int api_messages_answer(struct xenmsg_message *request, enum message_type type,
			       struct message_error error, const void *data, size_t size)
{
	struct xenmsg *conn = request->pool ? request->pool->conn : NULL;

	if (clear_for(request) < 0)
		return -ECHILD;
	if (request->reply == REPLY_OWED)
		conn_pump(conn); /* the call may have been lost meanwhile, or credit may have come */
	if (request->reply != REPLY_OWED)
		return why_no_reply(request);
	if (conn->dead)
		return -ENOTCONN;
	if (size > conn->transport.max_message)
		return conn_say(conn, -EMSGSIZE, -EMSGSIZE, CONN_TOO_LARGE);
	return conn_reply(conn, request, type, error, data, size);
}

int xenmsg_reply(struct xenmsg_message *message, const void *data, size_t size)
{
	return api_messages_answer(message, MESSAGE_REPLY, (struct message_error){0}, data, size);
}

/* Checks the arguments. Returns 0, or a negative errno. */
static int find_reply_room(const struct xenmsg_message *message, const struct xenmsg_options *options,
			   struct op_options *opts)
{
	struct xenmsg *conn = message->pool ? message->pool->conn : NULL;
	int r = options_read(opts, options, 0, FOR_EVER);

	if (clear_for(message) < 0)
		return -ECHILD;
	if (r < 0)
		return say_of(message, r, opts->why);
	if (message->reply == REPLY_OWED)
		conn_pump(conn);
	if (message->reply != REPLY_OWED)
		return (r = why_no_reply(message)) == -EALREADY ? -EINVAL : r;
	return conn->dead ? -ENOTCONN : 0;
}

int xenmsg_begin_await_reply_room(struct xenmsg_message *message, size_t size,
				  const struct xenmsg_options *options, xenmsg_done done, void *userdata,
				  struct xenmsg_op **op)
{
	struct op_options opts;
	int r = done ? find_reply_room(message, options, &opts) : refuse_argument(message, CONN_NEEDS_DONE);

	return r < 0 ? r
		     : room_begin(message->pool->conn, message->replies->sender, size, &opts, done, userdata,
				  op);
}

int xenmsg_await_reply_room(struct xenmsg_message *message, size_t size, const struct xenmsg_options *options)
{
	struct op_options opts;
	int r = find_reply_room(message, options, &opts);

	return r < 0 ? r : room_wait(message->pool->conn, message->replies->sender, size, &opts);
}

int xenmsg_reply_error(struct xenmsg_message *message, unsigned code, const void *data, size_t size)
{
	if (code < 1 || code > UINT16_MAX)
		return refuse_argument(message, "the code of an error is from 1 to 65535");
	return api_messages_answer(message, MESSAGE_ERROR, (struct message_error){.number = (uint16_t)code},
				   data, size);
}

int xenmsg_reply_exit_status(struct xenmsg_message *message, int status)
{
	if (status < 1 || status > UINT8_MAX)
		return refuse_argument(message, "the exit status of what has failed is from 1 to 255");
	return api_messages_answer(message, MESSAGE_ERROR,
				   (struct message_error){.number = EIO, .exit_status = (uint8_t)status},
				   NULL, 0);
}
