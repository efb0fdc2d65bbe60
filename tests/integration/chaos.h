/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CHAOS_H
#define CHAOS_H

/*
 * What the parts of chaos-program share: a journal of records, which outlives a kill -9 and is held against
 * the promises by chaos_checks.py, and random numbers. What is about to happen is written down before it
 * does, what has happened after.
 */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "xenmsg.h"

/* Kinds of records; what `value` says. The first of their fields is the number of the message, the call or
 * the stream. */
enum {
	STARTED = 1,  /* a send begins: the index of its address */
	ENDED = 2,    /* its outcome */
	RECEIVED = 3, /* 0 whole, 1 damaged */
	FAULT = 4,    /* something that must not happen: errno */
	FINISHED = 5, /* ends in order: sends without an outcome */
	REFUSED = 6,  /* the library took the message or the call back at once: it was not sent */
	PROCESS = 7,  /* the pid */

	CALL_STARTED = 10,  /* the index of its address */
	CALL_ENDED = 11,    /* its outcome, and if that is an error, it is definite */
	CALL_ANSWERED = 12, /* it ended with this error, which is the server's own */
	CALL_MAYBE = 13,    /* its time was up after the request had been taken */
	HANDLED = 14,	    /* the server has the request: 0 whole, 1 damaged */
	REPLYING = 15,	    /* the server is about to answer: 0, or the error that it answers with */

	/* Each direction of a stream has a number: that of the opener's, and the same with BACKWARDS. */
	CONNECTING = 20, /* the index of the address */
	CONNECTED = 21,	 /* 0, or why not */
	ACCEPTED = 22,	 /* the number has been read: the pid of the other side, as the daemon says */
	/* An accepted stream has ended before its number was read. The first field is the pid of the other
	 * side. 0 end of file, the error, or 1: closed here */
	NAMELESS = 23,
	OFFERED = 24,  /* how many bytes will have been written if the next send() takes all */
	WRITTEN = 25,  /* how many bytes were written in all */
	CLOSING = 26,  /* about to end this direction: how many bytes were written in all */
	READ = 27,     /* how many bytes were read in all, followed by */
	READ_END = 28, /* 0 end of file, or the error */
	DAMAGED = 29,  /* where a byte wasn't what was written */
};

#define BACKWARDS (1ull << 63)
/* Whatever happens to others, by now it has an outcome: domains are paused for a second, links die in
 * three. */
#define STALLED_MS 20000

struct chaos {
	struct xenmsg *conn;
	int journal;
	uint64_t random_state;
	uint64_t last_number; /* of a message, call or stream */
	int64_t last_outcome; /* when, in ms */
	unsigned in_flight;
};

void note(struct chaos *chaos, uint32_t kind, uint64_t number, int32_t value);
uint64_t next_random(uint64_t *state);
/* Less than `bound`. */
unsigned dice(struct chaos *chaos, unsigned bound);
int64_t now_ms(void);

/* ---- chaos_calls.c --------------------------------------------------------------------------- */

/* One call to the address of this index. 0; -ENOTCONN or -EPROTO: the connection is no good any more. */
int calls_make(struct chaos *chaos, unsigned to, const char *address);
/* A request has come: it is answered now or later. */
void calls_take(struct chaos *chaos, struct xenmsg_message *message);
/* Gives the answers whose time has come; `all`: every one. */
void calls_answer(struct chaos *chaos, bool all);

/* ---- chaos_messages.c ------------------------------------------------------------------------ */

#define LARGEST (1u << 20)
/* A message begins with its number and its size; the rest follows from the number, so that the receiver can
 * check each byte. */
void payload_fill(uint64_t number, uint8_t *data, size_t size);
/* Whether it is what was filled in; its number. */
bool payload_whole(const uint8_t *data, size_t size, uint64_t *number);
size_t payload_size(struct chaos *chaos);
/* One message, as calls_make(). */
int messages_send(struct chaos *chaos, unsigned to, const char *address);
void messages_take(struct chaos *chaos, struct xenmsg_message *message);

/* ---- chaos_streams.c ------------------------------------------------------------------------- */

#define STREAMS_MAX 16
void streams_connect(struct chaos *chaos, unsigned to, const char *address);
/* Takes all that wait to be accepted. */
void streams_accept(struct chaos *chaos);
/* Adds what they wait for; returns how many. */
unsigned streams_poll(struct chaos *chaos, struct pollfd *polled);
/* Reads and writes what can be. */
void streams_run(struct chaos *chaos);
unsigned streams_count(void);
/* Closes them wherever they are. */
void streams_close(struct chaos *chaos);

#endif
