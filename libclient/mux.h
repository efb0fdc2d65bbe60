/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MUX_H
#define XENMSG_LIBCLIENT_MUX_H

/*
 * The streams of a connection (xenmsg-stream.h), which are a second session with the daemon. It begins with
 * the first of them, and again, with a connection that outlives its daemon, when that has found the next one:
 *
 *   IDLE ──a stream or an endpoint is wanted──▶ RESTS ──▶ DIALS ──WELCOME──▶ UP
 *    ▲                                           ▲  └─a moment later─┘ │      │
 *    └───refused: what was wanted ends───────────│─────────────────────┘      │
 *                                                └──lost, with the connection─┘
 *
 * What is sent before it is UP waits in the backlog. mux_look() dials and calls nobody back; mux_run() calls
 * back.
 */

#include "libclient/mux_stream.h"

/* Makes one beside the first session. `stop`: the program has closed the connection, and is told nothing
 * more. `conn` is for the functions of the API. NULL: memory is short. */
struct mux *mux_new(struct transport *first, const bool *stop, struct xenmsg *conn);
/* Ends the session, without any callback; NULL is allowed. Streams that the program hasn't closed stay,
 * broken. */
void mux_close(struct mux *mux);

/* Goes on with what needs time, and dials, if a daemon is there, as far as it goes without waiting.
 * `outlives`: the connection does its daemon, so another one will come where there is none. */
void mux_look(struct mux *mux, bool has_daemon, bool outlives);
/* Calls back for what has come. Returns 0 or a negative errno: the session is over, and so the connection,
 * which then calls mux_lose(). */
int mux_run(struct mux *mux);
/* The daemon is lost, because of `error`, for the loss of this number; 0: for ever. What is to be told of
 * that, and what came before, mux_run() tells. */
void mux_lose(struct mux *mux, int error, uint32_t loss);
/* Wakes the program if mux_run() has something to do, or asks the daemon to. */
void mux_remind(struct mux *mux);
void mux_set_alarm(struct mux *mux, bool has_daemon);
/* Returns whether mux_look() has nothing to do. */
static inline bool mux_is_quiet(const struct mux *mux)
{
	return mux->state != MUX_RESTS && mux->state != MUX_DIALS && mux->requests.due < 0 &&
	       mux->opening_due < 0;
}
/* Returns whether endpoints of one that was lost aren't there again, and may yet be. NULL: there are none. */
static inline bool mux_is_unanswered(const struct mux *mux)
{
	return mux && (mux->lost || requests_are_unanswered(&mux->requests));
}

/* Begins to open a stream. Returns 0, -ENOBUFS, -ENOMEM or -EPROTO. */
int mux_connect(struct mux *mux, const char *address, int timeout_ms,
		const struct xenmsg_stream_callbacks *callbacks, void *userdata, struct xenmsg_stream **made);
/* Begins to make an endpoint, with these kinds in its BIND. Returns as request_begin(). */
int mux_listen(struct mux *mux, const char *endpoint, uint32_t kinds, xenmsg_stream_incoming incoming,
	       void *userdata, int timeout_ms, xenmsg_done done, void *done_userdata,
	       struct request **request);
/* Removes an endpoint, which is there. Returns as requests_tell(). */
int mux_unlisten(struct mux *mux, const char *endpoint);
/* Forgets the endpoint that this request, which has failed, was for. One that was given up may be there by
 * now, or soon, and is removed, unless the connection is dead. */
void mux_undo(struct mux *mux, const struct request *request, int dead);
/* Returns the endpoint for which this BIND was; NULL: it was forgotten. */
const char *mux_find_asked(const struct mux *mux, uint32_t asked);
/* Returns the first one of this name; NULL: there is none. */
struct mux_listening *mux_find(const struct mux *mux, const char *endpoint, size_t size);

#endif
