/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libxenmsg in an sd-event loop: prints the messages to ENDPOINT, and sends each line of standard input to
 * ADDRESS, without ever blocking. Ends on SIGTERM, or when the input has ended and every line has had its
 * outcome.
 *
 *   sdevent ENDPOINT ADDRESS
 *
 * In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
 *
 *   cc sdevent.c $(pkg-config --cflags --libs xenmsg libsystemd) -o sdevent
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <systemd/sd-event.h>
#include <xenmsg.h>

struct loop {
	sd_event *event;
	sd_event_source *messages, *input;
	struct xenmsg *conn;
	const char *address;
	unsigned outstanding;
	char lines[65536]; /* what was read and isn't sent yet */
	size_t filled;
	int end_of_input, closing;
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
			fprintf(stderr, "sdevent: %s: %s\n", loop->address, xenmsg_error_text(r));
		else
			loop->outstanding++;
		sent += end ? size + 1 : size;
	}
	loop->filled -= sent;
	memmove(loop->lines, loop->lines + sent, loop->filled);
	sd_event_source_set_enabled(loop->input,
				    loop->end_of_input || r == -EAGAIN ? SD_EVENT_OFF : SD_EVENT_ON);
	if (loop->end_of_input && loop->filled == 0 && loop->outstanding == 0)
		sd_event_exit(loop->event, 0);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "sdevent: %s: %s\n", loop->address, result->reason);
	loop->outstanding--;
	if (!loop->closing)
		send_lines(loop);
}

static int on_xenmsg(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source;
	(void)fd;
	(void)events;
	struct loop *loop = userdata;
	int r = xenmsg_process(loop->conn);

	return r < 0 && r != -ENOMEM ? sd_event_exit(loop->event, r) : 0; /* main() tells why */
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source;
	(void)events;
	struct loop *loop = userdata;
	ssize_t n = read(fd, loop->lines + loop->filled, sizeof(loop->lines) - loop->filled);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n > 0)
		loop->filled += (size_t)n;
	else
		loop->end_of_input = 1;
	send_lines(loop);
	return 0;
}

static int run(struct loop *loop, const char *endpoint)
{
	sigset_t signals;
	int r = xenmsg_bind(loop->conn, endpoint, XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, loop);

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (r >= 0)
		r = sd_event_default(&loop->event);
	if (r >= 0)
		r = sd_event_add_signal(loop->event, NULL, SIGTERM, NULL, NULL); /* exits the loop */
	if (r >= 0)
		r = sd_event_add_io(loop->event, &loop->messages, xenmsg_fd(loop->conn), EPOLLIN, on_xenmsg,
				    loop);
	if (r >= 0)
		r = sd_event_add_io(loop->event, &loop->input, STDIN_FILENO, EPOLLIN, on_input, loop);
	if (r == -EPERM)
		fprintf(stderr,
			"sdevent: standard input is a file or device for which epoll can't wait: use a pipe\n");
	return r < 0 ? r : sd_event_loop(loop->event);
}

int main(int argc, char **argv)
{
	static struct loop loop;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: sdevent ENDPOINT ADDRESS\n");
		return 2;
	}
	loop.address = argv[2];
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = run(&loop, argv[1]);
	if (r < 0)
		fprintf(stderr, "sdevent: %s\n", xenmsg_reason(loop.conn, r));
	/* The connection before the loop, which on_done() uses: that is called for what has no outcome
	 * yet. */
	sd_event_source_unref(loop.messages);
	loop.closing = 1;
	xenmsg_close(loop.conn);
	sd_event_source_unref(loop.input);
	sd_event_unref(loop.event);
	return r < 0;
}
