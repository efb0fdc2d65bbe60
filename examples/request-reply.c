/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A service that reverses texts, and its client: the smallest request and reply. In the shell:
 * request-reply.sh.
 *
 *   request-reply serve ENDPOINT          in domain 2, say:   request-reply serve turn
 *   request-reply call ADDRESS TEXT       in domain 1:        request-reply call 2:turn hello
 *
 *   cc request-reply.c $(pkg-config --cflags --libs xenmsg) -o request-reply
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xenmsg.h>

static void turn_around(char *text, size_t size)
{
	for (size_t i = 0; i < size / 2; i++) {
		char other = text[size - 1 - i];

		text[size - 1 - i] = text[i];
		text[i] = other;
	}
}

/* A caller who doesn't read has 5 s to make room, and holds up the others meanwhile; agent.c shows how not
 * to. */
static int reply(struct xenmsg_message *request, const void *data, size_t size)
{
	int r = xenmsg_reply(request, data, size);

	if (r == -EAGAIN && xenmsg_await_reply_room(request, size, XENMSG_WITHIN(5000)) == 0)
		r = xenmsg_reply(request, data, size);
	return r;
}

static int serve(struct xenmsg *conn, const char *endpoint)
{
	int r = xenmsg_bind(conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_CALLS), NULL, NULL);

	while (r == 0) {
		struct xenmsg_message *request;

		r = xenmsg_recv(conn, &request, -1);
		if (r == -EINTR || r == -ENOMEM) { /* it was stopped and goes on; or no memory, for now */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		printf("a call from domain %u\n", xenmsg_peer_domid(xenmsg_message_sender(request)));
		turn_around(xenmsg_message_data(request), xenmsg_message_size(request));
		/* An error means that this caller is gone, or doesn't read, so the service goes on. Freeing a
		 * request that wasn't answered sends an error. */
		if (reply(request, xenmsg_message_data(request), xenmsg_message_size(request)) < 0)
			printf("nobody gets this answer\n");
		xenmsg_message_free(request);
	}
	return r;
}

static int call(struct xenmsg *conn, const char *address, const char *text)
{
	struct xenmsg_result result;
	int r = xenmsg_call(conn, address, text, strlen(text), XENMSG_WITHIN(5000), &result);

	if (r == 0)
		printf("%.*s\n", (int)xenmsg_message_size(result.reply),
		       (const char *)xenmsg_message_data(result.reply));
	xenmsg_message_free(result.reply); /* an error that the service has sent may have one, too */
	return r;
}

int main(int argc, char **argv)
{
	struct xenmsg *conn;
	int r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!(argc == 3 && strcmp(argv[1], "serve") == 0) && !(argc == 4 && strcmp(argv[1], "call") == 0)) {
		fprintf(stderr, "usage: %s serve ENDPOINT | call ADDRESS TEXT\n", argv[0]);
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r < 0) {
		fprintf(stderr, "request-reply: %s\n", xenmsg_reason(NULL, r));
		return 1;
	}
	r = argc == 3 ? serve(conn, argv[2]) : call(conn, argv[2], argv[3]);
	if (r < 0)
		fprintf(stderr, "request-reply: %s: %s\n", argv[2], xenmsg_reason(conn, r));
	xenmsg_close(conn);
	return r < 0;
}
