/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Byte streams of all kinds: a Unix socket, TCP, a stream of xenmsg, and what others put between two sockets.
 *
 * 	bench-socket server WHERE                     serves one stream
 * 	bench-socket client WHERE MODE SIZE SECONDS   prints what engine.h says
 *
 * WHERE is unix:PATH, tcp:PORT (of 127.0.0.1), or xenmsg:ADDRESS (of the server: its endpoint).
 */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/engine.h"
#include "xenmsg.h"

#define READ_SIZE (256u << 10)

struct stream {
	int fd;
	char *buffer;
	size_t capacity, start, end; /* what was read and not handed out */
};

static void send_all(void *userdata, const void *data, size_t size)
{
	const struct stream *stream = userdata;
	size_t sent = 0;

	while (sent < size) {
		ssize_t n = write(stream->fd, (const char *)data + sent, size - sent);

		if (n < 0)
			engine_fail("write", errno);
		sent += (size_t)n;
	}
}

static const void *receive(void *userdata, size_t size)
{
	struct stream *stream = userdata;
	const char *message;

	if (!stream->buffer) {
		stream->capacity = size + READ_SIZE;
		stream->buffer = malloc(stream->capacity);
		if (!stream->buffer)
			engine_fail("memory", ENOMEM);
	}
	if (stream->end - stream->start < size && stream->start) {
		memmove(stream->buffer, stream->buffer + stream->start, stream->end - stream->start);
		stream->end -= stream->start;
		stream->start = 0;
	}
	while (stream->end - stream->start < size) {
		ssize_t n = read(stream->fd, stream->buffer + stream->end, stream->capacity - stream->end);

		if (n <= 0)
			return NULL;
		stream->end += (size_t)n;
	}
	message = stream->buffer + stream->start;
	stream->start += size;
	return message;
}

/* ---- where ----------------------------------------------------------------------------------- */

union place {
	struct sockaddr address;
	struct sockaddr_un local;
	struct sockaddr_in in;
};

static socklen_t parse(const char *where, union place *place)
{
	if (strncmp(where, "unix:", 5) == 0 && strlen(where + 5) < sizeof(place->local.sun_path)) {
		place->local = (struct sockaddr_un){.sun_family = AF_UNIX};
		strcpy(place->local.sun_path, where + 5);
		return sizeof(place->local);
	}
	if (strncmp(where, "tcp:", 4) == 0) {
		place->in = (struct sockaddr_in){.sin_family = AF_INET,
						 .sin_port = htons((uint16_t)atoi(where + 4)),
						 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		return sizeof(place->in);
	}
	engine_fail(where, EINVAL);
}

static void send_at_once(int fd, const union place *place)
{
	int yes = 1;

	if (place->address.sa_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
}

static int accept_socket(const char *where)
{
	union place place;
	socklen_t length = parse(where, &place);
	int yes = 1, fd, listener = socket(place.address.sa_family, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, &place.address, length) < 0 || listen(listener, 1) < 0)
		engine_fail(where, errno);
	engine_ready();
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		engine_fail("accept", errno);
	send_at_once(fd, &place);
	return fd;
}

static int connect_socket(const char *where)
{
	union place place;
	socklen_t length = parse(where, &place);
	int fd = socket(place.address.sa_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, &place.address, length) < 0)
		engine_fail(where, errno);
	send_at_once(fd, &place);
	return fd;
}

/* The stream no longer needs the connection, but the endpoint does. */
static int open_xenmsg(const char *where, int server)
{
	struct xenmsg *conn;
	int r = xenmsg_open(&conn, NULL, NULL);

	if (r == 0 && server) {
		r = xenmsg_listen(conn, where, NULL);
		if (r == 0)
			engine_ready();
		do /* bench/guard asks for counts by a signal, also before anybody has come */
			r = r == 0 || r == -EINTR ? xenmsg_accept(conn, NULL, NULL) : r;
		while (r == -EINTR);
	} else if (r == 0) {
		r = xenmsg_connect(conn, where, XENMSG_WITHIN(10000));
	}
	if (r < 0)
		engine_fail(where, r);
	return r;
}

int main(int argc, char **argv)
{
	struct stream stream = {.fd = -1};
	struct end end = {.userdata = &stream, .send = send_all, .receive = receive};
	int server = argc == 3 && strcmp(argv[1], "server") == 0;
	uint32_t size;

	if (!server && (argc != 6 || strcmp(argv[1], "client") != 0)) {
		fprintf(stderr, "usage: bench-socket server WHERE | client WHERE MODE SIZE SECONDS\n");
		return 2;
	}
	if (strncmp(argv[2], "xenmsg:", 7) == 0)
		stream.fd = open_xenmsg(argv[2] + 7, server);
	else
		stream.fd = server ? accept_socket(argv[2]) : connect_socket(argv[2]);
	if (server) {
		/* The client says first how large its messages are. */
		if (read(stream.fd, &size, sizeof(size)) != sizeof(size))
			engine_fail("read", errno);
		engine_serve(&end, size);
	} else {
		size = (uint32_t)atol(argv[4]);
		send_all(&stream, &size, sizeof(size));
		engine_measure(&end, argv[3], size, atof(argv[5]));
	}
	close(stream.fd);
	free(stream.buffer);
	return 0;
}
