/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_REPLIES_H
#define XENMSG_LIBCLIENT_REPLIES_H

/*
 * The server's side of calls, for one channel of kind call that the daemon opened: the requests that the
 * program has taken and not answered (message.h has the states of their replies), and the stream of replies.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/message.h"
#include "libclient/helpers.h"
#include "libclient/outbox.h"

struct replies {
	struct outbox *outbox;
	/* offsets and queue of the outgoing stream; never in the outbox's tables */
	struct sender *sender;
	struct numbers requests; /* that are owed a reply */
};

/* Returns NULL if memory has run out. */
struct replies *replies_new(struct outbox *outbox, uint32_t number);
/* Frees it, and marks every reply as LOST. NULL is allowed. */
void replies_free(struct replies *replies);
/* Adds a request that the program takes. Returns 0, or -EPROTO if its number is outstanding already. */
int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number);
void replies_withdraw(struct replies *replies, uint32_t number);
/* Returns whether nothing is left to send. */
bool replies_are_done(const struct replies *replies);
/* Takes a CREDIT for the stream of replies. Returns 0 or -EPROTO. */
int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit);

/* Sends the reply that is owed to a request, MESSAGE_REPLY or MESSAGE_ERROR. Returns 0 if it is SENT; -EAGAIN
 * if too much waits for this caller already; -ENOBUFS if so many errors wait that the channel is to be reset;
 * -ENOMEM or -EPROTO. */
int reply_put(struct xenmsg_message *request, enum message_type type, struct message_error error,
	      const void *data, size_t size);
/* Notes that there will be no reply. */
void reply_lose(struct xenmsg_message *request);

#endif
