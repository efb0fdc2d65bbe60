/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_REPLY_H
#define XENMSG_LIBCLIENT_REPLY_H

/*
 * The server's side of calls, for one channel of kind call that the daemon opened to us: the requests that
 * the program has taken and not answered, and the stream of its replies.
 *
 * States of a request, which is a message that the program holds:
 *
 *   OPEN ──reply or error (also that of freeing it)──▶ ANSWERED
 *   OPEN ──withdrawn by the caller, the channel or the connection ends──▶ GONE
 *
 * Only an OPEN one refers to its replies; so a request may outlive its connection.
 */

#include <stdbool.h>
#include <stdint.h>

struct channel;
struct xenmsg;
struct xenmsg_message;

enum request_state {
	REQUEST_NONE, /* it is a message, to which there is no reply */
	REQUEST_OPEN,
	REQUEST_ANSWERED,
	REQUEST_GONE,
};

struct replies {
	struct xenmsg *conn;
	/* offsets and queue of the stream that goes out; never in the outbox's tables */
	struct channel *channel;
	struct xenmsg_message *requests; /* uthash by number: those that are OPEN */
};

struct replies *replies_new(struct xenmsg *conn, uint32_t number);
/* Every request is GONE. NULL is allowed. */
void replies_free(struct replies *replies);
/* The program takes a request. -EPROTO: its number is outstanding already. */
int replies_add(struct replies *replies, struct xenmsg_message *request, uint32_t number);
void replies_withdraw(struct replies *replies, uint32_t number);
/* Nothing is left to say. */
bool replies_are_done(const struct replies *replies);
/* CREDIT came. -EPROTO. */
int replies_credit(struct replies *replies, uint64_t consumed, uint64_t limit);
/* The program frees a request that is OPEN. */
void reply_abandon(struct xenmsg_message *request);

#endif
