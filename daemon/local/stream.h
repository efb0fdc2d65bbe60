/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STREAM_H
#define XENMSG_DAEMON_STREAM_H

/*
 * A byte stream for a program: a Unix socket whose bytes are those of a channel of kind stream
 * (doc/protocol.md, section 6). For the switch it is one more local program, with a hop and private rings of
 * its own; it speaks frames on the program's behalf, so credit, limits and ends are those of every channel.
 *
 *   connecting:  CALLING ──OPENED──▶ FLOWING ──both directions ended──▶ gone
 *                CALLING ──RESET──▶ the program gets the error, gone
 *   accepting:   WAITING (for the program to fetch it) ──stream_take_socket()──▶ FLOWING
 *   any ──channel reset, program gone, listener gone──▶ gone (without a guard: UNTOLD ──▶ gone)
 *
 * The program must be able to tell a stream that ended from one that broke. A Unix socket that is closed
 * while bytes lie unread in it gives ECONNRESET to the other side, so one byte is left unread, the *guard*:
 * one byte more than the handshake is sent, and from then on the byte that was forwarded last is only peeked
 * at. At a clean end it is taken out before the socket is closed.
 *
 * But the buffer that holds the guard counts whole against the program, which may write again only below a
 * quarter of its SO_SNDBUF. So a program that allows it gets a socket that we have made: an epoll of ours has
 * its end, and says whether that is writable, without holding it open. While it isn't, though all else was
 * read, the guard is taken, too. A stream without one that breaks is UNTOLD: it stays open until the program
 * has written, which is a guard again, or closes its end.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/switch/hop.h"

struct charge;
struct image;
struct stream;

/* bytes that a stream takes at most: two rings for bytes (private_ring.h), one for control, and its
 * records */
#define STREAM_MEMORY 294912u

struct stream_callbacks {
	/* Routes the stream's OPEN, which has come in at its hop. */
	int (*open)(void *userdata, struct stream *stream, struct channel *channel,
		    const struct frame_open *open);
	/* The stream is over, and its socket closed: the callee forgets and frees it. */
	void (*gone)(void *userdata, struct stream *stream);
};

/* Makes the stream to `address` that a program asks for. Takes over the socket and the charge for it, also on
 * failure. `takes_socket`: the answer may bring the program another socket (above). Returns 0 or a negative
 * errno. */
int stream_connect(struct stream **stream, struct switchboard *board, int fd, bool takes_socket,
		   const struct frame_identity *identity, struct charge *charge, const char *address,
		   const struct stream_callbacks *callbacks, void *userdata);
/* Makes a stream for `channel`, which a peer's program has opened to `endpoint` here. It waits, under a token
 * that can't be guessed, for the program that has bound the endpoint. The account that has opened the channel
 * pays for the descriptor that it will need, and `program`, the account of that program (NULL: none), for the
 * time of calls that it makes long. */
int stream_wait(struct stream **stream, struct switchboard *board, struct channel *channel,
		const char *endpoint, struct account *program, const struct stream_callbacks *callbacks,
		void *userdata);
uint64_t stream_token(const struct stream *stream);
/* Returns its name in status: calling, waiting (to be fetched), flowing, untold, over; stuck: nothing has
 * moved for a minute though both sides want it. */
const char *stream_state(struct stream *stream);
bool stream_is_waiting(const struct stream *stream);
/* Connects a waiting stream to the program that fetches it. Takes over the socket. -ENOENT: it doesn't wait;
 * -ECONNRESET: the program hasn't waited for the answer, and the stream waits on, to be fetched again;
 * -ENOMEM: it breaks. */
int stream_take_socket(struct stream *stream, int fd, bool takes_socket);
void stream_free(struct stream *stream);

/* Gives back the memory of its rings, which else stays once it was used: if nothing has moved for some
 * seconds, and nothing lies in them. Returns whether it has done so now. */
bool stream_tidy(struct stream *stream);

/* stream_image.c: whether the next daemon can go on with it. `is_carried`: its socket gets there in another
 * one (base/fd_parcel.h). */
bool stream_fits_image(struct stream *stream, bool is_carried);
/* Writes what there is of the stream, but for its channel, or reads it into one of stream_make(), which isn't
 * attached. */
void stream_image(struct image *image, struct stream *stream);
/* Makes a stream without a socket, rings or account. 0 or -ENOMEM. */
int stream_make(struct stream **stream, struct switchboard *board, const struct stream_callbacks *callbacks,
		void *userdata);
/* Has a stream that was read go on. 0 or a negative errno: it is to be freed. */
int stream_go_on(struct stream *stream);

struct hop *stream_hop(struct stream *stream);
/* Returns how many bytes the program has sent, and how many have been written to its socket. */
struct stream_traffic {
	uint64_t in, out;
};
struct stream_traffic stream_traffic(const struct stream *stream);
/* Returns the account that pays for the stream. */
const struct account *stream_account(const struct stream *stream);

#endif
