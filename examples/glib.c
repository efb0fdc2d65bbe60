/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libxenmsg in a GLib main loop: prints the messages to ENDPOINT, and sends each line of standard input to
 * ADDRESS, without ever blocking. It works in any GTK or GLib program: the descriptor tells of time-outs,
 * too.
 *
 *   glib ENDPOINT ADDRESS
 *
 * In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
 *
 *   cc glib.c $(pkg-config --cflags --libs xenmsg glib-2.0) -o glib
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <glib-unix.h>
#include <glib.h>
#include <xenmsg.h>

struct loop {
	GMainLoop *main;
	guint messages, input; /* 0: it isn't watched */
	struct xenmsg *conn;
	const char *address;
	unsigned outstanding;
	char lines[65536]; /* what was read and isn't sent yet */
	size_t filled;
	gboolean end_of_input, closing;
	int failed;
};

static void on_done(void *userdata, const struct xenmsg_result *result);
static gboolean on_input(gint fd, GIOCondition condition, gpointer userdata);

static void on_message(void *userdata, struct xenmsg_message *message)
{
	(void)userdata;
	printf("from domain %u: %.*s\n", xenmsg_peer_domid(xenmsg_message_sender(message)),
	       (int)xenmsg_message_size(message), (const char *)xenmsg_message_data(message));
	fflush(stdout);
	xenmsg_message_free(message);
}

static void watch_input(struct loop *loop, gboolean wanted)
{
	if (wanted && !loop->input) {
		loop->input = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, loop);
	} else if (!wanted && loop->input) {
		g_source_remove(loop->input);
		loop->input = 0;
	}
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
			fprintf(stderr, "glib: %s: %s\n", loop->address, xenmsg_error_text(r));
		else
			loop->outstanding++;
		sent += end ? size + 1 : size;
	}
	loop->filled -= sent;
	memmove(loop->lines, loop->lines + sent, loop->filled);
	watch_input(loop, !loop->end_of_input && r != -EAGAIN);
	if (loop->end_of_input && loop->filled == 0 && loop->outstanding == 0)
		g_main_loop_quit(loop->main);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "glib: %s: %s\n", loop->address, result->reason);
	loop->outstanding--;
	if (!loop->closing)
		send_lines(loop);
}

static gboolean on_xenmsg(gint fd, GIOCondition condition, gpointer userdata)
{
	(void)fd;
	(void)condition;
	struct loop *loop = userdata;
	int r = xenmsg_process(loop->conn);

	if (r >= 0 || r == -ENOMEM)
		return G_SOURCE_CONTINUE;
	fprintf(stderr, "glib: the connection to xenmsgd is lost: %s\n", xenmsg_error_text(r));
	loop->failed = 1;
	g_main_loop_quit(loop->main);
	loop->messages = 0;
	return G_SOURCE_REMOVE;
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer userdata)
{
	(void)condition;
	struct loop *loop = userdata;
	ssize_t n = read(fd, loop->lines + loop->filled, sizeof(loop->lines) - loop->filled);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return G_SOURCE_CONTINUE;
	if (n > 0)
		loop->filled += (size_t)n;
	else
		loop->end_of_input = TRUE;
	send_lines(loop);
	return G_SOURCE_CONTINUE;
}

static gboolean on_term(gpointer userdata)
{
	g_main_loop_quit(((struct loop *)userdata)->main);
	return G_SOURCE_REMOVE;
}

int main(int argc, char **argv)
{
	static struct loop loop;
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: glib ENDPOINT ADDRESS\n");
		return 2;
	}
	loop.address = argv[2];
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(loop.conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, &loop);
	if (r < 0) {
		fprintf(stderr, "glib: %s\n", xenmsg_reason(loop.conn, r));
		xenmsg_close(loop.conn);
		return 1;
	}
	loop.main = g_main_loop_new(NULL, FALSE);
	loop.messages = g_unix_fd_add(xenmsg_fd(loop.conn), G_IO_IN, on_xenmsg, &loop);
	watch_input(&loop, TRUE);
	g_unix_signal_add(SIGTERM, on_term, &loop);
	g_main_loop_run(loop.main);
	/* The connection before the loop, which on_done() uses: that is called for what has no outcome
	 * yet. */
	if (loop.messages)
		g_source_remove(loop.messages);
	loop.closing = TRUE;
	xenmsg_close(loop.conn);
	watch_input(&loop, FALSE);
	g_main_loop_unref(loop.main);
	return loop.failed;
}
