/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_INCOMING_H
#define XENMSG_LIBCLIENT_INCOMING_H

/* The endpoints at which the program listens for byte streams, and the streams that wait for
 * xenmsg_accept(). */

#include <stdbool.h>
#include <stdint.h>

#include "wire/address.h"
#include "wire/frame.h"
#include "xenmsg.h"

struct arrival {
	uint64_t token; /* what the daemon is told to have it */
	struct xenmsg_peer peer;
	struct arrival *prev, *next;
};

/* All zero: none. */
struct incoming {
	struct arrival *waiting;     /* utlist, the first one first */
	struct listening *listening; /* utlist */
};

void incoming_free(struct incoming *incoming);
/* Remembers an endpoint that is listened at. -ENOMEM. */
int incoming_listen(struct incoming *incoming, const char *endpoint);
/* It isn't listened at any more. False: it never was. */
bool incoming_forget(struct incoming *incoming, const char *endpoint);
/* Frame INCOMING. -EPROTO, -ENOMEM. */
int incoming_frame(struct incoming *incoming, const struct frame_header *header, const uint8_t *payload);
/* Removes the first that waits. */
void incoming_drop(struct incoming *incoming);

#endif
