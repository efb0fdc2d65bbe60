/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_SOCKET_PUMP_H
#define XENMSG_LIBCLIENT_SOCKET_PUMP_H

/*
 * The local hop without shared memory: the same three rings, but in private memory. A pump moves frames
 * between them and the socket, many with each system call.
 */

#include <stdbool.h>

#include "wire/ring.h"

/* What an event of the transport's epoll is about. */
enum transport_event { ON_RINGS, ON_SOCKET, ON_TIMER, ON_STREAM };

struct socket_pump;

/* Makes the rings and gives the program its ends of them; with `in_order` all that comes goes to `in`. The
 * socket is already registered with the epoll, for reading. Returns 0 or -ENOMEM. */
int socket_pump_new(struct socket_pump **pump, int socket, int epoll, struct ring_writer *out,
		    struct ring_reader *in, struct ring_reader *deliveries, bool in_order);
void socket_pump_free(struct socket_pump *pump);

/* Returns true if enough waits in `out` to be worth a system call. */
bool socket_pump_wants_flush(const struct socket_pump *pump);
/* Moves bytes from `out` to the socket. What the socket doesn't take waits until it is writable. */
void socket_pump_out(struct socket_pump *pump);
/* Moves frames from the socket into the rings, as far as there is room. Returns 0; 1 if the other end has
 * closed and its frames are in the rings; -EPROTO or -ENOMEM. */
int socket_pump_in(struct socket_pump *pump);
/* Does the same after the rings were read: moves the frames that found no room before. No event would wake
 * the program for them. */
int socket_pump_resume_in(struct socket_pump *pump);
/* Registers the events that the pump waits for. */
void socket_pump_arm(struct socket_pump *pump);

#endif
