/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_TRANSPORT_INTERNAL_H
#define XENMSG_LIBCLIENT_TRANSPORT_INTERNAL_H

/* What the parts of a transport share: transport.c, what goes over it; transport_memory.c, what is shared
 * with the daemon; transport_session.c, how a session begins and ends. */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/handshake.h"

struct transport;

enum { FD_MEMORY, FD_KICK, FD_WAKE }; /* in the order in which the daemon sends them */

/* What is kept until the daemon has answered. */
struct hello {
	bool shared;	/* shared memory is asked for */
	uint32_t flags; /* of HELLO, besides */
	struct handshake_answer answer;
	int fds[HANDSHAKE_FDS]; /* those that came with it, -1: none */
};

/* Lets the descriptor tell of this one. Returns 0 or a negative errno. */
int transport_watch(const struct transport *transport, int fd, uint32_t events, uint32_t number);
/* Makes the timer of transport_set_alarm(). Returns 0 or a negative errno. */
int transport_make_timer(struct transport *transport);
/* Maps the rings. Returns 0, or -ENODATA if that isn't possible here: the caller tries without shared
 * memory. */
int transport_map_rings(struct transport *transport, const struct frame_welcome *welcome,
			int fds[HANDSHAKE_FDS]);
/* Lets the program keep the room that was lent to it, elsewhere. */
int transport_take_room_back(struct transport *transport);
/* Reads what comes over the socket though memory is shared: other memory, or the end of the connection,
 * perhaps with a GOODBYE. */
void transport_read_socket(struct transport *transport);

#endif
