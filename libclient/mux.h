/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MUX_H
#define XENMSG_LIBCLIENT_MUX_H

/*
 * Many byte streams through one session with the daemon (doc/protocol.md, section 6.1), for a program that has
 * a loop and carries them on. A stream of xenmsg_connect() is a socket, which any program can use: it costs
 * two descriptors, a handshake, and system calls for each piece in both processes. One of these costs a
 * channel, and its bytes go through the rings that the session has anyway.
 *
 * Nothing waits but mux_open() and mux_listen(). What comes is told by callbacks, out of mux_process(), and of
 * mux_listen() while that waits; none of the two may be called in a callback:
 *
 *   mux_connect() ──▶ OPENING ──opened──▶ OPEN ──▶ ended (the other side's direction; ours: mux_end())
 *   incoming ─────────────────────────────▶ OPEN ──▶ broken, also out of OPENING: nothing more comes
 *
 * A stream is the caller's from when it gets to know it until it calls mux_close(), once: orderly if both
 * directions have ended, else that breaks it, and the other side sees ECONNRESET. Both are allowed in every
 * callback. What came before a stream ended or broke is given out first.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mux;
struct mux_stream;

/* What is told about a stream; each gets the userdata of mux_set_user(). */
struct mux_callbacks {
	/* Its other side has accepted it. NULL: it was there from the beginning. */
	void (*opened)(void *userdata);
	/* Bytes have come. They may lie in memory that others write to: they may only be passed on unread.
	 * Returns how many were taken; if that isn't all, the rest comes after mux_resume(). */
	size_t (*data)(void *userdata, const void *data, size_t size);
	/* The other side has ended its direction, and all that it sent was taken. */
	void (*ended)(void *userdata);
	/* mux_write() may take more, after it didn't take all. */
	void (*room)(void *userdata);
	/* It wasn't to be had (a negative errno), or is broken: -ECONNRESET, or -EACCES if policy forbids it now. It may have
	 * `ended` before. */
	void (*broken)(void *userdata, int error);
};

/* A program has opened this stream to an endpoint of mux_listen(). The callee calls mux_set_user(), or closes it. */
typedef void (*mux_incoming)(void *userdata, struct mux_stream *stream);

/* Connects to the daemon; waits for its answer. Returns 0, or the errors of xenmsg_open(); -EPROTONOSUPPORT: the
 * daemon is of a version that can't do this. */
int mux_open(struct mux **mux, const char *socket_path, mux_incoming incoming, void *userdata);
/* Ends the session, without any callback. Streams that weren't closed are broken, and are closed afterwards. Not in a
 * callback. */
void mux_free(struct mux *mux);
/* Returns the descriptor that is readable when mux_process() has something to do. */
int mux_fd(const struct mux *mux);
/* Does what there is to do, a piece of it at a time: the descriptor stays readable if there is more. Returns 0,
 * or a negative errno: the session is over, and every stream broken. */
int mux_process(struct mux *mux);
/* Returns why the daemon has refused something, in words; "" if it hasn't said. */
const char *mux_reason(const struct mux *mux);

/* Binds an endpoint for streams, also those of other hosts; waits for the answer. Returns 0, or as
 * xenmsg_listen(). */
int mux_listen(struct mux *mux, const char *endpoint);
/* Opens a stream to an address. Returns 0, -EINVAL, -ENOBUFS (there are as many as there may be), -ENOMEM, or
 * what mux_process() has returned. */
int mux_connect(struct mux *mux, const char *address, const struct mux_callbacks *callbacks, void *userdata,
		struct mux_stream **stream);
/* Sets who is told about the stream from now on. What the one before hasn't taken, and of its end, mux_resume() tells. */
void mux_set_user(struct mux_stream *stream, const struct mux_callbacks *callbacks, void *userdata);

/* Sends these bytes, as far as there is room for them now. Returns how many; if that isn't all, `room` tells when to
 * try again. Before `opened` it sends nothing, and `opened` tells when to try. */
size_t mux_write(struct mux_stream *stream, const void *data, size_t size);
/* Ends our direction, once it is `opened`. */
void mux_end(struct mux_stream *stream);
/* Gives out again what `data` hasn't taken: out of this call. Not in `data` itself. */
void mux_resume(struct mux_stream *stream);
/* Ends the caller's use of the stream (above). */
void mux_close(struct mux_stream *stream);

#endif
