/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* bench: measures what messages, calls and streams between two domains of this host take. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/histogram.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/writer.h"
#include "wire/address.h"
#include "wire/libc.h"

/* ---- the other end, and its child ----------------------------------------------------------- */

/*
 * `xenmsg bench --serve`, and what it and the measuring end agree on: messages to the endpoint are only
 * taken, calls are answered with what they have brought, and streams go to a second endpoint, whose first
 * byte says what becomes of the bytes behind it.
 */

#define BENCH_ENDPOINT "bench"
#define BENCH_STREAMS  "-stream" /* behind the endpoint's name, for that of its streams */

enum bench_stream {
	BENCH_ECHO = 'e', /* they come back */
	BENCH_TAKE = 't', /* at their end the server says by 8 bytes, little endian, how many there were */
};

#define BUFFER_SIZE (256u << 10)
/* Each stream has a process, so what others open must have a bound. */
#define STREAMS_MAX 16

struct running {
	unsigned count; /* of streams */
	bool is_short;	/* a limit holds up the next one */
};

/* Returns why a read or write of a stream has returned `n`, which is not above 0. */
static int bench_stream_error(ssize_t n)
{
	if (n == 0)
		return -ECONNRESET;
	return errno == EAGAIN ? -ETIMEDOUT : errno == EPIPE ? -ECONNRESET : -errno;
}

/* Writes all of it to a stream. Returns 0 or a negative errno. */
static int bench_write(int stream, const char *data, size_t size)
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
				 command_peer(peer, NULL).words,
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

/* Serves until a signal ends the command. Returns the exit code. */
static int bench_serve(struct cli *cli, struct xenmsg *conn, const char *endpoint)
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

/* ---------------------------------------------------------------------------------------------- */

static const char help[] =
	"Usage: xenmsg bench [OPTIONS] DOMAIN[:ENDPOINT]\n"
	"       xenmsg bench --serve [OPTIONS] [ENDPOINT]\n"
	"\n"
	"Measures round trips, calls, messages and streams between this domain and\n"
	"DOMAIN, where 'xenmsg bench --serve' runs. That takes what comes to ENDPOINT\n"
	"(bench) and ENDPOINT-stream; the policy there must allow both to this domain.\n"
	"\n"
	"      --serve         be the other side, until stopped\n"
	"      --seconds S     how long each measurement takes (1)\n"
	"  -t, --timeout S     seconds to wait for each answer (10)\n"
	"      --json          one JSON object a line: measurement, size, count,\n"
	"                      per_second, mb_per_second, p50_us, p99_us, p999_us (null:\n"
	"                      it has none)\n"
	"\n"
	"Examples:\n"
	"  xenmsg bench --serve\n"
	"  xenmsg bench --seconds 5 work\n";

#define SMALL	  64
#define WRITE	  (64u << 10)
#define LARGEST	  (1u << 20)
#define CALLS_MAX 64 /* at once */

/* An outstanding call. */
struct bench_call {
	struct bench *bench;
	uint64_t start; /* 0: none */
};

/* One measurement while it goes on. */
struct bench {
	struct xenmsg *conn;
	struct address to;
	char address[ADDRESS_MAX + 1];
	char streams[ADDRESS_MAX + sizeof(BENCH_STREAMS)];
	int seconds_ms, timeout_ms;
	struct writer *writer;
	bool shows_progress, in_json;
	char *data;	/* LARGEST bytes */
	size_t size;	/* of a message, or of what is written to a stream at once */
	uint64_t sent;	/* messages or calls */
	uint64_t ended; /* those that were delivered or answered */
	int error;	/* the first that one of them ended in */
	struct bench_call calls[CALLS_MAX];
	struct histogram times;
};

static bool time_is_up(const struct bench *bench, uint64_t start)
{
	return clock_ns() - start >= (uint64_t)bench->seconds_ms * 1000000u;
}

/* Waits for outcomes. Returns 0 or a negative errno. */
static int await(struct bench *bench)
{
	int r = xenmsg_wait(bench->conn, bench->timeout_ms);

	if (r == 0)
		return -ETIMEDOUT;
	return r < 0 && r != -EINTR ? r : bench->error;
}

/* ---- what is measured ------------------------------------------------------------------------ */

/* Each of these measures until the time is up, counts in `bench`, and returns 0 or a negative errno. */
typedef int (*measure_fn)(struct bench *bench, uint64_t start);

static int measure_daemons(struct bench *bench, uint64_t start)
{
	do {
		uint64_t rtt_ns, before = clock_ns();
		int r = xenmsg_ping(bench->conn, bench->to.domain, XENMSG_WITHIN(bench->timeout_ms), &rtt_ns);

		if (r < 0)
			return r;
		/* 0: this domain, where it is the way to its daemon and back */
		histogram_add(&bench->times, rtt_ns ? rtt_ns : clock_ns() - before);
		bench->ended++;
	} while (!time_is_up(bench, start));
	return 0;
}

static int measure_call(struct bench *bench, uint64_t start)
{
	uint64_t before = start;

	do {
		struct xenmsg_result result;
		int r = xenmsg_call(bench->conn, bench->address, bench->data, bench->size,
				    XENMSG_WITHIN(bench->timeout_ms), &result);
		uint64_t now = clock_ns();

		if (r < 0)
			return r;
		xenmsg_message_free(result.reply);
		histogram_add(&bench->times, now - before);
		before = now;
		bench->ended++;
	} while (!time_is_up(bench, start));
	return 0;
}

static void on_reply(void *userdata, const struct xenmsg_result *result)
{
	struct bench_call *call = userdata;

	if (result->error < 0 && !call->bench->error)
		call->bench->error = result->error;
	histogram_add(&call->bench->times, clock_ns() - call->start);
	call->bench->ended++;
	call->start = 0;
	xenmsg_message_free(result->reply);
}

static int measure_calls(struct bench *bench, uint64_t start)
{
	int r;

	do {
		for (int i = 0; i < CALLS_MAX && !time_is_up(bench, start); i++) {
			if (bench->calls[i].start)
				continue;
			bench->calls[i] = (struct bench_call){.bench = bench, .start = clock_ns()};
			r = xenmsg_begin_call(bench->conn, bench->address, bench->data, bench->size, NULL,
					      on_reply, &bench->calls[i], NULL);
			if (r < 0)
				return r;
			bench->sent++;
		}
		r = bench->ended < bench->sent ? await(bench) : bench->error;
		if (r < 0)
			return r;
	} while (bench->ended < bench->sent || !time_is_up(bench, start));
	return 0;
}

static void on_delivery(void *userdata, const struct xenmsg_result *result)
{
	struct bench *bench = userdata;

	if (result->error < 0 && !bench->error)
		bench->error = result->error;
	bench->ended++;
}

static int measure_messages(struct bench *bench, uint64_t start)
{
	int r;

	/* Reading the clock costs as much as a small message, so it is read now and then only. */
	do {
		r = xenmsg_begin_send(bench->conn, bench->address, bench->data, bench->size, NULL,
				      on_delivery, bench, NULL);
		if (r == 0)
			bench->sent++;
		else if (r == -EAGAIN)
			r = await(bench);
		if (r < 0)
			return r;
	} while ((bench->sent % 64 && bench->size <= 4096) || !time_is_up(bench, start));
	while (bench->ended < bench->sent) {
		r = await(bench);
		if (r < 0)
			return r;
	}
	return bench->error;
}

/* Opens a stream, on which reading and writing wait no longer than for any answer. */
static int open_stream(struct bench *bench, char kind)
{
	struct timeval timeout = {.tv_sec = bench->timeout_ms / 1000,
				  .tv_usec = bench->timeout_ms % 1000 * 1000};
	int stream = xenmsg_connect(bench->conn, bench->streams, XENMSG_WITHIN(bench->timeout_ms));

	if (stream < 0)
		return stream;
	setsockopt(stream, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(stream, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (write(stream, &kind, 1) != 1) {
		close(stream);
		return -ECONNRESET;
	}
	return stream;
}

static int read_all(int stream, void *data, size_t size)
{
	for (char *to = data; size;) {
		ssize_t n = read(stream, to, size);

		if (n <= 0)
			return bench_stream_error(n);
		to += n;
		size -= (size_t)n;
	}
	return 0;
}

static int trips_on(struct bench *bench, int stream, uint64_t start)
{
	uint64_t before = clock_ns(), now;

	do {
		int r = bench_write(stream, bench->data, bench->size);

		if (r == 0)
			r = read_all(stream, bench->data, bench->size);
		if (r < 0)
			return r;
		now = clock_ns();
		histogram_add(&bench->times, now - before);
		before = now;
		bench->ended++;
	} while (!time_is_up(bench, start));
	return 0;
}

static int fill_stream(struct bench *bench, int stream, uint64_t start)
{
	unsigned char sum[8];
	uint64_t taken = 0;
	int r;

	do {
		r = bench_write(stream, bench->data, bench->size);
		if (r < 0)
			return r;
		bench->ended++;
	} while (!time_is_up(bench, start));
	shutdown(stream, SHUT_WR);
	r = read_all(stream, sum, sizeof(sum));
	for (unsigned i = 0; i < 8; i++)
		taken |= (uint64_t)sum[i] << (8 * i);
	if (r == 0 && taken != bench->ended * bench->size)
		r = -EPROTO; /* it serves something else */
	return r;
}

static int on_stream(struct bench *bench, uint64_t start, char kind,
		     int (*measure)(struct bench *bench, int stream, uint64_t start))
{
	int stream = open_stream(bench, kind), r;

	if (stream < 0)
		return stream;
	r = measure(bench, stream, start);
	close(stream);
	return r;
}

static int measure_stream_trips(struct bench *bench, uint64_t start)
{
	return on_stream(bench, start, BENCH_ECHO, trips_on);
}

static int measure_stream(struct bench *bench, uint64_t start)
{
	return on_stream(bench, start, BENCH_TAKE, fill_stream);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static const struct measurement {
	const char *name;
	measure_fn measure;
	size_t size;
	bool goes_to_streams;
} measurements[] = {
	{"ping", measure_daemons, 0, false},
	{"call", measure_call, SMALL, false},
	{"64-calls", measure_calls, SMALL, false},
	{"messages", measure_messages, SMALL, false},
	{"messages", measure_messages, 1024, false},
	{"messages", measure_messages, WRITE, false},
	{"messages", measure_messages, LARGEST, false},
	{"stream-trip", measure_stream_trips, SMALL, true},
	{"stream", measure_stream, WRITE, true},
};
#define MEASUREMENTS (sizeof(measurements) / sizeof(measurements[0]))

static void write_time(const struct bench *bench, const char *name, double part)
{
	if (bench->times.count)
		writer_real(bench->writer, name, (double)histogram_at(&bench->times, part) / 1e3, 1);
	else
		writer_json(bench->writer, name, NULL);
}

static int write_result(struct bench *bench, const char *name, uint64_t elapsed)
{
	double rate = (double)bench->ended / ((double)elapsed / 1e9);

	writer_text(bench->writer, "measurement", name);
	writer_number(bench->writer, "size", (int64_t)bench->size);
	if (bench->in_json) /* a table of 80 columns has no room for it */
		writer_number(bench->writer, "count", (int64_t)bench->ended);
	writer_real(bench->writer, "per_second", rate, 0);
	writer_real(bench->writer, "mb_per_second", rate * (double)bench->size / 1e6, 1);
	write_time(bench, "p50_us", 0.5);
	write_time(bench, "p99_us", 0.99);
	write_time(bench, "p999_us", 0.999);
	return writer_end_row(bench->writer);
}

static int bench_fail(const struct bench *bench, const struct measurement *measurement, int error)
{
	const char *subject = measurement->measure == measure_daemons ? bench->to.domain : bench->address;

	if (measurement->goes_to_streams)
		subject = bench->streams;
	if (error != -ENOENT)
		return cli_error(bench->conn, "bench", subject, error);
	cli_complain("bench %s: no such endpoint there; run 'xenmsg bench --serve%s%s' in that domain",
		     subject, strcmp(bench->to.endpoint, BENCH_ENDPOINT) == 0 ? "" : " ",
		     strcmp(bench->to.endpoint, BENCH_ENDPOINT) == 0 ? "" : bench->to.endpoint);
	return EXIT_NO_ENDPOINT;
}

static void bench_show_progress(const struct bench *bench, const char *name)
{
	/* The line is written over, and in the end erased. */
	if (bench->shows_progress)
		fprintf(stderr, name ? "\r\033[K%s, %zu bytes" : "\r\033[K", name, bench->size);
}

static int measure(struct cli *cli, struct bench *bench, const struct measurement *measurement)
{
	uint64_t start, elapsed;
	int r;

	bench->size = measurement->size;
	bench->sent = bench->ended = 0;
	memset(&bench->times, 0, sizeof(bench->times));
	bench_show_progress(bench, measurement->name);
	start = clock_ns();
	r = measurement->measure(bench, start);
	elapsed = clock_ns() - start;
	bench_show_progress(bench, NULL);
	if (r == -EMSGSIZE) {
		cli_note(cli, "bench: messages of %zu bytes are left out: max-message there or here is less",
			 bench->size);
		bench->error = 0;
		return EXIT_DONE;
	}
	return r < 0 ? bench_fail(bench, measurement, r) : write_result(bench, measurement->name, elapsed);
}

/* Makes the link and the channel, so that this isn't measured, and finds out whether somebody serves. */
static int cmd_bench_prepare(struct cli *cli, struct bench *bench)
{
	int first_ms = long_wait_first(cli, bench->timeout_ms), rest_ms;
	int r = xenmsg_call(bench->conn, bench->address, bench->data, 1, XENMSG_WITHIN(first_ms), NULL);

	if (r == -ETIMEDOUT && (rest_ms = long_wait_rest(cli, bench->conn, "bench", bench->address,
							 "no answer", bench->timeout_ms)))
		r = xenmsg_call(bench->conn, bench->address, bench->data, 1, XENMSG_WITHIN(rest_ms), NULL);
	return r < 0 ? bench_fail(bench, &measurements[1], r) : EXIT_DONE;
}

static int measure_all(struct cli *cli, struct bench *bench)
{
	int code = cmd_bench_prepare(cli, bench);

	for (size_t i = 0; code == EXIT_DONE && i < MEASUREMENTS; i++)
		code = measure(cli, bench, &measurements[i]);
	if (code == EXIT_DONE)
		code = writer_finish(bench->writer);
	return code;
}

/* Parses DOMAIN[:ENDPOINT]. Returns 0, or an exit code after a complaint. */
static int parse_target(struct bench *bench, const char *text)
{
	const size_t most = sizeof(bench->address) - sizeof(BENCH_ENDPOINT);
	size_t size = (size_t)snprintf(bench->address, sizeof(bench->address), "%s", text);
	const char *why = "";

	if (size < most && !address_is_meant(bench->address, size))
		strcpy(bench->address + size, ":" BENCH_ENDPOINT);
	if (size >= most || address_parse(bench->address, strlen(bench->address), &bench->to, &why) < 0)
		return cli_usage("bench", "'%s' can't be measured%s%s; write DOMAIN or DOMAIN:ENDPOINT", text,
				 *why ? ": " : "", why);
	snprintf(bench->streams, sizeof(bench->streams), "%s%s", bench->address, BENCH_STREAMS);
	return EXIT_DONE;
}

static int run_client(struct cli *cli, const char *target, struct bench *bench, bool json)
{
	int code = parse_target(bench, target);

	if (code)
		return code;
	bench->data = calloc(1, LARGEST);
	if (!bench->data)
		return cli_error(NULL, "bench", target, -ENOMEM);
	code = cli_open_timed(cli, &bench->conn, &(int){bench->timeout_ms});
	if (code == EXIT_DONE) {
		bench->in_json = json;
		bench->writer = writer_new(json ? WRITER_JSON_LINES : WRITER_TABLE);
		bench->shows_progress = isatty(STDERR_FILENO) && !cli->quiet;
		code = measure_all(cli, bench);
		writer_free(bench->writer);
		xenmsg_close(bench->conn);
	}
	free(bench->data);
	return code;
}

static int run_server(struct cli *cli, const char *endpoint)
{
	struct xenmsg *conn;
	int code;

	if (!endpoint_name_is_valid(endpoint, strlen(endpoint)) ||
	    strlen(endpoint) + strlen(BENCH_STREAMS) > ENDPOINT_NAME_MAX)
		return cli_usage("bench", "'%s' can't be an endpoint with '%s' behind it", endpoint,
				 BENCH_STREAMS);
	code = cli_open(cli, &conn);
	if (code)
		return code;
	code = bench_serve(cli, conn, endpoint);
	xenmsg_close(conn);
	interrupt_die();
	return code;
}

int cmd_bench(struct cli *cli, int argc, char **argv)
{
	static struct bench bench = {.seconds_ms = 1000, .timeout_ms = 10000};
	bool serves = false, json = false;
	const struct cli_option options[] = {
		{"serve", .flag = &serves},
		{"seconds", .ms = &bench.seconds_ms, .least_ms = 1},
		{"timeout", .ms = &bench.timeout_ms, .least_ms = 1, .from_environment = true},
		{"json", .flag = &json},
		{0},
	};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind > 1)
		return cli_usage("bench", "'%s' is too much", argv[optind + 1]);
	if (serves)
		return run_server(cli, optind < argc ? argv[optind] : BENCH_ENDPOINT);
	if (optind >= argc)
		return cli_usage("bench", "which DOMAIN? Or --serve");
	return run_client(cli, argv[optind], &bench, json);
}
