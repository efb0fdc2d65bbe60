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
#include "cli/writer.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg call [OPTIONS] ADDRESS [MESSAGE]\n"
	"\n"
	"Calls ADDRESS (DOMAIN:ENDPOINT, on another host HOST/DOMAIN:ENDPOINT) with\n"
	"MESSAGE, or what comes on standard input (also for -), as the request, and\n"
	"prints the reply.\n"
	"\n"
	"      --file FILE     the contents of FILE are the request\n"
	"      --exit-status   end with the exit status of the command that 'xenmsg\n"
	"                      serve' ran, and with 255 if there is none\n"
	"      --json          print the reply as a JSON object: address, size, and the\n"
	"                      payload as text if it is UTF-8, else as base64\n"
	"      --raw           print the reply as it is at a terminal, too, where control\n"
	"                      characters are escaped else\n"
	"  -t, --timeout S     give up after S seconds: exit status 6 if the request\n"
	"                      never was and will be taken, 8 if it was\n"
	"      --wait          wait, within the time-out, until the server is there: its\n"
	"                      domain, its daemon, and a program that has bound the\n"
	"                      endpoint\n"
	"\n"
	"Examples:\n"
	"  xenmsg call 5:clock ''\n"
	"  xenmsg call work:upper 'words' --timeout 5s\n"
	"  xenmsg call --file question.json --json hostb/work:answers\n";

#define LINE_MAX_SIZE 400 /* of what comes with an error: more is no line for people */

struct call_command {
	const struct cli *cli;
	struct xenmsg *conn;
	const char *address;
	int timeout_ms;
	bool json, raw, wait;
	struct delivery delivery;
	bool answered; /* with a reply */
};

static int print_json(const char *address, struct xenmsg_message *reply)
{
	struct writer *writer = writer_new(WRITER_JSON_LINES);
	int code;

	writer_text(writer, "address", address);
	writer_payload(writer, xenmsg_message_data(reply), xenmsg_message_size(reply));
	code = writer_end_row(writer);
	writer_free(writer);
	return code;
}

static int print_reply(struct call_command *call, struct xenmsg_message *reply)
{
	int code;

	call->answered = true;
	if (call->json)
		code = print_json(call->address, reply);
	else
		code = (call->raw ? cli_output : cli_show_whole)(xenmsg_message_data(reply),
								 xenmsg_message_size(reply));
	xenmsg_message_free(reply);
	return code;
}

/* Returns whether these are a line that can stand in a complaint. */
static bool is_line(const char *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if ((unsigned char)data[i] < ' ')
			return false;
	return size > 0 && size <= LINE_MAX_SIZE;
}

/* The server has answered with an error of its own. */
static int tell_answer(struct call_command *call, const struct xenmsg_result *result)
{
	struct xenmsg_message *data = result->reply;

	if (data && is_line(xenmsg_message_data(data), xenmsg_message_size(data)))
		cli_complain("call %s: the server answered with error %u: %.*s", call->address, result->code,
			     (int)xenmsg_message_size(data), (const char *)xenmsg_message_data(data));
	else if (result->exit_status)
		cli_complain("call %s: the server answered with an error: its command's exit status is %d",
			     call->address, result->exit_status);
	else
		cli_complain("call %s: the server answered with error %u", call->address, result->code);
	xenmsg_message_free(data);
	return EXIT_ANSWERED;
}

static int make_call(struct call_command *call, const void *data, size_t size)
{
	struct delivery *delivery = &call->delivery;
	int code;

	if (size > xenmsg_max_message(call->conn)) {
		cli_complain("call %s: the request is larger than the limit of %zu bytes", call->address,
			     xenmsg_max_message(call->conn));
		return EXIT_LIMIT;
	}
	interrupt_forbid();
	*delivery = (struct delivery){.cli = call->cli,
				      .conn = call->conn,
				      .what = "call",
				      .address = call->address,
				      .timeout_ms = call->timeout_ms,
				      .flags = call->wait ? XENMSG_WAIT : 0};
	switch (delivery_call(delivery, data, size)) {
	case 0:
		return print_reply(call, delivery->result.reply);
	case -EREMOTEIO:
		return tell_answer(call, &delivery->result);
	default:
		code = delivery_complain(delivery);
		return delivery->result.fate == XENMSG_FATE_UNKNOWN ? EXIT_LOST : code;
	}
}

static int call_with_file(struct call_command *call, const char *file)
{
	char *data;
	size_t size;
	int r = message_read(call->cli, file, "what you type is the request", xenmsg_max_message(call->conn),
			     &data, &size);
	int code = r == 0 || r == -EMSGSIZE ? make_call(call, data, size) : EXIT_OTHER;

	free(data);
	return code;
}

int cmd_call(struct cli *cli, int argc, char **argv)
{
	const char *file = NULL, *message;
	struct call_command call = {.cli = cli, .timeout_ms = -1};
	struct reconnecting reconnecting = {.cli = cli, .what = "call"};
	bool exit_status = false;
	const struct cli_option options[] = {
		{"file", .text = &file},
		{"timeout", .ms = &call.timeout_ms, .least_ms = 1, .from_environment = true},
		{"exit-status", .flag = &exit_status},
		{"json", .flag = &call.json},
		{"raw", .flag = &call.raw},
		{"wait", .flag = &call.wait},
		{0},
	};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("call", "which address?");
	call.address = argv[optind++];
	code = message_argument("call", call.address, argc, argv, &message);
	if (code)
		return code;
	if (message && file)
		return cli_usage("call", "MESSAGE and --file exclude each other");
	if (call.json && call.raw)
		return cli_usage("call", "--json and --raw exclude each other");
	code = reconnecting_open_timed(&reconnecting, call.address, call.wait, "it was not delivered",
				       &call.conn, &call.timeout_ms);
	if (code)
		return exit_status ? EXIT_NO_STATUS : code;
	code = message ? make_call(&call, message, strlen(message)) : call_with_file(&call, file);
	if (exit_status && code)
		code = call.delivery.result.exit_status ? call.delivery.result.exit_status : EXIT_NO_STATUS;
	xenmsg_close(call.conn);
	if (interrupt_came() && call.answered)
		cli_complain("call %s: interrupted, but it was carried out%s", call.address,
			     code ? "; its reply isn't printed" : "");
	interrupt_die();
	return code;
}
