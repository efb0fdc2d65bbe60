/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libxenmsg in libuv's loop: prints the messages to ENDPOINT, and sends each line of standard input to ADDRESS,
 * without ever blocking.
 *
 *   libuv ENDPOINT ADDRESS
 *
 * In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
 *
 *   cc libuv.c $(pkg-config --cflags --libs xenmsg libuv) -o libuv
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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
	int end_of_input;
};

static void on_message(void *userdata, struct xenmsg_message *message)
{
	printf("from domain %u: %.*s\n", xenmsg_peer_domid(xenmsg_message_sender(message)),
	       (int)xenmsg_message_size(message), (const char *)xenmsg_message_data(message));
	fflush(stdout);
	xenmsg_message_free(message);
}

static void stop_if_finished(struct loop *loop)
{
	if (loop->end_of_input && loop->outstanding == 0)
		uv_stop(loop->uv);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "libuv: %s: %s\n", loop->address, strerror(-result->error));
	loop->outstanding--;
	stop_if_finished(loop);
}

static void on_xenmsg(uv_poll_t *handle, int status, int events)
{
	struct loop *loop = handle->data;
	int r = xenmsg_process(loop->conn);

	if (r < 0) {
		fprintf(stderr, "libuv: the local xenmsgd has gone: %s\n", strerror(-r));
		uv_stop(loop->uv);
	}
}

static void on_input(uv_poll_t *handle, int status, int events)
{
	struct loop *loop = handle->data;
	char line[65536];
	ssize_t n = read(STDIN_FILENO, line, sizeof(line));
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop->end_of_input = 1;
		uv_poll_stop(handle);
		stop_if_finished(loop);
		return;
	}
	if (line[n - 1] == '\n')
		n--;
	r = xenmsg_begin_send(loop->conn, loop->address, line, (size_t)n, NULL, on_done, loop, NULL);
	if (r < 0)
		fprintf(stderr, "libuv: %s: %s\n", loop->address, strerror(-r));
	else
		loop->outstanding++;
}

int main(int argc, char **argv)
{
	struct loop loop = {.uv = uv_default_loop(), .address = argc == 3 ? argv[2] : NULL};
	int r;

	if (!loop.address) {
		fprintf(stderr, "usage: libuv ENDPOINT ADDRESS\n");
		return 2;
	}
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(loop.conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, &loop);
	if (r < 0) {
		fprintf(stderr, "libuv: %s\n", strerror(-r));
		xenmsg_close(loop.conn);
		return 1;
	}
	uv_poll_init(loop.uv, &loop.messages, xenmsg_fd(loop.conn));
	uv_poll_init(loop.uv, &loop.input, STDIN_FILENO);
	loop.messages.data = loop.input.data = &loop;
	uv_poll_start(&loop.messages, UV_READABLE, on_xenmsg);
	uv_poll_start(&loop.input, UV_READABLE | UV_DISCONNECT, on_input);
	uv_run(loop.uv, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&loop.input, NULL);
	uv_close((uv_handle_t *)&loop.messages, NULL);
	uv_run(loop.uv, UV_RUN_DEFAULT);
	uv_loop_close(loop.uv);
	xenmsg_close(loop.conn);
	return 0;
}
