/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Carries a stream of bytes in blocks, without a copy in either program: what is read goes to where it is
 * sent from, and what came is written from where it lies.
 *
 *   blocks ENDPOINT          writes what comes to standard output until an empty block; in domain 2:  blocks
 *                            in
 *   blocks ADDRESS SIZE      sends standard input in blocks of up to SIZE bytes; in domain 1:  blocks 2:in
 *                            32768
 *
 * A block that isn't delivered is the last one: the empty one doesn't follow. Messages don't tell that their
 * sender has died, as a byte stream would (copy.c), so a receiver of nothing for a minute gives up.
 *
 *   cc blocks.c $(pkg-config --cflags --libs xenmsg) -o blocks
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenmsg.h>

#define QUIET_MS 60000

static int write_all(const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(STDOUT_FILENO, data, size);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0)
			continue;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

static int receive(struct xenmsg *conn, const char *endpoint)
{
	int r = xenmsg_bind(conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES | XENMSG_LEND), NULL, NULL);
	int timeout_ms = -1;
	size_t size = 1;

	while (r == 0 && size > 0) {
		struct xenmsg_message *message;

		r = xenmsg_recv(conn, &message, timeout_ms);
		timeout_ms = QUIET_MS;
		if (r == -EINTR || r == -ENOMEM) { /* it was stopped and goes on; or no memory, for now */
			r = 0;
			continue;
		}
		if (r < 0)
			break;
		size = xenmsg_message_size(message);
		r = write_all(xenmsg_message_data(message), size);
		/* Soon, and before the next wait: until then it takes up room, and its sender waits. */
		xenmsg_message_free(message);
	}
	return r;
}

static int outcome; /* the first error */

static void delivered(void *userdata, const struct xenmsg_result *result)
{
	(void)userdata;
	if (result->error < 0 && outcome == 0)
		outcome = result->error;
}

/* Begins to send a block. Returns its size, 0 at the end of the input, or a negative errno. */
static ssize_t send_block(struct xenmsg *conn, const char *address, size_t size)
{
	ssize_t n;
	void *data;
	int r;

	while ((r = xenmsg_reserve(conn, address, size, &data)) == -EAGAIN)
		if ((r = xenmsg_await_room(conn, address, size, NULL)) < 0)
			return r;
	if (r < 0)
		return r;
	n = read(STDIN_FILENO, data, size);
	if (n <= 0) {
		r = n < 0 ? -errno : 0;
		xenmsg_unreserve(conn);
		return r;
	}
	r = xenmsg_commit(conn, (size_t)n, NULL, delivered, NULL, NULL);
	return r < 0 ? r : n;
}

static int send_all(struct xenmsg *conn, const char *address, size_t size)
{
	ssize_t n;
	int r;

	while ((n = send_block(conn, address, size)) > 0 && outcome == 0)
		;
	r = n < 0 ? (int)n : xenmsg_flush(conn, -1);
	if (r == 0)
		r = outcome;
	return r < 0 ? r
		     : xenmsg_send(conn, address, NULL, 0, NULL, NULL); /* all have come: this is the end */
}

int main(int argc, char **argv)
{
	struct xenmsg *conn = NULL;
	int r;

	if (argc != 2 && (argc != 3 || atol(argv[2]) <= 0)) {
		fprintf(stderr, "usage: blocks ENDPOINT | blocks ADDRESS SIZE\n");
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r == 0)
		r = argc == 2 ? receive(conn, argv[1]) : send_all(conn, argv[1], (size_t)atol(argv[2]));
	if (r < 0)
		fprintf(stderr, "blocks: %s: %s\n", argv[1], xenmsg_reason(conn, r));
	xenmsg_close(conn);
	return r < 0;
}
