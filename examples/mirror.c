/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Echoes what comes on any number of byte streams at once, all of them in one connection.
 *
 *   mirror glass                      in domain 5, say
 *   xenmsg connect 5:glass            in domain 3: what you type comes back
 *
 * A stream that isn't read is not written to either, so a slow reader slows its own stream, and no other one.
 *
 *   cc mirror.c $(pkg-config --cflags --libs xenmsg) -o mirror
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <xenmsg-stream.h>

/* What comes is echoed at once, as far as there is room. The rest stays with the library until there is
 * some. */
static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	(void)userdata;
	ssize_t written = xenmsg_stream_write(stream, data, size);

	return written < 0 ? size : (size_t)written; /* it is broken: nothing can be done with what came */
}

static void on_room(void *userdata, struct xenmsg_stream *stream)
{
	(void)userdata;
	xenmsg_stream_resume(stream);
}

static void on_ended(void *userdata, struct xenmsg_stream *stream)
{
	(void)userdata;
	xenmsg_stream_end(stream);
	xenmsg_stream_close(stream);
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	(void)userdata;
	(void)error;
	xenmsg_stream_close(stream);
}

static const struct xenmsg_stream_callbacks callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.data = on_data,
	.ended = on_ended,
	.room = on_room,
	.broken = on_broken,
};

static void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer)
{
	(void)userdata;
	const char *host = xenmsg_peer_host(peer);

	printf("a stream from uid %u of domain %u%s%s\n", xenmsg_peer_uid(peer), xenmsg_peer_domid(peer),
	       *host ? " on " : "", host);
	fflush(stdout);
	xenmsg_stream_set_callbacks(stream, &callbacks, NULL);
}

/* The next daemon may refuse the endpoint. Without it the program is of no use, so it ends, to be started
 * again. */
static void on_change(void *userdata, const struct xenmsg_change *change)
{
	int *refused = userdata;

	if (change->kind == XENMSG_DAEMON_REFUSED)
		*refused = change->error;
}

int main(int argc, char **argv)
{
	struct xenmsg *conn;
	int r, refused = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: mirror ENDPOINT\n");
		return 2;
	}
	r = xenmsg_open(&conn, NULL, XENMSG_FLAGS(XENMSG_RECONNECT));
	if (r < 0) {
		fprintf(stderr, "mirror: %s\n", xenmsg_reason(NULL, r));
		return 1;
	}
	xenmsg_on_change(conn, on_change, &refused);
	r = xenmsg_stream_listen(conn, argv[1], XENMSG_FLAGS(XENMSG_FROM_HOSTS), on_incoming, NULL);
	while (r >= 0 && refused == 0) {
		r = xenmsg_wait(conn, -1);
		if (r == -EINTR || r == -ENOMEM) /* it was stopped and goes on; or no memory, for now */
			r = 0;
	}
	fprintf(stderr, "mirror: %s: %s\n", argv[1], xenmsg_reason(conn, r < 0 ? r : refused));
	xenmsg_close(conn);
	return 1;
}
