/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_CONN_H
#define XENMSG_LIBCLIENT_CONN_H

/*
 * A connection: the transport to the daemon, the outbox, calls, the inbox, requests and streams that come in,
 * and what drives them. Frames go from the transport to these, and from them to the program's callbacks; none
 * of them knows the connection.
 *
 * conn_pump() reads what the daemon said and sends what waits, and calls nobody back; conn_run() calls the
 * program back. A connection that has failed stays so: `dead` is the error that every later call returns.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "libclient/calls.h"
#include "libclient/inbox.h"
#include "libclient/incoming.h"
#include "libclient/outbox.h"
#include "libclient/requests.h"
#include "libclient/transport.h"
#include "xenmsg.h"

struct xenmsg {
	struct transport transport;
	struct outbox outbox;
	struct calls calls;
	struct inbox inbox;
	struct requests requests;
	struct incoming incoming;
	int dead;
	uint32_t want_space; /* that the outbox waits for, 0 if it doesn't */
	/* the program is in xenmsg_wait(): what it took is reported with what it does next */
	bool comes_back;
	bool recv_waits;  /* at the front of the deliveries lies a message for xenmsg_recv() */
	uint8_t *scratch; /* FRAME_PAYLOAD_MAX bytes: a payload, copied out */
	char reason[512];
};

/* Connects, until the deadline; the errors are those of xenmsg_open(). */
int conn_new(struct xenmsg **made, const char *socket_path, int64_t deadline);
/* Every outcome was reported. */
void conn_free(struct xenmsg *conn);

/* What was just put out goes on its way; what doesn't fit waits for room, of which the daemon has to tell
 * us. */
static inline void conn_push(struct xenmsg *conn);
/* Reads `in`, sends what can be sent. Returns 0 or conn->dead. */
static inline int conn_pump(struct xenmsg *conn);
/* Sends what can be sent and shows it. */
int conn_flush(struct xenmsg *conn);
/* Whether sends or calls are to be reported. */
static inline bool conn_has_outcomes(const struct xenmsg *conn)
{
	return conn->outbox.settled_count > 0 || conn->calls.completed;
}
/* Calls back for what has come, up to `budget` times. Returns how often, or conn->dead if nothing was left to
 * call. */
int conn_run(struct xenmsg *conn, int budget);
/* The same for sends, calls and events, not for messages. */
int conn_run_outcomes(struct xenmsg *conn, int budget);
/* Sleeps until something comes that conn_pump() or, with `deliveries`, conn_run() can work on. Without,
 * messages that lie there disturb nobody's sleep. 1: there may be something; -ETIMEDOUT: the deadline has come,
 * and nothing else; -EINTR; conn->dead. */
int conn_sleep(struct xenmsg *conn, int64_t deadline, bool deliveries);
/* Takes note of what the descriptors say, sleeping as poll() does. 1: something; 0; -EINTR; conn->dead. */
int conn_poll(struct xenmsg *conn, int timeout_ms);
/* Arms the notifications, after a last look: 1: there was something. 0; conn->dead. */
int conn_arm(struct xenmsg *conn, bool deliveries);
/* After a call that may have taken the edge which told of it: makes the descriptor readable if something is
 * left to be called back for. */
void conn_remind(struct xenmsg *conn);
/* Takes the next message. 1: it is in *message, or was cancelled (then NULL). 0: there is none. `recv`: only
 * one for which there is no handler; otherwise only one with a handler. */
int conn_take(struct xenmsg *conn, bool recv, struct xenmsg_message **message,
	      const struct binding **binding);
/* Sends the reply that is owed to a request. The errors are those of xenmsg_reply(). */
int conn_reply(struct xenmsg *conn, struct xenmsg_message *request, enum message_type type, uint16_t error,
	       const void *data, size_t size);
/* The end, with every outcome settled (not yet reported). Returns conn->dead. */
int conn_fail(struct xenmsg *conn, int error);
/* What a part has answered to something that the program wants: -EPROTO isn't about that, but the end of the
 * session, and -ENOTCONN for the program. Returns any other answer as it is. */
static inline int conn_check(struct xenmsg *conn, int r)
{
	if (r != -EPROTO)
		return r;
	conn_fail(conn, r);
	return -ENOTCONN;
}
void conn_set_reason(struct xenmsg *conn, const void *text, size_t size);

/* Of conn_pump() and conn_push(). */
int conn_pump_all(struct xenmsg *conn);
void conn_push_all(struct xenmsg *conn);

/* A small message costs less than finding out in detail that nothing else is to be done. */
static inline bool conn_is_quiet(struct xenmsg *conn)
{
	return conn->transport.shared && !conn->dead && ring_reader_ready(&conn->transport.in, 1) == 0 &&
	       !conn->outbox.ready && !conn->inbox.ending && !conn->calls.timed &&
	       fifo_size(&conn->transport.backlog) == 0 && !ring_writer_is_ahead(&conn->transport.out);
}

static inline int conn_pump(struct xenmsg *conn)
{
	return conn_is_quiet(conn) ? 0 : conn_pump_all(conn);
}

static inline void conn_push(struct xenmsg *conn)
{
	if (conn->outbox.ready || conn->want_space || conn->inbox.ending || conn->transport.pump)
		conn_push_all(conn);
	else
		transport_publish(&conn->transport);
}

#endif
