/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_PEER_H
#define XENMSG_LIBCLIENT_PEER_H

/* The other end of a message or a stream, as a program asks for it. */

#include "wire/address.h"
#include "wire/frame.h"
#include "xenmsg.h"

struct xenmsg_peer {
	struct frame_identity identity;
	char endpoint[ADDRESS_MAX +
		      1]; /* that it has sent to, or opened a stream to; or the address of a topic */
	char domain_name[DOMAIN_NAME_MAX + 1]; /* "": unknown */
	char host[HOST_NAME_SIZE];	       /* "": this one */
	uint16_t serial; /* of its channel, for its name in traces; 0: that isn't known, or it has none */
};

/* Sets *peer as a daemon's frame has it. Returns 0, or -EPROTO: it isn't an endpoint. */
int peer_set(struct xenmsg_peer *peer, const struct frame_identity *identity, struct frame_text endpoint,
	     struct frame_text domain_name, struct frame_text host);

#endif
