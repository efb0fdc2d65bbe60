/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_RECEIVER_H
#define XENMSG_LIBCLIENT_RECEIVER_H

/*
 * A channel that the daemon opened, where its bytes arrive (inbox.h).
 *
 *   OPEN ──our RESET──▶ RESET_SENT ──RESET──▶ gone
 *    └──FIN, when all was taken and answered──▶ gone
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/assembly.h"
#include "wire/address.h"
#include "wire/frame.h"

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

#endif
