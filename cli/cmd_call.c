/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <fcntl.h>

#include "cli/cli.h"
#include "cli/payload.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg call [OPTIONS] ADDRESS [MESSAGE]\n"
	"\n"
	"Calls ADDRESS (DOMAIN:ENDPOINT, for example 5:clock, work:print) with MESSAGE, or what comes on standard input (also for -), as the\n"
	"request, and prints the reply as it is.\n"
	"\n"
	"      --file FILE     the contents of FILE are the request\n"
	"      --exit-status   end with the exit status of the command that 'xenmsg serve' ran, and with 255 if there is none\n"
	"      --timeout S     give up after S seconds; the error says whether the request had been taken\n"
	"      --socket PATH, -q, -v, -h, --version: as for every command\n";

enum { OPTION_FILE = 256, OPTION_TIMEOUT, OPTION_EXIT_STATUS };

static int print_reply(struct xenmsg_message *reply)
{
	fwrite(xenmsg_message_data(reply), 1, xenmsg_message_size(reply), stdout);
	xenmsg_message_free(reply);
	return cli_flush();
}

static int call(struct xenmsg *conn, const char *address, const void *data, size_t size, int timeout_ms)
{
	struct xenmsg_message *reply;
	int r;

	if (size > xenmsg_max_message(conn)) {
		cli_complain("call %s: the request is larger than the limit of %zu bytes", address,
			     xenmsg_max_message(conn));
		return EXIT_LIMIT;
	}
	r = xenmsg_call(conn, address, data, size, &reply, timeout_ms);
	if (r == 0)
		return print_reply(reply);
	if (xenmsg_answered(conn)) {
		if (xenmsg_exit_status(conn))
			cli_complain(
				"call %s: the server answered with an error: %s; its command's exit status is %d",
				address, strerror(-r), xenmsg_exit_status(conn));
		else
			cli_complain("call %s: the server answered with an error: %s", address, strerror(-r));
		return EXIT_OTHER;
	}
	return cli_error(conn, "call", address, r);
}

static int call_with_file(struct xenmsg *conn, const char *address, const char *file, int timeout_ms)
{
	int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, r, code;
	char *data = NULL;
	size_t size = 0;

	r = fd < 0 ? -errno : payload_read(fd, xenmsg_max_message(conn), &data, &size);
	if (r == 0 || r == -EMSGSIZE) {
		code = call(conn, address, data, size, timeout_ms);
	} else {
		cli_complain("%s: %s", file ? file : "standard input", strerror(-r));
		code = EXIT_OTHER;
	}
	free(data);
	if (file && fd >= 0)
		close(fd);
	return code;
}

int cmd_call(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"file", required_argument, NULL, OPTION_FILE},
		{"timeout", required_argument, NULL, OPTION_TIMEOUT},
		{"exit-status", no_argument, NULL, OPTION_EXIT_STATUS},
		CLI_OPTIONS,
	};
	const char *file = NULL, *message = NULL, *address, *why;
	struct xenmsg *conn;
	struct address parsed;
	int option, code, timeout_ms = -1;
	bool exit_status = false;

	while ((option = getopt_long(argc, argv, CLI_SHORT, options, NULL)) != -1) {
		switch (option) {
		case OPTION_FILE:
			file = optarg;
			break;
		case OPTION_TIMEOUT:
			code = cli_seconds("call", "--timeout", optarg, 1, &timeout_ms);
			if (code)
				return code;
			break;
		case OPTION_EXIT_STATUS:
			exit_status = true;
			break;
		default:
			if (!cli_option(cli, option, "call", help, &code))
				return code;
		}
	}
	if (optind >= argc)
		return cli_usage("call", "which address?");
	address = argv[optind++];
	if (optind < argc)
		message = argv[optind++];
	if (optind < argc)
		return cli_usage("call", "too many arguments: quote a message of several words");
	if (message && strcmp(message, "-") == 0)
		message = NULL; /* "-" means the same as no argument: standard input */
	if (message && file)
		return cli_usage("call", "MESSAGE and --file exclude each other");
	if (address_parse(address, strlen(address), &parsed, &why) < 0)
		return cli_usage("call", "bad address '%s': %s", address, why);
	code = cli_open_timed(cli, &conn, &timeout_ms);
	if (code)
		return exit_status ? EXIT_NO_STATUS : code;
	if (file && strcmp(file, "-") == 0)
		file = NULL;
	code = message ? call(conn, address, message, strlen(message), timeout_ms)
		       : call_with_file(conn, address, file, timeout_ms);
	if (exit_status && code)
		code = xenmsg_exit_status(conn) ? xenmsg_exit_status(conn) : EXIT_NO_STATUS;
	xenmsg_close(conn);
	return code;
}
