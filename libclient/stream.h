/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_STREAM_H
#define XENMSG_LIBCLIENT_STREAM_H

/*
 * The local hop without shared memory: the same three rings, but in private memory, and a pump between them
 * and the socket that moves many frames by each system call.
 */

#include "libclient/hop.h"

/* Makes the rings of the hop and registers the socket with its epoll. */
int stream_new(struct stream **stream, struct hop *hop);
void stream_free(struct stream *stream);

/* True if so much waits in `out` that it is worth a system call. */
bool stream_wants_flush(const struct stream *stream);
/* Moves bytes from `out` to the socket; what the socket doesn't take waits for hop_poll(). Sets hop->closed
 * if the other end is gone. */
void stream_pump_out(struct stream *stream);
/* Moves frames from the socket into the rings, as far as there is room. -EPROTO, -ENOMEM. */
int stream_pump_in(struct stream *stream);
/* The rings were read: what found no room in them goes on. Nothing else would wake us for it. */
int stream_resume_in(struct stream *stream);
/* Registers what the pump waits for. */
void stream_arm(struct stream *stream);

#endif
