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
	char lines[65536]; /* what was read and isn't sent yet */
	size_t filled;
	int end_of_input, closing;
	int failed;
};

static void on_done(void *userdata, const struct xenmsg_result *result);

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
			fprintf(stderr, "loop: %s: %s\n", loop->address, xenmsg_error_text(r));
		else
			loop->outstanding++;
		sent += end ? size + 1 : size;
	}
	loop->filled -= sent;
	memmove(loop->lines, loop->lines + sent, loop->filled);
	if (loop->end_of_input || r == -EAGAIN)
		event_del(loop->input);
	else
		event_add(loop->input, NULL);
	if (loop->end_of_input && loop->filled == 0 && loop->outstanding == 0)
		event_base_loopbreak(loop->base);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "loop: %s: %s\n", loop->address, result->reason);
	loop->outstanding--;
	if (!loop->closing)
		send_lines(loop);
}

static void on_xenmsg(evutil_socket_t fd, short what, void *userdata)
{
	(void)fd;
	(void)what;
	struct loop *loop = userdata;
	int r = xenmsg_process(loop->conn);

	if (r < 0 && r != -ENOMEM) {
		fprintf(stderr, "loop: the connection to xenmsgd is lost: %s\n", xenmsg_error_text(r));
		loop->failed = 1;
		event_base_loopbreak(loop->base);
	}
}

static void on_input(evutil_socket_t fd, short what, void *userdata)
{
	(void)what;
	struct loop *loop = userdata;
	ssize_t n = read(fd, loop->lines + loop->filled, sizeof(loop->lines) - loop->filled);

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
	loop->base = event_base_new();
	if (!loop->base)
		return -ENOMEM;
	loop->messages = event_new(loop->base, xenmsg_fd(loop->conn), EV_READ | EV_PERSIST, on_xenmsg, loop);
	loop->input = event_new(loop->base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, loop);
	if (!loop->messages || !loop->input || event_add(loop->messages, NULL) < 0)
		return -ENOMEM;
	if (event_add(loop->input, NULL) < 0) {
		fprintf(stderr,
			"loop: standard input is a file or device for which epoll can't wait: use a pipe\n");
		return -EPERM;
	}
	return event_base_dispatch(loop->base) < 0 ? -EIO : 0;
}

int main(int argc, char **argv)
{
	static struct loop loop;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: loop ENDPOINT ADDRESS\n");
		return 2;
	}
	loop.address = argv[2];
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(loop.conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, &loop);
	if (r == 0)
		r = run(&loop);
	if (r < 0)
		fprintf(stderr, "loop: %s\n", xenmsg_reason(loop.conn, r));
	/* The connection before the loop, which on_done() uses: that is called for what has no outcome
	 * yet. */
	if (loop.messages)
		event_free(loop.messages);
	loop.closing = 1;
	xenmsg_close(loop.conn);
	if (loop.input)
		event_free(loop.input);
	if (loop.base)
		event_base_free(loop.base);
	return r < 0 || loop.failed;
}
