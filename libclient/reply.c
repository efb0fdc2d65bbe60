/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/reply.h"

#include <errno.h>
#include <stdlib.h>

#include "libclient/channel.h"
#include "libclient/conn.h"
#include "libclient/stream.h"

/* What may wait for a caller who doesn't read: this, or twice the largest message. A program can't sleep
 * until there is room for a reply and go on serving the others, so it is more than a sender's. */
#define REPLIES_MIN (4u << 20)
/* Errors are small and always taken, so that a request can always be ended. A caller who lets this many bytes
 * of them pile up doesn't read its answers, and loses its channel. */
#define ERRORS_MAX (1u << 20)

struct replies *replies_new(struct xenmsg *conn, uint32_t number)
{
	struct replies *replies = calloc(1, sizeof(*replies));

	if (!replies)
		return NULL;
	replies->conn = conn;
	replies->channel = channel_new("", number, CHANNEL_CALL);
	if (!replies->channel) {
		free(replies);
		return NULL;
	}
	replies->channel->limit = 0; /* only the opener begins with credit */
	return replies;
}

static void end_request(struct xenmsg_message *request, enum request_state state)
{
	HASH_DEL(request->replies->requests, request);
	request->request = state;
	request->replies = NULL;
}

void replies_free(struct replies *replies)
{
	struct xenmsg_message *request, *next;

	if (!replies)
		return;
	HASH_ITER(hh, replies->requests, request, next)
		end_request(request, REQUEST_GONE);
	outbox_detach(&replies->conn->outbox, replies->channel);
	channel_free(replies->channel);
	free(replies);
}

int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number)
{
	struct xenmsg_message *other;

	HASH_FIND(hh, replies->requests, &number, sizeof(number), other);
	if (other)
		return -EPROTO;
	request->request = REQUEST_OPEN;
	request->number = number;
	request->replies = replies;
	HASH_ADD(hh, replies->requests, number, sizeof(request->number), request);
	return 0;
}

void replies_withdraw(struct replies *replies, uint32_t number)
{
	struct xenmsg_message *request;

	HASH_FIND(hh, replies->requests, &number, sizeof(number), request);
	if (request)
		end_request(request, REQUEST_GONE);
}

bool replies_are_done(const struct replies *replies)
{
	return !replies->requests && fifo_size(&replies->channel->queue) == 0;
}

int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit)
{
	if (consumed > replies->channel->framed)
		return -EPROTO;
	outbox_credit(&replies->conn->outbox, replies->channel, limit);
	return 0;
}

/* ---- answering ------------------------------------------------------------------------------- */

static bool queue_has_room(const struct outbox *outbox, const struct channel *channel, uint64_t span)
{
	uint64_t most = 2 * outbox->hop->max_message, queued = fifo_size(&channel->queue);

	return queued == 0 || queued + span <= (most > REPLIES_MIN ? most : REPLIES_MIN);
}

static int put_answer(struct xenmsg_message *request, enum message_type type, uint16_t error,
		      const void *data, size_t size)
{
	struct outbox *outbox = &request->replies->conn->outbox;
	struct channel *channel = request->replies->channel;
	struct message_pieces pieces;
	int r;

	if (type == MESSAGE_REPLY && !queue_has_room(outbox, channel, message_span(size)))
		return -EAGAIN;
	if (fifo_size(&channel->queue) > 2 * outbox->hop->max_message + REPLIES_MIN + ERRORS_MAX) {
		r = inbox_reset(&request->replies->conn->inbox, channel->number, ENOBUFS);
		return r < 0 ? r : -ECANCELED;
	}
	pieces = message_pieces(data, size);
	message_pieces_mark(&pieces, type, error, request->number);
	r = outbox_put_reply(outbox, channel, &pieces);
	if (r == 0)
		end_request(request, REQUEST_ANSWERED);
	return r;
}

/* Also without shared memory at once, unlike what is posted: a server may be busy with something else for
 * long after its reply. */
static void send_off(struct xenmsg *conn)
{
	conn_push(conn);
	if (conn->hop.stream && !conn->dead)
		stream_pump_out(conn->hop.stream);
}

static int answer(struct xenmsg_message *request, enum message_type type, uint16_t error, const void *data,
		  size_t size)
{
	struct xenmsg *conn;
	int r;

	if (request->request == REQUEST_OPEN)
		conn_pump(request->replies->conn); /* it may be gone meanwhile, or there may be credit */
	switch (request->request) {
	case REQUEST_NONE:
		return -EINVAL;
	case REQUEST_ANSWERED:
		return -EALREADY;
	case REQUEST_GONE:
		return -ECANCELED;
	default:
		break;
	}
	conn = request->replies->conn;
	if (conn->dead)
		return -ENOTCONN;
	if (size > conn->hop.max_message)
		return -EMSGSIZE;
	r = conn_check(conn, put_answer(request, type, error, data, size));
	if (r == 0)
		send_off(conn);
	return r;
}

int xenmsg_message_wants_reply(const struct xenmsg_message *message)
{
	return message->request == REQUEST_OPEN;
}

int xenmsg_reply(struct xenmsg_message *message, const void *data, size_t size)
{
	return answer(message, MESSAGE_REPLY, 0, data, size);
}

int xenmsg_reply_error(struct xenmsg_message *message, int error)
{
	if (error < 0)
		error = -error;
	if (error < 1 || error > 4095)
		return -EINVAL;
	return answer(message, MESSAGE_ERROR, (uint16_t)error, NULL, 0);
}

/* No reading here: it would be a surprise in a function that frees. */
void reply_abandon(struct xenmsg_message *request)
{
	struct xenmsg *conn = request->replies->conn;

	if (conn->dead) {
		end_request(request, REQUEST_GONE);
		return;
	}
	if (conn_check(conn, put_answer(request, MESSAGE_ERROR, ECANCELED, NULL, 0)) == 0)
		send_off(conn);
	else if (request->request == REQUEST_OPEN)
		end_request(request, REQUEST_GONE);
}
