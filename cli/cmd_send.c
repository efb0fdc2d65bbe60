/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/payload.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg send [OPTIONS] ADDRESS [MESSAGE]\n"
	"\n"
	"Sends MESSAGE, or what comes on standard input (also for -), to ADDRESS (DOMAIN:ENDPOINT, for example 5:inbox, work:print,\n"
	"self:log), and waits until the receiving program has taken it.\n"
	"\n"
	"      --file FILE     send the contents of FILE as one message\n"
	"      --lines         send each line of standard input as a message, without its newline\n"
	"      --timeout S     give up after S seconds (with --lines: for each line); then it is certainly not delivered\n"
	"      --no-wait       only hand it to the daemon, and don't ask what becomes of it; up to 65520 bytes\n";

struct send {
	struct cli *cli;
	struct xenmsg *conn;
	const char *address;
	int timeout_ms;
	/* only with --lines */
	uint64_t outstanding, sent, failed;
	int error;
	bool refused; /* that error is the receiver's own */
	uint64_t error_line;
	/* of one that is sent with progress; here, since xenmsg_close() may still tell it */
	int result;
	bool result_refused; /* by the program there, whose own number `result` is */
};

static const int pending = 1;

static void note_result(void *userdata, int result)
{
	struct send *send = userdata;

	send->result = result;
	send->result_refused = xenmsg_answered(send->conn);
}

static int tell_error(const struct send *send, const char *where, int error, bool refused)
{
	if (!refused)
		return cli_error(send->conn, "send to", where, error);
	cli_complain("send to %s: the receiver has given it back: %s; it was not delivered", where,
		     strerror(-error));
	return EXIT_ANSWERED;
}

/* Sends, and shows on a terminal how long that takes. */
static int send_with_progress(struct send *send, const void *data, size_t size, bool *refused)
{
	int tenths = 0, r;

	send->result = pending;
	r = xenmsg_post(send->conn, send->address, data, size, note_result, send);
	if (r < 0)
		return r;
	while (send->result == pending) {
		r = xenmsg_wait(send->conn, 100);
		if (r < 0 && send->result == pending && r != -EINTR)
			return r;
		if (r == 0 && ++tenths >= 5)
			fprintf(stderr, "\r%.1f MiB to %s, not yet taken after %d.%d s ",
				(double)size / (1 << 20), send->address, tenths / 10, tenths % 10);
	}
	if (tenths >= 5)
		fputs("\r\033[K", stderr);
	*refused = send->result_refused;
	return send->result;
}

static int send_one(struct send *send, const void *data, size_t size, bool progress)
{
	bool refused = false;
	int r;

	if (progress && send->timeout_ms < 0) {
		r = send_with_progress(send, data, size, &refused);
	} else {
		r = xenmsg_send(send->conn, send->address, data, size, send->timeout_ms);
		refused = xenmsg_answered(send->conn);
	}
	if (r == -EMSGSIZE && size > xenmsg_max_message(send->conn)) {
		cli_complain(
			"send to %s: the message has %zu bytes, the limit is %zu; max-message in xenmsgd.conf sets it",
			send->address, size, xenmsg_max_message(send->conn));
		return EXIT_LIMIT;
	}
	if (r == -EMSGSIZE && send->timeout_ms == 0 && size > XENMSG_AT_ONCE_MAX) {
		cli_complain("send to %s: the message has %zu bytes, --no-wait takes %d; leave it out",
			     send->address, size, XENMSG_AT_ONCE_MAX);
		return EXIT_LIMIT;
	}
	return r < 0 ? tell_error(send, send->address, r, refused) : EXIT_DONE;
}

static int send_file(struct send *send, const char *path)
{
	bool progress;
	int fd, code, r;
	struct stat info;
	char *data;
	size_t size;

	if (path && strcmp(path, "-") == 0)
		path = NULL;
	progress = path && !send->cli->quiet && isatty(STDERR_FILENO);
	fd = path ? open(path, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (fd < 0) {
		cli_complain("%s: %s", path, strerror(errno));
		return EXIT_OTHER;
	}
	r = payload_read(fd, xenmsg_max_message(send->conn), &data, &size);
	if (r == 0 || r == -EMSGSIZE) {
		if (r == -EMSGSIZE && fstat(fd, &info) == 0 && (size_t)info.st_size > size)
			size = (size_t)info.st_size;
		if (size > xenmsg_max_message(send->conn)) {
			cli_complain(
				"send to %s: the message has %s%zu bytes, the limit is %zu; max-message in xenmsgd.conf sets it",
				send->address, r == -EMSGSIZE ? "at least " : "", size,
				xenmsg_max_message(send->conn));
			code = EXIT_LIMIT;
		} else {
			code = send_one(send, data, size, progress);
		}
	} else {
		cli_complain("%s: %s", path ? path : "standard input", strerror(-r));
		code = EXIT_OTHER;
	}
	free(data);
	if (path)
		close(fd);
	return code;
}

/* ---- --lines: many on the way at a time ------------------------------------------------------ */

struct line {
	struct send *send;
	uint64_t number;
};

static void on_line_done(void *userdata, int result)
{
	struct line *line = userdata;
	struct send *send = line->send;

	send->outstanding--;
	if (result < 0) {
		send->failed++;
		if (!send->error) {
			send->error = result;
			send->refused = xenmsg_answered(send->conn);
			send->error_line = line->number;
		}
	}
	free(line);
}

static int post_line(struct send *send, const char *data, size_t size)
{
	struct line *line;
	int r;

	if (send->timeout_ms >= 0) {
		send->sent++;
		r = xenmsg_send(send->conn, send->address, data, size, send->timeout_ms);
		if (r < 0) {
			send->error = r;
			send->refused = xenmsg_answered(send->conn);
			send->error_line = send->sent;
			send->failed++;
		}
		return r;
	}
	line = malloc(sizeof(*line));
	if (!line)
		return -ENOMEM;
	*line = (struct line){.send = send, .number = ++send->sent};
	do {
		r = xenmsg_post(send->conn, send->address, data, size, on_line_done, line);
		if (r == -EAGAIN && xenmsg_wait(send->conn, -1) == -ENOTCONN)
			r = -ENOTCONN;
	} while (r == -EAGAIN && !send->error);
	if (r < 0) {
		free(line);
		if (!send->error) {
			send->error = r;
			send->error_line = send->sent;
			send->failed++;
		}
		return r;
	}
	send->outstanding++;
	return 0;
}

/* Sends the whole lines in the buffer, and at the end of input the rest, too. */
static int post_lines(struct send *send, char *data, size_t *size, bool end)
{
	size_t from = 0;
	int r = 0;

	while (r == 0 && from < *size) {
		char *newline = memchr(data + from, '\n', *size - from);
		size_t length = newline ? (size_t)(newline - data) - from : *size - from;

		if (!newline && !end)
			break;
		r = post_line(send, data + from, length);
		from += length + (newline ? 1 : 0);
	}
	memmove(data, data + from, *size - from);
	*size -= from;
	return r;
}

static int read_lines(struct send *send)
{
	size_t capacity = 1 << 16, size = 0;
	char *data = malloc(capacity);
	int r = data ? 0 : -ENOMEM;

	while (r == 0 && !send->error) {
		struct pollfd fds[2] = {
			{.fd = STDIN_FILENO, .events = POLLIN},
			{.fd = xenmsg_fd(send->conn), .events = POLLIN},
		};
		ssize_t n;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			r = -errno;
		if (fds[1].revents && xenmsg_process(send->conn) < 0 && !send->error)
			r = -ENOTCONN;
		if (r < 0 || !fds[0].revents)
			continue;
		if (size == capacity) {
			char *grown =
				size > xenmsg_max_message(send->conn) ? NULL : realloc(data, capacity * 2);

			if (!grown) {
				send->error_line = send->sent + 1;
				r = size > xenmsg_max_message(send->conn) ? -EMSGSIZE : -ENOMEM;
				continue;
			}
			data = grown;
			capacity *= 2;
		}
		n = read(STDIN_FILENO, data + size, capacity - size);
		if (n < 0)
			r = errno == EINTR || errno == EAGAIN ? 0 : -errno;
		if (n > 0)
			size += (size_t)n;
		if (n >= 0 && r == 0)
			r = post_lines(send, data, &size, n == 0);
		if (n == 0)
			break;
	}
	free(data);
	return r;
}

static int send_lines(struct send *send)
{
	char where[256];
	int r = read_lines(send);

	if (r < 0 && !send->error)
		send->error = r;
	while (send->outstanding > 0 && xenmsg_wait(send->conn, -1) != -ENOTCONN)
		;
	if (send->cli->verbose)
		cli_note(send->cli, "%llu lines delivered",
			 (unsigned long long)(send->sent - send->failed - send->outstanding));
	if (!send->error)
		return EXIT_DONE;
	snprintf(where, sizeof(where), "%s, line %llu%s", send->address, (unsigned long long)send->error_line,
		 send->failed > 1 ? " and more" : "");
	return tell_error(send, where, send->error, send->refused);
}

int cmd_send(struct cli *cli, int argc, char **argv)
{
	struct send send = {.cli = cli, .timeout_ms = -1};
	const char *file = NULL, *message = NULL, *why;
	bool lines = false, no_wait = false;
	const struct cli_option options[] = {
		{"file", .text = &file},
		{"lines", .flag = &lines},
		{"timeout", .ms = &send.timeout_ms, .least_ms = 1},
		{"no-wait", .flag = &no_wait},
		{0},
	};
	struct address parsed;
	int code, left_ms;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("send", "to which address?");
	send.address = argv[optind++];
	if (optind < argc)
		message = argv[optind++];
	if (optind < argc)
		return cli_usage("send", "too many arguments: quote a message of several words");
	if (message && strcmp(message, "-") == 0)
		message = NULL; /* "-" means the same as no argument: standard input */
	if ((message != NULL) + (file != NULL) + lines > 1)
		return cli_usage("send", "MESSAGE, --file and --lines exclude each other");
	if (send.timeout_ms >= 0 && no_wait)
		return cli_usage("send", "--timeout and --no-wait exclude each other");
	if (address_parse(send.address, strlen(send.address), &parsed, &why) < 0)
		return cli_usage("send", "bad address '%s': %s", send.address, why);
	left_ms = send.timeout_ms;
	code = cli_open_timed(cli, &send.conn, &left_ms);
	if (code)
		return code;
	if (no_wait)
		send.timeout_ms = 0;
	else if (!lines)
		send.timeout_ms = left_ms;
	if (lines)
		code = send_lines(&send);
	else if (message)
		code = send_one(&send, message, strlen(message), false);
	else
		code = send_file(&send, file);
	xenmsg_close(send.conn);
	return code;
}
