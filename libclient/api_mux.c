/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The functions of xenmsg-stream.h that have to do with the whole connection; those of a stream are in
 * mux_stream.c. */

#include <errno.h>
#include <string.h>

#include "libclient/conn.h"
#include "libclient/wait.h"
#include "wire/address.h"

#define PATIENCE_MS 30000 /* what is usual: the daemon answers by itself */

static int enter(struct xenmsg *conn)
{
	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (conn->dead)
		return conn->dead;
	return conn_mux(conn) ? 0 : -ENOMEM;
}

static int listen_for(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options,
		      xenmsg_stream_incoming incoming, void *userdata, xenmsg_done done, void *done_userdata,
		      struct request **request)
{
	uint32_t kinds = BIND_STREAMS;
	struct how how;
	int r = how_read(&how, options, XENMSG_FROM_HOSTS | XENMSG_SHARED, PATIENCE_MS);

	if (r < 0 || !incoming || !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	if (how.flags & XENMSG_FROM_HOSTS)
		kinds |= BIND_HOSTS;
	if (how.flags & XENMSG_SHARED)
		kinds |= BIND_SHARED;
	r = enter(conn);
	if (r == 0 && conn_has_bound(conn, endpoint))
		r = -EEXIST;
	if (r == 0)
		r = conn_check(conn, mux_listen(conn->mux, endpoint, kinds, incoming, userdata,
						how.timeout_ms, done, done_userdata, request));
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
	struct how how;
	int r = how_read(&how, options, 0, FOR_EVER);

	if (r < 0 || address_parse(address, strlen(address), &parsed, NULL) < 0)
		return -EINVAL;
	r = enter(conn);
	if (r == 0)
		r = mux_connect(conn->mux, address, how.timeout_ms, callbacks, userdata, stream);
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
