/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Byte streams (doc/protocol.md, section 6). Each stream has a connection to the daemon of its own, which
 * after a handshake carries nothing but the stream's bytes, so that the program gets a plain socket. The
 * session of the program only announces incoming streams.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libclient/conn.h"
#include "libclient/deadline.h"
#include "libclient/handshake.h"
#include "libclient/wait.h"
#include "wire/address.h"

#define GUARD 1 /* size of the guard: the byte behind the handshake that the daemon leaves unread */

/* Connects to the daemon of the session. */
static int dial(struct xenmsg *conn, int64_t deadline)
{
	struct sockaddr_un address = {0};
	socklen_t size = sizeof(address) - 1;
	int r;

	if (getpeername(conn->transport.socket, (struct sockaddr *)&address, &size) < 0)
		return -ENOTCONN;
	r = handshake_connect(address.sun_path, deadline);
	/* The file of the socket isn't there, or not for us; these numbers would speak of the endpoint. */
	return r == -ENOENT || r == -EACCES ? -ECONNREFUSED : r;
}

/* Reads WELCOME, then the REPLY that says whether there is a stream. */
static int await_stream(struct xenmsg *conn, int fd, int64_t deadline)
{
	struct handshake_answer answer = {.got = 0};
	struct frame_reply reply;
	int r = handshake_read(fd, &answer, NULL, deadline);

	if (r == 0 && answer.header.type == FRAME_WELCOME)
		r = handshake_read(fd, &answer, NULL, deadline);
	if (r < 0 && answer.reason.size)
		conn_set_reason(conn, answer.reason.data, answer.reason.size);
	if (r < 0)
		return r;
	if (answer.header.type != FRAME_REPLY ||
	    frame_reply_decode(answer.payload, answer.header.length, &reply) < 0)
		return -EPROTO;
	if (reply.error == 0)
		return 0;
	conn_set_reason(conn, reply.body.data, reply.body.size);
	return frame_error(reply.error, -EPROTO);
}

/* Sends HELLO for a stream, the frame that says which stream (its buffer has room for the guard behind it),
 * and the guard. Returns the descriptor. */
static int open_stream(struct xenmsg *conn, uint8_t *request, uint32_t size, int64_t deadline)
{
	int fd = dial(conn, deadline), r;

	if (fd < 0)
		return fd;
	memset(request + size, 0, GUARD);
	r = handshake_hello(fd, HELLO_STREAM, request, size + GUARD) < 0 ? -ECONNREFUSED : 0;
	if (r == 0)
		r = await_stream(conn, fd, deadline);
	if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int xenmsg_connect(struct xenmsg *conn, const char *address, int timeout_ms)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {.data = address, .size = strlen(address)}};
	uint8_t request[FRAME_HEADER_SIZE + FRAME_SMALL_MAX + 8 + GUARD]; /* the frame, and its padding */
	struct address parsed;
	int64_t deadline = deadline_in(timeout_ms);
	struct again again = {0};
	struct frame_header header = {.type = FRAME_OPEN};
	uint32_t size;
	int r, pause_ms;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	if (address_parse(address, strlen(address), &parsed, NULL) < 0)
		return -EINVAL;
	if (conn->dead)
		return conn->dead;
	header.length = frame_open_encode(&open, request + FRAME_HEADER_SIZE);
	size = frame_wrap(request, &header);
	for (;;) {
		r = open_stream(conn, request, size, deadline);
		pause_ms = r == -ENODATA ? again_pause(&again, deadline) : -1;
		if (pause_ms < 0)
			return r;
		poll(NULL, 0, pause_ms);
	}
}

/* The daemon takes bytes that come with a descriptor as the request to break the stream. */
void xenmsg_break(int stream)
{
	uint8_t mark = 0;
	struct iovec piece = {&mark, 1};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	ssize_t sent;

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &stream, sizeof(int));
	sent = sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	/* There is no room for it because the other program is slow: wait as a write would. */
	if (sent < 0 && errno == EAGAIN && fcntl(stream, F_SETFL, 0) == 0)
		sendmsg(stream, &message, MSG_NOSIGNAL);
	close(stream);
}

/* ---- streams that come in -------------------------------------------------------------------- */

/* Fetches the first waiting stream. Returns its descriptor, or -ENOENT if it has ended meanwhile. */
static int fetch(struct xenmsg *conn, struct xenmsg_peer *peer)
{
	const struct arrival *arrival = conn->incoming.waiting;
	uint8_t request[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];
	const struct frame_header header = {
		.type = FRAME_ACCEPT,
		.length = frame_u64_encode(arrival->token, request + FRAME_HEADER_SIZE)};
	int fd = open_stream(conn, request, frame_wrap(request, &header), deadline_in(HANDSHAKE_MS));

	if (fd >= 0)
		memcpy(conn->incoming.host, arrival->host, sizeof(arrival->host));
	if (fd >= 0 && peer)
		*peer = arrival->peer;
	/* The stream waits at the daemon until it was fetched, or has ended, and its opener with it: if descriptors have run
	 * out, here or by a limit of the daemon's, or the daemon hasn't answered in time, it can still be fetched later. */
	if (fd >= 0 || fd == -ENOENT)
		incoming_drop(&conn->incoming);
	else
		incoming_rest(&conn->incoming);
	return fd;
}

int xenmsg_accept(struct xenmsg *conn, struct xenmsg_peer *peer, int timeout_ms)
{
	int64_t deadline = deadline_in(timeout_ms);
	int r;

	if (!conn_is_here(conn))
		return -ECHILD;
	conn->reason[0] = '\0';
	for (;;) {
		conn_pump(conn);
		incoming_look(&conn->incoming);
		while (incoming_is_ready(&conn->incoming) && !conn->dead) {
			r = fetch(conn, peer);
			if (r != -ENOENT)
				goto out;
		}
		r = conn->dead;
		if (r == 0)
			r = conn_sleep(conn, deadline, false);
		if (r == -ETIMEDOUT && timeout_ms == 0)
			r = -EAGAIN;
		if (r < 0)
			goto out;
	}
out:
	conn_remind(conn);
	return r;
}

const char *xenmsg_peer_host(const struct xenmsg *conn)
{
	return conn->incoming.host;
}
