/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "libclient/await.h"
#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/transport.h"
#include "wire/address.h"

/* Byte streams: those that the program opens, and those that come to it, which its session only announces.
 * transport.h has how they are opened. */

static int connect_for(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
		       xenmsg_done done, void *userdata, struct stream_dial **dial)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {.data = address, .size = strlen(address)}};
	uint8_t payload[FRAME_SMALL_MAX];
	struct address parsed;
	struct op_options opts;

	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (options_read(&opts, options, 0, FOR_EVER) < 0)
		return -EINVAL;
	if (address_parse(address, strlen(address), &parsed, NULL) < 0)
		return conn_explain_address(conn, address, -EINVAL);
	if (conn->dead)
		return conn->dead;
	return dials_begin(&conn->dials, FRAME_OPEN, payload, frame_open_encode(&open, payload),
			   opts.timeout_ms, done, userdata, dial);
}

/* Begins an attempt of one that waits. */
static int begin_attempt(struct xenmsg *conn, enum channel_kind kind, const char *address, const void *data,
			 size_t size, const struct op_options *opts, xenmsg_done done, void *userdata,
			 struct xenmsg_op **op)
{
	return xenmsg_begin_connect(conn, address, XENMSG_WITHIN(opts->timeout_ms), done, userdata, op);
}

static bool waits(const struct xenmsg *conn, const struct xenmsg_options *options, struct op_options *opts)
{
	return conn_is_here(conn) && !conn->dead && options_read(opts, options, XENMSG_WAIT, FOR_EVER) == 0 &&
	       (opts->flags & XENMSG_WAIT);
}

/* As xenmsg_connect(), of one that waits, during which the program is called back. */
static int connect_waiting(struct xenmsg *conn, const char *address, const struct op_options *opts)
{
	struct xenmsg_result result;
	int r;

	conn->reason[0] = '\0';
	conn_enter(conn);
	r = await_outcome(conn, begin_attempt, CHANNEL_STREAM, address, NULL, 0, opts,
			  deadline_in(opts->timeout_ms), &result);
	return conn_leave(conn, r < 0 ? r : result.stream);
}

int xenmsg_begin_connect(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			 xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct stream_dial *dial;
	struct op_options opts;
	int r;

	if (done && waits(conn, options, &opts)) {
		conn->reason[0] = '\0';
		return await_begin(conn, begin_attempt, CHANNEL_STREAM, address, NULL, 0, &opts, done,
				   userdata, op);
	}
	r = !done ? -EINVAL : connect_for(conn, address, options, done, userdata, &dial);
	if (r < 0)
		return r;
	dial->op.conn = conn;
	if (op)
		*op = &dial->op;
	conn_remind(conn); /* it may be settled */
	return 0;
}

int xenmsg_connect(struct xenmsg *conn, const char *address, const struct xenmsg_options *options)
{
	struct outcome outcome = {.known = false};
	struct stream_dial *dial;
	bool interrupted;
	struct op_options opts;
	int r;

	if (waits(conn, options, &opts))
		return connect_waiting(conn, address, &opts);
	r = connect_for(conn, address, options, outcome_note, &outcome, &dial);
	if (r < 0)
		return r;
	interrupted = wait_for_answer(conn, &dial->op);
	conn_tell_stream(conn, dial);
	conn_remind(conn);
	if (interrupted && outcome.result.error == -ETIMEDOUT)
		return -EINTR;
	return outcome.result.error < 0 ? outcome.result.error : outcome.result.stream;
}

void xenmsg_break(int stream)
{
	dial_break(stream);
}

/* ---- streams that come in ----------------------------------------------------------------- */

/* Begins to fetch the first waiting stream. */
static int fetch(struct xenmsg *conn)
{
	struct incoming *incoming = &conn->incoming;
	uint8_t payload[8];

	return dials_begin(&conn->dials, FRAME_ACCEPT, payload,
			   frame_u64_encode(incoming->waiting->token, payload), HANDSHAKE_MS, NULL, NULL,
			   &incoming->fetch);
}

/* Takes the one that was fetched. Returns its descriptor, or -ENOENT if it has ended meanwhile. */
static int api_streams_take(struct xenmsg *conn)
{
	struct incoming *incoming = &conn->incoming;
	const struct arrival *arrival = incoming->waiting;
	struct stream_dial *dial = incoming->fetch;
	int fd = dial->error < 0 ? dial->error : dial->fd;

	if (fd >= 0)
		incoming->peer = arrival->peer;
	if (fd < 0)
		conn_set_reason(conn, dial->reason, strlen(dial->reason));
	dial->fd = -1;
	dial_free(dial);
	incoming->fetch = NULL;
	/* The stream waits at the daemon until it was fetched, or has ended, and its opener with it: if
	 * descriptors have run out, here or by a limit of the daemon's, or the daemon hasn't answered in
	 * time, it can still be fetched later. */
	if (fd >= 0 || fd == -ENOENT)
		incoming_drop(incoming);
	else
		incoming_rest(incoming);
	return fd == -ETIMEDOUT ? -ECONNREFUSED : fd;
}

/* Returns a stream, or -EAGAIN if none is there yet, or an error of xenmsg_accept(). */
static int accept_now(struct xenmsg *conn)
{
	int r = 0;

	conn_pump(conn);
	incoming_look(&conn->incoming);
	while (!conn->dead && incoming_is_ready(&conn->incoming)) {
		r = conn->incoming.fetch ? 0 : fetch(conn);
		if (r == 0 && conn->incoming.fetch->op.settled)
			r = api_streams_take(conn);
		else if (r == 0)
			break;
		if (r != -ENOENT)
			return r;
	}
	return conn->dead ? conn->dead : -EAGAIN;
}

int xenmsg_accept(struct xenmsg *conn, const struct xenmsg_options *options, const struct xenmsg_peer **peer)
{
	int64_t deadline;
	struct op_options opts;
	int r;

	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (options_read(&opts, options, 0, FOR_EVER) < 0)
		return -EINVAL;
	deadline = deadline_in(opts.timeout_ms);
	while ((r = accept_now(conn)) == -EAGAIN) {
		r = conn_sleep(conn, deadline, false);
		if (r == -ETIMEDOUT && opts.timeout_ms == 0)
			r = -EAGAIN;
		if (r < 0)
			break;
	}
	conn_remind(conn);
	if (r >= 0 && peer)
		*peer = &conn->incoming.peer;
	return r;
}

/* ---- streams in one connection ------------------------------------------------------------ */

/* The functions of xenmsg-stream.h that have to do with the whole connection; those of a stream are in
 * mux_stream.c. */

#define PATIENCE_MS 30000 /* what is usual: the daemon answers by itself */

static int api_streams_enter(struct xenmsg *conn)
{
	if (conn_clear(conn) < 0)
		return -ECHILD;
	if (conn->dead)
		return conn->dead;
	return conn_mux(conn) ? 0 : -ENOMEM;
}

static int listen_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		      xenmsg_stream_incoming incoming, void *userdata, xenmsg_done done, void *done_userdata,
		      struct request **request)
{
	uint32_t kinds = BIND_STREAMS;
	struct op_options opts;
	int r = options_read(&opts, options, XENMSG_FROM_HOSTS | XENMSG_SHARED, PATIENCE_MS);

	if (r < 0 || !incoming || !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	if (opts.flags & XENMSG_FROM_HOSTS)
		kinds |= BIND_HOSTS;
	if (opts.flags & XENMSG_SHARED)
		kinds |= BIND_SHARED;
	r = api_streams_enter(conn);
	if (r == 0 && conn_has_bound(conn, endpoint))
		r = -EEXIST;
	if (r == 0)
		r = conn_check(conn, mux_listen(conn->mux, endpoint, kinds, incoming, userdata,
						opts.timeout_ms, done, done_userdata, request));
	if (r == 0)
		(*request)->op.conn = conn;
	return r;
}

int xenmsg_begin_stream_listen(struct xenmsg *conn, const char *endpoint,
			       const struct xenmsg_options *options, xenmsg_stream_incoming incoming,
			       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct request *request;
	int r = op && !done
			? -EINVAL
			: listen_for(conn, endpoint, options, incoming, userdata, done, userdata, &request);

	if (r < 0)
		return r;
	if (op)
		*op = &request->op;
	conn_pump(conn); /* dials */
	conn_remind(conn);
	return 0;
}

/* Waits for the daemon's answer, which comes among what there is to be told of streams. Returns its error. */
static int await_answer(struct xenmsg *conn, struct request *request, struct outcome *outcome)
{
	bool interrupted = false;

	for (;;) {
		conn_pump(conn);
		conn_run_streams(conn);
		if (request->op.settled || conn->closing || conn->dead == -ECHILD)
			break;
		if (conn_sleep(conn, -1, false) == -EINTR && !interrupted) {
			interrupted = true;
			conn_withdraw(conn, &request->op);
		}
	}
	if (!request->op.settled)
		return conn->closing ? -ECANCELED : -ECHILD;
	conn_tell_answer(conn, request);
	return interrupted && outcome->result.error == -ETIMEDOUT ? -EINTR : outcome->result.error;
}

int xenmsg_stream_listen(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
			 xenmsg_stream_incoming incoming, void *userdata)
{
	struct outcome outcome = {.known = false};
	struct request *request;
	int r = !conn_is_here(conn) ? -ECHILD : conn->depth > 0 ? -EBUSY : 0;

	if (r == 0)
		r = listen_for(conn, endpoint, options, incoming, userdata, outcome_note, &outcome, &request);
	if (r < 0)
		return r;
	conn_enter(conn);
	r = await_answer(conn, request, &outcome);
	if (!conn->closing && conn_is_here(conn))
		conn_remind(conn);
	return conn_leave(conn, r);
}

int xenmsg_stream_connect(struct xenmsg *conn, const char *address, const struct xenmsg_options *options,
			  const struct xenmsg_stream_callbacks *callbacks, void *userdata,
			  struct xenmsg_stream **stream)
{
	struct address parsed;
	struct op_options opts;
	int r = options_read(&opts, options, 0, FOR_EVER);

	if (r < 0 || address_parse(address, strlen(address), &parsed, NULL) < 0)
		return -EINVAL;
	r = api_streams_enter(conn);
	if (r == 0)
		r = mux_connect(conn->mux, address, opts.timeout_ms, callbacks, userdata, stream);
	if (r < 0)
		return r;
	conn_pump(conn);
	conn_set_alarm(conn);
	return 0;
}

void xenmsg_stream_resume(struct xenmsg_stream *stream)
{
	struct xenmsg *conn = stream->mux->conn;

	if (conn)
		conn_enter(conn);
	stream_resume(stream);
	if (conn)
		conn_leave(conn, 0);
}
