/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Carries a stream of bytes in blocks, without a copy in either program: what is read goes to where it is sent
 * from, and what came is written from where it lies.
 *
 *   blocks ENDPOINT          writes what comes to standard output until an empty block; in domain 2:  blocks in
 *   blocks ADDRESS SIZE      sends standard input in blocks of up to SIZE bytes; in domain 1:  blocks 2:in 32768
 *
 *   cc blocks.c $(pkg-config --cflags --libs xenmsg) -o blocks
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xenmsg.h>

static int write_all(const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(STDOUT_FILENO, data, size);

		if (n < 0)
			return -errno;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

static int receive(struct xenmsg *conn, const char *endpoint)
{
	int r = xenmsg_bind(conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES | XENMSG_LEND), NULL, NULL);
	size_t size = 1;

	while (r == 0 && size > 0) {
		struct xenmsg_message *message;

		r = xenmsg_recv(conn, &message, -1);
		if (r < 0)
			break;
		size = xenmsg_message_size(message);
		r = write_all(xenmsg_message_data(message), size);
		/* Soon, and before the next wait: until then it takes up room, and its sender waits. */
		xenmsg_message_free(message);
	}
	return r;
}

static unsigned under_way;
static int outcome; /* the first error */

static void delivered(void *userdata, const struct xenmsg_result *result)
{
	under_way--;
	if (result->error < 0 && outcome == 0)
		outcome = result->error;
}

/* Sends a block. Returns its size, 0 for the last, which is empty, or a negative errno. */
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
	if (n < 0) {
		r = -errno;
		xenmsg_unreserve(conn);
		return r;
	}
	r = xenmsg_commit(conn, (size_t)n, NULL, delivered, NULL, NULL);
	if (r < 0)
		return r;
	under_way++;
	return n;
}

static int send_all(struct xenmsg *conn, const char *address, size_t size)
{
	ssize_t n;

	while ((n = send_block(conn, address, size)) > 0 && outcome == 0)
		;
	while (n >= 0 && under_way && outcome == 0) {
		int r = xenmsg_wait(conn, -1);

		if (r < 0)
			return r;
	}
	return n < 0 ? (int)n : outcome;
}

int main(int argc, char **argv)
{
	struct xenmsg *conn = NULL;
	int r;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: blocks ENDPOINT | blocks ADDRESS SIZE\n");
		return 2;
	}
	r = xenmsg_open(&conn, NULL, NULL);
	if (r == 0)
		r = argc == 2 ? receive(conn, argv[1]) : send_all(conn, argv[1], (size_t)atol(argv[2]));
	if (r < 0)
		fprintf(stderr, "blocks: %s: %s\n", argv[1], strerror(-r));
	xenmsg_close(conn);
	return r < 0;
}
