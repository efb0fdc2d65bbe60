/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Byte streams (doc/protocol.md, section 6). Each is a connection to the daemon of its own, which after a
 * handshake carries nothing but the stream's bytes, so that what the program gets is a plain socket. The
 * session of the program only tells it of streams that come in.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#include "libclient/conn.h"
#include "wire/address.h"

#define HANDSHAKE_MS 10000 /* for a stream that the daemon has told us of */
#define GUARD	     1	   /* the byte behind the handshake that the daemon leaves unread */

struct listening {
	char endpoint[ENDPOINT_NAME_MAX + 1];
	struct listening *prev, *next;
};

struct incoming {
	uint64_t token;
	struct xenmsg_peer peer;
	struct incoming *prev, *next;
};

static uint32_t put_frame(uint8_t *at, uint8_t type, uint32_t length)
{
	struct frame_header header = {.length = length, .type = type};

	frame_header_encode(&header, at);
	memset(at + FRAME_HEADER_SIZE + length, 0, frame_size(length) - FRAME_HEADER_SIZE - length);
	return frame_size(length);
}

/* The daemon that the session is with. */
static int dial(struct xenmsg *conn)
{
	struct sockaddr_un address = {0};
	socklen_t size = sizeof(address) - 1;

	if (getpeername(conn->hop.socket, (struct sockaddr *)&address, &size) < 0)
		return -ENOTCONN;
	return hop_connect(address.sun_path);
}

/* The next frame from the daemon, its payload in `payload`, which has room for `room` bytes. */
static int read_frame(int fd, struct frame_header *header, uint8_t *payload, size_t room, int64_t deadline)
{
	uint8_t raw[FRAME_HEADER_SIZE];
	int r = hop_read(fd, raw, sizeof(raw), deadline);

	if (r < 0)
		return r;
	if (frame_header_decode(raw, header) < 0 || frame_size(header->length) - FRAME_HEADER_SIZE > room)
		return -EPROTO;
	return hop_read(fd, payload, frame_size(header->length) - FRAME_HEADER_SIZE, deadline);
}

/* WELCOME, then the REPLY that says whether there is a stream. */
static int await_stream(struct xenmsg *conn, int fd, int64_t deadline)
{
	struct frame_header header;
	struct frame_goodbye goodbye;
	struct frame_reply reply;
	uint8_t payload[1024];
	int r = read_frame(fd, &header, payload, sizeof(payload), deadline);

	if (r == 0 && header.type == FRAME_WELCOME)
		r = read_frame(fd, &header, payload, sizeof(payload), deadline);
	if (r < 0)
		return r;
	if (header.type == FRAME_GOODBYE && frame_goodbye_decode(payload, header.length, &goodbye) == 0) {
		conn_set_reason(conn, goodbye.text.data, goodbye.text.size);
		return goodbye.error > 0 && goodbye.error < 4096 ? -(int)goodbye.error : -ECONNREFUSED;
	}
	if (header.type != FRAME_REPLY || frame_reply_decode(payload, header.length, &reply) < 0)
		return -EPROTO;
	if (reply.error)
		conn_set_reason(conn, reply.body.data, reply.body.size);
	return reply.error == 0 ? 0 : reply.error < 4096 ? -(int)reply.error : -EPROTO;
}

/* HELLO for a stream, the frame that says which one, and the guard. Returns the descriptor. */
static int open_stream(struct xenmsg *conn, const uint8_t *request, uint32_t size, int64_t deadline)
{
	uint8_t bytes[1024];
	struct frame_hello_local hello = {
		.major = PROTOCOL_MAJOR, .minor = PROTOCOL_MINOR, .flags = HELLO_STREAM};
	uint32_t used =
		put_frame(bytes, FRAME_HELLO, frame_hello_local_encode(&hello, bytes + FRAME_HEADER_SIZE));
	int fd = dial(conn), r;

	if (fd < 0)
		return fd;
	memcpy(bytes + used, request, size);
	memset(bytes + used + size, 0, GUARD);
	used += size + GUARD;
	/* An empty socket takes this at once; if the daemon has refused us already, there is a GOODBYE to be
	 * read. */
	r = send(fd, bytes, used, MSG_NOSIGNAL) == (ssize_t)used || errno == EPIPE ? 0 : -ECONNREFUSED;
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
	uint8_t request[512]; /* an address that was checked is at most 191 bytes long */
	struct address parsed;
	int64_t deadline = conn_deadline(timeout_ms);
	struct again again = {0};
	uint32_t length;
	int r, pause_ms;

	conn->reason[0] = '\0';
	if (address_parse(address, strlen(address), &parsed, NULL) < 0)
		return -EINVAL;
	if (conn->dead)
		return conn->dead;
	length = put_frame(request, FRAME_OPEN, frame_open_encode(&open, request + FRAME_HEADER_SIZE));
	for (;;) {
		r = open_stream(conn, request, length, deadline < 0 ? INT64_MAX : deadline);
		pause_ms = r == -ENODATA ? again_pause(&again, deadline) : -1;
		if (pause_ms < 0)
			return r;
		poll(NULL, 0, pause_ms);
	}
}

/* The daemon takes bytes that come with a descriptor for the wish to break the stream. */
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
	/* Without room for it the other program is slow: then this waits for it, as a write would. */
	if (sent < 0 && errno == EAGAIN && fcntl(stream, F_SETFL, 0) == 0)
		sendmsg(stream, &message, MSG_NOSIGNAL);
	close(stream);
}

/* ---- streams that come in -------------------------------------------------------------------- */

int connect_frame(struct xenmsg *conn, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_incoming frame;
	struct incoming *incoming;
	size_t size;

	if (frame_incoming_decode(payload, header->length, &frame) < 0)
		return -EPROTO;
	size = strnlen(frame.endpoint.data, frame.endpoint.size);
	if (!endpoint_name_is_valid(frame.endpoint.data, size))
		return -EPROTO;
	incoming = calloc(1, sizeof(*incoming));
	if (!incoming)
		return -ENOMEM;
	incoming->token = frame.token;
	incoming->peer = (struct xenmsg_peer){
		.domid = frame.identity.domid,
		.uid = frame.identity.uid,
		.gid = frame.identity.gid,
		.pid = frame.identity.pid,
	};
	memcpy(incoming->peer.endpoint, frame.endpoint.data, size);
	if (domain_name_is_valid(frame.domain_name.data, frame.domain_name.size))
		memcpy(incoming->peer.domain_name, frame.domain_name.data, frame.domain_name.size);
	DL_APPEND(conn->incoming, incoming);
	return 0;
}

void connect_free_all(struct xenmsg *conn)
{
	struct incoming *incoming, *next;
	struct listening *listening, *next_listening;

	DL_FOREACH_SAFE(conn->incoming, incoming, next)
		free(incoming);
	DL_FOREACH_SAFE(conn->listening, listening, next_listening)
		free(listening);
}

bool connect_forget(struct xenmsg *conn, const char *endpoint)
{
	struct listening *listening;

	DL_FOREACH(conn->listening, listening)
		if (strcmp(listening->endpoint, endpoint) == 0) {
			DL_DELETE(conn->listening, listening);
			free(listening);
			return true;
		}
	return false;
}

int xenmsg_listen(struct xenmsg *conn, const char *endpoint, unsigned options)
{
	struct listening *listening;
	int r;

	if (options != 0 || !endpoint_name_is_valid(endpoint, strlen(endpoint)))
		return -EINVAL;
	if (conn->dead)
		return conn->dead;
	listening = calloc(1, sizeof(*listening));
	if (!listening)
		return -ENOMEM;
	r = request_bind(conn, endpoint, 1u << (CHANNEL_STREAM - 1));
	if (r < 0) {
		free(listening);
		return r;
	}
	memcpy(listening->endpoint, endpoint, strlen(endpoint));
	DL_APPEND(conn->listening, listening);
	return 0;
}

/* Fetches the first stream that waits. -ENOENT: it has ended meanwhile. */
static int fetch(struct xenmsg *conn, struct xenmsg_peer *peer)
{
	struct incoming *incoming = conn->incoming;
	uint8_t request[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];
	uint32_t size = put_frame(request, FRAME_ACCEPT,
				  frame_u64_encode(incoming->token, request + FRAME_HEADER_SIZE));
	int fd = open_stream(conn, request, size, hop_now() + HANDSHAKE_MS);

	if (fd >= 0 && peer)
		*peer = incoming->peer;
	/* Without descriptors for it, it can still be had later. */
	if (fd != -EMFILE && fd != -ENFILE) {
		DL_DELETE(conn->incoming, incoming);
		free(incoming);
	}
	return fd;
}

int xenmsg_accept(struct xenmsg *conn, struct xenmsg_peer *peer, int timeout_ms)
{
	int64_t deadline = conn_deadline(timeout_ms);
	int r;

	conn->reason[0] = '\0';
	for (;;) {
		conn_pump(conn);
		while (conn->incoming && !conn->dead) {
			r = fetch(conn, peer);
			if (r != -ENOENT)
				goto out;
		}
		r = conn->dead;
		if (r == 0)
			r = conn_sleep(conn, deadline, false);
		if (r == 0 && conn_left(deadline) == 0)
			r = timeout_ms == 0 ? -EAGAIN : -ETIMEDOUT;
		if (r < 0)
			goto out;
	}
out:
	conn_remind(conn);
	return r;
}
