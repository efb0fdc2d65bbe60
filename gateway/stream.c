/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "daemon/base/log.h"
#include "daemon/base/timer.h"

#define PIECES 16

struct stream {
	int fd;
	const struct stream_events *events;
	void *userdata;
	struct event *readable, *writable;
	struct evbuffer *bytes;
	bool is_broken; /* the daemon takes nothing more */
};

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	stream->events->readable(stream->userdata);
}

static void on_writable(evutil_socket_t fd, short what, void *userdata)
{
	stream_write(userdata);
}

struct stream *stream_new(struct event_base *base, int fd, const struct stream_events *events, void *userdata)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream) {
		close(fd);
		return NULL;
	}
	stream->fd = fd;
	stream->events = events;
	stream->userdata = userdata;
	stream->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, stream);
	stream->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, on_writable, stream);
	stream->bytes = evbuffer_new();
	if (stream->readable && stream->writable && stream->bytes)
		return stream;
	stream_free(stream);
	return NULL;
}

void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	free_event(stream->readable);
	free_event(stream->writable);
	if (stream->bytes)
		evbuffer_free(stream->bytes);
	close(stream->fd);
	free(stream);
}

void stream_read(struct stream *stream, bool is_read)
{
	if (is_read)
		event_add(stream->readable, NULL);
	else
		event_del(stream->readable);
}

ssize_t stream_take(struct stream *stream, uint8_t *data, size_t size)
{
	ssize_t got = recv(stream->fd, data, size, MSG_DONTWAIT);

	return got < 0 ? -errno : got;
}

void stream_put(struct stream *stream, const uint8_t *data, size_t size)
{
	if (stream->is_broken || evbuffer_add(stream->bytes, data, size) == 0)
		return;
	log_error("a stream is given up: out of memory");
	stream->is_broken = true;
	shutdown(stream->fd, SHUT_RDWR); /* the daemon sees it end, and so do we, where it is read */
}

void stream_write(struct stream *stream)
{
	struct evbuffer_iovec pieces[PIECES];
	struct msghdr message = {.msg_iov = pieces};
	int count = evbuffer_peek(stream->bytes, -1, NULL, pieces, PIECES);
	ssize_t written;

	if (count <= 0 || stream->is_broken) {
		event_del(stream->writable);
		return;
	}
	message.msg_iovlen = count < PIECES ? (size_t)count : PIECES;
	written = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (written < 0 && errno != EAGAIN) {
		stream->is_broken = true;
		written = 0;
	} else if (written < 0) {
		written = 0;
	}
	evbuffer_drain(stream->bytes, (size_t)written);
	if (stream->is_broken || evbuffer_get_length(stream->bytes) == 0)
		event_del(stream->writable);
	else
		event_add(stream->writable, NULL);
	if (written > 0 || stream->is_broken)
		stream->events->written(stream->userdata, stream, (size_t)written);
}

bool stream_end(struct stream *stream)
{
	event_del(stream->readable);
	if (!stream->is_broken && evbuffer_get_length(stream->bytes) > 0)
		return false;
	return true;
}
