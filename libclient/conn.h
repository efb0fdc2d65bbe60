/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CONN_H
#define XENMSG_LIBCLIENT_CONN_H

/*
 * A connection: the hop to the daemon, the outbox, the inbox, requests and watches, and what drives them.
 * Data flows from the hop to these and from them to the program's callbacks; they don't know each other.
 *
 * conn_pump() reads what the daemon said and sends what waits, and calls nobody back; conn_run() calls the
 * program back. A connection that has failed stays so: `dead` is the error that every later call returns.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/fifo.h"
#include "libclient/hop.h"
#include "libclient/inbox.h"
#include "libclient/outbox.h"
#include "xenmsg.h"

/* A request whose REPLY is awaited. */
struct request {
	struct request *prev, *next;
	uint32_t number;
	bool finished;
	int error;	  /* negative errno, once finished */
	struct fifo body; /* of the REPLY so far */
};

struct watch {
	struct watch *prev, *next;
	uint32_t number; /* that of the WATCH request */
	xenmsg_event_handler handler;
	void *userdata;
};

/* An EVENT that is still to be reported. */
struct pending_event {
	struct pending_event *prev, *next;
	uint32_t watch;
	struct xenmsg_event event;
	char name[];
};

struct incoming;
struct listening;

struct xenmsg {
	struct hop hop;
	struct outbox outbox;
	struct inbox inbox;
	struct request *requests; /* utlist, those without an answer */
	unsigned request_count;
	uint32_t last_number;
	struct watch *watches;
	struct pending_event *events;
	struct listening *listening; /* endpoints for streams */
	struct incoming *incoming;   /* streams that wait for xenmsg_accept() */
	int dead;
	uint32_t want_space; /* that the outbox waits for, 0 if it doesn't */
	/* the program is in xenmsg_wait(): what it took is reported with what it does next */
	bool comes_back;
	bool recv_waits;  /* at the front of the deliveries lies a message for xenmsg_recv() */
	uint8_t *scratch; /* FRAME_PAYLOAD_MAX bytes: a payload, copied out */
	char reason[512];
};

/* Milliseconds until a deadline that conn_deadline() made, at least 0; -1 for ever. */
int64_t conn_deadline(int timeout_ms);
int conn_left(int64_t deadline);

/* What a policy couldn't decide for want of a name, -ENODATA, is tried again: after pauses that grow, until
 * the deadline, or for a while where there is none, since nothing says that the name will ever be known. */
struct again {
	int64_t until;
	int pause_ms; /* of the last try; 0: there was none */
};
/* Milliseconds until the next try; -ENODATA: that would be too late. */
int again_pause(struct again *again, int64_t deadline);
/* Waits as long, with calling back for sends. 0; -ENODATA; -EINTR; -ENOTCONN. */
int conn_pause_again(struct xenmsg *conn, struct again *again, int64_t deadline);

/* What was just put out goes on its way; what doesn't fit waits for room, of which the daemon has to tell
 * us. */
static inline void conn_push(struct xenmsg *conn);
/* Reads `in`, sends what can be sent. Returns 0 or conn->dead. */
static inline int conn_pump(struct xenmsg *conn);
/* Sends what can be sent and shows it. */
int conn_flush(struct xenmsg *conn);
/* Calls back for what has come, up to `budget` times. Returns how often, or conn->dead if nothing was left to
 * call. */
int conn_run(struct xenmsg *conn, int budget);
/* The same for sends and events, not for messages. */
int conn_run_outcomes(struct xenmsg *conn, int budget);
/* Sleeps until something comes that conn_pump() or, with `deliveries`, conn_run() can work on. Without,
 * messages that lie there disturb nobody's sleep. 1: there is; 0: the time is up; -EINTR; conn->dead. */
int conn_sleep(struct xenmsg *conn, int64_t deadline, bool deliveries);
/* Arms the notifications, after a last look: 1: there was something. 0; conn->dead. */
int conn_arm(struct xenmsg *conn, bool deliveries);
/* After a call that may have taken the edge which told of it: makes the descriptor readable if something is
 * left to be called back for. */
void conn_remind(struct xenmsg *conn);
/* Takes the next message. 1: it is in *message, or was cancelled (then NULL). 0: there is none. `recv`: only
 * one for which there is no handler; otherwise only one with a handler. */
int conn_take(struct xenmsg *conn, bool recv, struct xenmsg_message **message,
	      const struct binding **binding);
/* The end, with every outcome settled (not yet reported). Returns conn->dead. */
int conn_fail(struct xenmsg *conn, int error);
/* What a part has answered to something that the program wants: -EPROTO isn't about that, but the end of the
 * session, and -ENOTCONN for the program. Returns any other answer as it is. */
int conn_check(struct xenmsg *conn, int r);
void conn_set_reason(struct xenmsg *conn, const void *text, size_t size);

/* request.c: frames REPLY and EVENT. */
int request_frame(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload);
int request_run_events(struct xenmsg *conn, int budget);
void request_fail_all(struct xenmsg *conn, int error);
void request_free_all(struct xenmsg *conn);

/* Asks the daemon to bind the endpoint for these kinds of channels. */
int request_bind(struct xenmsg *conn, const char *endpoint, uint32_t kinds);

/* connect.c: frame INCOMING. */
int connect_frame(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload);
/* This endpoint is not listened on any more. False: it never was. */
bool connect_forget(struct xenmsg *conn, const char *endpoint);
void connect_free_all(struct xenmsg *conn);

/* Of conn_pump() and conn_push(). */
int conn_pump_all(struct xenmsg *conn);
void conn_push_all(struct xenmsg *conn);

/* A small message costs less than finding out in detail that nothing else is to be done. */
static inline bool conn_is_quiet(struct xenmsg *conn)
{
	return conn->hop.shared && !conn->dead && ring_reader_ready(&conn->hop.in, 1) == 0 &&
	       !conn->outbox.ready && !conn->inbox.ending && !conn->outbox.timed &&
	       fifo_size(&conn->hop.backlog) == 0 && !ring_writer_is_ahead(&conn->hop.out);
}

static inline int conn_pump(struct xenmsg *conn)
{
	return conn_is_quiet(conn) ? 0 : conn_pump_all(conn);
}

static inline void conn_push(struct xenmsg *conn)
{
	if (conn->outbox.ready || conn->want_space || conn->inbox.ending || conn->hop.stream)
		conn_push_all(conn);
	else
		hop_publish(&conn->hop);
}

#endif
