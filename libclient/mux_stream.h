/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MUX_STREAM_H
#define XENMSG_LIBCLIENT_MUX_STREAM_H

/*
 * A stream of a connection (xenmsg-stream.h), and what it knows of the session that carries it. It belongs to
 * the session's table by its number until its channel has ended, and to the program until that closes it.
 *
 *   OPENING ──OPENED──▶ OPEN ──both directions ended and told, or RESET──▶ GONE
 *      └───────────────────┴──closed, or its time is up──▶ RESET_SENT ──RESET──┘
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/helpers.h"
#include "libclient/requests.h"
#include "libclient/transport.h"
#include "wire/address.h"
#include "wire/channel_table.h"
#include "wire/frame.h"
#include "xenmsg-stream.h"

#define STREAM_ROOM_MIN 4096u /* a shorter piece of more isn't worth a frame */
/* bytes of a stream, after which the daemon learns at once what was taken, and not only when all that has
 * come was: the sender is kept going. Measured: 64 KiB at a time 1.1 times as fast. */
#define STREAM_TAKEN_MUCH 65536u
#define STREAM_FRAME	  (FRAME_HEADER_SIZE + 8) /* room that a frame takes, besides its payload */

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
	int64_t expires;		/* while it is OPENING (deadline.h); -1: never */
	bool fin_came, fin_sent;
	bool is_given; /* `data` is on the stack */
	bool hungry;   /* waits for room in the ring */
	bool wants_room;
	bool is_cut; /* is in mux->cut */
	bool ended_told, broken_told;
	bool closed;	/* by the program */
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
	uint8_t *scratch;	   /* FRAME_PAYLOAD_MAX bytes */
};

static inline struct channel_table *mux_table(struct mux *mux, uint32_t number)
{
	return number & 1 ? &mux->theirs : &mux->mine;
}

/* Notes an error of the session, if `r` is one, for mux_run(): a writer expects no callback. */
void mux_check(struct mux *mux, int r);
/* Lets the daemon see what was written, unless mux_run() will do that. */
void mux_push(struct mux *mux);

/* Makes a stream with this number. Returns 0, -ENOMEM, or as channel_table_put(). */
int stream_new(struct mux *mux, uint32_t number, struct xenmsg_stream **made);
/* Keeps it while functions work on it, whatever callbacks do. */
static inline void stream_hold(struct xenmsg_stream *stream)
{
	stream->calls++;
}
/* Ends that, and frees what nobody uses any more: the stream, and a session that was closed before. */
void stream_release(struct xenmsg_stream *stream);
/* Ends its channel, and tells nobody. */
void stream_drop(struct xenmsg_stream *stream);
/* Takes a frame about it; the payload of DATA is at the front of the ring, that of others in mux->scratch.
 * Returns 0 or a negative errno, which ends the session. May release the stream. */
int stream_take(struct xenmsg_stream *stream, const struct frame_header *header);
/* Ends its channel with the session, because of `error`. If the program is to be told, it is in mux->cut
 * then, and stream_tell_cut() tells. */
void stream_cut(struct xenmsg_stream *stream, int error);
void stream_tell_cut(struct xenmsg_stream *stream);
/* Breaks one that is OPENING, as its time is up: likewise. */
void stream_expire(struct xenmsg_stream *stream);
/* As xenmsg_stream_resume(). */
void stream_resume(struct xenmsg_stream *stream);
/* Tells that there is room in the ring for what it waits for. */
void stream_feed(struct xenmsg_stream *stream);

#endif
