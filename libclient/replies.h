/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_REPLIES_H
#define XENMSG_LIBCLIENT_REPLIES_H

/*
 * The server's side of calls, for one channel of kind call that the daemon opened to us: the requests that
 * the program has taken and not answered (message.h says what becomes of them), and the stream of its replies.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/message.h"
#include "libclient/outbox.h"

struct replies {
	struct outbox *outbox;
	/* offsets and queue of the stream that goes out; never in the outbox's tables */
	struct sender *sender;
	struct xenmsg_message *requests; /* uthash by number: those that are owed a reply */
};

/* NULL: no memory. */
struct replies *replies_new(struct outbox *outbox, uint32_t number);
/* Every reply is LOST. NULL is allowed. */
void replies_free(struct replies *replies);
/* The program takes a request. -EPROTO: its number is outstanding already. */
int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number);
void replies_withdraw(struct replies *replies, uint32_t number);
/* Nothing is left to say. */
bool replies_are_done(const struct replies *replies);
/* CREDIT came. -EPROTO. */
int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit);

/* Sends the reply that is owed to a request, MESSAGE_REPLY or MESSAGE_ERROR. 0: it is SENT. -EAGAIN: so much
 * waits for this caller already; -ENOBUFS: so many errors wait that the channel is to be reset; -ENOMEM,
 * -EPROTO. */
int reply_put(struct xenmsg_message *request, enum message_type type, uint16_t error, const void *data,
	      size_t size);
/* There won't be one. */
void reply_lose(struct xenmsg_message *request);

#endif
