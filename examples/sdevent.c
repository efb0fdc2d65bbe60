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
	struct xenmsg *conn;
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

static void exit_if_finished(struct loop *loop)
{
	if (loop->end_of_input && loop->outstanding == 0)
		sd_event_exit(loop->event, 0);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "sdevent: %s: %s\n", loop->address, strerror(-result->error));
	loop->outstanding--;
	exit_if_finished(loop);
}

static int on_xenmsg(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct loop *loop = userdata;
	int r = xenmsg_process(loop->conn);

	if (r < 0) {
		fprintf(stderr, "sdevent: the local xenmsgd has gone: %s\n", strerror(-r));
		return sd_event_exit(loop->event, r);
	}
	return 0;
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct loop *loop = userdata;
	char line[65536];
	ssize_t n = read(fd, line, sizeof(line));
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		loop->end_of_input = 1;
		exit_if_finished(loop);
		return sd_event_source_set_enabled(source, SD_EVENT_OFF);
	}
	if (line[n - 1] == '\n')
		n--;
	r = xenmsg_begin_send(loop->conn, loop->address, line, (size_t)n, NULL, on_done, loop, NULL);
	if (r < 0)
		fprintf(stderr, "sdevent: %s: %s\n", loop->address, strerror(-r));
	else
		loop->outstanding++;
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
		r = sd_event_add_io(loop->event, NULL, xenmsg_fd(loop->conn), EPOLLIN, on_xenmsg, loop);
	if (r >= 0)
		r = sd_event_add_io(loop->event, NULL, STDIN_FILENO, EPOLLIN, on_input, loop);
	return r < 0 ? r : sd_event_loop(loop->event);
}

int main(int argc, char **argv)
{
	struct loop loop = {.address = argc == 3 ? argv[2] : NULL};
	int r;

	if (!loop.address) {
		fprintf(stderr, "usage: sdevent ENDPOINT ADDRESS\n");
		return 2;
	}
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = run(&loop, argv[1]);
	if (r < 0)
		fprintf(stderr, "sdevent: %s\n", strerror(-r));
	sd_event_unref(loop.event);
	xenmsg_close(loop.conn);
	return r < 0;
}
