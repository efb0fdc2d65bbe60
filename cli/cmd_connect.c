/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* connect and listen: byte streams on standard input and output, or a command for each. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/pump.h"

static const char connect_help[] =
	"Usage: xenmsg connect [OPTIONS] ADDRESS\n"
	"\n"
	"Opens a byte stream to ADDRESS (DOMAIN:ENDPOINT) and carries it on standard input and output. The end of standard\n"
	"input ends only that direction.\n"
	"\n"
	"      --timeout S     give up after S seconds if there is no stream by then\n"
	"      --socket PATH, -q, -v, -h, --version: as for every command\n";

static const char listen_help[] =
	"Usage: xenmsg listen [OPTIONS] ENDPOINT [-- COMMAND ARGUMENT...]\n"
	"\n"
	"Accepts byte streams on ENDPOINT: one, on standard input and output, or, with a COMMAND, any number at once: each runs\n"
	"the command with the stream as its standard input and output, and who opened it in XENMSG_SENDER_DOMID, _NAME, _UID and\n"
	"_PID in its environment.\n"
	"\n"
	"      --socket PATH, -q, -v, -h, --version: as for every command\n";

enum { OPTION_TIMEOUT = 256 };

static const struct option connect_options[] = {
	{"timeout", required_argument, NULL, OPTION_TIMEOUT},
	CLI_OPTIONS,
};

static const struct option listen_options[] = {CLI_OPTIONS};

/* ---- one stream on standard input and output ------------------------------------------------- */

struct stdio {
	struct event_base *base;
	int error;
	bool at_stream;
};

static void on_done(void *userdata, struct pump *pump, int error, bool at_left)
{
	struct stdio *stdio = userdata;

	stdio->error = error;
	stdio->at_stream = !at_left;
	event_base_loopbreak(stdio->base);
}

static int carry_stdio(struct xenmsg *conn, int stream, const char *command, const char *subject)
{
	struct stdio stdio = {.base = pump_base_new()};
	struct pump_end left = {STDIN_FILENO, STDOUT_FILENO, NULL}, right = {stream, stream, xenmsg_break};
	struct pump *pump = stdio.base ? pump_new(stdio.base, left, right, on_done, &stdio) : NULL;
	int code = EXIT_DONE;

	if (!pump)
		return cli_error(conn, command, subject, -ENOMEM);
	event_base_dispatch(stdio.base);
	if (stdio.error && stdio.at_stream) {
		code = cli_error(conn, command, subject, stdio.error == EPIPE ? -ECONNRESET : -stdio.error);
	} else if (stdio.error && stdio.error != EPIPE) {
		cli_complain("%s %s: standard input or output: %s", command, subject, strerror(stdio.error));
		code = EXIT_OTHER;
	}
	pump_free(pump);
	event_base_free(stdio.base);
	return code;
}

int cmd_connect(struct cli *cli, int argc, char **argv)
{
	struct xenmsg *conn;
	int option, code, timeout_ms = -1, stream;

	while ((option = getopt_long(argc, argv, CLI_SHORT, connect_options, NULL)) != -1) {
		if (option == OPTION_TIMEOUT) {
			code = cli_seconds("connect", "--timeout", optarg, 0, &timeout_ms);
			if (code)
				return code;
		} else if (!cli_option(cli, option, "connect", connect_help, &code)) {
			return code;
		}
	}
	if (argc - optind != 1)
		return cli_usage("connect", argc == optind ? "to which ADDRESS?" : "it takes one ADDRESS");
	code = cli_open(cli, &conn);
	if (code)
		return code;
	stream = xenmsg_connect(conn, argv[optind], timeout_ms);
	code = stream < 0 ? cli_error(conn, "connect to", argv[optind], stream)
			  : carry_stdio(conn, stream, "connect to", argv[optind]);
	xenmsg_close(conn);
	return code;
}

/* ---- listen ---------------------------------------------------------------------------------- */

/* The command in a process of its own, with the stream as its standard input and output. */
static int run_for(int stream, const struct xenmsg_peer *peer, char **command)
{
	pid_t pid = fork();

	if (pid != 0) {
		int error = errno;

		close(stream);
		return pid < 0 ? -error : 0;
	}
	signal(SIGPIPE, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	interrupt_restore();
	command_set_sender(peer->domid, peer->domain_name, peer->uid, peer->pid);
	if (dup2(stream, STDIN_FILENO) >= 0 && dup2(stream, STDOUT_FILENO) >= 0)
		execvp(command[0], command);
	cli_complain("listen: %s: %s", command[0], strerror(errno));
	_exit(127);
}

static int serve(struct xenmsg *conn, const char *endpoint, char **command)
{
	struct xenmsg_peer peer;
	int r;

	signal(SIGCHLD, SIG_IGN); /* nobody waits for the commands */
	interrupt_catch();
	while (!interrupt_came()) {
		int stream = xenmsg_accept(conn, &peer, 0);

		if (stream == -EAGAIN) {
			r = interrupt_wait(conn, -1);
			if (r < 0 && r != -EINTR)
				return cli_error(conn, "listen on", endpoint, r);
			continue;
		}
		if (stream < 0)
			return cli_error(conn, "listen on", endpoint, stream);
		r = run_for(stream, &peer, command);
		if (r < 0)
			cli_complain("listen on %s: can't start a process: %s", endpoint, strerror(-r));
	}
	return EXIT_DONE;
}

int cmd_listen(struct cli *cli, int argc, char **argv)
{
	char **command = cli_command(&argc, argv);
	struct xenmsg *conn;
	const char *endpoint;
	int option, code, r, stream;

	while ((option = getopt_long(argc, argv, CLI_SHORT, listen_options, NULL)) != -1)
		if (!cli_option(cli, option, "listen", listen_help, &code))
			return code;
	if (argc == optind)
		return cli_usage("listen", "on which ENDPOINT?");
	endpoint = argv[optind++];
	if (optind < argc)
		return cli_usage("listen", "'%s' is too much: a command stands behind --", argv[optind]);
	if (command && !command_can_be_run(command[0]))
		return cli_usage("listen", "the command '%s' can't be run: %s", command[0], strerror(errno));
	code = cli_open(cli, &conn);
	if (code)
		return code;
	r = xenmsg_listen(conn, endpoint, 0);
	if (r < 0)
		code = cli_error(conn, "listen on", endpoint, r);
	else if (command)
		code = serve(conn, endpoint, command);
	else if ((stream = xenmsg_accept(conn, NULL, -1)) < 0)
		code = cli_error(conn, "listen on", endpoint, stream);
	else
		code = carry_stdio(conn, stream, "listen on", endpoint);
	xenmsg_close(conn);
	return code;
}
