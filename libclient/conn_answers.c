/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the daemon has answered, and what the program gets of it: to what it has asked, and of streams. What
 * wasn't to be had is undone. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "libclient/conn.h"
#include "libclient/conn_internal.h"
#include "wire/bytes.h"

struct xenmsg_result conn_result_of(int error)
{
	return (struct xenmsg_result){
		.error = error, .fate = error < 0 ? XENMSG_FATE_NOT_DONE : XENMSG_FATE_DONE, .stream = -1};
}

void conn_tell(struct xenmsg *conn, xenmsg_done done, void *userdata, struct xenmsg_result result)
{
	if (!done)
		return;
	result.reason = result.error < 0 ? conn_reason(conn, result.error) : "";
	done(userdata, &result);
}

int conn_tell_daemon(struct xenmsg *conn, uint8_t type, const void *payload, size_t size)
{
	int r = conn_check(conn, requests_tell(&conn->requests, type, payload, size));

	if (r == 0)
		conn_push_now(conn);
	return r;
}

bool conn_has_bound(struct xenmsg *conn, const char *endpoint)
{
	size_t size = strlen(endpoint);

	return inbox_find(&conn->inbox, endpoint, size) || incoming_knows(&conn->incoming, endpoint) ||
	       (conn->mux && mux_find(conn->mux, endpoint, size));
}

/* What was to be bound isn't; one that was given up may be there by now, or soon. */
static void undo_bind(struct xenmsg *conn, const struct request *request)
{
	struct binding *binding = inbox_find_asked(&conn->inbox, request->number);
	const char *listening = incoming_find_asked(&conn->incoming, request->number);
	char endpoint[ADDRESS_MAX + 1] = "";
	uint8_t type = request->type == FRAME_SUBSCRIBE ? FRAME_UNSUBSCRIBE : FRAME_UNBIND;

	/* The daemon hasn't bound it, so nothing has come for it. */
	if (binding) {
		snprintf(endpoint, sizeof(endpoint), "%s", binding->endpoint);
		inbox_unbind(&conn->inbox, binding);
	} else if (listening) {
		snprintf(endpoint, sizeof(endpoint), "%s", listening);
		incoming_forget(&conn->incoming, endpoint);
	}
	if (!request->finished && endpoint[0] && !conn->dead)
		conn_tell_daemon(conn, type, endpoint, strlen(endpoint));
}

static void undo_watch(struct xenmsg *conn, const struct request *request)
{
	uint8_t payload[4];

	if (requests_unwatch(&conn->requests, request->number) && !request->finished && !conn->dead)
		conn_tell_daemon(conn, FRAME_UNWATCH, payload, frame_u32_encode(request->number, payload));
}

static char *text_of(const struct fifo *body)
{
	size_t size = fifo_size(body);
	char *text = malloc(size + 1);

	if (!text)
		return NULL;
	if (size)
		memcpy(text, fifo_front(body), size);
	text[size] = '\0';
	return text;
}

/* Returns the endpoint, or topic, for which this was asked; NULL: none that the program still wants. */
static const char *bound_by(struct xenmsg *conn, const struct request *request)
{
	const struct binding *binding;

	if (request->requests != &conn->requests)
		return mux_find_asked(conn->mux, request->number);
	binding = inbox_find_asked(&conn->inbox, request->number);
	return binding ? binding->endpoint : incoming_find_asked(&conn->incoming, request->number);
}

/* Takes from the answer what the program gets of it. */
static void read_answer(const struct request *request, struct xenmsg_result *result)
{
	if (request->type == FRAME_QUERY) {
		result->json = text_of(&request->body);
		result->error = result->json ? 0 : -ENOMEM;
	} else if (request->type == FRAME_PROBE && fifo_size(&request->body) < 8) {
		result->error = -EPROTO;
	} else if (request->type == FRAME_PROBE) {
		result->round_trip_ns = get_u64(fifo_front(&request->body));
	}
}

void conn_tell_answer(struct xenmsg *conn, struct request *request)
{
	struct xenmsg_result result = conn_result_of(request->error);

	request_take(request);
	if (request->after_loss && request->error < 0 &&
	    !(conn->pattern_hooks && conn->pattern_hooks->take_refusal(conn, request)) &&
	    !(request->type == FRAME_WATCH && awaited_take_refusal(conn->awaited, request->number)))
		reconnect_refused(&conn->reconnect, request, bound_by(conn, request));
	if (request->error == 0)
		read_answer(request, &result);
	else if (request->requests != &conn->requests)
		mux_undo(conn->mux, request, conn->dead);
	else if (request->type == FRAME_BIND || request->type == FRAME_SUBSCRIBE)
		undo_bind(conn, request);
	else if (request->type == FRAME_WATCH)
		undo_watch(conn, request);
	else if (request->type == FRAME_QUERY && (!request->finished || conn->dead))
		result.fate = XENMSG_FATE_UNKNOWN; /* there are some that do something */
	if (request->error < 0 && !conn->dead)
		conn_set_reason(conn, fifo_front(&request->body),
				request->finished ? fifo_size(&request->body) : 0);
	conn_tell(conn, request->done, request->userdata, result);
	request_release(request);
}

void conn_tell_stream(struct xenmsg *conn, struct stream_dial *dial)
{
	struct xenmsg_result result = conn_result_of(dial->error);

	DL_DELETE(conn->dials.settled, dial);
	if (dial->error < 0 && !conn->dead)
		conn_set_reason(conn, dial->reason, strlen(dial->reason));
	result.stream = dial->fd;
	dial->fd = -1;
	conn_tell(conn, dial->done, dial->userdata, result);
	dial_free(dial);
}

int conn_run_answers(struct xenmsg *conn, int budget)
{
	int count = 0;

	while (count < budget && conn->requests.settled && conn_came_back(conn)) {
		count += conn->requests.settled->done != NULL;
		conn_tell_answer(conn, conn->requests.settled);
	}
	while (count < budget && conn->mux && conn->mux->requests.settled && conn_came_back(conn)) {
		count += conn->mux->requests.settled->done != NULL;
		conn_tell_answer(conn, conn->mux->requests.settled);
	}
	while (count < budget && conn->dials.settled && conn_came_back(conn)) {
		count++;
		conn_tell_stream(conn, conn->dials.settled);
	}
	return count;
}
