/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libxenmsg in libuv's loop: prints the messages to ENDPOINT, and sends each line of standard input to
 * ADDRESS, without ever blocking.
 *
 *   libuv ENDPOINT ADDRESS
 *
 * In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
 *
 *   cc libuv.c $(pkg-config --cflags --libs xenmsg libuv) -o libuv
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <uv.h>
#include <xenmsg.h>

struct loop {
	uv_loop_t *uv;
	struct xenmsg *conn;
	uv_poll_t messages, input;
	const char *address;
	unsigned outstanding;
	char lines[65536]; /* what was read and isn't sent yet */
	size_t filled;
	int end_of_input, closing;
	int failed;
};

static void on_done(void *userdata, const struct xenmsg_result *result);
static void on_input(uv_poll_t *handle, int status, int events);

static void on_message(void *userdata, struct xenmsg_message *message)
{
	(void)userdata;
	printf("from domain %u: %.*s\n", xenmsg_peer_domid(xenmsg_message_sender(message)),
	       (int)xenmsg_message_size(message), (const char *)xenmsg_message_data(message));
	fflush(stdout);
	xenmsg_message_free(message);
}

/* Sends the lines that were read, as far as there is room for them; on_done() goes on with the rest, when
 * there is more. (A program that sends to several addresses asks xenmsg_begin_await_room().) */
static void send_lines(struct loop *loop)
{
	size_t sent = 0;
	int r = 0;

	while (sent < loop->filled) {
		const char *line = loop->lines + sent, *end = memchr(line, '\n', loop->filled - sent);
		size_t size = end ? (size_t)(end - line) : loop->filled - sent;

		if (!end && !loop->end_of_input && size < sizeof(loop->lines))
			break; /* the rest of it is still to come */
		r = xenmsg_begin_send(loop->conn, loop->address, line, size, NULL, on_done, loop, NULL);
		if (r == -EAGAIN)
			break;
		if (r < 0)
			fprintf(stderr, "libuv: %s: %s\n", loop->address, xenmsg_error_text(r));
		else
			loop->outstanding++;
		sent += end ? size + 1 : size;
	}
	loop->filled -= sent;
	memmove(loop->lines, loop->lines + sent, loop->filled);
	if (loop->end_of_input || r == -EAGAIN)
		uv_poll_stop(&loop->input);
	else
		uv_poll_start(&loop->input, UV_READABLE | UV_DISCONNECT, on_input);
	if (loop->end_of_input && loop->filled == 0 && loop->outstanding == 0)
		uv_stop(loop->uv);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "libuv: %s: %s\n", loop->address, result->reason);
	loop->outstanding--;
	if (!loop->closing)
		send_lines(loop);
}

static void on_xenmsg(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	struct loop *loop = handle->data;
	int r = xenmsg_process(loop->conn);

	if (r < 0 && r != -ENOMEM) {
		fprintf(stderr, "libuv: the connection to xenmsgd is lost: %s\n", xenmsg_error_text(r));
		loop->failed = 1;
		uv_stop(loop->uv);
	}
}

static void on_input(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	struct loop *loop = handle->data;
	ssize_t n = read(STDIN_FILENO, loop->lines + loop->filled, sizeof(loop->lines) - loop->filled);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		loop->filled += (size_t)n;
	else
		loop->end_of_input = 1;
	send_lines(loop);
}

static int run(struct loop *loop)
{
	int r = uv_poll_init(loop->uv, &loop->messages, xenmsg_fd(loop->conn));

	if (r < 0)
		return r;
	loop->messages.data = loop->input.data = loop;
	r = uv_poll_init(loop->uv, &loop->input, STDIN_FILENO);
	if (r == UV_EPERM)
		fprintf(stderr,
			"libuv: standard input is a file or device for which epoll can't wait: use a pipe\n");
	if (r == 0)
		r = uv_poll_start(&loop->messages, UV_READABLE, on_xenmsg);
	if (r == 0)
		r = uv_poll_start(&loop->input, UV_READABLE | UV_DISCONNECT, on_input);
	if (r == 0)
		uv_run(loop->uv, UV_RUN_DEFAULT);
	/* The connection before the loop, which on_done() uses: that is called for what has no outcome
	 * yet. */
	uv_close((uv_handle_t *)&loop->messages, NULL);
	loop->closing = 1;
	xenmsg_close(loop->conn);
	loop->conn = NULL;
	if (uv_handle_get_type((uv_handle_t *)&loop->input) == UV_POLL)
		uv_close((uv_handle_t *)&loop->input, NULL);
	uv_run(loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(loop->uv);
	return r;
}

int main(int argc, char **argv)
{
	static struct loop loop;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: libuv ENDPOINT ADDRESS\n");
		return 2;
	}
	loop.uv = uv_default_loop();
	loop.address = argv[2];
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(loop.conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, &loop);
	if (r == 0)
		r = run(&loop);
	if (r < 0)
		fprintf(stderr, "libuv: %s\n", xenmsg_reason(loop.conn, r));
	xenmsg_close(loop.conn);
	return r < 0 || loop.failed;
}
