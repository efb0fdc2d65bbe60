/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/deadline.h"
#include "libclient/transport.h"
#include "libclient/calls.h"
#include "libclient/outbox.h"
#include "libclient/helpers.h"
#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/frame_ring.h"
#include "wire/ut.h"

void conn_set_reason(struct xenmsg *conn, const void *text, size_t size)
{
	frame_text_copy((struct frame_text){text, size}, conn->reason, sizeof(conn->reason));
}

int conn_explain_address(struct xenmsg *conn, const char *address, int error)
{
	struct address parsed;
	const char *why;
	char text[sizeof(conn->reason)];
	int size;

	if (address_words(error, conn->transport.domid, address, conn->explanation,
			  sizeof(conn->explanation)))
		conn->explained = error;
	if (error != -EINVAL || address_parse(address, strlen(address), &parsed, &why) == 0)
		return error;
	size = snprintf(text, sizeof(text), "bad address: %s", why);
	conn_set_reason(conn, text, (size_t)size);
	return error;
}

int conn_explain_message(struct xenmsg *conn, const char *address, size_t size, int error)
{
	if (size > conn->transport.max_message)
		conn_say(conn, error, -EMSGSIZE, CONN_TOO_LARGE);
	return conn_explain_address(conn, address, error);
}

const char *conn_reason(const struct xenmsg *conn, int error)
{
	if (conn->mux && conn->mux->why)
		return conn->mux->why;
	if (conn->reason[0] &&
	    !(error && error == conn->explained && strcmp(conn->reason, xenmsg_error_text(error)) == 0))
		return conn->reason;
	if (error && error == conn->explained)
		return conn->explanation;
	if (conn->dead && error == conn->dead && conn->transport.reason[0])
		return conn->transport.reason; /* why it is over */
	/* A connection that was never open has a daemon that isn't found, and no endpoint. */
	return conn->transport.max_message ? xenmsg_error_text(error) : words_of_opening(error);
}

/* ---- what the daemon says ----------------------------------------------------------------- */

static int conn_on_goodbye(struct xenmsg *conn, const uint8_t *payload, uint32_t length)
{
	struct frame_goodbye goodbye;

	if (frame_goodbye_decode(payload, length, &goodbye) < 0)
		return -EPROTO;
	transport_keep_reason(&conn->transport, goodbye.text);
	return -ENOTCONN;
}

/* This domain was restored or migrated. */
static int on_self(struct xenmsg *conn, const uint8_t *payload, uint32_t length)
{
	uint32_t domid;

	if (frame_u32_decode(payload, length, &domid) < 0)
		return -EPROTO;
	if (domid != conn->transport.domid)
		reconnect_renumbered(&conn->reconnect);
	conn->transport.domid = domid;
	return 0;
}

static int on_listeners(struct xenmsg *conn, const uint8_t *payload, uint32_t length)
{
	struct frame_listeners told;
	struct binding *binding;
	int r = frame_listeners_decode(payload, length, &told);

	if (r < 0)
		return r;
	binding = inbox_find(&conn->inbox, told.endpoint.data, told.endpoint.size);
	if (!binding || binding->listeners == told.count) /* it was unbound meanwhile */
		return 0;
	binding->listeners = told.count;
	reconnect_listeners(&conn->reconnect, binding->endpoint, told.count);
	return 0;
}

static int on_reply(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	int r = requests_frame(&conn->requests, header, payload);
	struct binding *binding = r > 0 ? inbox_find_asked(&conn->inbox, header->channel) : NULL;

	if (binding)
		binding->asked = 0;
	return r < 0 ? r : 0;
}

static int conn_dispatch(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	switch (header->type) {
	case FRAME_GOODBYE:
		return conn_on_goodbye(conn, payload, header->length);
	case FRAME_REPLY:
		return on_reply(conn, header, payload);
	case FRAME_INCOMING:
		return incoming_frame(&conn->incoming, header, payload);
	case FRAME_SELF:
		return on_self(conn, payload, header->length);
	case FRAME_LISTENERS:
		return on_listeners(conn, payload, header->length);
	case FRAME_DATA:
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_CANCELLED:
	case FRAME_OPEN:
	case FRAME_CANCEL:
	case FRAME_FIN:
	case FRAME_RESET:
	case FRAME_WITHDRAW:
	case FRAME_REASSIGNED:
	case FRAME_SENDER:
		if (header->channel >= CHANNEL_NUMBERS)
			return -EPROTO;
		if (header->channel & 1)
			return inbox_frame(&conn->inbox, header, payload);
		if (header->type == FRAME_OPEN || header->type == FRAME_CANCEL)
			return -EPROTO;
		return header->type == FRAME_DATA ? calls_frame(&conn->calls, header, payload)
						  : outbox_frame(&conn->outbox, header, payload);
	default:
		return header->type >= FRAME_OPTIONAL ? 0 : -EPROTO;
	}
}

/* Reads what lies there, but not all that a daemon may add meanwhile. Returns the number of frames read, or a
 * negative errno; -ENOMEM: what is left stays, and is read a moment later. */
static int conn_read_in(struct xenmsg *conn)
{
	struct ring_reader *in = &conn->transport.in;
	const uint32_t begin = in->tail, size = in->ring.size;
	struct frame_header header;
	uint32_t ready = 0;
	int frames = 0, r = 1;

	if (transport_lacks(&conn->transport))
		return -ENOMEM;
	while (in->tail - begin < size && (r = frame_next(in, &header, &ready)) > 0) {
		ring_reader_copy(in, FRAME_HEADER_SIZE, conn->scratch, header.length);
		r = conn_dispatch(conn, &header, conn->scratch);
		if (r == -ENOMEM)
			break;
		ring_reader_consume(in, frame_size(header.length));
		if (r < 0)
			return r;
		frames++;
		r = 1;
	}
	if (r == -ENOMEM)
		transport_lack(&conn->transport);
	else if (r < 0 || (r == 0 && ready > 0))
		return -EPROTO;
	if (frames) {
		int s = conn->calls.unreported ? calls_report(&conn->calls) : 0;

		if (s < 0)
			return s;
		transport_release_in(&conn->transport);
	}
	return r == -ENOMEM ? r : frames;
}

/* Continues without the daemon. What waited for room ends, too: the next send is in a new session. */
static void outlive(struct xenmsg *conn, int error)
{
	requests_let_go(&conn->requests);
	outbox_fail(&conn->outbox, -ENOTCONN);
	inbox_fail_drains(&conn->inbox, -ENOTCONN);
	dials_fail(&conn->dials, error);
	conn->recv_waits = false;
	conn->want_space = 0;
	reconnect_lose(&conn->reconnect, error, conn->transport.reason);
	if (conn->mux)
		mux_lose(conn->mux, error, conn->reconnect.losses);
	transport_poke(&conn->transport);
	conn_set_alarm(conn);
}

/* Frames that the daemon sent before it went still count: messages may have been delivered. */
int conn_fail(struct xenmsg *conn, int error)
{
	if (conn->dead)
		return conn->dead;
	if (error == -ENOTCONN)
		conn_read_in(conn);
	/* Frames that have come couldn't be kept. The program takes -ENOMEM for an error that passes. */
	if (error == -ENOMEM) {
		transport_keep_reason(&conn->transport, frame_text_of("the program has no memory left"));
		error = -ENOTCONN;
	}
	if (conn->transport.reason[0])
		conn_set_reason(conn, conn->transport.reason, strlen(conn->transport.reason));
	if (conn->reconnect.state != RECONNECT_OFF && conn_is_here(conn)) {
		outlive(conn, error);
		return 0;
	}
	conn->dead = error;
	requests_let_go(&conn->requests);
	outbox_fail(&conn->outbox, -ENOTCONN);
	inbox_fail(&conn->inbox, -ENOTCONN);
	requests_fail(&conn->requests, error);
	dials_fail(&conn->dials, error);
	awaited_fail(conn->awaited, error);
	if (conn->mux)
		mux_lose(conn->mux, error, 0);
	conn->transport.closed = true;
	transport_poke(&conn->transport);
	return conn->dead;
}

int conn_flush(struct xenmsg *conn)
{
	int r;

	if (conn->dead)
		return conn->dead;
	r = outbox_flush(&conn->outbox, &conn->want_space);
	if (r == 0 && conn->inbox.ending)
		r = inbox_end_some(&conn->inbox);
	if (r < 0)
		return conn_fail(conn, r);
	transport_publish(&conn->transport);
	return 0;
}

void conn_push_all(struct xenmsg *conn)
{
	while (conn_flush(conn) == 0 && conn->want_space &&
	       transport_arm_space(&conn->transport, conn->want_space) > 0)
		;
	/* Without shared memory, reading here may have cleared what made the descriptor readable, and sending
	 * may need it. */
	if (conn->transport.pump)
		transport_poke(&conn->transport);
}

void conn_push_now(struct xenmsg *conn)
{
	conn_push(conn);
	if (conn->transport.pump && !conn->dead)
		socket_pump_out(conn->transport.pump);
}

int conn_pump_all(struct xenmsg *conn)
{
	int r;

	if (conn->dead)
		return conn->dead;
	if (reconnect_is_lost(&conn->reconnect))
		reconnect_further(&conn->reconnect, mux_is_unanswered(conn->mux));
	r = conn_read_in(conn);
	if (r >= 0 || r == -ENOMEM)
		r = calls_expire(&conn->calls);
	if (r == 0)
		r = requests_look(&conn->requests);
	if (r < 0)
		return conn_fail(conn, r);
	dials_look(&conn->dials);
	if (conn->mux)
		mux_look(conn->mux, !reconnect_is_lost(&conn->reconnect),
			 conn->reconnect.state != RECONNECT_OFF);
	conn_set_alarm(conn);
	return conn_flush(conn);
}

/* ---- what the daemon has answered --------------------------------------------------------- */

/* What the program gets of it: to what it has asked, and of streams. What wasn't to be had is undone. */

bool conn_came_back(struct xenmsg *conn)
{
	if (conn_is_here(conn))
		return true;
	conn->dead = -ECHILD;
	return false;
}

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

int conn_ask(struct xenmsg *conn, uint8_t type, const void *payload, size_t size,
	     const struct op_options *opts, xenmsg_done done, void *userdata, struct request **request)
{
	int r = conn_check(conn, request_begin(&conn->requests, type, payload, size, opts->timeout_ms, done,
					       userdata, request));

	if (r == 0)
		(*request)->op.conn = conn;
	return r;
}

int conn_watch(struct xenmsg *conn, const char *pattern, int timeout_ms, xenmsg_event_handler handler,
	       void *userdata, xenmsg_done done, void *done_userdata, struct request **request)
{
	int r = conn_check(conn, requests_watch(&conn->requests, pattern, timeout_ms, handler, userdata, done,
						done_userdata, request));

	if (r == 0)
		(*request)->op.conn = conn;
	return r;
}

int conn_unwatch(struct xenmsg *conn, uint32_t number)
{
	int r = requests_unwatch(&conn->requests, number);

	if (r == -ENOENT)
		return r;
	r = conn_check(conn, r);
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

int conn_unbind(struct xenmsg *conn, struct binding *binding, const char *endpoint)
{
	int r;

	/* First refuses what has arrived, so that every sender of it learns that nothing more was taken; what
	 * arrives until the daemon knows finds no binding. */
	conn->recv_waits = false;
	r = inbox_unbind(&conn->inbox, binding);
	return r < 0 ? conn_fail(conn, r) : conn_tell_daemon(conn, FRAME_UNBIND, endpoint, strlen(endpoint));
}

/* What was to be bound isn't; one that was given up may be there by now, or soon. */
static void undo_bind(struct xenmsg *conn, const struct request *request)
{
	struct binding *binding = inbox_find_asked(&conn->inbox, request->number);
	const char *listening = incoming_find_asked(&conn->incoming, request->number);
	char endpoint[ADDRESS_MAX + 1] = "";

	/* To the program it isn't granted, so nothing was taken for it. */
	if (binding) {
		snprintf(endpoint, sizeof(endpoint), "%s", binding->endpoint);
		inbox_unbind(&conn->inbox, binding);
	} else if (listening) {
		snprintf(endpoint, sizeof(endpoint), "%s", listening);
		incoming_forget(&conn->incoming, endpoint);
	}
	if ((!request->finished || request->granted) && endpoint[0] && !conn->dead)
		conn_tell_daemon(conn, FRAME_UNBIND, endpoint, strlen(endpoint));
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

/* It has failed. */
static void undo(struct xenmsg *conn, const struct request *request)
{
	if (request->requests != &conn->requests)
		mux_undo(conn->mux, request, conn->dead);
	else if (request->type == FRAME_BIND || request->type == FRAME_SUBSCRIBE)
		undo_bind(conn, request);
	else if (request->type == REQUEST_WATCH)
		conn_unwatch(conn, request->number);
}

/* Says who may not reach what is watched or subscribed to, or which domain isn't there. */
static void explain_request(struct xenmsg *conn, const struct request *request)
{
	const char *address = request->type == REQUEST_WATCH ? ((const struct event_watch *)request)->pattern
			      : request->type == FRAME_SUBSCRIBE ? bound_by(conn, request)
								 : NULL;

	conn->explained = 0; /* what was said of an earlier one */
	if (address && (request->error == -EACCES || request->error == -EHOSTDOWN))
		conn_explain_address(conn, address, request->error);
}

void conn_tell_answer(struct xenmsg *conn, struct request *request)
{
	struct xenmsg_result result = conn_result_of(request->error);

	request_take(request);
	if (request->after_loss && request->error < 0 &&
	    !(conn->pattern_hooks && conn->pattern_hooks->take_refusal(conn, request)) &&
	    !(request->type == REQUEST_WATCH && awaited_take_refusal(conn->awaited, request->number)))
		reconnect_refused(&conn->reconnect, request, bound_by(conn, request));
	explain_request(conn, request);
	if (request->error < 0)
		undo(conn, request);
	if (request->error < 0 && !conn->dead)
		conn_set_reason(conn, fifo_front(&request->body),
				request->finished ? fifo_size(&request->body) : 0);
	if (!request->finished)
		conn_say(conn, request->error, -ETIMEDOUT, "xenmsgd has not answered in time");
	else
		conn_say(conn, request->error, -ENOMEM, WORDS_OF_PEERS_LACK);
	conn_tell(conn, request->done, request->userdata, result);
	request_release(request);
}

/* Says who may not reach the address of a stream, or which domain isn't there. */
static void explain_dial(struct xenmsg *conn, const struct stream_dial *dial)
{
	struct frame_header header;
	struct frame_open open;
	char address[ADDRESS_MAX + 1];

	if (frame_header_decode(dial->request, &header) < 0 || header.type != FRAME_OPEN ||
	    frame_open_decode(dial->request + FRAME_HEADER_SIZE, header.length, &open) < 0)
		return;
	frame_text_copy(open.name, address, sizeof(address));
	conn_explain_address(conn, address, dial->error);
}

void conn_tell_stream(struct xenmsg *conn, struct stream_dial *dial)
{
	struct xenmsg_result result = conn_result_of(dial->error);

	DL_DELETE(conn->dials.settled, dial);
	if (dial->error < 0 && !conn->dead) {
		conn_set_reason(conn, dial->reason, strlen(dial->reason));
		explain_dial(conn, dial);
	}
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

/* ---- what the program gets ---------------------------------------------------------------- */

struct mux *conn_mux(struct xenmsg *conn)
{
	if (!conn->mux)
		conn->mux = mux_new(&conn->transport, &conn->closing, conn);
	return conn->mux;
}

int conn_run_streams(struct xenmsg *conn)
{
	struct mux *mux = conn->mux;
	int r;

	mux->told = 0;
	r = mux_run(mux);
	if (!conn_came_back(conn) || r >= 0 || conn->closing)
		return mux->told;
	/* The end of this session is that of the connection. */
	if (mux->transport.reason[0])
		memcpy(conn->transport.reason, mux->transport.reason, sizeof(conn->transport.reason));
	conn_fail(conn, r);
	mux_run(mux);
	conn_came_back(conn);
	return mux->told;
}

int conn_withdraw(struct xenmsg *conn, struct xenmsg_op *op)
{
	int r;

	if (conn_pump(conn) < 0) /* then it is settled */
		return -EALREADY;
	r = op->settled ? -EALREADY : 0;
	if (r == 0 && op->withdraw(op) < 0)
		conn_fail(conn, -EPROTO);
	else
		conn_push(conn);
	conn_remind(conn);
	return r;
}

/* Returns what is left of a budget; but each kind has a turn, however much there is of the others. */
static inline int left_of(int budget, int count)
{
	int least = budget / 8;

	return budget - count > least ? budget - count : least;
}

/* Tells what is no outcome of a message or call. */
static __attribute__((noinline)) int run_news(struct xenmsg *conn, int budget)
{
	int count = conn_run_answers(conn, budget);

	count += message_tell_withdrawn(conn->inbox.pool, left_of(budget, count), &conn->closing);
	count += requests_run_events(&conn->requests, left_of(budget, count), &conn->closing);
	/* What was due for the last pattern is over with that. */
	if ((conn->patterns || conn->pattern_due) && !conn->closing && conn_came_back(conn))
		conn->pattern_hooks->run(conn);
	if (conn_came_back(conn) && !conn->closing)
		count += reconnect_run(&conn->reconnect, mux_is_unanswered(conn->mux), left_of(budget, count),
				       &conn->closing);
	conn_came_back(conn);
	return count;
}

int conn_run_outcomes(struct xenmsg *conn, int budget)
{
	int count;

	/* A pattern may also wait until fewer of the program's requests are pending. */
	if (!conn_came_back(conn) || !(conn_has_outcomes(conn) || conn->patterns))
		return 0;
	count = outbox_run(&conn->outbox, budget);
	count += calls_run(&conn->calls, left_of(budget, count));
	if (conn_came_back(conn) && (conn_has_news(conn) || conn->patterns))
		count += run_news(conn, left_of(budget, count));
	return count;
}

/* Something of a topic was taken. What is due for a pattern is done before the next callback, when
 * nobody uses the binding. */
static void note_of_topic(const struct xenmsg *conn, struct binding *binding,
			  const struct xenmsg_message *message)
{
	const struct xenmsg_notice *notice = message ? xenmsg_message_notice(message) : NULL;

	if (!notice)
		return;
	if (notice->kind == XENMSG_ENDED)
		binding->has_ended = true;
	if (binding->pattern)
		conn->pattern_hooks->note(binding, notice);
}

/* Lets the daemon see what was taken; `r` is the result of taking it. */
static int finish_take(struct xenmsg *conn, int r, struct xenmsg_message **message)
{
	if (r >= 0)
		r = inbox_release_quietly(&conn->inbox);
	if (r < 0) {
		xenmsg_message_free(*message);
		*message = NULL;
		conn_fail(conn, r);
		return conn->dead;
	}
	conn->recv_waits = false;
	return 1;
}

int conn_take(struct xenmsg *conn, bool recv, struct xenmsg_message **message, const struct binding **binding)
{
	struct inbox_front front;
	bool unknown;
	int r;

	*message = NULL;
	if (conn->dead)
		return conn->dead;
	for (;;) {
		r = inbox_front_quick(&conn->inbox, &front);
		if (r > 0 ||
		    (!conn->inbox.frame_left && ring_reader_ready(&conn->transport.deliveries, 1) == 0))
			break;
		r = inbox_front(&conn->inbox, &front, &unknown);
		if (!unknown)
			break;
		/* The daemon put the OPEN into `in` before it put the DATA here. */
		r = conn_read_in(conn);
		if (r == -ENOMEM) { /* it may be there, and is read a moment later */
			r = 0;
			break;
		}
		if (r < 0)
			break;
		r = inbox_front(&conn->inbox, &front, &unknown);
		if (!unknown)
			break;
		inbox_skip_frame(&conn->inbox);
	}
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return conn_fail(conn, r);
	conn->recv_waits = r > 0 && !front.binding->handler;
	if (r == 0 || conn->recv_waits != recv) {
		/* Pieces of a message are given back even if its end is still to come. */
		int s = inbox_release(&conn->inbox, r == 0 && !conn->comes_back);

		if (s < 0)
			conn_fail(conn, s);
		return conn->dead;
	}
	*binding = front.binding;
	r = inbox_take(&conn->inbox, &front, message);
	if (!front.binding->kinds)
		note_of_topic(conn, front.binding, *message);
	return r == -ENOMEM ? r : finish_take(conn, r, message);
}

int conn_peek(struct xenmsg *conn, struct xenmsg_message **copy)
{
	struct inbox_front front;
	bool unknown;
	int r;

	*copy = NULL;
	r = inbox_front(&conn->inbox, &front, &unknown);
	if (r > 0)
		r = inbox_peek(&conn->inbox, &front, copy);
	if (r >= 0 || r == -ENOMEM || r == -EPROTOTYPE)
		return r;
	return conn_fail(conn, r);
}

int conn_decide(struct xenmsg *conn, const struct xenmsg_message *copy, uint32_t error)
{
	struct xenmsg_message *taken = NULL;
	struct inbox_front front;
	bool unknown;
	int r;

	r = inbox_front(&conn->inbox, &front, &unknown);
	if (r >= 0 && (r == 0 || !inbox_is_front(&front, copy)))
		return -ECANCELED;
	if (r > 0 && error)
		r = inbox_refuse(&conn->inbox, &front, error);
	else if (r > 0)
		r = inbox_take(&conn->inbox, &front, &taken);
	if (r == -ENOMEM)
		return r;
	if (taken && !front.binding->kinds)
		note_of_topic(conn, front.binding, taken);
	conn->recv_waits = false;
	if (r >= 0 && !error)
		r = inbox_release_quietly(&conn->inbox);
	if (r < 0)
		conn_fail(conn, r);
	else if (error)
		conn_arm(conn, true); /* sends the RESET */
	xenmsg_message_free(taken);
	if (conn->dead)
		return conn->dead;
	return error || taken ? 0 : -ECANCELED;
}

int conn_run(struct xenmsg *conn, int budget)
{
	int count = conn_run_outcomes(conn, budget), most = count + left_of(budget, count);

	while (count < most && !conn->closing && !conn->paused) {
		struct xenmsg_message *message;
		const struct binding *binding;
		int r = conn_take(conn, false, &message, &binding);

		if (r < 0)
			return count > 0 ? count : r;
		if (r == 0)
			break;
		if (!message)
			continue;
		count++;
		binding->handler(binding->userdata, message);
		if (!conn_came_back(conn))
			break;
	}
	return count > 0 ? count : conn->dead;
}

int conn_arm(struct xenmsg *conn, bool deliveries)
{
	int r;

	if (conn->dead)
		return conn->dead;
	r = inbox_release(&conn->inbox, !conn->comes_back);
	if (r == 0)
		r = conn_flush(conn);
	if (r == 0)
		r = transport_arm(&conn->transport, deliveries && !conn->recv_waits && !conn->paused,
				  conn->want_space);
	if (r < 0 && !conn->dead)
		r = conn_fail(conn, r);
	return conn->dead ? conn->dead : r;
}

int conn_poll(struct xenmsg *conn, int timeout_ms)
{
	int r = transport_poll(&conn->transport, timeout_ms);

	if (r == -EINTR)
		return r;
	if (r >= 0 && conn->transport.closed)
		r = -ENOTCONN;
	if (r < 0)
		return conn_fail(conn, r);
	return r;
}

void conn_set_alarm(struct xenmsg *conn)
{
	if (conn->calls.timed)
		transport_set_alarm(&conn->transport, conn->calls.timed->expires);
	if (conn->incoming.again)
		transport_set_alarm(&conn->transport, conn->incoming.again);
	if (conn->transport.lacks_until)
		transport_set_alarm(&conn->transport, conn->transport.lacks_until);
	if (conn->pattern_again)
		transport_set_alarm(&conn->transport, conn->pattern_again);
	if (conn->requests.due >= 0)
		transport_set_alarm(&conn->transport, conn->requests.due);
	if (conn->dials.due >= 0)
		transport_set_alarm(&conn->transport, conn->dials.due);
	if (reconnect_is_lost(&conn->reconnect))
		transport_set_alarm(&conn->transport, conn->reconnect.due);
	if (conn->mux)
		mux_set_alarm(conn->mux, !reconnect_is_lost(&conn->reconnect));
}

void conn_remind(struct xenmsg *conn)
{
	/* One that has failed has reminded already, and one that is being opened has no rings yet. */
	if (conn->dead)
		return;
	conn_set_alarm(conn);
	if (conn_has_outcomes(conn) || incoming_is_ready(&conn->incoming) ||
	    (!conn->paused && !transport_lacks(&conn->transport) &&
	     ring_reader_ready(&conn->transport.deliveries, 1) > 0) ||
	    conn_arm(conn, true) > 0)
		transport_poke(&conn->transport);
	if (conn->mux)
		mux_remind(conn->mux);
}

#define LATE_LOOKS 16

/* Sleeps, unless there is work already. Returns as conn_poll(). */
static int conn_rest_until(struct xenmsg *conn, const struct conn_wait *wait)
{
	bool has_work = wait->what >= FOR_OUTCOMES && conn_has_outcomes(conn);
	int r = 0;

	conn->comes_back = false; /* a handler that waits for something isn't about to return */
	r = conn_arm(conn, wait->what == FOR_MESSAGES);
	if (r < 0)
		return r;
	has_work = has_work || r > 0;
	if (has_work && deadline_left(wait->deadline) != 0)
		return 1;
	conn_set_alarm(conn);
	r = conn_poll(conn, has_work ? 0 : deadline_left(wait->deadline));
	incoming_look(&conn->incoming);
	conn_set_alarm(conn); /* what the alarm was for may be later than what it came for */
	return r == 0 ? has_work : r;
}

int conn_sleep(struct xenmsg *conn, struct conn_wait *wait)
{
	int r;

	if (wait->late > LATE_LOOKS) {
		conn_remind(conn); /* what the last look has left */
		return -ETIMEDOUT;
	}
	/* One that is being opened has no rings yet; its descriptor is read when it is looked at. */
	r = conn->opening.pending ? transport_sleep(&conn->transport, deadline_left(wait->deadline))
				  : conn_rest_until(conn, wait);
	if (r < 0)
		return r;
	if (deadline_left(wait->deadline) != 0)
		return 1;
	wait->late++;
	return r == 0 ? -ETIMEDOUT : 1;
}

/* ---- replies ------------------------------------------------------------------------------ */

int conn_reply(struct xenmsg *conn, struct xenmsg_message *request, enum message_type type,
	       struct message_error error, const void *data, size_t size)
{
	uint32_t channel = request->replies->sender->number;
	int r = reply_put(request, type, error, data, size);

	if (r == -ENOBUFS) {
		r = inbox_reset(&conn->inbox, channel, ENOBUFS);
		if (r == 0)
			r = -ECANCELED;
	}
	r = conn_check(conn, r);
	if (r < 0)
		return r;
	conn_push_now(conn);
	return 0;
}
