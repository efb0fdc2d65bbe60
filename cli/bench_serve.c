/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/bench_serve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/interrupt.h"
#include "wire/address.h"
#include "wire/libc.h"

#define BUFFER_SIZE (256u << 10)
/* Each stream has a process, so what others open must have a bound. */
#define STREAMS_MAX 16

struct running {
	unsigned count; /* of streams */
	bool is_short;	/* a limit holds up the next one */
};

int bench_stream_error(ssize_t n)
{
	if (n == 0)
		return -ECONNRESET;
	return errno == EAGAIN ? -ETIMEDOUT : errno == EPIPE ? -ECONNRESET : -errno;
}

int bench_write(int stream, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(stream, data, size);

		if (n < 0)
			return bench_stream_error(n);
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Serves one stream to its end, in a process of its own. */
static void serve_stream(int stream)
{
	static char buffer[BUFFER_SIZE];
	unsigned char sum[8], kind;
	uint64_t taken = 0;
	ssize_t n;

	if (read(stream, &kind, 1) != 1 || (kind != BENCH_ECHO && kind != BENCH_TAKE))
		return;
	while ((n = read(stream, buffer, sizeof(buffer))) > 0) {
		taken += (uint64_t)n;
		if (kind == BENCH_ECHO && bench_write(stream, buffer, (size_t)n) < 0)
			return;
	}
	for (unsigned i = 0; i < 8; i++)
		sum[i] = (unsigned char)(taken >> (8 * i));
	if (n == 0 && kind == BENCH_TAKE)
		bench_write(stream, (const char *)sum, sizeof(sum));
}

static int start_stream(int stream)
{
	pid_t pid = command_fork();
	int error = errno;

	if (pid == 0) {
		/* It keeps nothing else of its parent's, whose connection ends with the parent. */
		if (dup2(stream, STDIN_FILENO) == STDIN_FILENO && close_range(3, ~0u, 0) == 0)
			serve_stream(STDIN_FILENO);
		_exit(0);
	}
	close(stream);
	return pid < 0 ? -error : 0;
}

/* Takes all streams that wait. If a limit leaves some of them, interrupt_wait() returns when they may be
 * tried again. */
static int take_streams(struct cli *cli, struct xenmsg *conn, const char *endpoint, struct running *running)
{
	for (;;) {
		const struct xenmsg_peer *peer;
		char opener[COMMAND_SENDER_SIZE];
		int stream = xenmsg_accept(conn, XENMSG_WITHIN(0), &peer), r = -EMFILE;

		while (running->count && waitpid(-1, NULL, WNOHANG) > 0)
			running->count--;
		if (stream == -EINTR)
			continue;
		if (stream == -ECONNREFUSED) /* the daemon hasn't answered: the stream waits on */
			return 0;
		if (stream < 0 && stream != -EAGAIN && !cli_is_limit(stream))
			return stream;
		if (stream != -EAGAIN)
			cli_note_limit(cli, &running->is_short, "bench --serve on", endpoint,
				       stream < 0 ? stream : 0);
		if (stream < 0)
			return 0;
		if (running->count < STREAMS_MAX)
			r = start_stream(stream);
		else
			xenmsg_break(stream);
		if (r == 0)
			running->count++;
		else
			cli_note(cli, "bench: a stream from %s is refused: %s",
				 command_sender(xenmsg_peer_host(peer), xenmsg_peer_domid(peer), opener),
				 r == -EMFILE ? "there are too many at once" : strerror(-r));
	}
}

static void take_message(void *userdata, struct xenmsg_message *message)
{
	/* The caller may have gone, so whether the reply arrives doesn't matter here. */
	if (xenmsg_message_wants_reply(message) &&
	    xenmsg_reply(message, xenmsg_message_data(message), xenmsg_message_size(message)) == -EAGAIN)
		xenmsg_reply_error(message, EAGAIN, NULL, 0);
	xenmsg_message_free(message);
}

int bench_serve(struct cli *cli, struct xenmsg *conn, const char *endpoint)
{
	char streams[ENDPOINT_NAME_MAX + sizeof(BENCH_STREAMS)];
	const char *name = endpoint;
	struct running running = {.is_short = false};
	int r;

	snprintf(streams, sizeof(streams), "%s%s", endpoint, BENCH_STREAMS);
	interrupt_catch();
	r = xenmsg_bind(conn, endpoint, NULL, take_message, NULL);
	if (r == 0) {
		name = streams;
		r = xenmsg_listen(conn, streams, XENMSG_FLAGS(XENMSG_FROM_HOSTS));
	}
	if (r < 0)
		return cli_error(conn, "bench --serve on", name, r);
	cli_note(cli, "serving on %s and %s; elsewhere: xenmsg bench %u%s%s", endpoint, streams,
		 xenmsg_domid(conn), strcmp(endpoint, BENCH_ENDPOINT) == 0 ? "" : ":",
		 strcmp(endpoint, BENCH_ENDPOINT) == 0 ? "" : endpoint);
	do {
		r = interrupt_wait(conn, -1);
		if (r >= 0)
			r = take_streams(cli, conn, streams, &running);
	} while (r >= 0 || (r == -EINTR && !interrupt_came()));
	return interrupt_came() ? EXIT_DONE : cli_error(conn, "bench --serve on", endpoint, r);
}
