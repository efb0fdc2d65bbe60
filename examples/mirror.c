/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Echoes what comes on any number of byte streams at once, all of them in one session with the daemon.
 *
 *   mirror glass                      in domain 5, say
 *   xenmsg connect 5:glass            in domain 3: what you type comes back
 *
 * A stream that isn't read is not written to either, so a slow reader slows its own stream, and no other one.
 *
 *   cc mirror.c $(pkg-config --cflags --libs xenmsg) -o mirror
 */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xenmsg-mux.h>

/* What comes is echoed at once, as far as there is room. The rest stays with the library until there is some. */
static size_t on_data(void *userdata, const void *data, size_t size)
{
	return xenmsg_stream_write(userdata, data, size);
}

static void on_room(void *userdata)
{
	xenmsg_stream_resume(userdata);
}

static void on_ended(void *userdata)
{
	xenmsg_stream_end(userdata);
	xenmsg_stream_close(userdata);
}

static void on_broken(void *userdata, int error)
{
	xenmsg_stream_close(userdata);
}

static const struct xenmsg_stream_callbacks callbacks = {
	.data = on_data,
	.ended = on_ended,
	.room = on_room,
	.broken = on_broken,
};

static void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer,
			const char *host)
{
	printf("a stream from uid %u of domain %u%s%s\n", peer->uid, peer->domid, *host ? " on " : "", host);
	fflush(stdout);
	xenmsg_stream_set_callbacks(stream, &callbacks, stream);
}

int main(int argc, char **argv)
{
	struct xenmsg_mux *mux;
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: mirror ENDPOINT\n");
		return 2;
	}
	r = xenmsg_mux_open(&mux, NULL, NULL, on_incoming, NULL);
	if (r < 0) {
		fprintf(stderr, "mirror: no session with xenmsgd: %s\n", strerror(-r));
		return 1;
	}
	r = xenmsg_mux_listen(mux, argv[1], XENMSG_FLAGS(XENMSG_FROM_HOSTS));
	if (r < 0)
		fprintf(stderr, "mirror: %s: %s\n", argv[1],
			*xenmsg_mux_reason(mux) ? xenmsg_mux_reason(mux) : strerror(-r));
	while (r >= 0)
		r = xenmsg_mux_wait(mux, -1);
	xenmsg_mux_close(mux);
	return 1;
}
