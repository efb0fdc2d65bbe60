/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/channel.h"
#include "libclient/conn.h"
#include "wire/bytes.h"

#define RUN_BUDGET	256
#define CANCEL_PATIENCE 5000 /* ms; the daemon answers within 2 s, even if the other end doesn't */

const char call_taken[] = "timed out; the request was taken, and may have been carried out";

/* ---- the life of a call ---------------------------------------------------------------------- */

static void forget_time(struct call *call)
{
	if (call->expires >= 0)
		DL_DELETE2(call->outbox->timed, call, timed_prev, timed_next);
	call->expires = -1;
}

/* From now on its time runs out at a point of hop_now(). The last one is mostly where it belongs: programs
 * use one time-out, or a few. */
static void call_expires(struct call *call, int64_t expires)
{
	struct call *first = call->outbox->timed, *before = first ? first->timed_prev : NULL;

	call->expires = expires;
	while (before && before->expires > expires)
		before = before == first ? NULL : before->timed_prev;
	if (before)
		DL_APPEND_ELEM2(call->outbox->timed, before, call, timed_prev, timed_next);
	else
		DL_PREPEND2(call->outbox->timed, call, timed_prev, timed_next);
}

static void complete(struct call *call, int result, struct xenmsg_message *reply)
{
	forget_time(call);
	if (call->channel)
		HASH_DEL(call->channel->calls.waiting, call);
	call->channel = NULL;
	call->completed = true;
	call->result = result;
	call->reply = reply;
	DL_APPEND(call->outbox->completed, call);
}

/* What became of the request: the `done` of its op. */
static void on_settled(void *userdata, int result)
{
	struct call *call = userdata;

	call->unsettled = false;
	if (call->reported)
		free(call);
	else if (!call->completed && result < 0)
		complete(call, result, NULL);
	else if (!call->completed && call->expired) {
		/* taken after all: calls_expire() is to withdraw it, not somebody who is looking at its
		 * channel */
		forget_time(call);
		call_expires(call, 0);
	}
}

void calls_channel_gone(struct outbox *outbox, struct channel *channel)
{
	struct call *call, *next;

	if (channel->calls.unreported)
		DL_DELETE2(outbox->unreported, channel, calls.prev, calls.next);
	channel->calls.unreported = false;
	HASH_ITER(hh, channel->calls.waiting, call, next)
		complete(call, -ECONNRESET, NULL);
}

int calls_run(struct outbox *outbox, int budget)
{
	int count = 0;

	while (outbox->completed && count < budget) {
		struct call *call = outbox->completed;

		DL_DELETE(outbox->completed, call);
		call->reported = true;
		count++;
		outbox->answered = call->answered;
		outbox->withdrawn = call->withdrawn;
		if (call->done)
			call->done(call->userdata, call->result, call->reply);
		else
			xenmsg_message_free(call->reply);
		outbox->withdrawn = false;
		if (!call->unsettled)
			free(call);
	}
	return count;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* Posts a request; the errors are those of xenmsg_call_post(). */
static int call_start(struct outbox *outbox, const char *address, const void *data, size_t size,
		      xenmsg_call_done done, void *userdata, struct call **started)
{
	struct message_pieces pieces;
	struct channel *channel;
	struct call *call, *other;
	struct op op;
	int r;

	if (size > outbox->hop->max_message)
		return -EMSGSIZE;
	r = outbox_channel(outbox, address, CHANNEL_CALL, &channel);
	if (r < 0)
		return r;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	do {
		call->number = ++channel->calls.last_number;
		HASH_FIND(hh, channel->calls.waiting, &call->number, sizeof(call->number), other);
	} while (other);
	op = (struct op){.done = on_settled, .userdata = call, .internal = true};
	pieces = message_pieces(data, size);
	message_pieces_mark(&pieces, MESSAGE_REQUEST, 0, call->number);
	r = outbox_put(outbox, channel, &pieces, &op);
	if (r < 0) {
		free(call);
		return r;
	}
	call->channel = channel;
	call->outbox = outbox;
	call->done = done;
	call->userdata = userdata;
	call->unsettled = true;
	call->expires = -1;
	HASH_ADD(hh, channel->calls.waiting, number, sizeof(call->number), call);
	*started = call;
	return 0;
}

/* It was taken and its time is up: completes it with -ETIMEDOUT and tells the server. */
static int call_withdraw(struct call *call)
{
	struct channel *channel = call->channel;
	struct outbox *outbox = call->outbox;
	const struct op nobody = {.done = NULL};
	struct message_pieces pieces;
	uint32_t number = call->number;
	int r;

	call->withdrawn = true;
	complete(call, -ETIMEDOUT, NULL);
	pieces = message_pieces(NULL, 0);
	message_pieces_mark(&pieces, MESSAGE_WITHDRAWAL, 0, number);
	r = outbox_put(outbox, channel, &pieces, &nobody);
	/* Without room for it, the server's answer comes for nothing, and that is all. */
	return r == -EAGAIN || r == -ENOMEM ? 0 : r;
}

/* It wasn't taken yet, as far as we know. */
static int cancel(struct outbox *outbox, struct call *call, int64_t now)
{
	struct outbox_ticket ticket = {.channel = call->channel, .userdata = call};

	call->expired = true;
	call_expires(call, now + CANCEL_PATIENCE);
	return outbox_cancel(outbox, &ticket);
}

int calls_expire(struct outbox *outbox)
{
	int64_t now = outbox->timed ? hop_now() : 0;
	int r = 0;

	while (r == 0 && outbox->timed && outbox->timed->expires <= now) {
		struct call *call = outbox->timed;
		struct outbox_ticket ticket = {.channel = call->channel, .userdata = call};

		forget_time(call);
		if (!call->unsettled)
			r = call_withdraw(call);
		else if (call->expired)
			outbox_abandon(outbox, &ticket);
		else
			r = cancel(outbox, call, now);
	}
	return r;
}

/* ---- answers --------------------------------------------------------------------------------- */

void call_drop_answer(struct channel *channel)
{
	xenmsg_message_free(channel->calls.message);
	channel->calls.message = NULL;
}

/* The head is there. 0; 1: that can't be; -ENOMEM. */
static int begin_answer(struct outbox *outbox, struct channel_calls *calls, uint32_t here)
{
	uint8_t type = calls->head[4];

	if (type != MESSAGE_REPLY && type != MESSAGE_ERROR)
		return 1;
	calls->size = get_u32(calls->head);
	if (calls->size > outbox->hop->max_message)
		return 0;
	/* Grown as the bytes arrive: a header alone costs nothing. */
	calls->message = message_new(outbox->pool, here < calls->size ? here : calls->size);
	return calls->message ? 0 : -ENOMEM;
}

static void stamp_answer(const struct channel *channel, struct xenmsg_message *message)
{
	const char *endpoint = strchr(channel->address, ':') + 1;

	message->origin = 0;
	message->sender = (struct frame_identity){UINT32_MAX, UINT32_MAX, UINT32_MAX, 0};
	message->sender_name[0] = '\0';
	memcpy(message->endpoint, endpoint, strlen(endpoint) + 1);
}

static void finish_answer(struct channel *channel)
{
	struct channel_calls *calls = &channel->calls;
	struct xenmsg_message *message = calls->message;
	uint32_t number = get_u32(calls->trailer + 4);
	int error = get_u16(calls->head + 6);
	struct call *call;

	calls->message = NULL;
	calls->at = 0;
	HASH_FIND(hh, calls->waiting, &number, sizeof(number), call);
	/* It was withdrawn, or never made. */
	if (!call || get_u32(calls->trailer) == MESSAGE_CANCELLED) {
		xenmsg_message_free(message);
	} else if (calls->head[4] == MESSAGE_ERROR) {
		xenmsg_message_free(message);
		call->answered = true;
		complete(call, error > 0 && error < 4096 ? -error : -EPROTO, NULL);
	} else if (!message) {
		complete(call, -EMSGSIZE, NULL);
	} else {
		stamp_answer(channel, message);
		complete(call, 0, message);
	}
}

/* Takes some of the bytes. Their number; 0: they make no sense; -ENOMEM. */
static int64_t feed(struct outbox *outbox, struct channel *channel, const uint8_t *data, uint32_t size)
{
	struct channel_calls *calls = &channel->calls;
	uint64_t body = MESSAGE_HEAD_SIZE + (uint64_t)calls->size, padded = (body + 7) & ~(uint64_t)7;
	uint64_t n;
	int r;

	if (calls->at < MESSAGE_HEAD_SIZE) {
		n = MESSAGE_HEAD_SIZE - calls->at < size ? MESSAGE_HEAD_SIZE - calls->at : size;
		memcpy(calls->head + calls->at, data, n);
		if (calls->at + n == MESSAGE_HEAD_SIZE) {
			r = begin_answer(outbox, calls, size - (uint32_t)n);
			if (r != 0)
				return r < 0 ? r : 0;
		}
	} else if (calls->at < body) {
		n = body - calls->at < size ? body - calls->at : size;
		if (calls->message) {
			if (message_grow(calls->message, calls->message->size + n, calls->size) < 0)
				return -ENOMEM;
			memcpy(calls->message->data + calls->message->size, data, n);
			calls->message->size += n;
		}
	} else if (calls->at < padded) {
		n = padded - calls->at < size ? padded - calls->at : size;
	} else {
		n = padded + MESSAGE_TRAILER_SIZE - calls->at;
		if (n > size)
			n = size;
		memcpy(calls->trailer + (calls->at - padded), data, n);
	}
	calls->at += n;
	if (calls->at >= MESSAGE_HEAD_SIZE && calls->at == message_span(calls->size))
		finish_answer(channel);
	return (int64_t)n;
}

int call_answer_data(struct outbox *outbox, struct channel *channel, const uint8_t *data, uint32_t size)
{
	if (channel->kind != CHANNEL_CALL)
		return -EPROTO;
	while (size > 0) {
		int64_t n = feed(outbox, channel, data, size);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return outbox_reject(outbox, channel, EPROTO);
		channel->calls.taken += (uint64_t)n;
		data += n;
		size -= (uint32_t)n;
	}
	if (outbox->hop->stream && !channel->calls.unreported) {
		channel->calls.unreported = true;
		DL_APPEND2(outbox->unreported, channel, calls.prev, calls.next);
	}
	return 0;
}

int calls_report(struct outbox *outbox)
{
	struct channel *channel;
	int r = 0;

	while ((channel = outbox->unreported) && r == 0) {
		struct frame_credit credit = {.consumed = channel->calls.taken, .limit = INT64_MAX};
		uint8_t payload[FRAME_SMALL_MAX];

		DL_DELETE2(outbox->unreported, channel, calls.prev, calls.next);
		channel->calls.unreported = false;
		r = hop_control(outbox->hop, FRAME_CREDIT, channel->number, payload,
				frame_credit_encode(&credit, payload));
	}
	return r;
}

/* ---- public ---------------------------------------------------------------------------------- */

int xenmsg_answered(struct xenmsg *conn)
{
	return conn->outbox.answered;
}

static int post(struct xenmsg *conn, const char *address, const void *data, size_t size, int timeout_ms,
		xenmsg_call_done done, void *userdata)
{
	struct call *call;
	int r;

	conn->reason[0] = '\0';
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	r = conn_check(conn, call_start(&conn->outbox, address, data, size, done, userdata, &call));
	if (r == 0 && timeout_ms >= 0)
		call_expires(call, conn_deadline(timeout_ms));
	if (r == 0)
		conn_push(conn);
	return r;
}

int xenmsg_call_post(struct xenmsg *conn, const char *address, const void *data, size_t size,
		     xenmsg_call_done done, void *userdata)
{
	return post(conn, address, data, size, -1, done, userdata);
}

int xenmsg_call_post_timed(struct xenmsg *conn, const char *address, const void *data, size_t size,
			   int timeout_ms, xenmsg_call_done done, void *userdata)
{
	return post(conn, address, data, size, timeout_ms, done, userdata);
}

struct answer {
	const struct outbox *outbox;
	/* the latter two: the outbox's words when it came; calls that end after it change them */
	bool known, answered, withdrawn;
	int result;
	struct xenmsg_message *reply;
};

static void note_answer(void *userdata, int result, struct xenmsg_message *reply)
{
	struct answer *answer = userdata;

	answer->known = true;
	answer->answered = answer->outbox->answered;
	answer->withdrawn = answer->outbox->withdrawn;
	answer->result = result;
	answer->reply = reply;
}

/* Until the answer is known: a call whose time is up has one too. */
static void await(struct xenmsg *conn, const struct answer *answer)
{
	for (;;) {
		conn_pump(conn);
		do
			conn_run_outcomes(conn, RUN_BUDGET);
		while (!answer->known && outbox_has_outcomes(&conn->outbox));
		if (answer->known)
			return;
		conn_sleep(conn, -1, false);
	}
}

static int start_in_time(struct xenmsg *conn, const char *address, const void *data, size_t size,
			 int64_t deadline, struct answer *answer, struct call **call)
{
	for (;;) {
		int r = call_start(&conn->outbox, address, data, size, note_answer, answer, call);

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

static int call_in_time(struct xenmsg *conn, const char *address, const void *data, size_t size,
			struct xenmsg_message **reply, int64_t deadline)
{
	struct answer answer = {.outbox = &conn->outbox, .result = -ECONNRESET};
	struct call *call;
	int r;

	r = conn_check(conn, start_in_time(conn, address, data, size, deadline, &answer, &call));
	if (r < 0)
		goto out;
	if (deadline >= 0)
		call_expires(call, deadline);
	await(conn, &answer);
	if (answer.withdrawn)
		conn_set_reason(conn, call_taken, strlen(call_taken));
	conn_remind(conn);
	*reply = answer.reply;
	r = answer.result;
out:
	conn->outbox.answered = answer.answered;
	return r;
}

int xenmsg_call(struct xenmsg *conn, const char *address, const void *data, size_t size,
		struct xenmsg_message **reply, int timeout_ms)
{
	int64_t deadline = conn_deadline(timeout_ms);
	struct again again = {0};
	int r;

	*reply = NULL;
	conn->reason[0] = '\0';
	conn->outbox.answered = false;
	if (conn_pump(conn) < 0)
		return -ENOTCONN;
	do
		r = call_in_time(conn, address, data, size, reply, deadline);
	while (r == -ENODATA && !conn->outbox.answered &&
	       (r = conn_pause_again(conn, &again, deadline)) == 0);
	return r;
}
