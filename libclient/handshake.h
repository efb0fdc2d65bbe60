/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_HANDSHAKE_H
#define XENMSG_LIBCLIENT_HANDSHAKE_H

/* How a connection to the daemon begins (doc/protocol.md, section 4), for a session or for a stream. */

#include <stdint.h>

#include "wire/frame.h"

#define HANDSHAKE_MS  10000 /* the daemon's time for it, unless the program sets another */
#define HANDSHAKE_FDS 3	    /* the descriptors that may come with WELCOME */

/* A frame as far as it has come; zeroed before the first is read into it. */
struct handshake_answer {
	uint8_t raw[FRAME_HEADER_SIZE];
	size_t got; /* bytes of header and payload */
	struct frame_header header;
	uint8_t payload[1024];
	struct frame_text reason; /* in `payload`: why the daemon refuses; empty: it doesn't say */
};

/* Returns this path of the daemon's socket, or if it is NULL the one that the environment says. */
const char *handshake_path(const char *path);
/* Connects to the daemon's socket, until the deadline. Returns the non-blocking descriptor, or an error of
 * connect(2), -ETIMEDOUT or -ENAMETOOLONG. */
int handshake_connect(const char *path, int64_t deadline);
/* Sends HELLO and `size` more bytes behind it, at most 544. Returns 0, also if the daemon has closed the
 * connection, or an error of send(2). */
int handshake_hello(int fd, uint32_t flags, const void *more, uint32_t size);
/* Reads the next frame, until the deadline; after -ETIMEDOUT it goes on with the same frame. Descriptors that
 * come with it are stored in those `fds` that are -1, and closed if there is none, or if `fds` is NULL.
 * Returns 0; for a GOODBYE the error that it names, or -ECONNREFUSED; -ECONNREFUSED if the daemon has closed
 * the connection, -EPROTO, -ETIMEDOUT, or an error of recvmsg(2). */
int handshake_read(int fd, struct handshake_answer *answer, int fds[HANDSHAKE_FDS], int64_t deadline);

#endif
