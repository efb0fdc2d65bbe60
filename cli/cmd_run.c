/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* run: a command in another domain, with its standard input, output, error and exit status; vchan: one here,
 * with libxenmsg-vchan in libxenvchan's place. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/run_session.h"

static const char run_help[] =
	"Usage: xenmsg run [OPTIONS] ADDRESS [ARGUMENT...]\n"
	"\n"
	"Runs the command that 'xenmsg listen --run' serves at ADDRESS (DOMAIN:ENDPOINT),\n"
	"with the standard input, output and error of this one, and ends with its exit\n"
	"status. It takes arguments only if it is served with --args. If xenmsg itself\n"
	"fails or the connection is lost, the exit status is 255. When this command dies,\n"
	"the other one gets SIGTERM. Options stand before ADDRESS.\n"
	"\n"
	"  -t, --timeout S     give up after S seconds if there is no connection by then,\n"
	"                      and after as many (10) if no 'listen --run' answers there\n"
	"      --wait          wait, within the time-out, until the other side is there:\n"
	"                      its domain, its daemon, and a program that has bound the\n"
	"                      endpoint\n"
	"  -n, --no-input      read nothing: the other command's standard input is\n"
	"                      empty, and that of a loop or a script stays whole\n"
	"\n"
	"Examples:\n"
	"  xenmsg run work:build\n"
	"  xenmsg run --timeout 5s 5:words - <README.md\n";

#define READY_MS 10000 /* how long the other side may take to answer START, without --timeout */

struct run {
	struct loop loop;
	struct xenmsg *conn;
	const struct cli *cli;
	struct event *late; /* it hasn't answered */
	int timeout_ms, ready_ms;
	bool no_input;
	bool is_told; /* who watches, that it takes long */
	struct run_session *session;
	const char *address;
	bool ready, over;
	int code; /* the exit status, once it is over */
};

static void end_if_done(struct run *run)
{
	if (run->over && run_session_sinks_ended(run->session))
		event_base_loopbreak(run->loop.base);
}

/* Returns the descriptor that is read for the other command, or a negative errno. */
static int run_input(const struct run *run)
{
	int fd = run->no_input ? open("/dev/null", O_RDONLY | O_CLOEXEC) : STDIN_FILENO;

	return fd < 0 ? -errno : fd;
}

static int run_on_record(void *userdata, const struct run_record *record)
{
	struct run *run = userdata;

	if (run->over)
		return -EPROTO;
	if (record->type == RUN_READY && !run->ready) {
		int input = run_input(run);

		run->ready = true;
		event_del(run->late);
		return input < 0 ? input : run_session_source(run->session, STDIN_FILENO, input);
	}
	if (record->type == RUN_REFUSED) {
		cli_complain("run %s: refused: %.*s", run->address, record->size, (const char *)record->body);
		run->over = true;
		event_base_loopbreak(run->loop.base);
		return 0;
	}
	/* Behind EXIT nothing comes: we would wait for the end of an output for ever. */
	if (record->type != RUN_EXIT || !run->ready || !run_session_sinks_complete(run->session))
		return -EPROTO;
	run->over = true;
	run->code = (int)record->value;
	/* The other side may go; what has come is still to be written. */
	run_session_hang_up(run->session);
	end_if_done(run);
	return 0;
}

static void run_on_ended(void *userdata)
{
	end_if_done(userdata);
}

static void run_on_lost(void *userdata, int error)
{
	struct run *run = userdata;

	if (run->over)
		return;
	if (!run->ready && (error == EPROTO || !error))
		cli_complain("run %s: that endpoint isn't served by 'xenmsg listen --run'", run->address);
	else if (error == EPROTO)
		cli_complain("run %s: the other side breaks the protocol; are both of the same version?",
			     run->address);
	else
		cli_complain("run %s: %s; how the command ended can't be known", run->address,
			     error == ECONNRESET ? run_session_why_broken(run->session, run->conn)
			     : error		 ? strerror(error)
						 : "the listener there has ended");
	run->over = true;
	end_if_done(run);
}

/* Returns the size of START's body, or -E2BIG. */
static int make_start(char body[RUN_BODY_MAX], char **arguments)
{
	size_t size = RUN_GREETING_SIZE;

	memcpy(body, RUN_GREETING, RUN_GREETING_SIZE);
	for (; *arguments; arguments++) {
		size_t more = strlen(*arguments) + 1;

		if (more > RUN_BODY_MAX - size)
			return -E2BIG;
		memcpy(body + size, *arguments, more);
		size += more;
	}
	return (int)size;
}

static void set_late(struct run *run, int ms)
{
	struct timeval after = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_add(run->late, &after);
}

static void run_on_late(evutil_socket_t fd, short what, void *userdata)
{
	struct run *run = userdata;
	bool was_told = run->is_told;

	run->is_told = true;
	if (!was_told &&
	    long_wait_rest(run->cli, run->conn, "run", run->address, "no answer", run->timeout_ms)) {
		set_late(run, run->ready_ms - CLI_LONG_MS);
		return;
	}
	if (run->timeout_ms < 0 && cli_is_away(run->conn, run->address)) {
		set_late(run, run->ready_ms);
		return;
	}
	cli_complain(
		"run %s: nobody there has answered within %g s as 'xenmsg listen --run' does; whether the command was run "
		"can't be known. If a plain 'xenmsg listen' serves it: xenmsg connect %s",
		run->address, run->ready_ms / 1000.0, run->address);
	/* A plain listen isn't to wait for more. */
	run_session_break(run->session);
	run->over = true;
	event_base_loopbreak(run->loop.base);
}

/* When the connection ends, the other side sends SIGTERM. */
static void tell_interrupted(const struct run *run)
{
	if (run->over)
		cli_complain(
			"run %s: interrupted; the command has ended, but not all that it wrote is written here",
			run->address);
	else if (run->ready)
		cli_complain("run %s: interrupted; the command gets SIGTERM, and how it ends can't be known",
			     run->address);
	else
		cli_complain("run %s: interrupted; whether the command was run can't be known", run->address);
}

static void run_command(struct run *run, int stream, const char *start, size_t size)
{
	static const struct run_session_callbacks callbacks = {run_on_record, run_on_ended, run_on_lost};
	int error = -loop_init(&run->loop, LOOP_FOR_FILES);

	if (error == 0)
		run->late = evtimer_new(run->loop.base, run_on_late, run);
	if (!run->late) {
		cli_complain("run %s: %s%s", run->address, strerror(error ? error : ENOMEM),
			     cli_limit_of(error));
		loop_cleanup(&run->loop);
		close(stream);
		return;
	}
	run->session = run_session_new(run->loop.base, stream, &callbacks, run);
	if (run->session && run_session_sink(run->session, STDOUT_FILENO, STDOUT_FILENO) == 0 &&
	    run_session_sink(run->session, STDERR_FILENO, dup(STDERR_FILENO)) == 0) {
		run_session_send(run->session, RUN_START, 0, start, size);
		set_late(run, run->is_told ? run->ready_ms : long_wait_first(run->cli, run->ready_ms));
		event_base_dispatch(run->loop.base);
		if (run->loop.signal)
			tell_interrupted(run);
		error = run_session_sink_error(run->session);
		if (error) {
			cli_complain("run %s: standard output or error: %s", run->address, strerror(error));
			run->code = EXIT_NO_STATUS;
		}
	} else {
		cli_complain("run %s: %s", run->address, strerror(ENOMEM));
		if (!run->session)
			close(stream);
	}
	run_session_free(run->session);
	loop_event_free(run->late);
	loop_cleanup(&run->loop);
}

int cmd_run(struct cli *cli, int argc, char **argv)
{
	struct run run = {.cli = cli, .code = EXIT_NO_STATUS, .timeout_ms = -1};
	struct reconnecting reconnecting = {.cli = cli, .what = "run"};
	char start[RUN_BODY_MAX];
	bool wait = false;
	int code, rest_ms, stream, size;
	unsigned flags;
	const struct cli_option options[] = {{"timeout", .ms = &run.timeout_ms, .from_environment = true},
					     {"wait", .flag = &wait},
					     {"no-input", .flag = &run.no_input},
					     {0}};

	/* What follows the address are the other command's arguments, whatever they look like. */
	if (!cli_options_in_front(cli, argc, argv, run_help, options, &code))
		return code;
	if (optind == argc)
		return cli_usage("run", "at which ADDRESS?");
	run.address = argv[optind];
	if (cli_check_address("run", run.address))
		return EXIT_USAGE;
	if (optind + 1 < argc &&
	    !strcmp(argv[optind + 1], "--")) /* as one writes it for others that run commands */
		optind++;
	size = make_start(start, argv + optind + 1);
	if (size < 0)
		return cli_usage("run", "the arguments are too long: at most %d bytes",
				 RUN_BODY_MAX - RUN_GREETING_SIZE);
	if (reconnecting_open_timed(&reconnecting, run.address, wait, "the command was not run", &run.conn,
				    &run.timeout_ms))
		return EXIT_NO_STATUS;
	run.ready_ms = run.timeout_ms > 0 ? run.timeout_ms : READY_MS;
	flags = wait ? XENMSG_WAIT : 0;
	stream = xenmsg_connect(run.conn, run.address,
				XENMSG_WITH(long_wait_first(cli, run.timeout_ms), flags));
	run.is_told = stream == -ETIMEDOUT;
	if (run.is_told &&
	    (rest_ms = long_wait_rest(cli, run.conn, "run", run.address, "no answer", run.timeout_ms)))
		stream = xenmsg_connect(run.conn, run.address, XENMSG_WITH(rest_ms, flags));
	if (stream < 0)
		cli_error(run.conn, "run", run.address, stream);
	else
		run_command(&run, stream, start, (size_t)size);
	xenmsg_close(run.conn);
	interrupt_die_of(run.loop.signal);
	return run.code;
}

/* ---- vchan ---------------------------------------------------------------------------------- */

#define EXIT_NOT_RUN 127

static const char vchan_help[] =
	"Usage: xenmsg vchan [OPTIONS] [--] PROGRAM [ARGUMENT...]\n"
	"\n"
	"Runs a program that was written for libxenvchan over xenmsg instead, with no\n"
	"device and no right but those that policy gives: its vchans are byte streams\n"
	"to and from endpoints 'vchan-*'. Binding one is for root and those whom a\n"
	"[bind] rule allows it, for example members of the group xenmsg-vchan. Both\n"
	"sides have to run so: a vchan of Xen's own can't be reached. The exit status\n"
	"is the program's; 127 if it can't be run.\n"
	"\n"
	"Examples:\n"
	"  xenmsg vchan -- vchan-socket-proxy -m server 5 data/vchan/5/print /run/print\n"
	"  xenmsg vchan -- vchan-socket-proxy 3 /local/domain/3/data/vchan/5/print -\n";

static int preload(void)
{
	const char *others = getenv("LD_PRELOAD");
	char *value;
	int r;

	if (asprintf(&value, "%s%s%s", VCHAN_LIBRARY, others && *others ? ":" : "", others ? others : "") < 0)
		return -1;
	r = setenv("LD_PRELOAD", value, 1);
	free(value);
	return r;
}

int cmd_vchan(struct cli *cli, int argc, char **argv)
{
	const struct cli_option options[] = {{0}};
	int code;

	if (!cli_options_in_front(cli, argc, argv, vchan_help, options, &code))
		return code;
	if (optind < argc && !strcmp(argv[optind], "--"))
		optind++;
	if (optind == argc)
		return cli_usage("vchan", "which PROGRAM?");
	if (access(VCHAN_LIBRARY, R_OK) < 0) {
		cli_complain("vchan: %s: %s", VCHAN_LIBRARY, strerror(errno));
		return EXIT_NOT_RUN;
	}
	if (preload() < 0 || (cli->socket && setenv("XENMSG_SOCKET", cli->socket, 1) < 0)) {
		cli_complain("vchan: %s", strerror(errno));
		return EXIT_NOT_RUN;
	}
	execvp(argv[optind], argv + optind);
	cli_complain("vchan: %s: %s", argv[optind], strerror(errno));
	return EXIT_NOT_RUN;
}
