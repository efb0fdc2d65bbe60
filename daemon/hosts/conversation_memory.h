/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CONVERSATION_MEMORY_H
#define XENMSG_DAEMON_CONVERSATION_MEMORY_H

/*
 * What a conversation with another host needs of this daemon: the memory that it shares with the gateway, a
 * doorbell in either direction, and a socket that ends with it (wire/gateway.h).
 *
 * The gateway is another user's process. It can't change the memory's size, but all that is in it, and
 * everything that belongs to an open file: so nothing here is read or written by a call that could wait.
 */

#include <stdint.h>

#include "wire/gateway.h"
#include "wire/gateway_rings.h"

struct charge;
struct switchboard;

#define CONVERSATION_DESCRIPTORS 4u /* the memory's only until that is sealed */

struct conversation_memory {
	uint8_t *memory; /* NULL: there is none */
	int life, wake_daemon, wake_gateway;
	int memory_fd; /* until the gateway has sealed it, before which we don't touch it; -1 */
};

/* Makes one, for which `charge` has paid, and the descriptors for the gateway, of which the caller closes the
 * first when they are sent. Nothing is left if it fails: a negative errno. */
int conversation_memory_make(struct conversation_memory *made, struct switchboard *board,
			     struct charge *charge, int passed[GATEWAY_FDS]);
/* Frees one, if it is there; then it isn't any more. The closer of the socket has `charge` until that is
 * done: what was sent on it may take long to close. */
void conversation_memory_free(struct conversation_memory *memory, struct switchboard *board,
			      struct charge *charge);

#endif
