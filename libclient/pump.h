/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_PUMP_H
#define XENMSG_LIBCLIENT_PUMP_H

/*
 * The local hop without shared memory: the same three rings, but in private memory. A pump moves frames
 * between them and the socket, many with each system call.
 */

#include <stdbool.h>

#include "wire/ring.h"

struct pump;

/* Makes the rings and gives the program its ends of them. The socket is already registered with the epoll,
 * for reading. Returns 0 or -ENOMEM. */
int pump_new(struct pump **pump, int socket, int epoll, struct ring_writer *out, struct ring_reader *in,
	     struct ring_reader *deliveries);
void pump_free(struct pump *pump);

/* Returns true if enough waits in `out` to be worth a system call. */
bool pump_wants_flush(const struct pump *pump);
/* Moves bytes from `out` to the socket. What the socket doesn't take waits until it is writable. */
void pump_out(struct pump *pump);
/* Moves frames from the socket into the rings, as far as there is room. Returns 0; 1 if the other end has
 * closed and its frames are in the rings; -EPROTO or -ENOMEM. */
int pump_in(struct pump *pump);
/* Does the same after the rings were read: moves the frames that found no room before. No event would wake
 * the program for them. */
int pump_resume_in(struct pump *pump);
/* Registers the events that the pump waits for. */
void pump_arm(struct pump *pump);

#endif
