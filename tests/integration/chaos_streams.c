/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The streams of chaos-program. Each direction begins with its number, and the rest follows from it, so that
 * the reader can check each byte. Most streams end in order: each side shuts its direction when it has
 * written all, and reads to the end.
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/integration/chaos.h"

#define PIECE (32u << 10)

struct stream {
	int fd;
	uint64_t out; /* the number of our direction; 0: not known before the other's was read */
	uint64_t in;
	uint32_t peer_pid;
	uint8_t head[8];      /* as far as the number of an accepted stream has been read */
	size_t size, written; /* of our direction */
	size_t read, rude_at; /* closed without reading on, when this much was read */
	unsigned pace;	      /* writes in one of so many rounds */
	bool shut, in_ended, out_broken;
	int64_t last_move;
};

static struct stream streams[STREAMS_MAX];
static unsigned count;

unsigned streams_count(void)
{
	return count;
}

/* The bytes of a direction from `from` on. The first eight are its number. */
static void content(uint64_t number, size_t from, uint8_t *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		size_t word = (from + done) / 8, offset = (from + done) % 8, n = 8 - offset;
		uint64_t state = number + word * 0x9e3779b97f4a7c15u;
		uint64_t value = word == 0 ? number : next_random(&state);

		if (n > size - done)
			n = size - done;
		memcpy(data + done, (uint8_t *)&value + offset, n);
		done += n;
	}
}

static size_t stream_size(struct chaos *chaos)
{
	unsigned kind = dice(chaos, 100);

	return 8 + dice(chaos, kind < 70 ? 4000 : kind < 95 ? 200000 : 3u << 20);
}

static struct stream *add(struct chaos *chaos, int fd)
{
	struct stream *stream = &streams[count++];

	*stream = (struct stream){
		.fd = fd,
		.size = stream_size(chaos),
		.rude_at = dice(chaos, 20) ? SIZE_MAX : dice(chaos, 5000),
		.pace = dice(chaos, 4) ? 1 : 10,
		.last_move = now_ms(),
	};
	return stream;
}

void streams_connect(struct chaos *chaos, unsigned to, const char *address)
{
	uint64_t number = ++chaos->last_number;
	struct stream *stream;
	int fd;

	if (count == STREAMS_MAX)
		return;
	note(chaos, CONNECTING, number, (int32_t)to);
	/* often too short a time */
	fd = xenmsg_connect(chaos->conn, address,
			    XENMSG_WITHIN((int)dice(chaos, dice(chaos, 3) ? 2000 : 30) + 1));
	note(chaos, CONNECTED, number, fd < 0 ? fd : 0);
	if (fd < 0)
		return;
	stream = add(chaos, fd);
	stream->out = number;
	stream->in = number | BACKWARDS;
}

void streams_accept(struct chaos *chaos)
{
	const struct xenmsg_peer *peer;
	int fd;

	while (count < STREAMS_MAX && (fd = xenmsg_accept(chaos->conn, XENMSG_WITHIN(0), &peer)) >= 0)
		add(chaos, fd)->peer_pid = xenmsg_peer_pid(peer);
}

static void note_read_end(struct chaos *chaos, struct stream *stream, int result)
{
	stream->in_ended = true;
	if (!stream->in) {
		note(chaos, NAMELESS, stream->peer_pid, result);
		return;
	}
	note(chaos, READ, stream->in, (int32_t)stream->read);
	note(chaos, READ_END, stream->in, result);
}

/* The number of an accepted stream may come in parts. */
static void take_number(struct chaos *chaos, struct stream *stream, size_t size)
{
	uint64_t number;

	stream->read += size;
	if (stream->read < sizeof(number))
		return;
	memcpy(&number, stream->head, sizeof(number));
	stream->in = number;
	stream->out = number | BACKWARDS;
	note(chaos, ACCEPTED, number, (int32_t)stream->peer_pid);
}

static void receive(struct chaos *chaos, struct stream *stream)
{
	static uint8_t got[PIECE], expected[PIECE];
	ssize_t n;

	if (stream->in)
		n = recv(stream->fd, got, PIECE, MSG_DONTWAIT);
	else
		n = recv(stream->fd, stream->head + stream->read, sizeof(stream->head) - stream->read,
			 MSG_DONTWAIT);
	if (n > 0) {
		stream->last_move = now_ms();
		if (!stream->in) {
			take_number(chaos, stream, (size_t)n);
			return;
		}
		content(stream->in, stream->read, expected, (size_t)n);
		if (memcmp(expected, got, (size_t)n))
			note(chaos, DAMAGED, stream->in, (int32_t)stream->read);
		stream->read += (size_t)n;
	} else if (n == 0) {
		note_read_end(chaos, stream, 0);
	} else if (errno != EAGAIN && errno != EINTR) {
		note_read_end(chaos, stream, -errno);
		stream->out_broken = true;
	}
}

static void transmit(struct chaos *chaos, struct stream *stream)
{
	static uint8_t data[PIECE];
	size_t left = stream->size - stream->written, piece = left < PIECE ? left : PIECE;
	ssize_t n;

	if (piece) {
		content(stream->out, stream->written, data, piece);
		note(chaos, OFFERED, stream->out, (int32_t)(stream->written + piece));
		n = send(stream->fd, data, piece, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			stream->written += (size_t)n;
			stream->last_move = now_ms();
			note(chaos, WRITTEN, stream->out, (int32_t)stream->written);
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			if (errno != EPIPE && errno != ECONNRESET)
				note(chaos, FAULT, stream->out, -errno);
			stream->out_broken = true;
			/* The kernel tells an error once. One that writing was told won't be read. */
			if (errno == ECONNRESET && !stream->in_ended)
				note_read_end(chaos, stream, -ECONNRESET);
		}
	}
	if (stream->written == stream->size) {
		note(chaos, CLOSING, stream->out, (int32_t)stream->written);
		stream->shut = true;
		if (shutdown(stream->fd, SHUT_WR) < 0 && errno != ENOTCONN)
			note(chaos, FAULT, stream->out, -errno);
	}
}

static void remove_at(struct chaos *chaos, unsigned index)
{
	struct stream *stream = &streams[index];

	if (stream->out && !stream->shut)
		note(chaos, CLOSING, stream->out, (int32_t)stream->written);
	else if (!stream->in && !stream->in_ended)
		note(chaos, NAMELESS, stream->peer_pid, 1);
	close(stream->fd);
	*stream = streams[--count];
}

static bool wants_to_write(const struct stream *stream)
{
	return stream->out && !stream->shut && !stream->out_broken;
}

unsigned streams_poll(struct chaos *chaos, struct pollfd *polled)
{
	for (unsigned i = 0; i < count; i++)
		polled[i] = (struct pollfd){
			.fd = streams[i].fd,
			.events =
				(short)((streams[i].in_ended ? 0 : POLLIN) |
					(wants_to_write(&streams[i]) && streams[i].pace == 1 ? POLLOUT : 0)),
		};
	return count;
}

void streams_run(struct chaos *chaos)
{
	int64_t now = now_ms();

	for (unsigned i = count; i-- > 0;) {
		struct stream *stream = &streams[i];

		if (!stream->in_ended)
			receive(chaos, stream);
		if (wants_to_write(stream) && dice(chaos, stream->pace) == 0)
			transmit(chaos, stream);
		if (now - stream->last_move > STALLED_MS) {
			note(chaos, FAULT, stream->in, -ETIME);
			remove_at(chaos, i);
		} else if (stream->read >= stream->rude_at || (stream->in_ended && !wants_to_write(stream))) {
			remove_at(chaos, i);
		}
	}
}

void streams_close(struct chaos *chaos)
{
	while (count)
		remove_at(chaos, count - 1);
}
