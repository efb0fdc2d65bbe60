/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libxenmsg in a libevent loop: prints the messages to ENDPOINT, and sends each line of standard input to
 * ADDRESS, without ever blocking.
 *
 *   loop ENDPOINT ADDRESS
 *
 * In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
 *
 *   cc libevent.c $(pkg-config --cflags --libs xenmsg libevent_core) -o loop
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <xenmsg.h>

struct loop {
	struct event_base *base;
	struct xenmsg *conn;
	struct event *messages, *input;
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
		event_base_loopbreak(loop->base);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "loop: %s: %s\n", loop->address, strerror(-result->error));
	loop->outstanding--;
	stop_if_finished(loop);
}

static void on_xenmsg(evutil_socket_t fd, short what, void *userdata)
{
	struct loop *loop = userdata;
	int r = xenmsg_process(loop->conn);

	if (r < 0) {
		fprintf(stderr, "loop: the local xenmsgd has gone: %s\n", strerror(-r));
		event_base_loopbreak(loop->base);
	}
}

static void on_input(evutil_socket_t fd, short what, void *userdata)
{
	struct loop *loop = userdata;
	char line[65536];
	ssize_t n = read(fd, line, sizeof(line));
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop->end_of_input = 1;
		event_del(loop->input);
		stop_if_finished(loop);
		return;
	}
	if (line[n - 1] == '\n')
		n--;
	r = xenmsg_begin_send(loop->conn, loop->address, line, (size_t)n, NULL, on_done, loop, NULL);
	if (r < 0)
		fprintf(stderr, "loop: %s: %s\n", loop->address, strerror(-r));
	else
		loop->outstanding++;
}

int main(int argc, char **argv)
{
	struct loop loop = {.address = argc == 3 ? argv[2] : NULL};
	int r;

	if (!loop.address) {
		fprintf(stderr, "usage: loop ENDPOINT ADDRESS\n");
		return 2;
	}
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(loop.conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, &loop);
	if (r < 0) {
		fprintf(stderr, "loop: %s\n", strerror(-r));
		xenmsg_close(loop.conn);
		return 1;
	}
	loop.base = event_base_new();
	loop.messages = event_new(loop.base, xenmsg_fd(loop.conn), EV_READ | EV_PERSIST, on_xenmsg, &loop);
	loop.input = event_new(loop.base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &loop);
	event_add(loop.messages, NULL);
	event_add(loop.input, NULL);
	event_base_dispatch(loop.base);
	event_free(loop.input);
	event_free(loop.messages);
	event_base_free(loop.base);
	xenmsg_close(loop.conn);
	return 0;
}
