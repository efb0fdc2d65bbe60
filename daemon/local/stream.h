/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAM_H
#define XENMSG_DAEMON_STREAM_H

/*
 * A byte stream for a program: a Unix socket whose bytes are those of a channel of kind stream
 * (doc/protocol.md, section 6). For the relay it is one more local program, with a hop and private rings of
 * its own; it speaks frames on the program's behalf, so credit, limits and ends are those of every channel.
 *
 *   connecting:  CALLING ──OPENED──▶ FLOWING ──both directions ended──▶ gone
 *                CALLING ──RESET──▶ the program is told the error, gone
 *   accepting:   WAITING (for the program to fetch it) ──stream_take_socket()──▶ FLOWING
 *   any ──channel reset, program gone, listener gone──▶ gone
 *
 * The program must be able to tell a stream that ended from one that broke. A Unix socket that is closed
 * while bytes lie unread in it gives ECONNRESET to the other side, so one byte is always left unread: the
 * program sends one byte more than its last handshake frame, and from then on the byte that was forwarded
 * last is only peeked at. At a clean end it is taken out before the socket is closed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/relay/hop.h"

struct charge;
struct stream;

/* bytes that one takes at most: three rings (private_ring.h), and what it notes */
#define STREAM_MEMORY 409600u

struct stream_callbacks {
	/* The stream's OPEN has come in at its hop: route it. */
	int (*open)(void *userdata, struct stream *stream, struct channel *channel,
		    const struct frame_open *open);
	/* It is over, and the socket closed: forget it, and free it. */
	void (*gone)(void *userdata, struct stream *stream);
};

/* A program asks for a stream to `address`. Takes over the socket and the charge for it, also on failure. */
int stream_connect(struct stream **stream, struct relay *relay, int fd, const struct frame_identity *identity,
		   struct charge *charge, const char *address, const struct stream_callbacks *callbacks,
		   void *userdata);
/* A peer's program has opened `channel` to `endpoint` here: the stream waits, under a number that nobody can
 * guess, for the program that has bound it. Who has opened the channel pays for the descriptor that it will
 * need. */
int stream_wait(struct stream **stream, struct relay *relay, struct channel *channel, const char *endpoint,
		const struct stream_callbacks *callbacks, void *userdata);
uint64_t stream_token(const struct stream *stream);
bool stream_is_waiting(const struct stream *stream);
/* The program has come for it. Takes over the socket. */
int stream_take_socket(struct stream *stream, int fd);
void stream_free(struct stream *stream);

struct hop *stream_hop(struct stream *stream);
/* Who pays for it. */
const struct account *stream_account(const struct stream *stream);

#endif
