/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MUX_H
#define XENMSG_LIBCLIENT_MUX_H

#include <stdbool.h>
#include <stdint.h>

#include "libclient/helpers.h"
#include "libclient/requests.h"
#include "libclient/transport.h"
#include "wire/address.h"
#include "wire/channel_table.h"
#include "wire/frame.h"
#include "xenmsg-stream.h"

/*
 * A stream of a connection (xenmsg-stream.h), and what it knows of the session that carries it. It belongs to
 * the session's table by its number until its channel has ended, and to the program until that closes it.
 *
 *   OPENING ──OPENED──▶ OPEN ──both directions ended and told, or RESET──▶ GONE
 *      └───────────────────┴──closed, or its time is up──▶ RESET_SENT ──RESET──┘
 */

enum stream_state {
	OPENING,
	OPEN,
	RESET_SENT,
	GONE, /* the channel has ended, and its number is free again */
};

struct xenmsg_stream {
	struct mux *mux;
	struct xenmsg_stream_callbacks callbacks; /* as far as the program knows them */
	void *userdata;
	struct xenmsg_stream *prev, *next; /* in mux->hungry, or mux->cut */
	enum stream_state state;
	uint32_t number;
	uint64_t sent, limit, consumed; /* of our direction */
	uint64_t taken, told;		/* of the other one; `told`: by CREDIT */
	uint64_t total;			/* with fin_came: its size */
	struct fifo queue;		/* what the program hasn't taken */
	int error;			/* why it is broken, a negative errno */
	const char *why;		/* the same in words; NULL: nobody has said */
	char *address;			/* while it is OPENING, for words; NULL: out of memory */
	int64_t expires;		/* while it is OPENING (deadline.h); -1: never */
	bool fin_came, fin_sent;
	bool is_given; /* `data` is on the stack */
	bool hungry;   /* waits for room in the ring */
	bool wants_room;
	bool is_cut; /* is in mux->cut */
	bool ended_told, broken_told;
	bool closed;	/* by the program */
	bool stopped;	/* by the program, which wants no more */
	unsigned calls; /* of it that are on the stack */
};

/* An endpoint for streams. */
struct mux_listening {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds; /* of its BIND, */
	uint32_t asked; /* which has this number */
	xenmsg_stream_incoming incoming;
	void *userdata;
	struct mux_listening *prev, *next;
};

enum mux_state { MUX_IDLE, MUX_RESTS, MUX_DIALS, MUX_UP };

struct mux {
	struct transport transport;
	struct requests requests;	 /* BIND, UNBIND */
	struct mux_listening *listening; /* utlist */
	enum mux_state state;
	int64_t due; /* when to dial, or to give up waiting for an answer (deadline.h) */
	/* no earlier is the time of a stream up that is OPENING; -1: none has a time-out */
	int64_t opening_due;
	struct channel_table mine, theirs; /* even and odd numbers */
	struct xenmsg_stream *hungry;
	struct xenmsg_stream *cut; /* utlist: broken here, of which the program is still to be told */
	int failed;		   /* the session is over, a negative errno: mux_run() will say so */
	int lost;		   /* the daemon is, a negative errno: likewise */
	uint32_t loss;		   /* the number of that; 0: for ever */
	const bool *stop;	   /* the program wants to be told nothing more */
	struct xenmsg *conn;	   /* NULL: it was closed */
	int told;		   /* callbacks */
	unsigned streams;	   /* that the program or the daemon knows */
	bool abandoned;		   /* by mux_close(): goes with the last stream */
	bool processing;	   /* mux_run() is on the stack */
	unsigned burst;		   /* writes since mux_run() */
	bool has_taken_much;	   /* which the daemon hasn't been told */
	bool armed;		   /* the daemon is asked to tell when there is room */
	const char *why;	   /* in words, while `broken` is on the stack; else NULL */
	char explanation[512];	   /* the words, if it isn't a text that stays */
	uint8_t *scratch;	   /* FRAME_PAYLOAD_MAX bytes */
};

/* As xenmsg_stream_resume(). */
void stream_resume(struct xenmsg_stream *stream);

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
/* Removes an endpoint, which is there. `drains`: the streams that came to it go on. Returns as
 * requests_tell(). */
int mux_unlisten(struct mux *mux, const char *endpoint, bool drains);
/* Forgets the endpoint that this request, which has failed, was for. One that was given up may be there by
 * now, or soon, and is removed, unless the connection is dead. */
void mux_undo(struct mux *mux, const struct request *request, int dead);
/* Returns the endpoint for which this BIND was; NULL: it was forgotten. */
const char *mux_find_asked(const struct mux *mux, uint32_t asked);
/* Returns the first one of this name; NULL: there is none. */
struct mux_listening *mux_find(const struct mux *mux, const char *endpoint, size_t size);

#endif
