/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Attacks by connections: those that are many, those that end in the middle, and those that are written to
 * without an end. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/integration/hostile_program.h"

#define FLOOD 65536u /* bytes at once */

/* A new connection, and these bytes over it. */
static bool come(struct attacker *attacker, struct session *session, const void *data, size_t size)
{
	if (session->fd < 0)
		session->fd = session_connect(attacker->path);
	if (session->fd < 0)
		return false;
	attacker->events++;
	session->step = 0;
	session->sent = 0;
	return size == 0 || send(session->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

static void leave(struct session *session)
{
	close(session->fd);
	session->fd = -1;
}

static unsigned turn_connections(struct attacker *attacker, struct session *session)
{
	if (!come(attacker, session, NULL, 0))
		return 0;
	leave(session);
	return 1;
}

/* Comes with a part of a hello and leaves, every other turn, so that all are there at the same time. */
static unsigned come_or_leave(struct attacker *attacker, struct session *session, uint32_t divisor)
{
	uint8_t hello[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	uint32_t size = whole_hello(hello, HELLO_SHARED_MEMORY);

	if (session->fd >= 0)
		leave(session);
	else
		come(attacker, session, hello, size / divisor);
	return 1;
}

static unsigned turn_half_hellos(struct attacker *attacker, struct session *session)
{
	return come_or_leave(attacker, session, 2);
}

static unsigned turn_greeted(struct attacker *attacker, struct session *session)
{
	return come_or_leave(attacker, session, 1);
}

/* Writes as much as the socket takes. False: the daemon has closed it. */
static bool flood(struct attacker *attacker, struct session *session, const void *data, size_t size,
		  unsigned *count)
{
	for (*count = 0; *count < BURST; (*count)++) {
		/* It goes on where the last one has stopped, or frames would be torn. */
		size_t at = session->sent % size;
		ssize_t done =
			send(session->fd, (const uint8_t *)data + at, size - at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (done < 0)
			return errno == EAGAIN || errno == EINTR;
		session->sent += (uint64_t)done;
		attacker->bytes += (uint64_t)done;
		attacker->taken += (uint64_t)done;
		attacker->frames++;
	}
	return true;
}

/* A connection for a stream that gets an answer and no stream; the program writes on all the same. */
static unsigned flood_stream(struct attacker *attacker, struct session *session, uint8_t kind,
			     const char *address)
{
	static const uint8_t bytes[FLOOD];
	uint8_t frames[2 * (FRAME_HEADER_SIZE + FRAME_SMALL_MAX)] = {0};
	unsigned count = 0;
	uint32_t size;

	if (session->fd < 0) {
		size = whole_hello(frames, HELLO_STREAM);
		size += whole_open(frames + size, kind, address) +
			1; /* the byte that isn't part of the stream */
		if (!come(attacker, session, frames, size))
			return 0;
	}
	if (!flood(attacker, session, bytes, sizeof(bytes), &count))
		leave(session);
	return count + (session->fd < 0);
}

static unsigned turn_stream_malformed(struct attacker *attacker, struct session *session)
{
	return flood_stream(attacker, session, CHANNEL_MESSAGE, attacker->address);
}

static unsigned turn_stream_refused(struct attacker *attacker, struct session *session)
{
	return flood_stream(attacker, session, CHANNEL_STREAM, attacker->address);
}

/* A plain session that asks and, with its own side of the socket shut for reading, can't be answered, and
 * writes on. */
static unsigned turn_plain_shut(struct attacker *attacker, struct session *session)
{
	static uint8_t frames[FLOOD];
	uint8_t hello[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct frame_header header = {.type = FRAME_OPTIONAL + 72,
				      .length = FLOOD - 2 * FRAME_HEADER_SIZE - 8};
	unsigned count = 0;

	if (session->fd < 0) {
		frame_header_encode(&header, frames);
		header = (struct frame_header){.type = FRAME_UNBIND, .length = 6, .channel = 1};
		frame_header_encode(&header, frames + FLOOD - FRAME_HEADER_SIZE - 8);
		memcpy(frames + FLOOD - 8, "status", 6);
		if (!come(attacker, session, hello, whole_hello(hello, 0)))
			return 0;
	}
	if (session->step == 0) { /* only when it was let in */
		uint8_t welcome[FRAME_HEADER_SIZE];

		if (recv(session->fd, welcome, sizeof(welcome), MSG_DONTWAIT) > 0) {
			shutdown(session->fd, SHUT_RD);
			session->step = 1;
		} else if (errno != EAGAIN) {
			leave(session);
		}
		return 0;
	}
	if (!flood(attacker, session, frames, sizeof(frames), &count))
		leave(session);
	return count + (session->fd < 0);
}

/* The same, but it reads what comes. */
static bool put_optional(struct attacker *attacker, struct session *session)
{
	static const uint8_t bytes[FRAME_PAYLOAD_MAX];

	return session_put(attacker, session, FRAME_OPTIONAL + 72, 0, bytes,
			   session->step++ & 1 ? 0 : sizeof(bytes));
}

const struct attack socket_attacks[] = {
	{"connections", NO_SESSION, .turn = turn_connections},
	{"half-hellos", NO_SESSION, .turn = turn_half_hellos},
	{"greeted", NO_SESSION, .turn = turn_greeted},
	{"stream-malformed", NO_SESSION, .turn = turn_stream_malformed},
	{"stream-refused", NO_SESSION, .turn = turn_stream_refused},
	{"plain-shut", NO_SESSION, .turn = turn_plain_shut},
	{"plain-flood", PLAIN, .put = put_optional},
	{0},
};
