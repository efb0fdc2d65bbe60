/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * NATS for bench-fanout, spoken straight at its server: what a client could do at best, since
 * each message has the same length, and what a publisher says is written many messages at a time. The address
 * is a port of this machine.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/engine.h"
#include "bench/fanout.h"

#define PIECE 65536u

/* What comes, as far as it is no whole message. */
struct stream {
	size_t have, head, span; /* bytes; before the payload of each message; of each message */
	bool is_asked;		 /* the server asks now and then whether it is there */
	uint8_t data[2 * PIECE];
};

static struct {
	int fd;
	size_t have;
	uint8_t data[PIECE];
} out;

static int dial(const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)atoi(port)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		engine_fail("connect", errno);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static void put(int fd, const void *data, size_t size)
{
	if (send(fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
		engine_fail("send", errno);
}

static void flush(void)
{
	const uint8_t *at = out.data;

	while (out.have) {
		ssize_t sent = send(out.fd, at, out.have, MSG_NOSIGNAL);

		if (sent < 0)
			engine_fail("send", errno);
		at += sent;
		out.have -= (size_t)sent;
	}
}

static void add(const void *data, size_t size)
{
	if (out.have + size > sizeof(out.data))
		flush();
	memcpy(out.data + out.have, data, size);
	out.have += size;
}

/* Reads until this text has come, with nothing behind it. */
static void expect(int fd, const void *text, size_t size)
{
	uint8_t data[4096];
	size_t have = 0;

	while (have < size || memcmp(data + have - size, text, size) != 0) {
		ssize_t n = recv(fd, data + have, sizeof(data) - have, 0);

		if (n <= 0)
			engine_fail("the server doesn't answer", n < 0 ? errno : ECONNRESET);
		have += (size_t)n;
	}
}

static void begin(struct subscriber *subscriber, int fd, size_t head, size_t span)
{
	struct stream *stream = malloc(sizeof(*stream));

	if (!stream)
		engine_fail("memory", ENOMEM);
	stream->have = 0;
	stream->is_asked = false;
	stream->head = head;
	stream->span = span;
	subscriber->own = stream;
	subscriber->fd = fd;
}

static void take(struct subscriber *subscriber)
{
	struct stream *stream = subscriber->own;
	ssize_t n = recv(subscriber->fd, stream->data + stream->have, PIECE, MSG_DONTWAIT);
	size_t at = 0;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		engine_fail("the server has dropped a subscriber", n < 0 ? errno : ECONNRESET);
	stream->have += (size_t)n;
	for (;;) {
		if (stream->is_asked && stream->have - at >= 6 && !memcmp(stream->data + at, "PING\r\n", 6)) {
			put(subscriber->fd, "PONG\r\n", 6);
			at += 6;
		} else if (stream->have - at >= stream->span) {
			took(subscriber, stream->data + at + stream->head);
			at += stream->span;
		} else {
			break;
		}
	}
	stream->have -= at;
	memmove(stream->data, stream->data + at, stream->have);
}

/* ---- NATS ------------------------------------------------------------------------------------ */

static const char nats_connect[] = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

static void nats_subscribe(struct subscriber *subscriber, const char *address, size_t size)
{
	int fd = dial(address), head;
	char text[64];

	put(fd, nats_connect, sizeof(nats_connect) - 1);
	put(fd, "SUB news 1\r\nPING\r\n", 18);
	expect(fd, "PONG\r\n", 6);
	head = snprintf(text, sizeof(text), "MSG news 1 %zu\r\n", size);
	begin(subscriber, fd, (size_t)head, (size_t)head + size + 2);
	((struct stream *)subscriber->own)->is_asked = true;
}

static void nats_open(const char *address, size_t size)
{
	out.fd = dial(address);
	put(out.fd, nats_connect, sizeof(nats_connect) - 1);
	put(out.fd, "PING\r\n", 6);
	expect(out.fd, "PONG\r\n", 6);
}

static void nats_publish(const void *data, size_t size)
{
	char head[32];

	add(head, (size_t)snprintf(head, sizeof(head), "PUB news %zu\r\n", size));
	add(data, size);
	add("\r\n", 2);
}

const struct contender fanout_nats = {"nats", nats_subscribe, take, nats_open, nats_publish, flush};
