/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_INBOX_INTERNAL_H
#define XENMSG_LIBCLIENT_INBOX_INTERNAL_H

/* What the files of the inbox have between them: inbox.c has the channels, inbox_front.c the message that
 * comes next, and those that stay in the ring. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/message.h"
#include "wire/address.h"
#include "wire/frame.h"

/*
 * A channel that the daemon opened, where its bytes arrive (inbox.h).
 *
 *   OPEN ──our RESET──▶ RESET_SENT ──RESET──▶ gone
 *    └──FIN, when all was taken and answered──▶ gone
 */

struct binding;
struct replies;

enum receiver_state {
	RECEIVER_OPEN,
	RECEIVER_RESET_SENT,
};

/* A channel that the daemon opened. */
struct receiver {
	struct receiver *prev, *next; /* in inbox->dirty */
	struct receiver *ending_prev, *ending_next;
	bool dirty, ending;
	enum receiver_state state;
	uint32_t number;
	uint64_t origin;	 /* marks messages that were filled in from this receiver */
	struct replies *replies; /* NULL: it isn't a channel of kind call */
	struct binding *binding; /* NULL once RESET was sent */
	uint16_t serial;	 /* as in OPEN */
	struct frame_identity sender;
	char sender_name[DOMAIN_NAME_MAX + 1];
	char sender_host[HOST_NAME_SIZE];
	uint64_t taken;	  /* offset in the stream up to which it was consumed */
	bool has_refused; /* a request: it takes no more */
	bool fin;	  /* the stream ends at: */
	uint64_t total;
	struct assembly part; /* a message that spans frames; its trailer stays in the ring */
	uint64_t *cancelled;  /* offsets of state words of messages to be skipped */
	uint32_t cancelled_count;
};

struct inbox;
struct inbox_front;
struct receiver;
struct xenmsg_message;

/* Sends RESET for a channel, and expects nothing more from it. Returns 0, -EPROTO or -ENOMEM. */
int inbox_reset_receiver(struct inbox *inbox, struct receiver *receiver, uint32_t error);
/* Sends FIN when all was taken and answered, which may have to wait for room. Returns 0, -EPROTO or
 * -ENOMEM. */
int inbox_end_if_finished(struct inbox *inbox, struct receiver *receiver);
/* Refuses the request at the front, which has come to an endpoint that is drained. Returns as
 * inbox_take(). */
int inbox_refuse_request(struct inbox *inbox, const struct inbox_front *front);
/* Lends the message whose payload begins `offset` bytes behind the front of the ring. Returns false if it is
 * to be copied. */
bool inbox_lend(struct inbox *inbox, struct xenmsg_message *message, uint32_t size, uint32_t offset);
/* Lets the program keep what it holds of the ring, in private pages. Returns 0; or -ENOMEM: some of it is
 * still held. */
int inbox_keep_held(struct inbox *inbox);

#endif
