/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/conn.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/call.h"

/* callbacks in one call of xenmsg_process(), so that a loop's other sources get their turn */
#define BUDGET 1024

int64_t conn_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : hop_now() + timeout_ms;
}

int conn_left(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - hop_now();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

void conn_set_reason(struct xenmsg *conn, const void *text, size_t size)
{
	if (size >= sizeof(conn->reason))
		size = sizeof(conn->reason) - 1;
	if (size) /* no text has no place */
		memcpy(conn->reason, text, size);
	conn->reason[size] = '\0';
}

/* ---- what the daemon says -------------------------------------------------------------------- */

static int on_goodbye(struct xenmsg *conn, const uint8_t *payload, uint32_t length)
{
	struct frame_goodbye goodbye;

	if (frame_goodbye_decode(payload, length, &goodbye) < 0)
		return -EPROTO;
	hop_keep_reason(&conn->hop, goodbye.text);
	return -ENOTCONN;
}

static int dispatch(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	switch (header->type) {
	case FRAME_GOODBYE:
		return on_goodbye(conn, payload, header->length);
	case FRAME_REPLY:
	case FRAME_EVENT:
		return request_frame(conn, header, payload);
	case FRAME_INCOMING:
		return connect_frame(conn, header, payload);
	case FRAME_DATA:
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_CANCELLED:
	case FRAME_OPEN:
	case FRAME_CANCEL:
	case FRAME_FIN:
	case FRAME_RESET:
		if (header->channel >= CHANNEL_NUMBERS)
			return -EPROTO;
		if (header->channel & 1)
			return inbox_frame(&conn->inbox, header, payload);
		if (header->type == FRAME_OPEN || header->type == FRAME_CANCEL)
			return -EPROTO;
		return outbox_frame(&conn->outbox, header, payload);
	default:
		return header->type >= FRAME_OPTIONAL ? 0 : -EPROTO;
	}
}

/* Returns the number of frames read. */
static int read_in(struct xenmsg *conn)
{
	struct ring_reader *in = &conn->hop.in;
	int frames = 0;

	for (;;) {
		int ready = ring_reader_ready(in, FRAME_HEADER_SIZE), r;
		uint8_t raw[FRAME_HEADER_SIZE];
		struct frame_header header;

		if (ready < 0)
			return ready;
		if (ready == 0)
			break;
		if ((uint32_t)ready < FRAME_HEADER_SIZE)
			return -EPROTO;
		ring_reader_copy(in, 0, raw, sizeof(raw));
		if (frame_header_decode(raw, &header) < 0 || (uint32_t)ready < frame_size(header.length))
			return -EPROTO;
		ring_reader_copy(in, FRAME_HEADER_SIZE, conn->scratch, header.length);
		ring_reader_consume(in, frame_size(header.length));
		r = dispatch(conn, &header, conn->scratch);
		if (r < 0)
			return r;
		frames++;
	}
	if (frames) {
		int r = conn->outbox.unreported ? calls_report(&conn->outbox) : 0;

		if (r < 0)
			return r;
		hop_release_in(&conn->hop);
	}
	return frames;
}

/* What the daemon had said before it went still counts: messages may have been delivered. */
int conn_fail(struct xenmsg *conn, int error)
{
	if (conn->dead)
		return conn->dead;
	if (error == -ENOTCONN)
		read_in(conn);
	conn->dead = error;
	if (conn->hop.reason[0])
		conn_set_reason(conn, conn->hop.reason, strlen(conn->hop.reason));
	outbox_fail(&conn->outbox, -ENOTCONN);
	request_fail_all(conn, error);
	conn->hop.closed = true;
	hop_poke(&conn->hop);
	return conn->dead;
}

int conn_check(struct xenmsg *conn, int r)
{
	if (r != -EPROTO)
		return r;
	conn_fail(conn, r);
	return -ENOTCONN;
}

int conn_flush(struct xenmsg *conn)
{
	int r;

	if (conn->dead)
		return conn->dead;
	r = outbox_flush(&conn->outbox, &conn->want_space);
	if (r == 0 && conn->inbox.ending)
		r = inbox_end_answered(&conn->inbox);
	if (r < 0)
		return conn_fail(conn, r);
	hop_publish(&conn->hop);
	return 0;
}

void conn_push_all(struct xenmsg *conn)
{
	while (conn_flush(conn) == 0 && conn->want_space && hop_arm_space(&conn->hop, conn->want_space) > 0)
		;
	/* Without shared memory our own reading may have taken away what made the descriptor readable, and
	 * sending may need it. */
	if (conn->hop.stream)
		hop_poke(&conn->hop);
}

int conn_pump_all(struct xenmsg *conn)
{
	int r;

	if (conn->dead)
		return conn->dead;
	r = read_in(conn);
	if (r >= 0)
		r = calls_expire(&conn->outbox);
	if (r < 0)
		return conn_fail(conn, r);
	return conn_flush(conn);
}

/* ---- what the program gets ------------------------------------------------------------------- */

int conn_run_outcomes(struct xenmsg *conn, int budget)
{
	int count = outbox_run(&conn->outbox, budget);

	count += calls_run(&conn->outbox, budget - count);
	return count + request_run_events(conn, budget - count);
}

/* The daemon may see what was taken from now on; `r`: how the taking went. */
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
	if (inbox_take_simple(&conn->inbox, recv, message, binding))
		return finish_take(conn, 0, message);
	for (;;) {
		r = inbox_front(&conn->inbox, &front, &unknown);
		if (!unknown)
			break;
		/* The OPEN was put into `in` before the DATA was put here. */
		r = read_in(conn);
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
		/* What was put together from pieces is given back even if its end is still to come. */
		int s = inbox_release(&conn->inbox, r == 0 && !conn->comes_back);

		if (s < 0)
			conn_fail(conn, s);
		return conn->dead;
	}
	*binding = front.binding;
	r = inbox_take(&conn->inbox, &front, message);
	return r == -ENOMEM ? r : finish_take(conn, r, message);
}

int conn_run(struct xenmsg *conn, int budget)
{
	int count = conn_run_outcomes(conn, budget);

	while (count < budget) {
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
	}
	return count;
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
		r = hop_arm(&conn->hop, deliveries && !conn->recv_waits, conn->want_space);
	if (r < 0 && !conn->dead)
		conn_fail(conn, r);
	return conn->dead ? conn->dead : r;
}

/* Takes note of what the descriptors say. */
static int poll_hop(struct xenmsg *conn, int timeout_ms)
{
	int r = hop_poll(&conn->hop, timeout_ms);

	if (r == -EINTR)
		return r;
	if (r >= 0 && conn->hop.closed)
		r = -ENOTCONN;
	if (r < 0)
		return conn_fail(conn, r);
	return r;
}

void conn_remind(struct xenmsg *conn)
{
	if (outbox_has_outcomes(&conn->outbox) || conn->events || conn->incoming ||
	    ring_reader_ready(&conn->hop.deliveries, 1) > 0 || conn_arm(conn, true) > 0)
		hop_poke(&conn->hop);
}

int conn_sleep(struct xenmsg *conn, int64_t deadline, bool deliveries)
{
	int r;

	conn->comes_back = false; /* a handler that waits for something isn't on its way back */
	r = conn_arm(conn, deliveries);
	if (r != 0)
		return r;
	if (conn->outbox.timed && (deadline < 0 || deadline > conn->outbox.timed->expires))
		deadline = conn->outbox.timed->expires;
	return poll_hop(conn, conn_left(deadline));
}

/* ---- another try ----------------------------------------------------------------------------- */

#define AGAIN_FIRST_MS	  20
#define AGAIN_LAST_MS	  1000
#define AGAIN_PATIENCE_MS 30000 /* longer than a restart of domain 0's daemon takes */

int again_pause(struct again *again, int64_t deadline)
{
	int64_t now = hop_now();

	if (again->pause_ms == 0)
		again->until = deadline < 0 ? now + AGAIN_PATIENCE_MS : deadline;
	again->pause_ms = again->pause_ms ? 2 * again->pause_ms : AGAIN_FIRST_MS;
	if (again->pause_ms > AGAIN_LAST_MS)
		again->pause_ms = AGAIN_LAST_MS;
	/* So that there is time for the try itself. */
	if (again->pause_ms > (again->until - now) / 2)
		again->pause_ms = (int)((again->until - now) / 2);
	return again->pause_ms < AGAIN_FIRST_MS / 2 ? -ENODATA : again->pause_ms;
}

int conn_pause_again(struct xenmsg *conn, struct again *again, int64_t deadline)
{
	int pause_ms = again_pause(again, deadline), r;
	int64_t end = conn_deadline(pause_ms);

	if (pause_ms < 0)
		return pause_ms;
	do {
		r = conn_sleep(conn, end, false);
		if (r == -EINTR)
			return r;
		if (conn_pump(conn) < 0)
			return -ENOTCONN;
		conn_run_outcomes(conn, BUDGET);
	} while (conn_left(end) > 0);
	return 0;
}

/* ---- public ---------------------------------------------------------------------------------- */

static const char *default_path(void)
{
	const char *path = getenv("XENMSG_SOCKET");

	return path && *path ? path : "/run/xenmsg/xenmsg.sock";
}

int xenmsg_open(struct xenmsg **opened, const char *socket_path)
{
	struct xenmsg *conn = calloc(1, sizeof(*conn));
	int r = -ENOMEM;

	if (!conn)
		return -ENOMEM;
	conn->scratch = malloc(FRAME_PAYLOAD_MAX);
	if (!conn->scratch)
		goto free_conn;
	r = hop_open(&conn->hop, socket_path ? socket_path : default_path());
	if (r < 0)
		goto free_scratch;
	outbox_init(&conn->outbox, &conn->hop);
	r = inbox_init(&conn->inbox, conn);
	if (r < 0)
		goto close_hop;
	conn->outbox.pool = conn->inbox.pool;
	*opened = conn;
	return 0;
close_hop:
	hop_close(&conn->hop);
free_scratch:
	free(conn->scratch);
free_conn:
	free(conn);
	return r;
}

void xenmsg_close(struct xenmsg *conn)
{
	if (!conn)
		return;
	if (!conn->dead) {
		conn_pump(conn);
		outbox_finish(&conn->outbox);
		outbox_fail(&conn->outbox, -ECANCELED);
		conn->dead = -ENOTCONN;
	}
	outbox_run(&conn->outbox, INT_MAX);
	calls_run(&conn->outbox, INT_MAX);
	outbox_free(&conn->outbox);
	inbox_release(&conn->inbox, true);
	hop_close(&conn->hop);
	inbox_free(&conn->inbox);
	request_free_all(conn);
	connect_free_all(conn);
	free(conn->scratch);
	free(conn);
}

int xenmsg_fd(struct xenmsg *conn)
{
	return conn->hop.epoll;
}

int xenmsg_events(struct xenmsg *conn)
{
	return POLLIN;
}

int xenmsg_timeout(struct xenmsg *conn)
{
	if (outbox_has_outcomes(&conn->outbox) || conn->events)
		return 0;
	return conn->outbox.timed ? conn_left(conn->outbox.timed->expires) : -1;
}

static int process(struct xenmsg *conn)
{
	int count = 0, r;

	do {
		conn_pump(conn);
		r = conn_run(conn, BUDGET - count);
		if (r < 0)
			break;
		count += r;
		if (count >= BUDGET) {
			hop_poke(&conn->hop);
			break;
		}
		r = conn_arm(conn, true);
	} while (r > 0);
	if (count > 0 || r >= 0)
		return count + (conn->recv_waits || conn->incoming);
	return r;
}

int xenmsg_process(struct xenmsg *conn)
{
	conn->reason[0] = '\0';
	if (!conn->dead)
		while (poll_hop(conn, 0) == -EINTR)
			;
	return process(conn);
}

int xenmsg_wait(struct xenmsg *conn, int timeout_ms)
{
	int64_t deadline = conn_deadline(timeout_ms);

	conn->reason[0] = '\0';
	for (;;) {
		int r;

		/* Who answers after this returns notifies the daemon once, of the answer and of what was
		 * taken. Who doesn't call us again soon is looked at by the daemon. */
		conn->comes_back = true;
		r = process(conn);
		conn->comes_back = false;
		if (r != 0)
			return r;
		r = conn_sleep(conn, deadline, true);
		if (r == -EINTR || (r == 0 && conn_left(deadline) == 0))
			return r;
	}
}

const char *xenmsg_reason(struct xenmsg *conn)
{
	return conn->outbox.withdrawn ? call_taken : conn->reason;
}

uint32_t xenmsg_domid(struct xenmsg *conn)
{
	return conn->hop.domid;
}

size_t xenmsg_max_message(struct xenmsg *conn)
{
	return (size_t)conn->hop.max_message;
}
