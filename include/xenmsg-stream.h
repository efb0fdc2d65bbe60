/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_STREAM_H
#define XENMSG_STREAM_H

/*
 * libxenmsg: many byte streams in one connection, for programs with a loop.
 *
 * xenmsg_connect() and xenmsg_accept() give sockets, which any program can use, and which cost two
 * descriptors, a handshake, and system calls for each piece in program and daemon. A stream of these
 * functions costs a channel. Its bytes go through memory that the connection shares with the daemon, at about
 * twice the rate of a socket, and in half the time there and back. Both kinds meet: the other end needn't
 * know.
 *
 * These streams belong to a connection beside its messages and calls: xenmsg_fd() and xenmsg_process()
 * serve all of them. For the daemon they are a second session of the same program, which the library opens
 * with the first of them, without waiting; its limits on a user's sessions count it. Nothing here waits but
 * xenmsg_stream_listen().
 *
 * Callbacks tell of bytes and ends. They run within xenmsg_process(), xenmsg_wait(), xenmsg_stream_listen(),
 * and for its own stream within xenmsg_stream_resume() and xenmsg_stream_stop(). But while a callback waits
 * for something else, none is called. They may call any function; xenmsg_stream_listen() is one more that
 * returns -EBUSY to them.
 *
 *   xenmsg_stream_connect() ──▶ opening ──opened──▶ open ──▶ ended: the other side's direction;
 *   xenmsg_stream_incoming ───────────────────────▶ open      ours is by xenmsg_stream_end()
 *                                  └──────────────────┴──▶ broken: nothing more comes
 *
 * A stream is the program's from when it gets to know it until it calls xenmsg_stream_close(), once.
 * Bytes that came before a stream ended or broke are given out first. The rules of xenmsg.h for threads and
 * processes hold for a connection and its streams together. xenmsg_pause() and xenmsg_flush() are about
 * messages: each stream is paused by its own `data`, and told of by its own callbacks.
 *
 * When the daemon is lost, each stream is broken, with -ECONNRESET, once. The endpoints of a connection that
 * outlives it (XENMSG_RECONNECT) come back, as those of messages do: xenmsg_on_change() tells. A
 * stream that is begun while there is no daemon waits for the next one. The end of the session of streams is
 * that of the connection.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "xenmsg.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A byte stream of a connection. */
struct xenmsg_stream;

/* They tell about a stream; each gets the userdata of xenmsg_stream_set_callbacks(), and any may be NULL.
 * Without `data`, bytes that come stay until there is one. */
struct xenmsg_stream_callbacks {
	size_t size; /* sizeof(struct xenmsg_stream_callbacks): later versions have more members */
	/* The program at the other end has it. Not told of one that was there from the beginning. */
	void (*opened)(void *userdata, struct xenmsg_stream *stream);
	/* Bytes have come. They are there during the callback, as a rule in the memory that is shared with
	 * the daemon, which the program trusts not to change them meanwhile. Returns how many were taken; if
	 * that isn't all, the rest comes after xenmsg_stream_resume(), and the other side has to wait once
	 * it has sent as much as its daemon keeps for it. More than `size` means all. */
	size_t (*data)(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size);
	/* The other side has ended its direction, and all that it sent was taken. */
	void (*ended)(void *userdata, struct xenmsg_stream *stream);
	/* xenmsg_stream_write() may take more, after it didn't take all. */
	void (*room)(void *userdata, struct xenmsg_stream *stream);
	/* It couldn't be opened: an error of xenmsg_connect(), where -ENODATA isn't tried again here, or of
	 * xenmsg_open(): there is no session for streams (-EPROTONOSUPPORT also from a daemon that knows
	 * none). Or it is broken: -ECONNRESET, or -EACCES, if the rules forbid it now. It may have ended
	 * before. Within this callback, xenmsg_reason() has the words for it. */
	void (*broken)(void *userdata, struct xenmsg_stream *stream, int error);
};

/*
 * Called when a program has opened a stream to an endpoint of xenmsg_stream_listen(). It calls
 * xenmsg_stream_set_callbacks(), or else doesn't want the stream, which is closed then.
 * peer  the program, and the endpoint. Valid during the callback
 */
typedef void (*xenmsg_stream_incoming)(void *userdata, struct xenmsg_stream *stream,
				       const struct xenmsg_peer *peer);

/*
 * Makes an endpoint for streams, and waits for the daemon's answer; streams are told of meanwhile, but no
 * messages. xenmsg_unbind() removes it, and breaks the streams that came to it.
 * options   a time-out, usually 30 s, XENMSG_FROM_HOSTS, for a program that asks for xenmsg_peer_host() of
 *           each, and XENMSG_SHARED
 * incoming  called for each stream that comes in
 * Returns 0, or as xenmsg_bind(); an error of xenmsg_open() if there is no session for streams; or -EBUSY
 * within a callback.
 */
XENMSG_API XENMSG_CHECK int xenmsg_stream_listen(struct xenmsg *conn, const char *endpoint,
						 const struct xenmsg_options *options,
						 xenmsg_stream_incoming incoming, void *userdata);
/* Begins to make an endpoint for streams. `done`, `userdata`, `op` and what is returned are as for
 * xenmsg_begin_bind(). */
XENMSG_API XENMSG_CHECK int xenmsg_begin_stream_listen(struct xenmsg *conn, const char *endpoint,
						       const struct xenmsg_options *options,
						       xenmsg_stream_incoming incoming,
						       xenmsg_done done, void *userdata,
						       struct xenmsg_op **op);

/*
 * Begins to open a stream to an address; `opened` or `broken` tells what came of it. There is no form that
 * waits, and the stream itself is what was begun: xenmsg_stream_close() withdraws it.
 * options    a time-out, usually none, after which an unanswered stream is broken with -ETIMEDOUT
 * callbacks  is copied
 * stream     [out]
 * Returns 0, or -EINVAL (malformed address, or a flag), -ENOBUFS (there are as many streams as there may be),
 * -ENOTCONN, -ENOMEM.
 */
XENMSG_API XENMSG_CHECK int xenmsg_stream_connect(struct xenmsg *conn, const char *address,
						  const struct xenmsg_options *options,
						  const struct xenmsg_stream_callbacks *callbacks,
						  void *userdata, struct xenmsg_stream **stream);

/* Sets who is told about the stream from now on; `callbacks` is copied. xenmsg_stream_resume() tells of bytes
 * that callbacks before have left, and of an end. */
XENMSG_API void xenmsg_stream_set_callbacks(struct xenmsg_stream *stream,
					    const struct xenmsg_stream_callbacks *callbacks,
					    void *userdata);
/*
 * Sends as many of these bytes as there is room for now.
 * Returns how many; if that isn't all, `room` tells when to try again: before `opened` that is none, and
 * `opened` tells. Or returns -EPIPE: nothing can be sent any more, since this direction was ended, the other
 * side wants no more, or the stream is broken, which `broken` may still tell, behind what came; or -ECHILD.
 */
XENMSG_API XENMSG_CHECK ssize_t xenmsg_stream_write(struct xenmsg_stream *stream, const void *data,
						    size_t size);
/* Ends our direction, behind all that was written: the other side reads end of file. Only an open stream
 * can be ended. */
XENMSG_API void xenmsg_stream_end(struct xenmsg_stream *stream);
/* Returns how many of the bytes that were written the other side's program hasn't taken, by what this one has
 * heard within xenmsg_process(). Before xenmsg_stream_end() that may be 8 KiB too many. Behind it, 0 says
 * that all has arrived. When a stream breaks, the number stays as it was. */
XENMSG_API uint64_t xenmsg_stream_under_way(const struct xenmsg_stream *stream);
/* Wants no more of what the other side sends, as shutdown(2) with SHUT_RD: what has come, and what still
 * comes, is dropped, and its writes give EPIPE. `ended` tells when it has ended its direction; ours stays
 * open. Only an open stream can be stopped. */
XENMSG_API void xenmsg_stream_stop(struct xenmsg_stream *stream);
/* Gives out again what `data` hasn't taken, within this call. In `data` itself it does nothing. */
XENMSG_API void xenmsg_stream_resume(struct xenmsg_stream *stream);
/* Ends the program's use of the stream; no callback follows. That is orderly behind xenmsg_stream_end(): what
 * the other side still sends is dropped, and its writes give EPIPE. Else it breaks the stream: the other side
 * sees ECONNRESET, behind what was written.
 * xenmsg_close() breaks all streams, without a callback; each still needs this, and nothing else can be done
 * with it. One that was closed in order may then be broken as well, and lose what it sent, while the other
 * side hasn't taken all of it. */
XENMSG_API void xenmsg_stream_close(struct xenmsg_stream *stream);
/* Does as xenmsg_stream_close(), and where that breaks the stream, says why. It is for a program that carries
 * streams to targets of its own, as `xenmsg forward` does: the other side's xenmsg_reason() or
 * xenmsg_break_reason() has it in words.
 * error  the negative errno with which the target couldn't be reached, or was lost; another number: nothing is
 *        said */
XENMSG_API void xenmsg_stream_break(struct xenmsg_stream *stream, int error);

#ifdef __cplusplus
}
#endif

#endif
