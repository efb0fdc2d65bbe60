/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * `out` and `in` are drained whenever the library is called, so their size only limits a batch. Deliveries
 * wait for the program, and meanwhile the socket must be read for the sake of all other frames: that ring
 * grows, up to a bound that the daemon stays far below, since our CREDIT tells it what was taken.
 */

#include "libclient/socket_pump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "wire/frame.h"

#define RING_SIZE      (256u << 10)
#define DELIVERIES_MAX (128u << 20)
#define STAGING_SIZE   (256u << 10)
#define FLUSH_SIZE     (64u << 10)

struct pump_ring {
	struct ring_words words;
	uint8_t *data;
};

struct socket_pump {
	int socket, epoll;
	struct ring_writer *program_out;
	struct ring_reader *program_deliveries;
	struct pump_ring rings[LOCAL_RINGS];
	struct ring_reader out;
	struct ring_writer in, deliveries;
	uint8_t *staging; /* bytes read from the socket that aren't a whole frame yet or found no room */
	size_t staged_from, staged_to;
	uint32_t interest; /* what epoll watches the socket for */
	bool out_full;	   /* the socket took less than it was offered */
	bool in_full;	   /* a ring had less room than was needed */
	bool closed;	   /* the other end is gone */
	bool in_order;	   /* nothing goes to `deliveries` */
};

static int make_ring(struct pump_ring *ring, struct ring_view *view)
{
	ring->data = malloc(RING_SIZE);
	if (!ring->data)
		return -ENOMEM;
	*view = ring_words_view(&ring->words, ring->data, RING_SIZE);
	return 0;
}

int socket_pump_new(struct socket_pump **made, int socket, int epoll, struct ring_writer *out,
		    struct ring_reader *in, struct ring_reader *deliveries, bool in_order)
{
	struct socket_pump *pump = calloc(1, sizeof(*pump));
	struct ring_view views[LOCAL_RINGS];

	if (!pump)
		return -ENOMEM;
	pump->socket = socket;
	pump->epoll = epoll;
	pump->in_order = in_order;
	pump->program_out = out;
	pump->program_deliveries = deliveries;
	pump->interest = EPOLLIN | EPOLLRDHUP;
	pump->staging = malloc(STAGING_SIZE);
	if (!pump->staging)
		goto no_memory;
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		if (make_ring(&pump->rings[i], &views[i]) < 0)
			goto no_memory;
	ring_writer_init(out, &views[LOCAL_RING_OUT], false);
	ring_reader_init(&pump->out, &views[LOCAL_RING_OUT], false);
	ring_writer_init(&pump->in, &views[LOCAL_RING_IN], false);
	ring_reader_init(in, &views[LOCAL_RING_IN], false);
	ring_writer_init(&pump->deliveries, &views[LOCAL_RING_DELIVERIES], false);
	ring_reader_init(deliveries, &views[LOCAL_RING_DELIVERIES], false);
	*made = pump;
	return 0;
no_memory:
	socket_pump_free(pump);
	return -ENOMEM;
}

void socket_pump_free(struct socket_pump *pump)
{
	if (!pump)
		return;
	for (unsigned i = 0; i < LOCAL_RINGS; i++)
		free(pump->rings[i].data);
	free(pump->staging);
	free(pump);
}

bool socket_pump_wants_flush(const struct socket_pump *pump)
{
	return !pump->out_full && pump->program_out->published - pump->out.tail >= FLUSH_SIZE;
}

void socket_pump_out(struct socket_pump *pump)
{
	pump->out_full = false;
	for (;;) {
		int ready = ring_reader_ready(&pump->out, UINT32_MAX);
		struct iovec pieces[2];
		struct msghdr message = {.msg_iov = pieces};
		ssize_t n;

		if (ready <= 0 || pump->closed)
			return;
		message.msg_iovlen = (size_t)ring_reader_peek(&pump->out, 0, (uint32_t)ready, pieces);
		n = sendmsg(pump->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			/* The daemon's last frames may still be there to read, so the reading side finds out
			 * that the socket is closed. */
			pump->out_full = true;
			return;
		}
		ring_reader_consume(&pump->out, (uint32_t)n);
		ring_reader_release_quietly(&pump->out);
	}
}

/* Doubles the ring. Indices run freely, so only the places of the bytes change. Both ends belong to this
 * process. */
static int grow_deliveries(struct socket_pump *pump)
{
	struct ring_writer *writer = &pump->deliveries;
	struct ring_reader *reader = pump->program_deliveries;
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
	free(pump->rings[LOCAL_RING_DELIVERIES].data);
	pump->rings[LOCAL_RING_DELIVERIES].data = data;
	writer->ring.data = reader->ring.data = data;
	writer->ring.size = reader->ring.size = size;
	return 1;
}

/* Puts a frame into its ring. Returns 1, or 0 if there is no room. */
static int route(struct socket_pump *pump, const struct frame_header *header, const uint8_t *frame,
		 uint32_t size)
{
	/* The daemon's channels have odd numbers. */
	bool delivery = header->type == FRAME_DATA && (header->channel & 1) && !pump->in_order;
	struct ring_writer *ring = delivery ? &pump->deliveries : &pump->in;

	while (ring_writer_space(ring, size) < (int)size) {
		int r = delivery ? grow_deliveries(pump) : 0;

		if (r <= 0)
			return r;
	}
	ring_writer_put(ring, frame, size);
	ring_writer_publish(ring);
	return 1;
}

static int route_staged(struct socket_pump *pump)
{
	while (pump->staged_to - pump->staged_from >= FRAME_HEADER_SIZE) {
		const uint8_t *frame = pump->staging + pump->staged_from;
		struct frame_header header;
		uint32_t size;
		int r;

		if (frame_header_decode(frame, &header) < 0)
			return -EPROTO;
		size = frame_size(header.length);
		if (pump->staged_to - pump->staged_from < size)
			break;
		r = route(pump, &header, frame, size);
		if (r < 0)
			return r;
		if (r == 0) {
			pump->in_full = true;
			return 0;
		}
		pump->staged_from += size;
	}
	pump->staged_to -= pump->staged_from;
	memmove(pump->staging, pump->staging + pump->staged_from, pump->staged_to);
	pump->staged_from = 0;
	return 0;
}

int socket_pump_in(struct socket_pump *pump)
{
	pump->in_full = false;
	for (;;) {
		int r = route_staged(pump);
		size_t room = STAGING_SIZE - pump->staged_to;
		ssize_t n;

		if (r < 0 || pump->in_full || pump->closed)
			return r < 0 ? r : pump->closed;
		n = recv(pump->socket, pump->staging + pump->staged_to, room, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return pump->closed = true;
		pump->staged_to += (size_t)n;
		/* A short read has emptied the socket; another read would be a system call in vain. */
		if ((size_t)n < room)
			return route_staged(pump);
	}
}

int socket_pump_resume_in(struct socket_pump *pump)
{
	return pump->in_full ? socket_pump_in(pump) : 0;
}

void socket_pump_arm(struct socket_pump *pump)
{
	uint32_t interest = EPOLLRDHUP;

	if (!pump->in_full)
		interest |= EPOLLIN;
	if (ring_reader_ready(&pump->out, 1) > 0)
		interest |= EPOLLOUT;
	if (interest != pump->interest) {
		struct epoll_event event = {.events = interest,
					    .data.u64 = ON_SOCKET | (uint64_t)pump->socket << 32};

		epoll_ctl(pump->epoll, EPOLL_CTL_MOD, pump->socket, &event);
		pump->interest = interest;
	}
}
