/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_BENCH_SERVE_H
#define XENMSG_CLI_BENCH_SERVE_H

/*
 * `xenmsg bench --serve`, and what it and the measuring end agree on: messages to the endpoint are only
 * taken, calls are answered with what they have brought, and streams go to a second endpoint, whose first
 * byte says what becomes of the bytes behind it.
 */

#include <sys/types.h>

#include "cli/cli.h"

#define BENCH_ENDPOINT "bench"
#define BENCH_STREAMS  "-stream" /* behind the endpoint's name, for that of its streams */

enum bench_stream {
	BENCH_ECHO = 'e', /* they come back */
	BENCH_TAKE = 't', /* at their end the server says by 8 bytes, little endian, how many there were */
};

/* Writes all of it to a stream. Returns 0 or a negative errno. */
int bench_write(int stream, const char *data, size_t size);
/* Returns why a read or write of a stream has returned `n`, which is not above 0. */
int bench_stream_error(ssize_t n);
/* Serves until a signal ends the command. Returns the exit code. */
int bench_serve(struct cli *cli, struct xenmsg *conn, const char *endpoint);

#endif
