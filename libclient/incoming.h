/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_INCOMING_H
#define XENMSG_LIBCLIENT_INCOMING_H

/* The endpoints at which the program listens for byte streams, and the streams that wait for
 * xenmsg_accept(). */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/dial.h"
#include "libclient/message.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "xenmsg.h"

/* An endpoint at which the program listens. */
struct listening {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds; /* of its BIND, */
	uint32_t asked; /* which has this number */
	struct listening *prev, *next;
};

struct arrival {
	uint64_t token; /* by which the daemon is asked for the stream */
	struct xenmsg_peer peer;
	struct arrival *prev, *next;
};

/* All zero: there are none. */
struct incoming {
	struct arrival *waiting;     /* utlist, the first one first */
	struct listening *listening; /* utlist */
	struct xenmsg_peer peer;     /* whose stream was taken last */
	/* the first waiting one, while it is fetched, or when it was; NULL: it isn't */
	struct stream_dial *fetch;
	/* a limit has refused the first one: when it may be tried again (deadline.h); 0: at once */
	int64_t again;
};

void incoming_free(struct incoming *incoming);
/* Forgets the streams of a daemon that has gone. The endpoints stay. */
void incoming_leave(struct incoming *incoming);
/* Remembers an endpoint at which the program listens, with these `kinds` of its BIND. Returns 0 or
 * -ENOMEM. */
int incoming_listen(struct incoming *incoming, const char *endpoint, uint32_t kinds);
/* Returns whether the program listens at it, or has asked for that. */
bool incoming_knows(const struct incoming *incoming, const char *endpoint);
/* Notes by which BIND the endpoint that was remembered last was asked for. */
void incoming_asked(struct incoming *incoming, uint32_t asked);
/* Returns the endpoint for which this BIND was; NULL: it was forgotten. */
const char *incoming_find_asked(const struct incoming *incoming, uint32_t asked);
/* Forgets an endpoint. Returns false if the program didn't listen at it. */
bool incoming_forget(struct incoming *incoming, const char *endpoint);
/* Takes the frame INCOMING. Returns 0, -EPROTO or -ENOMEM. */
int incoming_frame(struct incoming *incoming, const struct frame_header *header, const uint8_t *payload);
/* Removes the first waiting stream. */
void incoming_drop(struct incoming *incoming);
/* Lets the first waiting stream rest for a moment, since a limit has refused it. */
void incoming_rest(struct incoming *incoming);
/* Ends that rest if its time is up. */
void incoming_look(struct incoming *incoming);
/* Returns whether xenmsg_accept() has something to do: a stream waits and may be fetched, or was. */
static inline bool incoming_is_ready(const struct incoming *incoming)
{
	if (incoming->fetch)
		return incoming->fetch->op.settled;
	return incoming->waiting && !incoming->again;
}

#endif
