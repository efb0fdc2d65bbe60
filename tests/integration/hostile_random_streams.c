/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* hostile_random.c's sessions that are streams: tokens are fetched and streams opened, used and broken by
 * chance. */
#include "tests/integration/hostile_random.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/descriptors.h"

static void stream_over(struct session *session, int error)
{
	count_errno(coverage.stream_ends, (uint32_t)error);
	close(session->fd);
	session->fd = -1;
	session->step = 0;
}

static unsigned stream_begins(struct attacker *attacker, struct session *session)
{
	uint8_t frames[2 * (FRAME_HEADER_SIZE + FRAME_SMALL_MAX)] = {0}, *second;
	struct frame_header header;
	char address[80];
	uint32_t size = whole_hello(frames, HELLO_STREAM);

	session->fd = session_connect(attacker->path);
	if (session->fd < 0)
		return 0;
	coverage.came++;
	second = frames + size;
	if (tokens.count && dice(4)) {
		header = (struct frame_header){.type = FRAME_ACCEPT};
		header.length = frame_u64_encode(tokens.list[tokens.first], second + FRAME_HEADER_SIZE);
		tokens.first = (tokens.first + 1) % TOKENS;
		tokens.count--;
		size += frame_wrap(second, &header) + 1;
	} else {
		choose_address(attacker, address, sizeof(address));
		size += whole_open(second, (uint8_t)(dice(50) ? CHANNEL_STREAM : dice(5)), address) + 1;
	}
	attacker->sent[second[4]]++;
	if (send(session->fd, frames, dice(50) ? size : dice(size), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		stream_over(session, errno);
	return 1;
}

/* The WELCOME and the REPLY; then bytes. */
static void stream_read(struct session *session)
{
	uint8_t bytes[16384];
	ssize_t size =
		recv(session->fd, bytes, session->step < 2 ? FRAME_HEADER_SIZE : sizeof(bytes), MSG_DONTWAIT);
	struct frame_header header;
	struct frame_reply reply;

	if (size == 0 || (size < 0 && errno != EAGAIN)) {
		stream_over(session, size == 0 ? 0 : errno);
		return;
	}
	if (size < 0)
		return;
	if (session->step >= 2) {
		coverage.stream_bytes += (uint64_t)size;
		return;
	}
	if (size < (ssize_t)FRAME_HEADER_SIZE || frame_header_decode(bytes, &header) < 0 ||
	    recv(session->fd, bytes, frame_size(header.length) - FRAME_HEADER_SIZE, MSG_DONTWAIT) <= 0) {
		stream_over(session, EPROTO);
		return;
	}
	coverage.got[header.type]++;
	if (header.type == FRAME_REPLY && frame_reply_decode(bytes, header.length, &reply) == 0)
		count_errno(coverage.stream_answers, reply.error);
	session->step++;
}

/* A byte with a descriptor breaks the stream. */
static void stream_breaks(struct session *session)
{
	send_descriptor(session->fd, "x", 1, session->fd, MSG_DONTWAIT);
}

unsigned random_stream_turn(struct attacker *attacker, struct session *session)
{
	static const uint8_t bytes[65536];

	if (session->fd < 0)
		return dice(8) ? 0 : stream_begins(attacker, session);
	if (dice(2))
		stream_read(session);
	if (session->fd < 0)
		return 1;
	switch (dice(200)) {
	case 0:
		shutdown(session->fd, (int)dice(3));
		break;
	case 1:
		stream_breaks(session);
		break;
	case 2:
		stream_over(session, 0);
		break;
	default:
		if (dice(3) == 0)
			send(session->fd, bytes, 1 + dice(sizeof(bytes)), MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	}
	return 1;
}
