/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * `out` and `in` are drained whenever the library is called, so their size only says how much goes in one
 * batch. Deliveries wait for the program, and meanwhile the socket must be read for the sake of all other
 * frames: that ring grows, up to a bound that the daemon keeps far below, since it sees by our CREDIT what
 * was taken.
 */

#include "libclient/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "wire/bytes.h"

#define RING_SIZE      (256u << 10)
#define DELIVERIES_MAX (128u << 20)
#define STAGING_SIZE   (256u << 10)
#define FLUSH_SIZE     (64u << 10)

struct private_ring {
	struct ring_words words;
	uint8_t *data;
};

struct stream {
	struct hop *hop;
	struct private_ring rings[LOCAL_RINGS];
	struct ring_reader out;
	struct ring_writer in, deliveries;
	uint8_t *staging; /* bytes read from the socket that are no whole frame yet, or found no room */
	size_t staged_from, staged_to;
	uint32_t interest; /* what epoll watches the socket for */
	bool out_full;	   /* the socket took less than it was given */
	bool in_full;	   /* a ring took less than was there */
};

static int make_ring(struct private_ring *ring, struct ring_view *view)
{
	ring->data = malloc(RING_SIZE);
	if (!ring->data)
		return -ENOMEM;
	*view = ring_words_view(&ring->words, ring->data, RING_SIZE);
	return 0;
}

int stream_new(struct stream **stream, struct hop *hop)
{
	struct stream *s = calloc(1, sizeof(*s));
	struct ring_view views[LOCAL_RINGS];

	if (!s)
		return -ENOMEM;
	s->hop = hop;
	s->interest = EPOLLIN | EPOLLRDHUP;
	s->staging = malloc(STAGING_SIZE);
	if (!s->staging)
		goto no_memory;
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		if (make_ring(&s->rings[i], &views[i]) < 0)
			goto no_memory;
	ring_writer_init(&hop->out, &views[LOCAL_RING_OUT], false);
	ring_reader_init(&s->out, &views[LOCAL_RING_OUT], false);
	ring_writer_init(&s->in, &views[LOCAL_RING_IN], false);
	ring_reader_init(&hop->in, &views[LOCAL_RING_IN], false);
	ring_writer_init(&s->deliveries, &views[LOCAL_RING_DELIVERIES], false);
	ring_reader_init(&hop->deliveries, &views[LOCAL_RING_DELIVERIES], false);
	*stream = s;
	return 0;
no_memory:
	stream_free(s);
	return -ENOMEM;
}

void stream_free(struct stream *stream)
{
	if (!stream)
		return;
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		free(stream->rings[i].data);
	free(stream->staging);
	free(stream);
}

bool stream_wants_flush(const struct stream *stream)
{
	const struct hop *hop = stream->hop;

	return !stream->out_full && hop->out.published - stream->out.tail >= FLUSH_SIZE;
}

void stream_pump_out(struct stream *stream)
{
	struct hop *hop = stream->hop;

	stream->out_full = false;
	for (;;) {
		int ready = ring_reader_ready(&stream->out, UINT32_MAX);
		struct iovec pieces[2];
		struct msghdr message = {.msg_iov = pieces};
		ssize_t n;

		if (ready <= 0 || hop->closed)
			return;
		message.msg_iovlen = (size_t)ring_reader_peek(&stream->out, 0, (uint32_t)ready, pieces);
		n = sendmsg(hop->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			/* What the daemon said last may still be there to be read: that the socket is closed
			 * is left for the reading side to find. */
			stream->out_full = true;
			return;
		}
		ring_reader_consume(&stream->out, (uint32_t)n);
		ring_reader_release_quietly(&stream->out);
	}
}

/* Twice the size. Indices run freely, so only the places of the bytes change. Both ends are ours. */
static int grow_deliveries(struct stream *stream)
{
	struct ring_writer *writer = &stream->deliveries;
	struct ring_reader *reader = &stream->hop->deliveries;
	uint32_t old_size = writer->ring.size, size = old_size * 2;
	uint8_t *data;

	if (size > DELIVERIES_MAX)
		return 0;
	data = malloc(size);
	if (!data)
		return -ENOMEM;
	for (uint32_t at = reader->released; at != writer->head;) {
		uint32_t from = at & (old_size - 1), to = at & (size - 1);
		uint32_t n = writer->head - at;

		if (n > old_size - from)
			n = old_size - from;
		if (n > size - to)
			n = size - to;
		memcpy(data + to, writer->ring.data + from, n);
		at += n;
	}
	free(stream->rings[LOCAL_RING_DELIVERIES].data);
	stream->rings[LOCAL_RING_DELIVERIES].data = data;
	writer->ring.data = reader->ring.data = data;
	writer->ring.size = reader->ring.size = size;
	return 1;
}

/* 1: the frame is in its ring; 0: there is no room. */
static int route(struct stream *stream, const struct frame_header *header, const uint8_t *frame,
		 uint32_t size)
{
	/* The daemon's channels have odd numbers. */
	bool delivery = header->type == FRAME_DATA && (header->channel & 1);
	struct ring_writer *ring = delivery ? &stream->deliveries : &stream->in;

	while (ring_writer_space(ring, size) < (int)size) {
		int r = delivery ? grow_deliveries(stream) : 0;

		if (r <= 0)
			return r;
	}
	ring_writer_put(ring, frame, size);
	ring_writer_publish(ring);
	return 1;
}

static int route_staged(struct stream *stream)
{
	while (stream->staged_to - stream->staged_from >= FRAME_HEADER_SIZE) {
		const uint8_t *frame = stream->staging + stream->staged_from;
		struct frame_header header;
		uint32_t size;
		int r;

		if (frame_header_decode(frame, &header) < 0)
			return -EPROTO;
		size = frame_size(header.length);
		if (stream->staged_to - stream->staged_from < size)
			break;
		r = route(stream, &header, frame, size);
		if (r < 0)
			return r;
		if (r == 0) {
			stream->in_full = true;
			return 0;
		}
		stream->staged_from += size;
	}
	stream->staged_to -= stream->staged_from;
	memmove(stream->staging, stream->staging + stream->staged_from, stream->staged_to);
	stream->staged_from = 0;
	return 0;
}

int stream_pump_in(struct stream *stream)
{
	struct hop *hop = stream->hop;

	stream->in_full = false;
	for (;;) {
		int r = route_staged(stream);
		size_t room = STAGING_SIZE - stream->staged_to;
		ssize_t n;

		if (r < 0 || stream->in_full || hop->closed)
			return r;
		n = recv(hop->socket, stream->staging + stream->staged_to, room, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			hop->closed = true;
			return 0;
		}
		stream->staged_to += (size_t)n;
		/* A short read has emptied the socket; asking again would be a system call for nothing. */
		if ((size_t)n < room)
			return route_staged(stream);
	}
}

int stream_resume_in(struct stream *stream)
{
	return stream->in_full ? stream_pump_in(stream) : 0;
}

void stream_arm(struct stream *stream)
{
	struct hop *hop = stream->hop;
	uint32_t interest = EPOLLRDHUP;

	if (!stream->in_full)
		interest |= EPOLLIN;
	if (ring_reader_ready(&stream->out, 1) > 0)
		interest |= EPOLLOUT;
	if (interest != stream->interest) {
		struct epoll_event event = {.events = interest, .data.u32 = 1};

		epoll_ctl(hop->epoll, EPOLL_CTL_MOD, hop->socket, &event);
		stream->interest = interest;
	}
}
