/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MUX_STREAM_H
#define XENMSG_LIBCLIENT_MUX_STREAM_H

/*
 * A stream of a session that carries many (xenmsg-mux.h), and what it knows of the session. It belongs to the
 * session's table by its number until its channel has ended, and to the program until that closes it.
 *
 *   OPENING ──OPENED──▶ OPEN ──both directions ended and told, or RESET──▶ GONE
 *      └───────────────────┴──closed by the program──▶ RESET_SENT ──RESET──┘
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libclient/fifo.h"
#include "libclient/transport.h"
#include "wire/channel_table.h"
#include "wire/frame.h"
#include "xenmsg-mux.h"

#define STREAM_ROOM_MIN 4096u /* a shorter piece of more isn't worth a frame */
/* bytes of a stream, after which the daemon learns at once what was taken, and not only when all that has come was: the
 * sender is kept going. Measured: 64 KiB at a time 1.1 times as fast. */
#define STREAM_TAKEN_MUCH 65536u
#define STREAM_FRAME	  (FRAME_HEADER_SIZE + 8) /* room that a frame takes, besides its payload */

enum stream_state {
	OPENING,
	OPEN,
	RESET_SENT,
	GONE, /* the channel has ended, and its number is free again */
};

struct xenmsg_stream {
	struct xenmsg_mux *mux;
	const struct xenmsg_stream_callbacks *callbacks;
	void *userdata;
	struct xenmsg_stream *prev, *next; /* in mux->hungry */
	enum stream_state state;
	uint32_t number;
	uint64_t sent, limit, consumed; /* of our direction */
	uint64_t taken, told;		/* of the other one; `told`: by CREDIT */
	uint64_t total;			/* with fin_came: its size */
	struct fifo queue;		/* what the program hasn't taken */
	int error;			/* why it is broken, a negative errno */
	bool fin_came, fin_sent;
	bool is_given; /* `data` is on the stack */
	bool hungry;   /* waits for room in the ring */
	bool wants_room;
	bool ended_told, broken_told;
	bool closed;	/* by the program */
	unsigned calls; /* of it that are on the stack */
};

struct xenmsg_mux {
	struct transport transport;
	xenmsg_mux_incoming incoming;
	void *userdata;
	struct channel_table mine, theirs; /* even and odd numbers */
	struct xenmsg_stream *hungry;
	int failed; /* the session is over, a negative errno: xenmsg_mux_process() will tell everyone */
	int dead;   /* it has */
	struct {
		uint32_t number;
		bool answered;
		int error;
	} request;	     /* the last one */
	unsigned streams;    /* that the program or the daemon knows */
	bool abandoned;	     /* by xenmsg_mux_close(): goes with the last stream */
	bool processing;     /* xenmsg_mux_process() is on the stack */
	unsigned burst;	     /* writes since xenmsg_mux_process() */
	bool has_taken_much; /* which the daemon hasn't been told */
	bool armed;	     /* the daemon is asked to tell when there is room */
	uint8_t *scratch;    /* FRAME_PAYLOAD_MAX bytes */
};

static inline struct channel_table *mux_table(struct xenmsg_mux *mux, uint32_t number)
{
	return number & 1 ? &mux->theirs : &mux->mine;
}

/* Notes an error of the session, if `r` is one, for xenmsg_mux_process(): who writes expects no callback. */
void mux_check(struct xenmsg_mux *mux, int r);
/* Lets the daemon see what was written, unless xenmsg_mux_process() will do that. */
void mux_push(struct xenmsg_mux *mux);

/* Makes a stream with this number. Returns 0, -ENOMEM, or as channel_table_put(). */
int stream_new(struct xenmsg_mux *mux, uint32_t number, struct xenmsg_stream **made);
/* Keeps it while functions work on it, whatever callbacks do. */
static inline void stream_hold(struct xenmsg_stream *stream)
{
	stream->calls++;
}
/* Ends that, and frees what nobody uses any more: the stream, and a session that was closed before. */
void stream_release(struct xenmsg_stream *stream);
/* Ends its channel, and tells nobody. */
void stream_drop(struct xenmsg_stream *stream);
/* Takes a frame about it; the payload of DATA is at the front of the ring, that of others in mux->scratch. Returns
 * 0 or a negative errno, which ends the session. May release the stream. */
int stream_take(struct xenmsg_stream *stream, const struct frame_header *header);
/* Tells that it was broken by the end of the session. */
void stream_break(struct xenmsg_stream *stream);
/* Tells that there is room in the ring for what it waits for. */
void stream_feed(struct xenmsg_stream *stream);

#endif
