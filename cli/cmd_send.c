/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/messages.h"
#include "cli/payload.h"
#include "wire/address.h"
#include "wire/ut.h"

static const char help[] =
	"Usage: xenmsg send [OPTIONS] ADDRESS [MESSAGE]\n"
	"\n"
	"Sends MESSAGE, or what comes on standard input (also for -), to ADDRESS\n"
	"(DOMAIN:ENDPOINT, on another host HOST/DOMAIN:ENDPOINT), and waits until the\n"
	"receiving program has taken it.\n"
	"\n"
	"      --file FILE     send the contents of FILE as one message\n"
	"      --lines         send each line of standard input as a message, without its\n"
	"                      newline\n"
	"  -t, --timeout S     give up after S seconds (with --lines: for each line);\n"
	"                      then it is certainly not delivered\n"
	"      --wait          wait, within the time-out, until the receiver is there:\n"
	"                      its domain, its daemon, and a program that has bound\n"
	"                      ENDPOINT\n"
	"      --trace         print, before it waits, what each message is called in\n"
	"                      traces; see 'xenmsg help trace'\n"
	"      --no-wait       only hand it to the daemon, and don't ask what becomes of\n"
	"                      it; up to 65520 bytes\n"
	"\n"
	"Examples:\n"
	"  xenmsg send 5:inbox 'hello'\n"
	"  date | xenmsg send work:log\n"
	"  xenmsg send --timeout 10s --file README.md hostb/5:inbox\n";

struct send {
	struct cli *cli;
	struct xenmsg *conn;
	const char *address;
	int timeout_ms;
	bool no_wait, traces;
	unsigned flags; /* 0, or XENMSG_WAIT */
	struct delivery delivery;
	/* only with --lines */
	struct sent_line *outstanding; /* utlist, in their order */
	uint64_t sent, failed, unknown;
	int error;
	unsigned code;	     /* with -EREMOTEIO: which error it is to the receiver */
	uint64_t error_line; /* 0: it isn't about one line */
};

/* What a terminal shows of one large message. */
struct progress {
	const struct send *send;
	size_t size;
	int tenths;
};

static void send_show_progress(void *userdata)
{
	struct progress *progress = userdata;

	if (++progress->tenths >= 5)
		fprintf(stderr, "\r%.1f MiB to %s, not yet taken after %d.%d s ",
			(double)progress->size / (1 << 20), progress->send->address, progress->tenths / 10,
			progress->tenths % 10);
}

static int tell_refused(const char *where, unsigned code)
{
	cli_complain("send to %s: the receiver has given it back: %s; it was not delivered", where,
		     strerror((int)code));
	return EXIT_ANSWERED;
}

static struct delivery *make_delivery(struct send *send)
{
	send->delivery = (struct delivery){
		.cli = send->cli,
		.conn = send->conn,
		.what = "send to",
		.address = send->address,
		.timeout_ms = send->timeout_ms,
		.flags = send->flags,
		.tells_name = send->traces,
	};
	return &send->delivery;
}

static int send_hand_over(struct send *send, const void *data, size_t size)
{
	int r = xenmsg_send(send->conn, send->address, data, size, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL);

	if (r == -EMSGSIZE && size > xenmsg_max_at_once(send->conn)) {
		cli_complain("send to %s: the message has %zu bytes, --no-wait takes %zu; leave it out",
			     send->address, size, xenmsg_max_at_once(send->conn));
		return EXIT_LIMIT;
	}
	if (r == 0 && send->traces)
		delivery_tell_name(send->conn, send->address);
	return r < 0 ? cli_error(send->conn, "send to", send->address, r) : EXIT_DONE;
}

static int send_one(struct send *send, const void *data, size_t size, bool progress)
{
	struct delivery *delivery = make_delivery(send);
	struct progress shown = {.send = send, .size = size};

	if (size > xenmsg_max_message(send->conn))
		return message_too_large(send->conn, "send to", send->address, size, false);
	interrupt_forbid();
	if (send->no_wait)
		return send_hand_over(send, data, size);
	if (progress && send->timeout_ms < 0) {
		delivery->tick = send_show_progress;
		delivery->userdata = &shown;
	}
	delivery_send(delivery, data, size);
	if (shown.tenths >= 5)
		fputs("\r\033[K", stderr);
	if (delivery->result.error == -EREMOTEIO)
		return tell_refused(send->address, delivery->result.code);
	return delivery->result.error < 0 ? delivery_complain(delivery) : EXIT_DONE;
}

static int send_file(struct send *send, const char *path)
{
	bool progress = path && strcmp(path, "-") != 0 && !send->cli->quiet && isatty(STDERR_FILENO);
	int r, code = EXIT_OTHER;
	char *data;
	size_t size;

	r = message_read(send->cli, path, "what you type is the message", xenmsg_max_message(send->conn),
			 &data, &size);
	if (r == 0)
		code = send_one(send, data, size, progress);
	else if (r == -EMSGSIZE)
		code = message_too_large(send->conn, "send to", send->address, size, true);
	free(data);
	return code;
}

/* ---- --lines: many on the way at a time ------------------------------------------------------ */

struct sent_line {
	struct send *send;
	uint64_t number;
	struct xenmsg_op *op;
	struct sent_line *prev, *next;
};

static void note_failure(struct send *send, uint64_t number, const struct xenmsg_result *result)
{
	send->failed++;
	send->unknown += result->fate == XENMSG_FATE_UNKNOWN;
	if (send->error)
		return;
	send->error = result->error;
	send->code = result->code;
	send->error_line = number;
}

static void on_line_done(void *userdata, const struct xenmsg_result *result)
{
	struct sent_line *line = userdata;
	struct send *send = line->send;

	DL_DELETE(send->outstanding, line);
	if (result->error < 0)
		note_failure(send, line->number, result);
	free(line);
}

static int send_line(struct send *send, const char *data, size_t size)
{
	struct delivery *delivery = make_delivery(send);

	send->sent++;
	if (delivery_send(delivery, data, size) < 0)
		note_failure(send, send->sent, &delivery->result);
	return delivery->result.error;
}

static int hand_over_line(struct send *send, const char *data, size_t size)
{
	struct xenmsg_result result;
	int r = xenmsg_send(send->conn, send->address, data, size, XENMSG_FLAGS(XENMSG_AT_ONCE), &result);

	send->sent++;
	if (r < 0)
		note_failure(send, send->sent, &result);
	else if (send->traces)
		delivery_tell_name(send->conn, send->address);
	return r;
}

static int post_line(void *userdata, const char *data, size_t size)
{
	struct send *send = userdata;
	struct sent_line *line;
	int r;

	if (send->no_wait)
		return hand_over_line(send, data, size);
	if (send->timeout_ms >= 0)
		return send_line(send, data, size);
	line = malloc(sizeof(*line));
	if (!line)
		return -ENOMEM;
	*line = (struct sent_line){.send = send, .number = ++send->sent};
	do {
		r = xenmsg_begin_send(send->conn, send->address, data, size, XENMSG_FLAGS(send->flags),
				      on_line_done, line, &line->op);
		if (r == -EAGAIN && interrupt_wait(send->conn, -1) == -ENOTCONN)
			r = -ENOTCONN;
	} while (r == -EAGAIN && !send->error && !interrupt_came());
	if (r < 0) {
		free(line);
		if (r == -EAGAIN)
			send->sent--; /* it is as if it had never been read */
		else
			note_failure(send, send->sent,
				     &(struct xenmsg_result){.error = r, .fate = XENMSG_FATE_NOT_DONE});
		return r;
	}
	DL_APPEND(send->outstanding, line);
	if (send->traces)
		delivery_tell_name(send->conn, send->address);
	return 0;
}

/* Takes back what wasn't taken yet, the last first: a line isn't to come without those before it. */
static void withdraw_lines(struct send *send)
{
	struct sent_line *line = send->outstanding ? send->outstanding->prev : NULL;

	interrupt_take();
	interrupt_allow_complaint(
		"send to %s: interrupted again; which of the last lines were delivered can't be known",
		send->address);
	for (; line; line = line == send->outstanding ? NULL : line->prev)
		xenmsg_op_withdraw(line->op);
}

/* Of these nobody says what became of them; xenmsg_close() frees them. */
static void give_up_lines(struct send *send)
{
	const struct xenmsg_result unknown = {.error = -ECONNRESET, .fate = XENMSG_FATE_UNKNOWN};
	struct sent_line *line;

	DL_FOREACH(send->outstanding, line)
		note_failure(send, line->number, &unknown);
}

static int tell_interrupted_lines(const struct send *send)
{
	unsigned long long unknown = send->unknown, delivered = send->sent - send->failed,
			   not_delivered = send->failed - send->unknown;

	if (unknown)
		cli_complain(
			"send to %s: interrupted; lines delivered: %llu, not delivered: %llu, can't be known: %llu",
			send->address, delivered, not_delivered, unknown);
	else
		cli_complain("send to %s: interrupted; lines delivered: %llu, not delivered: %llu",
			     send->address, delivered, not_delivered);
	return EXIT_OTHER;
}

static int send_lines(struct send *send)
{
	struct message_lines lines = {
		.conn = send->conn, .take = post_line, .userdata = send, .error = &send->error};
	int64_t settled = -1;
	char where[256];
	int r;

	cli_note_typing(send->cli, "each line that you type is a message");
	interrupt_forbid();
	r = message_lines_read(&lines);
	if (r < 0 && !send->error && !interrupt_came()) {
		send->error = r;
		send->error_line = r == -EMSGSIZE || r == -ENOMEM ? send->sent + 1 : 0;
	}
	do {
		if (interrupt_came() && settled < 0) {
			settled = deadline_in(DELIVERY_SETTLE_MS);
			withdraw_lines(send);
		}
		r = send->outstanding ? interrupt_wait(send->conn, settled) : 0;
	} while (send->outstanding && r != 0 && r != -ENOTCONN);
	give_up_lines(send);
	if (send->cli->verbose)
		cli_note(send->cli, "%llu lines delivered", (unsigned long long)(send->sent - send->failed));
	if (interrupt_came())
		return tell_interrupted_lines(send);
	if (!send->error)
		return EXIT_DONE;
	if (!send->error_line && lines.is_input) {
		cli_complain("standard input: %s", strerror(-send->error));
		return EXIT_OTHER;
	}
	if (send->error_line)
		snprintf(where, sizeof(where), "%s, line %llu%s", send->address,
			 (unsigned long long)send->error_line, send->failed > 1 ? " and more" : "");
	else
		snprintf(where, sizeof(where), "%s", send->address);
	interrupt_allow(NULL);
	return send->error == -EREMOTEIO ? tell_refused(where, send->code)
					 : cli_error(send->conn, "send to", where, send->error);
}

int cmd_send(struct cli *cli, int argc, char **argv)
{
	struct send send = {.cli = cli, .timeout_ms = -1};
	struct reconnecting reconnecting = {.cli = cli, .what = "send to"};
	const char *file = NULL, *message;
	bool lines = false, wait = false;
	const struct cli_option options[] = {
		{"file", .text = &file},
		{"lines", .flag = &lines},
		{"timeout", .ms = &send.timeout_ms, .least_ms = 1, .from_environment = true},
		{"no-wait", .flag = &send.no_wait},
		{"wait", .flag = &wait},
		{"trace", .flag = &send.traces},
		{0},
	};
	int code, left_ms;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("send", "to which address?");
	send.address = argv[optind++];
	code = message_argument("send", send.address, argc, argv, &message);
	if (code)
		return code;
	if ((message != NULL) + (file != NULL) + lines > 1)
		return cli_usage("send", "MESSAGE, --file and --lines exclude each other");
	if (wait && send.no_wait)
		return cli_usage("send", "--wait and --no-wait exclude each other");
	send.flags = wait ? XENMSG_WAIT : 0;
	if (cli->timeout_given && send.no_wait)
		return cli_usage("send", "--timeout and --no-wait exclude each other");
	left_ms = send.timeout_ms;
	code = reconnecting_open_timed(&reconnecting, send.address, wait, "it was not delivered", &send.conn,
				       &left_ms);
	if (code)
		return code;
	if (!lines)
		send.timeout_ms = left_ms;
	if (lines)
		code = send_lines(&send);
	else if (message)
		code = send_one(&send, message, strlen(message), false);
	else
		code = send_file(&send, file);
	xenmsg_close(send.conn);
	if (interrupt_came() && code == EXIT_DONE)
		cli_complain("send to %s: interrupted, but it was %s", send.address,
			     send.no_wait ? "handed over" : "delivered");
	interrupt_die();
	return code;
}
