/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/replies.h"

#include <errno.h>
#include <stdlib.h>

#include "libclient/sender.h"

/* Limit of what waits for a caller that doesn't read: this, or twice the largest message. It is higher than a
 * sender's, since a program can't sleep until there is room for one reply and go on serving other callers. */
#define REPLIES_MIN (4u << 20)
/* Errors are small and always accepted, so that a request can always be ended. A caller that lets this many
 * bytes of them pile up doesn't read its answers, and loses its channel. */
#define ERRORS_MAX (1u << 20)

struct replies *replies_new(struct outbox *outbox, uint32_t number)
{
	struct replies *replies = calloc(1, sizeof(*replies));
	uint64_t most;

	if (!replies)
		return NULL;
	replies->outbox = outbox;
	replies->sender = sender_new("", number, CHANNEL_CALL);
	if (!replies->sender) {
		free(replies);
		return NULL;
	}
	replies->sender->limit = 0; /* only the opener starts with credit */
	most = 2 * outbox->transport->max_message;
	replies->sender->queue_most = most > REPLIES_MIN ? most : REPLIES_MIN;
	return replies;
}

static struct xenmsg_message *request_of(struct numbered *item)
{
	return NUMBERED_IN(item, struct xenmsg_message, numbered);
}

static void end_request(struct xenmsg_message *request, enum reply_state state)
{
	numbers_remove(&request->replies->requests, &request->numbered);
	request->reply = state;
	request->replies = NULL;
	if (state == REPLY_LOST)
		message_note_lost(request);
}

void replies_free(struct replies *replies)
{
	struct numbered *item, *next;

	if (!replies)
		return;
	NUMBERS_EACH(&replies->requests, item, next)
		end_request(request_of(item), REPLY_LOST);
	numbers_free(&replies->requests);
	if (replies->sender->rooms)
		replies->outbox->callbacks->room(replies->sender, -ECANCELED);
	outbox_detach(replies->outbox, replies->sender);
	sender_free(replies->sender);
	free(replies);
}

int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number)
{
	int r = numbers_add(&replies->requests, &request->numbered, number);

	if (r < 0)
		return r == -EEXIST ? -EPROTO : r;
	request->reply = REPLY_OWED;
	request->replies = replies;
	return 0;
}

void replies_withdraw(struct replies *replies, uint32_t number)
{
	struct numbered *item = numbers_find(&replies->requests, number);

	if (item)
		end_request(request_of(item), REPLY_LOST);
}

bool replies_are_done(const struct replies *replies)
{
	return !numbers_first(&replies->requests) && fifo_size(&replies->sender->queue) == 0;
}

int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit)
{
	if (consumed > replies->sender->framed)
		return -EPROTO;
	if (consumed > replies->sender->consumed)
		replies->sender->consumed = consumed;
	outbox_credit(replies->outbox, replies->sender, limit);
	return 0;
}

/* ---- answering ------------------------------------------------------------------------------- */

int reply_put(struct xenmsg_message *request, enum message_type type, struct message_error error,
	      const void *data, size_t size)
{
	struct replies *replies = request->replies;
	struct message_pieces pieces = message_pieces(data, size);
	uint64_t queued = fifo_size(&replies->sender->queue);
	int r;

	if ((type == MESSAGE_REPLY || size > 0) && !sender_has_room(replies->sender, message_span(size)))
		return -EAGAIN;
	if (queued > 2 * replies->outbox->transport->max_message + REPLIES_MIN + ERRORS_MAX)
		return -ENOBUFS;
	message_pieces_mark(&pieces, type, error, request->numbered.number);
	r = outbox_put_reply(replies->outbox, replies->sender, &pieces);
	if (r == 0)
		end_request(request, REPLY_SENT);
	return r;
}

void reply_lose(struct xenmsg_message *request)
{
	request->withdrawn = NULL; /* it is the program that gives it up */
	end_request(request, REPLY_LOST);
}
