/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libxenmsg in a GLib main loop: prints the messages to ENDPOINT, and sends each line of standard input to
 * ADDRESS, without ever blocking. Its own GSource respects the library's time-outs; it works in any GTK or
 * GLib program.
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

struct xenmsg_source {
	GSource source;
	struct xenmsg *conn;
};

struct loop {
	GMainLoop *main;
	struct xenmsg *conn;
	const char *address;
	unsigned outstanding;
	gboolean end_of_input;
};

/* ---- the source: this part suits any program ------------------------------------------------- */

/* Calls the callback only when the daemon is gone. */
static gboolean dispatch(GSource *source, GSourceFunc callback, gpointer userdata)
{
	if (xenmsg_process(((struct xenmsg_source *)source)->conn) >= 0)
		return G_SOURCE_CONTINUE;
	if (callback)
		callback(userdata);
	return G_SOURCE_REMOVE;
}

static guint add_xenmsg(struct xenmsg *conn, GSourceFunc gone, gpointer userdata)
{
	static GSourceFuncs functions = {.dispatch = dispatch};
	GSource *source = g_source_new(&functions, sizeof(struct xenmsg_source));
	struct xenmsg_source *self = (struct xenmsg_source *)source;
	guint id;

	self->conn = conn;
	g_source_add_unix_fd(source, xenmsg_fd(conn), G_IO_IN);
	g_source_set_callback(source, gone, userdata, NULL);
	id = g_source_attach(source, NULL);
	g_source_unref(source);
	return id;
}

/* ---- the program ----------------------------------------------------------------------------- */

static void on_message(void *userdata, struct xenmsg_message *message)
{
	printf("from domain %u: %.*s\n", xenmsg_peer_domid(xenmsg_message_sender(message)),
	       (int)xenmsg_message_size(message), (const char *)xenmsg_message_data(message));
	fflush(stdout);
	xenmsg_message_free(message);
}

static void quit_if_finished(struct loop *loop)
{
	if (loop->end_of_input && loop->outstanding == 0)
		g_main_loop_quit(loop->main);
}

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct loop *loop = userdata;

	if (result->error < 0)
		fprintf(stderr, "glib: %s: %s\n", loop->address, strerror(-result->error));
	loop->outstanding--;
	quit_if_finished(loop);
}

static gboolean on_gone(gpointer userdata)
{
	struct loop *loop = userdata;

	fprintf(stderr, "glib: the local xenmsgd has gone\n");
	g_main_loop_quit(loop->main);
	return G_SOURCE_REMOVE;
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer userdata)
{
	struct loop *loop = userdata;
	char line[65536];
	ssize_t n = read(fd, line, sizeof(line));
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return G_SOURCE_CONTINUE;
	if (n <= 0) {
		loop->end_of_input = TRUE;
		quit_if_finished(loop);
		return G_SOURCE_REMOVE;
	}
	if (line[n - 1] == '\n')
		n--;
	r = xenmsg_begin_send(loop->conn, loop->address, line, (size_t)n, NULL, on_done, loop, NULL);
	if (r < 0)
		fprintf(stderr, "glib: %s: %s\n", loop->address, strerror(-r));
	else
		loop->outstanding++;
	return G_SOURCE_CONTINUE;
}

static gboolean on_term(gpointer userdata)
{
	g_main_loop_quit(((struct loop *)userdata)->main);
	return G_SOURCE_REMOVE;
}

int main(int argc, char **argv)
{
	struct loop loop = {.address = argc == 3 ? argv[2] : NULL};
	int r;

	if (!loop.address) {
		fprintf(stderr, "usage: glib ENDPOINT ADDRESS\n");
		return 2;
	}
	r = xenmsg_open(&loop.conn, NULL, NULL);
	if (r == 0)
		r = xenmsg_bind(loop.conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_MESSAGES), on_message, &loop);
	if (r < 0) {
		fprintf(stderr, "glib: %s\n", strerror(-r));
		xenmsg_close(loop.conn);
		return 1;
	}
	loop.main = g_main_loop_new(NULL, FALSE);
	add_xenmsg(loop.conn, on_gone, &loop);
	g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_input, &loop);
	g_unix_signal_add(SIGTERM, on_term, &loop);
	g_main_loop_run(loop.main);
	g_main_loop_unref(loop.main);
	xenmsg_close(loop.conn);
	return 0;
}
