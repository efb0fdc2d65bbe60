/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_PUMP_H
#define XENMSG_LIBCLIENT_PUMP_H

/*
 * The local hop without shared memory: the same three rings, but in private memory, and a pump between them
 * and the socket that moves many frames by each system call.
 */

#include <stdbool.h>

#include "wire/ring.h"

struct pump;

/* Makes the rings, of which the program gets these ends. The socket is registered with the epoll already, for
 * reading. -ENOMEM. */
int pump_new(struct pump **pump, int socket, int epoll, struct ring_writer *out, struct ring_reader *in,
	     struct ring_reader *deliveries);
void pump_free(struct pump *pump);

/* True if so much waits in `out` that it is worth a system call. */
bool pump_wants_flush(const struct pump *pump);
/* Moves bytes from `out` to the socket; what the socket doesn't take waits until it is writable. */
void pump_out(struct pump *pump);
/* Moves frames from the socket into the rings, as far as there is room. 0; 1: the other end is gone, and what
 * it had said is in the rings; -EPROTO, -ENOMEM. */
int pump_in(struct pump *pump);
/* The same after the rings were read: what found no room in them goes on. Nothing else would wake us for
 * it. */
int pump_resume_in(struct pump *pump);
/* Registers what the pump waits for. */
void pump_arm(struct pump *pump);

#endif
