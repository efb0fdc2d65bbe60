/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/run_session.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "wire/bytes.h"
#include "xenmsg.h"

#define OUTPUT_MAX 65536 /* sources aren't read while this much waits to be sent */

struct carried_stream {
	struct run_session *session;
	unsigned stream;
	enum { CLOSED, SOURCE, SINK } kind;
	int fd;
	struct event *ready;
	uint32_t credit; /* how many bytes may be sent, or may still come */
	/* a source */
	bool finishing;
	int left; /* when finishing: how many bytes are still to be read */
	/* a sink */
	struct evbuffer *waiting;
	uint32_t written; /* and not yet given back as credit */
	bool complete;	  /* no more comes */
	bool unread;	  /* what still comes is dropped */
};

struct run_session {
	struct event_base *base;
	struct bufferevent *connection;
	const struct run_session_callbacks *callbacks;
	void *userdata;
	struct carried_stream streams[RUN_STREAMS];
	int sink_error;
	bool lost;
};

void run_session_send(struct run_session *session, enum run_type type, unsigned stream, const void *body,
		      size_t size)
{
	uint8_t record[RUN_RECORD_MAX];

	if (session->connection)
		bufferevent_write(session->connection, record,
				  run_record_encode(type, stream, body, size, record));
}

static void clean_up(struct carried_stream *carried)
{
	loop_event_free(carried->ready);
	if (carried->waiting)
		evbuffer_free(carried->waiting);
	if (carried->kind != CLOSED)
		close(carried->fd);
	carried->kind = CLOSED;
	carried->ready = NULL;
	carried->waiting = NULL;
}

static void end_carried(struct carried_stream *carried)
{
	clean_up(carried);
	carried->session->callbacks->ended(carried->session->userdata);
}

static void run_session_lose(struct run_session *session, int error)
{
	if (session->lost)
		return;
	session->lost = true;
	if (session->connection)
		bufferevent_disable(session->connection, EV_READ | EV_WRITE);
	for (unsigned i = 0; i < RUN_STREAMS; i++) {
		struct carried_stream *carried = &session->streams[i];

		if (carried->kind == SOURCE)
			event_del(carried->ready);
		carried->complete = true; /* what has come is still written */
		if (carried->kind == SINK && !evbuffer_get_length(carried->waiting))
			end_carried(carried);
	}
	session->callbacks->lost(session->userdata, error);
}

/* ---- sources --------------------------------------------------------------------------------- */

static void run_session_go_on(struct carried_stream *source)
{
	struct run_session *session = source->session;

	if (source->kind != SOURCE || session->lost)
		return;
	if (source->finishing && source->left <= 0) {
		run_session_send(session, RUN_DATA, source->stream, NULL, 0);
		end_carried(source);
	} else if (source->credit > 0 && session->connection &&
		   evbuffer_get_length(bufferevent_get_output(session->connection)) < OUTPUT_MAX) {
		event_add(source->ready, NULL);
	}
}

static void run_session_on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct carried_stream *source = userdata;
	uint8_t data[RUN_BODY_MAX];
	size_t most = source->credit < sizeof(data) ? source->credit : sizeof(data);
	ssize_t size = read(fd, data, most);

	if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
		run_session_go_on(source);
		return;
	}
	if (size > 0) {
		source->credit -= (uint32_t)size;
		source->left -= source->finishing ? (int)size : 0;
		run_session_send(source->session, RUN_DATA, source->stream, data, (size_t)size);
	} else {
		source->finishing = true;
		source->left = 0;
	}
	run_session_go_on(source);
}

int run_session_source(struct run_session *session, unsigned stream, int fd)
{
	struct carried_stream *source = &session->streams[stream];

	source->ready = event_new(session->base, fd, EV_READ, run_session_on_readable, source);
	if (!source->ready)
		return -ENOMEM;
	source->fd = fd;
	source->kind = SOURCE;
	source->credit = RUN_WINDOW;
	run_session_go_on(source);
	return 0;
}

void run_session_finish_sources(struct run_session *session)
{
	for (unsigned i = 0; i < RUN_STREAMS; i++) {
		struct carried_stream *source = &session->streams[i];

		if (source->kind != SOURCE)
			continue;
		source->finishing = true;
		if (ioctl(source->fd, FIONREAD, &source->left) < 0)
			source->left = 0;
		run_session_go_on(source);
	}
}

static int take_credit(struct carried_stream *source, uint32_t more)
{
	if (source->kind == SINK || more > RUN_WINDOW - source->credit)
		return -EPROTO;
	source->credit += more;
	run_session_go_on(source);
	return 0;
}

/* ---- sinks ----------------------------------------------------------------------------------- */

static void stop_reading(struct carried_stream *sink, int error)
{
	if (error != EPIPE && !sink->session->sink_error)
		sink->session->sink_error = error;
	sink->unread = true;
	run_session_send(sink->session, RUN_STOP, sink->stream, NULL, 0);
	end_carried(sink);
}

static void give_credit(struct carried_stream *sink)
{
	uint8_t body[4];

	if (sink->written < RUN_WINDOW / 2)
		return;
	put_u32(body, sink->written);
	run_session_send(sink->session, RUN_CREDIT, sink->stream, body, sizeof(body));
	sink->credit += sink->written;
	sink->written = 0;
}

/* Writes at most PIPE_BUF: a larger write may block although a pipe is writable. */
static void run_session_on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct carried_stream *sink = userdata;
	int size =
		evbuffer_get_length(sink->waiting) ? evbuffer_write_atmost(sink->waiting, fd, PIPE_BUF) : 0;

	if (size < 0 && errno != EAGAIN && errno != EINTR) {
		stop_reading(sink, errno);
		return;
	}
	if (size > 0) {
		sink->written += (uint32_t)size;
		give_credit(sink);
	}
	if (evbuffer_get_length(sink->waiting))
		event_add(sink->ready, NULL);
	else if (sink->complete)
		end_carried(sink);
}

int run_session_sink(struct run_session *session, unsigned stream, int fd)
{
	struct carried_stream *sink = &session->streams[stream];

	sink->ready = event_new(session->base, fd, EV_WRITE, run_session_on_writable, sink);
	sink->waiting = evbuffer_new();
	if (!sink->ready || !sink->waiting) {
		clean_up(sink);
		return -ENOMEM;
	}
	sink->fd = fd;
	sink->kind = SINK;
	sink->credit = RUN_WINDOW;
	return 0;
}

static int take_data(struct carried_stream *sink, const struct run_record *record)
{
	if (sink->unread)
		return 0;
	if (sink->kind != SINK || sink->complete || record->size > sink->credit)
		return -EPROTO;
	sink->credit -= record->size;
	sink->complete = record->size == 0;
	if (evbuffer_add(sink->waiting, record->body, record->size) < 0)
		return -ENOMEM;
	if (sink->complete && !evbuffer_get_length(sink->waiting))
		end_carried(sink);
	else
		event_add(sink->ready, NULL);
	return 0;
}

/* ---- the connection -------------------------------------------------------------------------- */

static int run_session_take(struct run_session *session, const struct run_record *record)
{
	struct carried_stream *carried = &session->streams[record->stream];

	switch (record->type) {
	case RUN_DATA:
		return take_data(carried, record);
	case RUN_CREDIT:
		return take_credit(carried, record->value);
	case RUN_STOP:
		/* It may have crossed the end. */
		if (carried->kind == SOURCE)
			end_carried(carried);
		return carried->kind == SINK ? -EPROTO : 0;
	default:
		return session->callbacks->record(session->userdata, record);
	}
}

static void on_input(struct bufferevent *connection, void *userdata)
{
	struct run_session *session = userdata;
	struct evbuffer *input = bufferevent_get_input(connection);
	int size = 1;

	while (size > 0 && session->connection && !session->lost) {
		size_t here = evbuffer_get_length(input);
		struct run_record record;

		here = here < RUN_RECORD_MAX ? here : RUN_RECORD_MAX;
		size = run_record_decode(evbuffer_pullup(input, (ssize_t)here), here, &record);
		if (size > 0) {
			int r = run_session_take(session, &record);

			if (r < 0)
				size = r;
			else if (session->connection)
				evbuffer_drain(input, (size_t)size);
		}
	}
	if (size < 0)
		run_session_lose(session, -size);
}

static void on_output(struct bufferevent *connection, void *userdata)
{
	struct run_session *session = userdata;

	for (unsigned i = 0; i < RUN_STREAMS; i++)
		run_session_go_on(&session->streams[i]);
}

static void run_session_on_end(struct bufferevent *connection, short what, void *userdata)
{
	run_session_lose(userdata, what & BEV_EVENT_ERROR ? EVUTIL_SOCKET_ERROR() : 0);
}

struct run_session *run_session_new(struct event_base *base, int connection,
				    const struct run_session_callbacks *callbacks, void *userdata)
{
	struct run_session *session = calloc(1, sizeof(*session));

	evutil_make_socket_nonblocking(connection);
	if (session)
		session->connection = bufferevent_socket_new(base, connection,
							     BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (!session || !session->connection) {
		free(session);
		return NULL;
	}
	session->base = base;
	session->callbacks = callbacks;
	session->userdata = userdata;
	for (unsigned i = 0; i < RUN_STREAMS; i++)
		session->streams[i] = (struct carried_stream){.session = session, .stream = i, .fd = -1};
	bufferevent_setcb(session->connection, on_input, on_output, run_session_on_end, session);
	bufferevent_setwatermark(session->connection, EV_READ, 0, 2 * RUN_RECORD_MAX);
	bufferevent_setwatermark(session->connection, EV_WRITE, OUTPUT_MAX / 2, 0);
	bufferevent_enable(session->connection, EV_READ | EV_WRITE);
	return session;
}

const char *run_session_why_broken(const struct run_session *session, struct xenmsg *conn)
{
	return cli_why_broken(conn, bufferevent_getfd(session->connection));
}

void run_session_hang_up(struct run_session *session)
{
	if (session->connection)
		bufferevent_free(session->connection);
	session->connection = NULL;
}

void run_session_break(struct run_session *session)
{
	int connection = session->connection ? dup(bufferevent_getfd(session->connection)) : -1;

	run_session_hang_up(session);
	if (connection >= 0)
		xenmsg_break(connection);
}

void run_session_free(struct run_session *session)
{
	if (!session)
		return;
	run_session_hang_up(session);
	for (unsigned i = 0; i < RUN_STREAMS; i++)
		clean_up(&session->streams[i]);
	free(session);
}

static bool none_is(const struct run_session *session, int kind)
{
	for (unsigned i = 0; i < RUN_STREAMS; i++)
		if ((int)session->streams[i].kind == kind)
			return false;
	return true;
}

bool run_session_sources_ended(const struct run_session *session)
{
	return none_is(session, SOURCE);
}

bool run_session_sinks_ended(const struct run_session *session)
{
	return none_is(session, SINK);
}

bool run_session_sinks_complete(const struct run_session *session)
{
	for (unsigned i = 0; i < RUN_STREAMS; i++)
		if (session->streams[i].kind == SINK && !session->streams[i].complete)
			return false;
	return true;
}

int run_session_sink_error(const struct run_session *session)
{
	return session->sink_error;
}
