/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Measures round trips between two programs, of two messages each, with the blocking calls.
 *
 *   ping ECHO-ENDPOINT                        answers every message; in domain 2, say:    ping echo
 *   ping ADDRESS REPLY-ENDPOINT [COUNT]       sends there and waits; in domain 1:         ping 2:echo pong
 *
 * A message carries the endpoint for its answer, as its text up to the first zero. The domain is the
 * sender's, which nobody can forge: a program that answers to any address makes itself the tool of who sends
 * through it.
 *
 * In the shell, rendezvous.sh sends a message and one back, and request-reply.sh makes a call, which needs no
 * address for its answer.
 *
 *   cc ping.c $(pkg-config --cflags --libs xenmsg) -o ping
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xenmsg.h>

static int fail(struct xenmsg *conn, const char *what, int error)
{
	fprintf(stderr, "ping: %s: %s\n", what, xenmsg_reason(conn, error));
	xenmsg_close(conn);
	return 1;
}

static void answer(struct xenmsg *conn, struct xenmsg_message *message)
{
	const char *data = xenmsg_message_data(message);
	const struct xenmsg_peer *sender = xenmsg_message_sender(message);
	size_t size = xenmsg_message_size(message);
	char address[80];
	int r;

	if (!memchr(data, '\0', size < 64 ? size : 64))
		return;
	snprintf(address, sizeof(address), "%u:%s", xenmsg_peer_domid(sender), data);
	r = xenmsg_send(conn, address, data, size, XENMSG_WITHIN(5000), NULL);
	if (r < 0)
		fprintf(stderr, "ping: answer to %s: %s\n", address, xenmsg_error_text(r));
}

static int echo(struct xenmsg *conn, const char *endpoint)
{
	int r = xenmsg_bind(conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), NULL, NULL);

	while (r == 0) {
		struct xenmsg_message *message;

		r = xenmsg_recv(conn, &message, -1);
		if (r == -EINTR || r == -ENOMEM) { /* it was stopped and goes on; or no memory, for now */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		answer(conn, message);
		xenmsg_message_free(message);
	}
	return fail(conn, endpoint, r);
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int ping(struct xenmsg *conn, const char *address, const char *reply, long count)
{
	int r = xenmsg_bind(conn, reply, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), NULL, NULL);

	if (r < 0)
		return fail(conn, reply, r);
	for (long i = 0; i < count; i++) {
		struct xenmsg_message *message;
		double start = now_us();

		r = xenmsg_send(conn, address, reply, strlen(reply) + 1, XENMSG_WITHIN(5000), NULL);
		if (r == 0)
			r = xenmsg_recv(conn, &message, 5000);
		if (r < 0)
			return fail(conn, address, r);
		printf("%s: %.1f us, from domain %u\n", address, now_us() - start,
		       xenmsg_peer_domid(xenmsg_message_sender(message)));
		xenmsg_message_free(message);
	}
	xenmsg_close(conn);
	return 0;
}

int main(int argc, char **argv)
{
	struct xenmsg *conn;
	int r;

	if (argc < 2 || argc > 4) {
		fprintf(stderr, "usage: ping ECHO-ENDPOINT | ping ADDRESS REPLY-ENDPOINT [COUNT]\n");
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0)
		return fail(NULL, "the local xenmsgd", r);
	if (argc == 2)
		return echo(conn, argv[1]);
	return ping(conn, argv[1], argv[2], argc > 3 ? atol(argv[3]) : 4);
}
