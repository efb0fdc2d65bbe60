/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* connect and listen: connect byte streams to standard input and output, or to a command for each. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/pump.h"
#include "cli/run_session.h"
#include "wire/libc.h"
#include "wire/stream_break.h"
#include "wire/ut.h"

static const char connect_help[] =
	"Usage: xenmsg connect [OPTIONS] ADDRESS\n"
	"\n"
	"Opens a byte stream to ADDRESS (DOMAIN:ENDPOINT) and carries it on standard\n"
	"input and output. The end of standard input ends only that direction; the\n"
	"command ends when the other side has sent something and ended.\n"
	"\n"
	"      --keep-open     go on sending standard input, until its end, when the\n"
	"                      other side has ended only its direction\n"
	"  -t, --timeout S     give up after S seconds if there is no stream by then\n"
	"      --wait          wait, within the time-out, until the other side is there:\n"
	"                      its domain, its daemon, and a program that has bound the\n"
	"                      endpoint\n"
	"\n"
	"Examples:\n"
	"  xenmsg connect work:chat\n"
	"  tar c . | xenmsg connect 5:backup\n";

static const char listen_help[] =
	"Usage: xenmsg listen [OPTIONS] ENDPOINT [-- COMMAND ARGUMENT...]\n"
	"\n"
	"Accepts byte streams on ENDPOINT: one, on standard input and output, or, with a\n"
	"COMMAND, any number at once: each runs the command with the stream as its\n"
	"standard input and output. Its environment says who opened it:\n"
	"XENMSG_SENDER_HOST, _DOMID, _NAME, _UID and _PID. XENMSG_ID is what xenmsg\n"
	"trace calls the stream.\n"
	"\n"
	"      --run           for 'xenmsg run': its caller also gets the command's\n"
	"                      standard error and exit status\n"
	"      --args          with --run: the command gets the caller's arguments,\n"
	"                      behind its own\n"
	"      --shared        other programs of this user may listen on ENDPOINT beside\n"
	"                      this one, if all say so: each stream is accepted by one,\n"
	"                      and those that one hasn't accepted when it ends by another\n"
	"      --once          end when the xenmsgd of this domain ends; else it goes on\n"
	"                      with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg listen backup </dev/null >backup.tar\n"
	"  xenmsg listen shout -- tr a-z A-Z\n"
	"  xenmsg listen --run --args words -- wc -w --\n";

static const char connecting[] = "connect to";

#define LOOK_S 1 /* between looks whether commands have closed their streams */

/* ---- one stream on standard input and output ------------------------------------------------- */

struct stdio {
	struct loop loop;
	int error;
	bool at_stream;
};

static void on_done(void *userdata, struct pump *pump, int error, bool at_left)
{
	struct stdio *stdio = userdata;

	stdio->error = error;
	stdio->at_stream = !at_left;
	event_base_loopbreak(stdio->loop.base);
}

static void break_stream(void *userdata, int fd, bool ended)
{
	xenmsg_break(fd);
}

/* What was carried isn't the whole: the other side sees a stream that breaks. */
static void break_off(struct stdio *stdio, struct pump *pump, const char *command, const char *subject)
{
	struct pollfd complaints = {.fd = STDERR_FILENO, .events = POLLOUT};

	interrupt_allow_complaint("%s %s: interrupted again; the other side may take what came for the whole",
				  command, subject);
	loop_release_signals(&stdio->loop);
	pump_break(pump); /* first: nobody may read standard error */
	if (poll(&complaints, 1, 0) != 1)
		return;
	cli_complain(
		"%s %s: interrupted; the other side sees a stream that breaks, and what it has read can't be known",
		command, subject);
}

static int tell_broken(struct xenmsg *conn, int stream, const char *command, const char *subject, int error)
{
	if (error != ECONNRESET)
		return cli_error(conn, command, subject, -error);
	return cli_error_because(cli_why_broken(conn, stream), command, subject, -error);
}

/* ---- what `xenmsg run` opens, to a listener without --run ----------------------------------------
 *
 * The listener alone can see that, and only if it has no command: with one, what comes may be for another
 * endpoint, to which the command carries it. */

static bool is_of_run(const char *bytes, size_t size)
{
	return size >= RUN_HEADER_SIZE + RUN_GREETING_SIZE && bytes[0] == RUN_START &&
	       !memcmp(bytes + RUN_HEADER_SIZE, RUN_GREETING, RUN_GREETING_SIZE);
}

/* Tells `xenmsg run` why nothing is run for it. */
static void send_refusal(int stream, const char *why)
{
	uint8_t record[RUN_RECORD_MAX];

	send(stream, record, run_record_encode(RUN_REFUSED, 0, why, strlen(why), record),
	     MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int refuse_run(int stream, const char *subject)
{
	send_refusal(stream, "'xenmsg listen' without --run serves that endpoint; try xenmsg connect");
	cli_complain("listen on %s: 'xenmsg run' has opened the stream, and needs a listener with --run",
		     subject);
	return EXIT_OTHER;
}

/* Dies of a signal that comes meanwhile. */
static int carry_stdio(struct xenmsg *conn, int stream, const char *command, const char *subject,
		       bool keep_open)
{
	struct stdio stdio = {.error = 0};
	struct pump_end left = {.in = STDIN_FILENO, .out = STDOUT_FILENO};
	struct pump_end right = {.in = stream, .out = stream, .break_socket = break_stream};
	struct pump *pump = NULL;
	int code = EXIT_DONE, r = loop_init(&stdio.loop, LOOP_FOR_FILES);

	if (r < 0)
		stream_break(stream, -r);
	else
		pump = pump_new(stdio.loop.base, left, right, on_done, &stdio);
	if (!pump) {
		loop_cleanup(&stdio.loop);
		return cli_error(conn, command, subject, r < 0 ? r : -ENOMEM);
	}
	if (!keep_open)
		pump_ends_with_right(pump);
	if (strcmp(command, connecting) != 0)
		pump_refuse(pump, is_of_run);
	event_base_dispatch(stdio.loop.base);
	if (stdio.loop.signal) {
		break_off(&stdio, pump, command, subject);
		pump = NULL;
	} else if (stdio.error == EPROTO && stdio.at_stream) {
		code = refuse_run(stream, subject);
	} else if (stdio.error && stdio.at_stream) {
		code = tell_broken(conn, stream, command, subject, stdio.error);
	} else if (stdio.error) {
		cli_complain("%s %s: standard input or output: %s", command, subject, strerror(stdio.error));
		code = EXIT_OTHER;
	} else if (pump_is_cut(pump) && !pump_has_brought(pump)) {
		/* Else it has had enough, as with a pipe. */
		code = cli_error_because(
			"the program there has closed it before it had taken all, and has sent nothing",
			command, subject, -ECONNRESET);
	}
	pump_free(pump);
	loop_cleanup(&stdio.loop);
	interrupt_die_of(stdio.loop.signal);
	return code;
}

int cmd_connect(struct cli *cli, int argc, char **argv)
{
	struct reconnecting reconnecting = {.cli = cli, .what = connecting};
	struct xenmsg *conn;
	int code, timeout_ms = -1, rest_ms, stream;
	unsigned flags;
	bool keep_open = false, waits = false;
	const struct cli_option options[] = {{"timeout", .ms = &timeout_ms, .from_environment = true},
					     {"keep-open", .flag = &keep_open},
					     {"wait", .flag = &waits},
					     {0}};

	if (!cli_options(cli, argc, argv, connect_help, options, &code))
		return code;
	if (argc - optind != 1)
		return cli_usage("connect",
				 argc == optind ? "to which ADDRESS?" : "connect takes one ADDRESS");
	if (cli_check_address("connect", argv[optind]))
		return EXIT_USAGE;
	code = reconnecting_open_timed(&reconnecting, argv[optind], waits, "there was no stream yet", &conn,
				       &timeout_ms);
	if (code)
		return code;
	flags = waits ? XENMSG_WAIT : 0;
	stream = xenmsg_connect(conn, argv[optind], XENMSG_WITH(long_wait_first(cli, timeout_ms), flags));
	if (stream == -ETIMEDOUT &&
	    (rest_ms = long_wait_rest(cli, conn, connecting, argv[optind], "no stream", timeout_ms)))
		stream = xenmsg_connect(conn, argv[optind], XENMSG_WITH(rest_ms, flags));
	code = stream < 0 ? cli_error(conn, connecting, argv[optind], stream)
			  : carry_stdio(conn, stream, connecting, argv[optind], keep_open);
	xenmsg_close(conn);
	return code;
}

/* ---- listen --run: a command for each stream ---------------------------------------------------
 *
 * Its opener gets the command's standard output, error and exit status (doc/protocol.md, 6.2). */

/* A stream costs its descriptor, three pipes and a pidfd, and for a moment the other ends of the pipes. */
#define DESCRIPTORS_EACH 8
#define DESCRIPTORS_OWN	 32
#define START_S		 5 /* how long an opener may take to say what it wants */
#define STOP_S		 5 /* until a command that was asked to end is killed */
#define STOP_REST_S	 1 /* once it has ended: until what is left of its process group is killed */

struct run_server {
	struct event_base *base;
	const struct cli *cli;
	const char *endpoint;
	char **command;
	bool takes_arguments;
	unsigned count, most;
	struct run_job *jobs;
};

/*
 * One stream:
 *
 *   greeting ──START──▶ running ──command and its outputs have ended, EXIT is sent──▶ answered ──opener closes──▶ gone
 *      └──the command can't run, REFUSED is sent───────────────────────────────────────▲
 *
 * An opener that sends no START within START_S is broken off: greeting ──▶ gone. One that goes while the
 * command runs ends it:
 *
 *   running ──SIGTERM──▶ ending ──command has ended──▶ leaving ──STOP_REST_S, SIGKILL──▶ gone
 *                           └──STOP_S, SIGKILL─────────────▲
 *
 * In `leaving` the command is a zombie, so that the number of its process group can't be another's by then.
 */
struct run_job {
	struct run_job *prev, *next;
	struct run_server *server;
	struct run_session *session;
	struct command_peer from; /* the program that has opened it */
	struct event *on_end, *gone;
	struct event *deadline; /* for START, or of a command that is to end */
	struct command_child child;
	int status;
	bool started, ended, answered, lost;
};

static void free_job(struct run_job *job)
{
	DL_DELETE(job->server->jobs, job);
	job->server->count--;
	if (job->child.pid > 0 && !job->ended)
		kill(-job->child.pid, SIGTERM);
	loop_event_free(job->on_end);
	loop_event_free(job->gone);
	loop_event_free(job->deadline);
	if (job->child.pidfd >= 0)
		close(job->child.pidfd);
	run_session_free(job->session);
	free(job);
}

static void connect_on_gone(evutil_socket_t fd, short what, void *userdata)
{
	free_job(userdata);
}

/* Frees it from the loop, not from within its session. */
static void connect_leave(struct run_job *job)
{
	event_active(job->gone, EV_TIMEOUT, 0);
}

static void set_deadline(struct run_job *job, int seconds)
{
	struct timeval after = {.tv_sec = seconds};

	event_add(job->deadline, &after);
}

static void on_deadline(evutil_socket_t fd, short what, void *userdata)
{
	struct run_job *job = userdata;

	if (!job->started) {
		cli_note(job->server->cli,
			 "listen on %s: a stream from %s is broken: nothing was asked for within %d s",
			 job->server->endpoint, job->from.words, START_S);
		run_session_break(job->session);
		free_job(job);
		return;
	}
	kill(-job->child.pid, SIGKILL);
	if (event_pending(job->on_end, EV_READ, NULL))
		return; /* it ends by that */
	waitpid(job->child.pid, NULL, WNOHANG);
	job->ended = true;
	free_job(job);
}

static void answer_if_done(struct run_job *job)
{
	uint8_t status = (uint8_t)command_exit_status(job->status);

	if (!job->ended || job->answered || job->lost || !run_session_sources_ended(job->session))
		return;
	job->answered = true;
	run_session_send(job->session, RUN_EXIT, 0, &status, 1);
}

static void on_end(evutil_socket_t fd, short what, void *userdata)
{
	struct run_job *job = userdata;

	if (job->lost) {
		if (!command_has_ended(&job->child, NULL))
			return;
		event_del(job->on_end);
		set_deadline(job, STOP_REST_S);
		return;
	}
	if (!command_has_ended(&job->child, &job->status))
		return;
	job->ended = true;
	event_del(job->on_end);
	run_session_finish_sources(job->session);
	answer_if_done(job);
}

static void connect_refuse(struct run_job *job, const char *why)
{
	job->answered = true;
	cli_note(job->server->cli, "listen on %s: a stream from %s: %s", job->server->endpoint,
		 job->from.words, why);
	run_session_send(job->session, RUN_REFUSED, 0, why, strlen(why));
}

/* ---- the command ----------------------------------------------------------------------------- */

/* Returns the command with the arguments behind it; it and what it points to lives as long as they do. The
 * caller frees it. NULL: memory has run out. */
static char **with_arguments(char **command, const struct run_record *start)
{
	const char *at = (const char *)start->body + RUN_GREETING_SIZE;
	const char *end = (const char *)start->body + start->size;
	size_t count = 0, own = 0;
	char **all;

	while (command[own])
		own++;
	for (const char *c = at; c < end; c++)
		count += *c == 0;
	all = calloc(own + count + 1, sizeof(*all));
	if (!all)
		return NULL;
	memcpy(all, command, own * sizeof(*all));
	for (; at < end; at += strlen(at) + 1)
		all[own++] = (char *)(uintptr_t)at;
	return all;
}

static int connect_start_command(struct run_job *job, char **command)
{
	struct command_child *child = &job->child;
	int r = command_start(child, "listen", command, &job->from, RUN_STREAMS);

	for (unsigned i = 0; i < RUN_STREAMS && r == 0; i++) {
		r = i == 0 ? run_session_sink(job->session, i, child->ends[i])
			   : run_session_source(job->session, i, child->ends[i]);
		if (r == 0)
			child->ends[i] = -1; /* it is the session's */
	}
	if (r == 0) {
		job->on_end = loop_event(job->server->base, child->pidfd, EV_READ | EV_PERSIST, on_end, job);
		r = job->on_end ? 0 : -ENOMEM;
	}
	if (r < 0)
		command_drop(child);
	return r;
}

static int connect_on_record(void *userdata, const struct run_record *record)
{
	struct run_job *job = userdata;
	char **command, why[128];
	int r = -ENOMEM;

	if (record->type != RUN_START || job->started)
		return -EPROTO;
	job->started = true;
	event_del(job->deadline);
	if (record->size > RUN_GREETING_SIZE && !job->server->takes_arguments) {
		connect_refuse(job, "that command takes no arguments");
		return 0;
	}
	run_session_send(job->session, RUN_READY, 0, RUN_GREETING, RUN_GREETING_SIZE);
	command = with_arguments(job->server->command, record);
	if (command)
		r = connect_start_command(job, command);
	free(command);
	if (r < 0) {
		snprintf(why, sizeof(why), "the command can't be started: %s%s", strerror(-r),
			 cli_limit_of(-r));
		connect_refuse(job, why);
	}
	return 0;
}

/* ---- streams --------------------------------------------------------------------------------- */

static void on_stream_ended(void *userdata)
{
	answer_if_done(userdata);
}

static void connect_on_lost(void *userdata, int error)
{
	struct run_job *job = userdata;

	job->lost = true;
	if (!job->answered && error == EPROTO)
		cli_note(job->server->cli, "listen on %s: a stream from %s isn't from 'xenmsg run'",
			 job->server->endpoint, job->from.words);
	/* It isn't to take that for the end of what was served. */
	if (!job->started)
		run_session_break(job->session);
	if (job->child.pid > 0 && !job->ended) {
		kill(-job->child.pid, SIGTERM);
		set_deadline(job, STOP_S);
	} else {
		connect_leave(job);
	}
}

/* Whether the two have one share: those of a domain here, or of another host, which may say of each that it
 * is another domain's. */
static bool is_of_the_same(const struct run_job *job, const struct xenmsg_peer *peer)
{
	const char *host = xenmsg_peer_host(peer);

	return strcmp(job->from.host, host) == 0 && (*host || job->from.domid == xenmsg_peer_domid(peer));
}

/* Serves a stream, and takes it over. Returns 0, or a negative errno if it wasn't taken: -ENOMEM, or -EMFILE
 * if the opener's domain, or host, has as many streams as are left for all others. */
static int run_server_take(struct run_server *server, int stream, const struct xenmsg_peer *peer)
{
	static const struct run_session_callbacks callbacks = {connect_on_record, on_stream_ended,
							       connect_on_lost};
	struct run_job *job;
	unsigned same = 0;

	DL_FOREACH(server->jobs, job)
		same += is_of_the_same(job, peer);
	/* So there is always some room for a domain that has none. */
	if (same >= server->most - server->count)
		return -EMFILE;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->server = server;
	job->from = command_peer(peer, NULL);
	job->child.pidfd = -1;
	DL_APPEND(server->jobs, job);
	server->count++;
	job->gone = event_new(server->base, -1, 0, connect_on_gone, job);
	job->deadline = evtimer_new(server->base, on_deadline, job);
	if (job->gone && job->deadline)
		job->session = run_session_new(server->base, stream, &callbacks, job);
	if (!job->session) {
		free_job(job);
		return -ENOMEM;
	}
	set_deadline(job, START_S);
	return 0;
}

/* `command` ends with NULL, and outlives the server. `takes_arguments`: it gets those that the opener sends,
 * behind its own. Returns NULL if memory has run out. */
static struct run_server *run_server_new(struct event_base *base, const struct cli *cli, const char *endpoint,
					 char **command, bool takes_arguments)
{
	struct run_server *server = calloc(1, sizeof(*server));
	struct rlimit files = {.rlim_cur = 1024};

	if (!server)
		return NULL;
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur > 65536)
		files.rlim_cur = 65536;
	*server = (struct run_server){.base = base,
				      .cli = cli,
				      .endpoint = endpoint,
				      .command = command,
				      .takes_arguments = takes_arguments,
				      .most = files.rlim_cur < DESCRIPTORS_OWN + 2 * DESCRIPTORS_EACH
						      ? 2
						      : (unsigned)(files.rlim_cur - DESCRIPTORS_OWN) /
								DESCRIPTORS_EACH};
	return server;
}

/* Ends all commands by SIGTERM. NULL is allowed. */
static void run_server_free(struct run_server *server)
{
	struct run_job *job, *next;

	if (!server)
		return;
	DL_FOREACH_SAFE(server->jobs, job, next)
		free_job(job);
	free(server);
}

/* ---- listen ---------------------------------------------------------------------------------- */

struct listener {
	struct cli *cli;
	struct xenmsg *conn;
	const char *endpoint;
	char **command;
	struct loop loop;
	struct event *on_conn, *on_child;
	struct event *look; /* each LOOK_S, while there are children */
	bool is_short;
	struct child *children;
	bool runs, takes_arguments;
	struct run_server *run_server; /* NULL: the streams are the commands' own */
	struct reconnecting reconnecting;
	int code;
};

/* A command that runs for one stream. */
struct child {
	pid_t pid;
	int stream; /* so that it doesn't end in order if the command dies; -1: the command has closed it */
	struct command_peer from;
	struct child *prev, *next;
};

/* Runs the command in a process of its own, with the stream as its standard input and output. */
static int run_for(struct listener *listener, int stream, const struct xenmsg_peer *peer)
{
	struct child *child = malloc(sizeof(*child));
	int error = ENOMEM;

	if (child) {
		*child = (struct child){.stream = stream, .from = command_peer(peer, NULL)};
		child->pid = command_fork();
		error = errno;
		if (child->pid == 0) {
			command_become("listen", listener->command, &child->from, (int[]){stream, stream}, 2);
			stream_break(stream, BREAK_NOT_STARTED);
			_exit(COMMAND_NOT_RUN);
		}
	}
	if (!child || child->pid < 0) {
		stream_break(stream, BREAK_NOT_STARTED);
		free(child);
		return -error;
	}
	DL_APPEND(listener->children, child);
	evtimer_add(listener->look, &(struct timeval){.tv_sec = LOOK_S});
	return 0;
}

/* Lets go of streams that their commands have closed, so that the other side isn't held for as long as such a
 * command runs. Nothing tells of that: what two processes have open is closed when both have closed it. */
static void connect_on_look(evutil_socket_t fd, short what, void *userdata)
{
	struct listener *listener = userdata;
	bool goes_on = false;
	struct child *child;

	DL_FOREACH(listener->children, child) {
		if (child->stream >= 0 && !command_has_socket(child->pid, child->stream)) {
			close(child->stream);
			child->stream = -1;
		}
		goes_on |= child->stream >= 0;
	}
	if (goes_on)
		evtimer_add(listener->look, &(struct timeval){.tv_sec = LOOK_S});
}

/* SIGPIPE only says that the other side takes no more. */
static bool has_died(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) != SIGPIPE;
}

static void connect_on_child(evutil_socket_t number, short what, void *userdata)
{
	struct listener *listener = userdata;
	struct child *child, *next;
	char words[32];
	int status;

	DL_FOREACH_SAFE(listener->children, child, next) {
		if (waitpid(child->pid, &status, WNOHANG) != child->pid)
			continue;
		if (status != 0)
			cli_note(listener->cli, "listen on %s: a stream from %s: the command %s",
				 listener->endpoint, child->from.words, command_end(status, words));
		DL_DELETE(listener->children, child);
		if (child->stream >= 0 && has_died(status))
			stream_break(child->stream, BREAK_KILLED);
		else if (child->stream >= 0)
			close(child->stream);
		free(child);
	}
}

static void serve_run(struct listener *listener, int stream, const struct xenmsg_peer *peer)
{
	int r = run_server_take(listener->run_server, stream, peer);
	const char *why = r == -EMFILE ? "too many are open" : strerror(-r);

	if (r == 0)
		return;
	cli_note(listener->cli, "listen on %s: a stream from %s is refused: %s", listener->endpoint,
		 command_peer(peer, NULL).words, why);
	send_refusal(stream, why);
	stream_break(stream, -r);
}

/* Takes the next stream, if there is one. Returns as xenmsg_accept(), but for -ECONNREFUSED. */
static int accept_next(struct listener *listener, const struct xenmsg_peer **peer, int timeout_ms)
{
	int stream = xenmsg_accept(listener->conn, XENMSG_WITHIN(timeout_ms), peer);

	if (stream >= 0 || cli_is_limit(stream))
		cli_note_limit(listener->cli, &listener->is_short, "listen on", listener->endpoint,
			       stream < 0 ? stream : 0);
	/* The daemon hasn't answered: the stream waits on, as if it hadn't come yet. */
	return stream == -ECONNREFUSED ? -EAGAIN : stream;
}

static void on_conn(evutil_socket_t fd, short what, void *userdata)
{
	struct listener *listener = userdata;
	int r = xenmsg_process(listener->conn);

	while (r >= 0 && !listener->reconnecting.code) {
		const struct xenmsg_peer *peer;
		int stream = accept_next(listener, &peer, 0);

		if (stream == -EAGAIN || cli_is_limit(stream))
			return;	      /* until the descriptor is readable again */
		if (stream == -EINTR) /* a command has ended */
			continue;
		r = stream;
		if (stream >= 0 && listener->run_server)
			serve_run(listener, stream, peer);
		else if (stream >= 0 && (stream = run_for(listener, stream, peer)) < 0)
			cli_complain("listen on %s: can't start a process: %s%s", listener->endpoint,
				     strerror(-stream), cli_limit_of(-stream));
	}
	listener->code = r < 0 ? cli_error(listener->conn, "listen on", listener->endpoint, r)
			       : listener->reconnecting.code;
	event_base_loopbreak(listener->loop.base);
}

/* Waits for a stream, or dies of a signal. Returns as xenmsg_accept(); -ECANCELED: the listener ends. */
static int take_one(struct listener *listener)
{
	int stream, r = 0;

	interrupt_catch(); /* the kernel keeps what isn't caught from the first process of a container */
	for (;;) {
		stream = accept_next(listener, NULL, 0);
		if (stream != -EAGAIN && !cli_is_limit(stream))
			return stream;
		r = interrupt_wait(listener->conn, -1);
		interrupt_die();
		if (r < 0)
			return r;
		if (listener->reconnecting.code)
			return -ECANCELED;
	}
}

static int start_listener(struct listener *listener)
{
	int r = loop_init(&listener->loop, NULL);

	if (r < 0)
		return r;
	if (listener->runs) {
		listener->run_server = run_server_new(listener->loop.base, listener->cli, listener->endpoint,
						      listener->command, listener->takes_arguments);
		if (!listener->run_server)
			return -ENOMEM;
	}
	listener->on_conn = loop_event(listener->loop.base, xenmsg_fd(listener->conn), EV_READ | EV_PERSIST,
				       on_conn, listener);
	listener->on_child =
		loop_event(listener->loop.base, SIGCHLD, EV_SIGNAL | EV_PERSIST, connect_on_child, listener);
	listener->look = evtimer_new(listener->loop.base, connect_on_look, listener);
	return listener->on_conn && listener->on_child && listener->look ? 0 : -ENOMEM;
}

static void end_listener(struct listener *listener)
{
	struct child *child, *next;

	loop_event_free(listener->on_conn);
	loop_event_free(listener->on_child);
	loop_event_free(listener->look);
	run_server_free(listener->run_server);
	loop_cleanup(&listener->loop);
	DL_FOREACH_SAFE(listener->children, child, next) {
		if (child->stream >= 0)
			close(child->stream); /* the command goes on */
		free(child);
	}
}

static int serve(struct listener *listener)
{
	int r = start_listener(listener);

	if (r < 0) {
		listener->code = cli_error(listener->conn, "listen on", listener->endpoint, r);
	} else {
		on_conn(xenmsg_fd(listener->conn), EV_READ,
			listener); /* what has come before fires nothing */
		event_base_dispatch(listener->loop.base);
	}
	end_listener(listener);
	return listener->code;
}

int cmd_listen(struct cli *cli, int argc, char **argv)
{
	int words = argc;
	char **command = cli_command(&argc, argv);
	struct xenmsg *conn;
	struct listener listener = {
		.cli = cli, .command = command, .reconnecting = {.cli = cli, .what = "listen on"}};
	const char *endpoint;
	bool shared = false;
	const struct cli_option options[] = {{"run", .flag = &listener.runs},
					     {"args", .flag = &listener.takes_arguments},
					     {"once", .flag = &listener.reconnecting.once},
					     {"shared", .flag = &shared},
					     {0}};
	int code, r, stream;

	if (!cli_options(cli, argc, argv, listen_help, options, &code))
		return code;
	if (argc == optind)
		return cli_usage("listen", "on which ENDPOINT?");
	endpoint = argv[optind++];
	if (optind < argc)
		return cli_usage("listen", "'%s' is too much: a command stands behind --", argv[optind]);
	if (cli_check_endpoint("listen", endpoint))
		return EXIT_USAGE;
	if (!command && (listener.runs || argc < words))
		return cli_usage("listen", "which command? It stands behind --");
	if (listener.takes_arguments && !listener.runs)
		return cli_usage("listen", "--args goes with --run");
	if (command && !command_can_be_run(command[0]))
		return cli_usage("listen", "the command '%s' can't be run: %s", command[0], strerror(errno));
	listener.reconnecting.subject = endpoint;
	code = reconnecting_open(&listener.reconnecting, &conn);
	if (code)
		return code;
	listener.conn = conn;
	listener.endpoint = endpoint;
	r = xenmsg_listen(conn, endpoint, XENMSG_FLAGS(XENMSG_FROM_HOSTS | (shared ? XENMSG_SHARED : 0)));
	if (r == 0)
		cli_note_bound(cli, conn, endpoint);
	if (r < 0)
		code = cli_error(conn, "listen on", endpoint, r);
	else if (command)
		code = serve(&listener);
	else if ((stream = take_one(&listener)) < 0)
		code = listener.reconnecting.code ? listener.reconnecting.code
						  : cli_error(conn, "listen on", endpoint, stream);
	else {
		interrupt_allow_complaint("listen on %s: interrupted; nothing was carried yet", endpoint);
		code = carry_stdio(conn, stream, "listen on", endpoint, true);
	}
	xenmsg_close(conn);
	interrupt_die_of(listener.loop.signal);
	return code;
}
