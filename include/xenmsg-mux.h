/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_MUX_H
#define XENMSG_MUX_H

/*
 * libxenmsg: many byte streams in one session with the daemon, for programs with a loop.
 *
 * xenmsg_connect() and xenmsg_accept() give sockets, which any program can use, and which cost two
 * descriptors, a handshake, and system calls for each piece in program and daemon. A stream of these
 * functions costs a channel, and its bytes go through memory that the session shares with the daemon:
 * at about twice the rate of a socket, and in half the time there and back. Both kinds meet: whoever
 * is at the other end needn't know.
 *
 * Nothing waits but xenmsg_mux_open(), xenmsg_mux_listen(), xenmsg_mux_unlisten() and
 * xenmsg_mux_wait(). What comes is told by callbacks, which run within these four but the first, within
 * xenmsg_mux_process(), and for its own stream within xenmsg_stream_resume(). In a callback none of those
 * that wait may be called, nor xenmsg_mux_process() or xenmsg_mux_close(); all others may.
 *
 *   xenmsg_mux_connect() ──▶ opening ──opened──▶ open ──▶ ended: the other side's direction;
 *   xenmsg_mux_incoming ───────────────────────▶ open      ours is by xenmsg_stream_end()
 *                               └──────────────────┴──▶ broken: nothing more comes
 *
 * A stream is the program's from when it gets to know it until it calls xenmsg_stream_close(), once.
 * What came before a stream ended or broke is given out first. The rules of xenmsg.h for threads and
 * processes hold for a session and its streams together: in a child made by fork() xenmsg_stream_write()
 * takes nothing, and xenmsg_stream_close() and xenmsg_mux_close() change nothing for the parent. Functions
 * return 0 or a count, or a negative errno.
 */

#include <stddef.h>
#include <stdint.h>

#include "xenmsg.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A session that carries streams. */
struct xenmsg_mux;
/* One of them. */
struct xenmsg_stream;

/* What is told about a stream; each gets the userdata of xenmsg_stream_set_callbacks(). */
struct xenmsg_stream_callbacks {
	/* The program at the other end has it. NULL, if it was there from the beginning. */
	void (*opened)(void *userdata);
	/* Bytes have come. They are there during the callback, as a rule in the memory that is shared with
	 * the daemon, which the program trusts not to change them meanwhile. Returns how many were taken; if
	 * that isn't all, the rest comes after xenmsg_stream_resume(), and the other side has to wait once
	 * it has sent as much as its daemon keeps for it. */
	size_t (*data)(void *userdata, const void *data, size_t size);
	/* The other side has ended its direction, and all that it sent was taken. */
	void (*ended)(void *userdata);
	/* xenmsg_stream_write() may take more, after it didn't take all. */
	void (*room)(void *userdata);
	/* It wasn't to be had: an error of xenmsg_connect(); -ENODATA isn't tried again here. Or it is broken:
	 * -ECONNRESET, or -EACCES, if the rules forbid it now. It may have ended before. */
	void (*broken)(void *userdata, int error);
};

/*
 * Called when a program has opened a stream to an endpoint of xenmsg_mux_listen(). It calls
 * xenmsg_stream_set_callbacks(), or else doesn't want the stream, which is closed then.
 * peer  the program, and the endpoint. Valid during the callback
 * host  on which it is, "" for this one: its domid is of that host. Likewise
 */
typedef void (*xenmsg_mux_incoming)(void *userdata, struct xenmsg_stream *stream,
				    const struct xenmsg_peer *peer, const char *host);

/*
 * Connects to the local daemon; waits for its answer.
 * mux          [out] close it with xenmsg_mux_close()
 * socket_path  as for xenmsg_open()
 * options      a time-out; usually 10 s
 * incoming     called for each stream that comes in; NULL for a program that doesn't listen
 * Returns 0, or the errors of xenmsg_open(); -EPROTONOSUPPORT also from a daemon of a version that
 * knows no such sessions (0.1.0).
 */
XENMSG_API XENMSG_CHECK int xenmsg_mux_open(struct xenmsg_mux **mux, const char *socket_path,
					    const struct xenmsg_options *options,
					    xenmsg_mux_incoming incoming, void *userdata);
/* Ends the session, without any callback; NULL is allowed. Streams that the program hasn't closed are
 * broken. All that can still be done with them is xenmsg_stream_close(), which each of them needs. One that
 * was closed in order may be broken as well, and lose what it sent, while the other side hasn't taken all of
 * it. */
XENMSG_API void xenmsg_mux_close(struct xenmsg_mux *mux);

/* Returns the descriptor to watch in a loop, for POLLIN. It belongs to the session: don't read or close
 * it. It stays the same until xenmsg_mux_close(). */
XENMSG_API int xenmsg_mux_fd(const struct xenmsg_mux *mux);
/*
 * Does what there is to do without waiting. The amount is bounded; the descriptor stays readable if
 * there is more. Returns 0, or a negative errno, as it will from now on: the session is over, which
 * every stream has been told by `broken`, but those that have more to give out: they are told behind that, by
 * xenmsg_stream_resume(), until xenmsg_mux_close(). -ENOTCONN: the daemon has gone or ended it; -EPROTO: it
 * violates the protocol; -ENOMEM.
 */
XENMSG_API int xenmsg_mux_process(struct xenmsg_mux *mux);
/* Does the same, but sleeps up to timeout_ms (negative: for ever) until there is something to do.
 * Returns 1, 0 if the time is up, -EINTR if a signal came, or the errors of xenmsg_mux_process(). */
XENMSG_API int xenmsg_mux_wait(struct xenmsg_mux *mux, int timeout_ms);
/* Returns why the daemon has refused the last xenmsg_mux_listen() or xenmsg_mux_unlisten(), or has ended the
 * session, in words for people; "" if it hasn't said. */
XENMSG_API const char *xenmsg_mux_reason(const struct xenmsg_mux *mux);

/*
 * Makes an endpoint for streams; waits for the daemon's answer.
 * options  a time-out, usually 30 s, and XENMSG_FROM_HOSTS, for a program that looks at the `host` of each
 * Returns 0, or -EINVAL (not an endpoint's name, an unknown flag, or no `incoming`), -EEXIST, -EACCES,
 * -ENOBUFS as xenmsg_bind(), -ETIMEDOUT (the daemon didn't answer in time), -EINTR, or the errors of
 * xenmsg_mux_process(). After -ETIMEDOUT and -EINTR there is no such endpoint here: streams that may have
 * come to it meanwhile are broken.
 */
XENMSG_API XENMSG_CHECK int xenmsg_mux_listen(struct xenmsg_mux *mux, const char *endpoint,
					      const struct xenmsg_options *options);
/* Removes an endpoint, and breaks the streams that came to it. Returns 0, -ENOENT if it isn't one of this
 * session, or else as xenmsg_mux_listen(): -ETIMEDOUT and -EINTR end only the waiting. */
XENMSG_API int xenmsg_mux_unlisten(struct xenmsg_mux *mux, const char *endpoint);

/*
 * Begins to open a stream to an address; `opened` or `broken` tells what came of it.
 * stream  [out]
 * Returns 0, or -EINVAL (malformed address), -ENOBUFS (there are as many streams as there may be),
 * -ENOMEM, or the errors of xenmsg_mux_process().
 */
XENMSG_API XENMSG_CHECK int xenmsg_mux_connect(struct xenmsg_mux *mux, const char *address,
					       const struct xenmsg_stream_callbacks *callbacks,
					       void *userdata, struct xenmsg_stream **stream);

/* Sets who is told about the stream from now on; `callbacks` must stay where they are. What others before
 * haven't taken, and of its end, xenmsg_stream_resume() tells. */
XENMSG_API void xenmsg_stream_set_callbacks(struct xenmsg_stream *stream,
					    const struct xenmsg_stream_callbacks *callbacks,
					    void *userdata);
/* Sends these bytes, as far as there is room for them now. Returns how many; if that isn't all, `room`
 * tells when to try again. Before `opened` that is none, and `opened` tells. Of a stream that is broken, but
 * has more to give out before `broken` tells so, it is all, and they are lost. */
XENMSG_API size_t xenmsg_stream_write(struct xenmsg_stream *stream, const void *data, size_t size);
/* Ends our direction, behind all that was written: the other side reads end of file. Only an open stream
 * can be ended. */
XENMSG_API void xenmsg_stream_end(struct xenmsg_stream *stream);
/* Gives out again what `data` hasn't taken, within this call. In `data` itself it does nothing. */
XENMSG_API void xenmsg_stream_resume(struct xenmsg_stream *stream);
/* Ends the program's use of the stream; no callback follows. That is orderly if both directions have
 * ended. Else it breaks the stream: the other side sees ECONNRESET, and what is on the way may be lost. */
XENMSG_API void xenmsg_stream_close(struct xenmsg_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
