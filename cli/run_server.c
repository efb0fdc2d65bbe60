/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/run_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "cli/command.h"
#include "cli/loop.h"
#include "cli/run_session.h"
#include "wire/address.h"
#include "wire/libc.h"

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

/* The program that has opened a stream. */
struct run_opener {
	uint32_t domid, uid, pid;
	char domain_name[DOMAIN_NAME_MAX + 1];
	char host[HOST_NAME_SIZE];
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
	struct run_opener from;
	char opener[COMMAND_SENDER_SIZE]; /* it in words */
	struct event *on_end, *gone;
	struct event *deadline; /* for START, or of a command that is to end */
	pid_t pid;
	int pidfd, status;
	bool started, ended, answered, lost;
};

static void free_job(struct run_job *job)
{
	DL_DELETE(job->server->jobs, job);
	job->server->count--;
	if (job->pid > 0 && !job->ended)
		kill(-job->pid, SIGTERM);
	loop_event_free(job->on_end);
	loop_event_free(job->gone);
	loop_event_free(job->deadline);
	if (job->pidfd >= 0)
		close(job->pidfd);
	run_session_free(job->session);
	free(job);
}

static void on_gone(evutil_socket_t fd, short what, void *userdata)
{
	free_job(userdata);
}

/* Frees it from the loop, not from within its session. */
static void leave(struct run_job *job)
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
			 job->server->endpoint, job->opener, START_S);
		run_session_break(job->session);
		free_job(job);
		return;
	}
	kill(-job->pid, SIGKILL);
	if (event_pending(job->on_end, EV_READ, NULL))
		return; /* it ends by that */
	waitpid(job->pid, NULL, WNOHANG);
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

	siginfo_t end = {0};

	if (job->lost) {
		if (waitid(P_PID, (id_t)job->pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 || !end.si_pid)
			return;
		event_del(job->on_end);
		set_deadline(job, STOP_REST_S);
		return;
	}
	if (waitpid(job->pid, &job->status, WNOHANG) != job->pid)
		return;
	job->ended = true;
	event_del(job->on_end);
	run_session_finish_sources(job->session);
	answer_if_done(job);
}

static void refuse(struct run_job *job, const char *why)
{
	job->answered = true;
	cli_note(job->server->cli, "listen on %s: a stream from %s: %s", job->server->endpoint, job->opener,
		 why);
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

static void execute(struct run_job *job, char **command, int pipes[RUN_STREAMS][2])
{
	int own_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	setpgid(0, 0);
	command_set_sender(job->from.host, job->from.domid, job->from.domain_name, job->from.uid,
			   job->from.pid);
	if (dup2(pipes[0][0], 0) >= 0 && dup2(pipes[1][1], 1) >= 0 && dup2(pipes[2][1], 2) >= 0)
		execvp(command[0], command);
	/* The path of a command here is nothing to tell the other domain. */
	dup2(own_stderr, STDERR_FILENO);
	cli_complain("listen: %s: %s", command[0], strerror(errno));
	_exit(127);
}

static int start_command(struct run_job *job, char **command)
{
	int pipes[RUN_STREAMS][2] = {{-1, -1}, {-1, -1}, {-1, -1}}, r = 0;

	for (int i = 0; i < RUN_STREAMS && r == 0; i++)
		r = pipe2(pipes[i], O_CLOEXEC) < 0 ? -errno : 0;
	if (r == 0 && (job->pid = command_fork()) < 0)
		r = -errno;
	if (r == 0 && job->pid == 0)
		execute(job, command, pipes);
	for (int i = 0; i < RUN_STREAMS; i++) {
		int own = pipes[i][i == 0 ? 1 : 0], other = pipes[i][i == 0 ? 0 : 1];

		if (other >= 0)
			close(other);
		if (r == 0)
			r = i == 0 ? run_session_sink(job->session, 0, own)
				   : run_session_source(job->session, (unsigned)i, own);
		if (r < 0 && own >= 0)
			close(own);
	}
	if (job->pid <= 0)
		return r;
	setpgid(job->pid, job->pid); /* the child does the same, whichever comes first */
	job->pidfd = pidfd_open(job->pid, 0);
	job->on_end = job->pidfd < 0
			      ? NULL
			      : loop_event(job->server->base, job->pidfd, EV_READ | EV_PERSIST, on_end, job);
	if (r == 0 && !job->on_end)
		r = -ENOMEM;
	if (r < 0) {
		kill(-job->pid, SIGKILL);
		waitpid(job->pid, NULL, 0);
		job->pid = 0;
	}
	return r;
}

static int on_record(void *userdata, const struct run_record *record)
{
	struct run_job *job = userdata;
	char **command, why[128];
	int r = -ENOMEM;

	if (record->type != RUN_START || job->started)
		return -EPROTO;
	job->started = true;
	event_del(job->deadline);
	if (record->size > RUN_GREETING_SIZE && !job->server->takes_arguments) {
		refuse(job, "that command takes no arguments");
		return 0;
	}
	run_session_send(job->session, RUN_READY, 0, RUN_GREETING, RUN_GREETING_SIZE);
	command = with_arguments(job->server->command, record);
	if (command)
		r = start_command(job, command);
	free(command);
	if (r < 0) {
		snprintf(why, sizeof(why), "the command can't be started: %s%s", strerror(-r),
			 cli_limit_of(-r));
		refuse(job, why);
	}
	return 0;
}

/* ---- streams --------------------------------------------------------------------------------- */

static void on_stream_ended(void *userdata)
{
	answer_if_done(userdata);
}

static void on_lost(void *userdata, int error)
{
	struct run_job *job = userdata;

	job->lost = true;
	if (!job->answered && error == EPROTO)
		cli_note(job->server->cli, "listen on %s: a stream from %s isn't from 'xenmsg run'",
			 job->server->endpoint, job->opener);
	/* It isn't to take that for the end of what was served. */
	if (!job->started)
		run_session_break(job->session);
	if (job->pid > 0 && !job->ended) {
		kill(-job->pid, SIGTERM);
		set_deadline(job, STOP_S);
	} else {
		leave(job);
	}
}

/* Whether the two have one share: those of a domain here, or of another host, which may say of each that it
 * is another domain's. */
static bool is_of_the_same(const struct run_job *job, const struct xenmsg_peer *peer)
{
	const char *host = xenmsg_peer_host(peer);

	return strcmp(job->from.host, host) == 0 && (*host || job->from.domid == xenmsg_peer_domid(peer));
}

static void note_opener(struct run_job *job, const struct xenmsg_peer *peer)
{
	job->from = (struct run_opener){
		.domid = xenmsg_peer_domid(peer), .uid = xenmsg_peer_uid(peer), .pid = xenmsg_peer_pid(peer)};
	snprintf(job->from.host, sizeof(job->from.host), "%s", xenmsg_peer_host(peer));
	snprintf(job->from.domain_name, sizeof(job->from.domain_name), "%s", xenmsg_peer_domain_name(peer));
	command_sender(job->from.host, job->from.domid, job->opener);
}

int run_server_take(struct run_server *server, int stream, const struct xenmsg_peer *peer)
{
	static const struct run_session_callbacks callbacks = {on_record, on_stream_ended, on_lost};
	struct run_job *job;
	unsigned same = 0;

	DL_FOREACH(server->jobs, job)
		same += is_of_the_same(job, peer);
	/* So there is always some room for a domain that has none. */
	if (same >= server->most - server->count) {
		xenmsg_break(stream);
		return -EMFILE;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		close(stream);
		return -ENOMEM;
	}
	job->server = server;
	note_opener(job, peer);
	job->pidfd = -1;
	DL_APPEND(server->jobs, job);
	server->count++;
	job->gone = event_new(server->base, -1, 0, on_gone, job);
	job->deadline = evtimer_new(server->base, on_deadline, job);
	job->session = run_session_new(server->base, stream, &callbacks, job);
	if (!job->gone || !job->deadline || !job->session) {
		free_job(job);
		return -ENOMEM;
	}
	set_deadline(job, START_S);
	return 0;
}

struct run_server *run_server_new(struct event_base *base, const struct cli *cli, const char *endpoint,
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

void run_server_free(struct run_server *server)
{
	struct run_job *job, *next;

	if (!server)
		return;
	DL_FOREACH_SAFE(server->jobs, job, next)
		free_job(job);
	free(server);
}
