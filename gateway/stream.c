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

#define PIECES	    16
#define BUFFER_SIZE (1024 * 1024) /* as much of this as the system allows */

struct stream {
	int fd;
	const struct stream_callbacks *callbacks;
	void *userdata;
	struct event *readable, *writable;
	struct evbuffer *bytes;
	size_t put;	/* bytes that stream_put() has written, which aren't told of yet */
	bool is_full;	/* the daemon must take some first: writable tells */
	bool is_broken; /* the daemon takes nothing more */
};

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	stream->callbacks->readable(stream->userdata);
}

static void on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	stream->is_full = false;
	stream_write(stream);
}

struct stream *stream_new(struct event_base *base, int fd, const struct stream_callbacks *callbacks,
			  void *userdata)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	const int size = BUFFER_SIZE;

	if (!stream) {
		close(fd);
		return NULL;
	}
	/* What it doesn't take has to be copied once more. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	stream->fd = fd;
	stream->callbacks = callbacks;
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

/* Writes what the daemon takes now. Returns how many bytes. */
static size_t write_pieces(struct stream *stream, struct iovec *pieces, size_t count)
{
	const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	ssize_t written = sendmsg(stream->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (written < 0 && errno == EAGAIN)
		stream->is_full = true;
	else if (written < 0)
		stream->is_broken = true;
	return written < 0 ? 0 : (size_t)written;
}

void stream_put(struct stream *stream, const uint8_t *data, size_t size)
{
	struct iovec piece = {(void *)(uintptr_t)data, size};
	size_t written = 0;

	/* Most is taken at once, and needs no copy. */
	if (!stream->is_broken && evbuffer_get_length(stream->bytes) == 0)
		written = write_pieces(stream, &piece, 1);
	stream->put += written;
	if (stream->is_broken || written == size ||
	    evbuffer_add(stream->bytes, data + written, size - written) == 0)
		return;
	log_error("a stream is given up: out of memory");
	stream->is_broken = true;
	shutdown(stream->fd, SHUT_RDWR); /* the daemon sees it end, and so do we, where it is read */
}

void stream_write(struct stream *stream)
{
	struct evbuffer_iovec pieces[PIECES];
	int count = stream->is_broken || stream->is_full
			    ? 0
			    : evbuffer_peek(stream->bytes, -1, NULL, pieces, PIECES);
	size_t written = 0, put = stream->put;

	if (count > 0)
		written = write_pieces(stream, pieces, count < PIECES ? (size_t)count : PIECES);
	evbuffer_drain(stream->bytes, written);
	if (stream->is_broken || evbuffer_get_length(stream->bytes) == 0)
		event_del(stream->writable);
	else
		event_add(stream->writable, NULL);
	stream->put = 0;
	if (written + put > 0 || stream->is_broken)
		stream->callbacks->written(stream->userdata, stream, written + put);
}

bool stream_end(struct stream *stream)
{
	event_del(stream->readable);
	if (!stream->is_broken && evbuffer_get_length(stream->bytes) > 0)
		return false;
	return true;
}
