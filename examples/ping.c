/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Measures round trips between two programs, of two messages each, with the blocking calls.
 *
 *   ping ECHO-ENDPOINT                        answers every message; in domain 2, say:    ping echo
 *   ping ADDRESS REPLY-ADDRESS [COUNT]        sends there and waits; in domain 1:         ping 2:echo 1:pong
 *
 * A message carries the address for its answer, as its text up to the first zero.
 *
 * In the shell, rendezvous.sh sends a message and one back, and request-reply.sh makes a call, which needs no
 * address for its answer.
 *
 *   cc ping.c $(pkg-config --cflags --libs xenmsg) -o ping
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <xenmsg.h>

static int fail(struct xenmsg *conn, const char *what, int error)
{
	fprintf(stderr, "ping: %s: %s\n", what,
		conn && *xenmsg_reason(conn) ? xenmsg_reason(conn) : strerror(-error));
	xenmsg_close(conn);
	return 1;
}

static int echo(struct xenmsg *conn, const char *endpoint)
{
	int r = xenmsg_bind(conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), NULL, NULL);

	while (r == 0) {
		struct xenmsg_message *message;
		char *address;

		r = xenmsg_recv(conn, &message, -1);
		if (r < 0)
			break;
		address = xenmsg_message_data(message);
		if (memchr(address, '\0', xenmsg_message_size(message))) {
			int sent = xenmsg_send(conn, address, address, xenmsg_message_size(message),
					       XENMSG_WITHIN(5000), NULL);

			if (sent < 0)
				fprintf(stderr, "ping: answer to %s: %s\n", address, strerror(-sent));
		}
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
	const char *colon = strchr(reply, ':');
	int r = colon ? xenmsg_bind(conn, colon + 1, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), NULL, NULL)
		      : -EINVAL;

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
		fprintf(stderr, "usage: ping ECHO-ENDPOINT | ping ADDRESS REPLY-ADDRESS [COUNT]\n");
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0)
		return fail(NULL, "the local xenmsgd", r);
	if (argc == 2)
		return echo(conn, argv[1]);
	return ping(conn, argv[1], argv[2], argc > 3 ? atol(argv[3]) : 4);
}
