/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_HANDSHAKE_H
#define XENMSG_LIBCLIENT_HANDSHAKE_H

/* How a connection to the daemon begins (doc/protocol.md, section 4), be it for a session or for a stream. */

#include <stdint.h>

#include "wire/frame.h"

#define HANDSHAKE_MS  10000 /* what a daemon gets for it, unless the program says */
#define HANDSHAKE_FDS 3	    /* the descriptors that may come with WELCOME */

struct handshake_answer {
	struct frame_header header;
	uint8_t payload[1024];
	struct frame_text reason; /* in `payload`: why the daemon says no; empty: it doesn't say */
};

/* Connects to the daemon's socket, until the deadline. Returns the non-blocking descriptor, or as connect(2);
 * -ETIMEDOUT, -ENAMETOOLONG. */
int handshake_connect(const char *path, int64_t deadline);
/* Sends HELLO, and behind it `size` bytes more, at most 544. 0, or as send(2); also 0 if the daemon has closed
 * the connection. */
int handshake_hello(int fd, uint32_t flags, const void *more, uint32_t size);
/* Reads the next frame, until the deadline. Descriptors that come with it are put into those `fds` that are
 * -1, and closed if there is none, or if `fds` is NULL. A GOODBYE is the error that it says, or -ECONNREFUSED;
 * besides: -ECONNREFUSED (the daemon has closed the connection), -EPROTO, -ETIMEDOUT, or as recvmsg(2). */
int handshake_read(int fd, struct handshake_answer *answer, int fds[HANDSHAKE_FDS], int64_t deadline);

#endif
