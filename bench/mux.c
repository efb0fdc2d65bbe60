/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A byte stream of a connection that carries many (xenmsg-stream.h).
 *
 * 	bench-mux server ENDPOINT                       serves one stream
 * 	bench-mux client ADDRESS MODE SIZE SECONDS      prints what engine.h says
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/engine.h"
#include "xenmsg-stream.h"

#define LARGEST	 (1u << 20)		  /* message */
#define CAPACITY (LARGEST + (256u << 10)) /* as much as bench/socket.c reads at once */

struct program {
	struct xenmsg *conn;
	struct xenmsg_stream *stream;
	bool opened, gone;
	bool room, held; /* there is some for what is sent, none for what comes */
	char *buffer;
	size_t start, end; /* what came and wasn't handed out */
};

static void on_opened(void *userdata, struct xenmsg_stream *stream)
{
	struct program *program = userdata;

	program->opened = true;
}

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct program *program = userdata;
	size_t room = CAPACITY - program->end;
	size_t taken = size < room ? size : room;

	memcpy(program->buffer + program->end, data, taken);
	program->end += taken;
	program->held = taken < size;
	return taken;
}

static void on_ended(void *userdata, struct xenmsg_stream *stream)
{
	struct program *program = userdata;

	program->gone = true;
}

static void on_room(void *userdata, struct xenmsg_stream *stream)
{
	struct program *program = userdata;

	program->room = true;
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	on_ended(userdata, stream);
}

static const struct xenmsg_stream_callbacks callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.opened = on_opened,
	.data = on_data,
	.ended = on_ended,
	.room = on_room,
	.broken = on_broken,
};

static void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer)
{
	struct program *program = userdata;

	if (program->stream)
		return;
	program->stream = stream;
	program->opened = true;
	xenmsg_stream_set_callbacks(stream, &callbacks, program);
}

static void wait_for_something(struct program *program)
{
	int r = xenmsg_wait(program->conn, -1);

	if (r < 0 && r != -EINTR) /* bench/guard asks for counts by a signal */
		program->gone = true;
}

static void send_all(void *userdata, const void *data, size_t size)
{
	struct program *program = userdata;
	size_t sent = 0;
	ssize_t n;

	for (;;) {
		program->room = false;
		n = xenmsg_stream_write(program->stream, (const char *)data + sent, size - sent);
		if (n < 0)
			engine_fail("write", (int)n);
		sent += (size_t)n;
		if (sent == size)
			return;
		while (!program->room && !program->gone)
			wait_for_something(program);
		if (program->gone)
			engine_fail("write", ECONNRESET);
	}
}

static const void *receive(void *userdata, size_t size)
{
	struct program *program = userdata;
	size_t left = program->end - program->start;

	if (program->start && left < size) {
		memmove(program->buffer, program->buffer + program->start, left);
		program->start = 0;
		program->end = left;
	}
	while (program->end - program->start < size) {
		if (program->held)
			xenmsg_stream_resume(program->stream);
		else if (program->gone)
			return NULL;
		else
			wait_for_something(program);
	}
	program->start += size;
	return program->buffer + program->start - size;
}

static void start(struct program *program, const char *where, bool is_server)
{
	int r = xenmsg_open(&program->conn, NULL, NULL);

	program->buffer = malloc(CAPACITY);
	if (!program->buffer)
		engine_fail("memory", ENOMEM);
	if (r == 0)
		r = is_server ? xenmsg_stream_listen(program->conn, where, NULL, on_incoming, program)
			      : xenmsg_stream_connect(program->conn, where, NULL, &callbacks, program,
						      &program->stream);
	if (r < 0)
		engine_fail(where, r);
	if (is_server)
		engine_ready();
	while (!program->opened && !program->gone)
		wait_for_something(program);
	if (program->gone)
		engine_fail(where, ECONNRESET);
}

int main(int argc, char **argv)
{
	struct program program = {0};
	struct end end = {.userdata = &program, .send = send_all, .receive = receive};
	bool is_server = argc == 3 && strcmp(argv[1], "server") == 0;
	uint32_t size;

	if (!is_server && (argc != 6 || strcmp(argv[1], "client") != 0)) {
		fprintf(stderr, "usage: bench-mux server ENDPOINT | client ADDRESS MODE SIZE SECONDS\n");
		return 2;
	}
	start(&program, argv[2], is_server);
	if (is_server) {
		/* The client says first how large its messages are. */
		const void *first = receive(&program, sizeof(size));

		if (!first)
			engine_fail("read", ECONNRESET);
		memcpy(&size, first, sizeof(size));
		engine_serve(&end, size);
	} else {
		size = (uint32_t)atol(argv[4]);
		if (size > LARGEST)
			engine_fail(argv[4], EMSGSIZE);
		send_all(&program, &size, sizeof(size));
		engine_measure(&end, argv[3], size, atof(argv[5]));
	}
	xenmsg_close(program.conn);
	xenmsg_stream_close(program.stream);
	free(program.buffer);
	return 0;
}
