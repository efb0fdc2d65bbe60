/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* serve: runs a command for each call. A request is taken only when there is room for a job, so one that
 * waits can still be withdrawn for certain. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "wire/libc.h"
#include "wire/ut.h"

/* ---- several processes ---------------------------------------------------------------------- */

#define WORKERS_MAX 256u

struct set {
	pid_t pids[WORKERS_MAX];
	unsigned count, alive;
	sigset_t caught, before;
	bool ending;
	int signal, code;
};

static void end_all(struct set *set, int number)
{
	set->ending = true;
	for (unsigned i = 0; i < set->count; i++)
		if (set->pids[i] > 0)
			kill(set->pids[i], number);
}

/* Returns true in the new process. */
static bool start_one(struct set *set, unsigned index)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(EXIT_OTHER);
		sigprocmask(SIG_SETMASK, &set->before, NULL);
		return true;
	}
	set->pids[index] = pid;
	set->alive += pid > 0;
	if (pid < 0) {
		cli_complain("can't start a process: %s%s", strerror(errno), cli_limit_of(errno));
		set->code = EXIT_OTHER;
		end_all(set, SIGTERM);
	}
	return false;
}

/* Notes that one has ended. Returns true in the process that replaces it. */
static bool set_on_end(struct set *set, struct cli *cli, const char *command, pid_t pid, int status)
{
	const struct timespec pause = {.tv_sec = 1};
	unsigned i = 0;

	while (i < set->count && set->pids[i] != pid)
		i++;
	if (i == set->count)
		return false;
	set->pids[i] = 0;
	set->alive--;
	if (set->ending)
		return false;
	if (WIFSIGNALED(status)) {
		cli_note(cli, "%s: a worker was killed by %s; another one is started", command,
			 strsignal(WTERMSIG(status)));
		nanosleep(&pause, NULL); /* one that can't live isn't started again and again at once */
		return start_one(set, i);
	}
	set->code = WEXITSTATUS(status);
	end_all(set, SIGTERM);
	return false;
}

/*
 * Several processes that do the same, as one command. One that is killed is replaced; if one ends by itself,
 * all end; SIGINT and SIGTERM are for all of them.
 *
 * Returns true in each of them, and false in the command's own process when all have ended, with its exit
 * code in *code and the signal that it is to die of (0: none) in *signal.
 */
static bool worker_set_start(struct cli *cli, const char *command, uint64_t count, int *code, int *number)
{
	struct set set = {.count = (unsigned)count};

	sigemptyset(&set.caught);
	sigaddset(&set.caught, SIGCHLD);
	sigaddset(&set.caught, SIGINT);
	sigaddset(&set.caught, SIGTERM);
	sigprocmask(SIG_BLOCK, &set.caught, &set.before);
	for (unsigned i = 0; i < set.count && !set.ending; i++)
		if (start_one(&set, i))
			return true;
	while (set.alive > 0) {
		int status, came = sigwaitinfo(&set.caught, NULL);
		pid_t pid;

		if (came == SIGINT || came == SIGTERM) {
			set.signal = came;
			end_all(&set, came);
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (set_on_end(&set, cli, command, pid, status))
				return true;
	}
	sigprocmask(SIG_SETMASK, &set.before, NULL);
	*code = set.code;
	*number = set.signal;
	return false;
}

/* ---------------------------------------------------------------------------------------------- */

static const char help[] =
	"Usage: xenmsg serve [OPTIONS] ENDPOINT -- COMMAND [ARGUMENT...]\n"
	"\n"
	"Answers calls to ENDPOINT: runs the command for each, with the request as its\n"
	"standard input. Its standard output is the reply, once it has ended with status\n"
	"0; else the caller gets an error with its exit status. Its environment says who\n"
	"called: XENMSG_SENDER_HOST, _DOMID, _NAME, _UID and _PID. XENMSG_ID is what\n"
	"xenmsg trace calls the call. A command whose caller has given up gets SIGTERM.\n"
	"\n"
	"      --jobs N        run at most N commands at a time (else: as many as there\n"
	"                      are CPUs)\n"
	"      --shared        other programs of this user may serve ENDPOINT beside this\n"
	"                      one, if all say so: each caller gets to the one with the\n"
	"                      least to do. At SIGTERM it answers the calls that it has\n"
	"                      taken, and the others get the rest\n"
	"      --workers N     serve with N processes that share ENDPOINT; one that is\n"
	"                      killed is replaced\n"
	"      --once          end when the xenmsgd of this domain ends; else it goes on\n"
	"                      with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg serve clock -- date\n"
	"  xenmsg serve --jobs 4 upper -- tr a-z A-Z\n"
	"  xenmsg serve --shared sort -- sort\n";

/* Answers that wait for callers who don't read: for how long, and how many, since each may be as large as a
 * message can be. Meanwhile their places are free for other calls. */
#define REPLY_PATIENCE_MS 5000
#define MOST_WAITING	  16

struct serve {
	struct cli *cli;
	struct xenmsg *conn;
	const char *endpoint;
	char **command;
	uint64_t jobs_max, count;
	unsigned waiting; /* answers */
	bool shared;
	bool leaving; /* takes no more calls, and answers those that it has */
	struct job *jobs;
	struct loop loop;
	struct event *on_conn;
	struct reconnecting reconnecting;
	int code;
};

/* One call: the command runs ──ends──▶ its answer is given, or waits for its caller to read earlier ones ──▶
 * gone. A caller that doesn't read in time, or when too many answers wait, gets an error instead. */
struct job {
	struct job *prev, *next;
	struct serve *serve;
	struct xenmsg_message *request;
	struct command_peer from;
	struct command_child child;
	struct event *on_in, *on_out, *on_end;
	int64_t patience; /* the answer is waited with until then; 0: it doesn't wait */
	size_t written;	  /* how much of the request the command got */
	char *reply;
	size_t size, capacity;
	int error;	 /* sent instead of the reply; 0: none */
	int exit_status; /* of the command, sent with EIO; 0: it succeeded, or something else failed */
	bool ended, told_to_stop, gave_up; /* waiting for its caller */
	struct xenmsg_op *room;		   /* for its answer, which is waited for; NULL: it isn't */
	bool gone;			   /* only that is left of it */
};

static void take_calls(struct serve *serve);

static void drop_event(struct event **event, int *fd)
{
	loop_event_free(*event);
	*event = NULL;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void job_free(struct job *job)
{
	DL_DELETE(job->serve->jobs, job);
	job->serve->count--;
	job->serve->waiting -= job->patience != 0;
	drop_event(&job->on_in, &job->child.ends[0]);
	drop_event(&job->on_out, &job->child.ends[1]);
	drop_event(&job->on_end, &job->child.pidfd);
	xenmsg_message_free(job->request);
	free(job->reply);
	job->gone = true;
	if (job->room)
		xenmsg_op_withdraw(job->room); /* frees the job when that has ended */
	else
		free(job);
}

static void stop_command(struct job *job)
{
	if (job->child.pid > 0 && !job->ended && !job->told_to_stop)
		kill(-job->child.pid, SIGTERM);
	job->told_to_stop = true;
}

static void fail_job(struct job *job, int error, const char *what, const char *detail)
{
	if (!job->error)
		job->error = error;
	if (!job->told_to_stop)
		cli_note(job->serve->cli, "serve %s: a call from %s: %s %s", job->serve->endpoint,
			 job->from.words, what, detail);
}

static void on_room(void *userdata, const struct xenmsg_result *result);

static void give_oldest_up(struct serve *serve)
{
	struct job *oldest;

	DL_FOREACH(serve->jobs, oldest)
		if (oldest->room && !oldest->gave_up) {
			oldest->gave_up = true;
			xenmsg_op_withdraw(oldest->room);
			return;
		}
}

/* Waits for the caller to read, for whom the oldest answer that waits gives up if there are too many. Returns
 * false if it isn't waited for. */
static bool wait_for_caller(struct job *job)
{
	struct serve *serve = job->serve;

	if (!job->patience) {
		if (serve->waiting >= MOST_WAITING)
			give_oldest_up(serve);
		job->patience = deadline_in(REPLY_PATIENCE_MS);
		serve->waiting++;
	}
	return job->room || xenmsg_begin_await_reply_room(job->request, job->size,
							  XENMSG_WITHIN(interrupt_left(job->patience)),
							  on_room, job, &job->room) == 0;
}

/* Answers the caller. Returns false if the caller has to read first. */
static bool serve_answer(struct job *job)
{
	int r;

	if (job->error) {
		if (job->exit_status)
			xenmsg_reply_exit_status(job->request, job->exit_status);
		else
			xenmsg_reply_error(job->request, (unsigned)job->error, NULL, 0);
		return true;
	}
	r = xenmsg_reply(job->request, job->reply, job->size);
	if (r == -EAGAIN && !job->gave_up && wait_for_caller(job))
		return false;
	/* Tell the caller what went wrong here. That a caller is gone isn't worth a word. */
	if (r == -EAGAIN) {
		fail_job(job, ENOBUFS, "the reply is dropped:", "the caller doesn't read");
		xenmsg_reply_error(job->request, ENOBUFS, NULL, 0);
	} else if (r == -EMSGSIZE || r == -ENOMEM) {
		xenmsg_reply_error(job->request, (unsigned)-r, NULL, 0);
	}
	return true;
}

static void on_room(void *userdata, const struct xenmsg_result *result)
{
	struct job *job = userdata;

	job->room = NULL;
	job->gave_up |= result->error < 0;
	if (job->gone)
		free(job);
	else if (serve_answer(job))
		job_free(job);
}

/* ---- the command's ends ---------------------------------------------------------------------- */

static void on_in(int fd, short what, void *userdata)
{
	struct job *job = userdata;
	const char *data = xenmsg_message_data(job->request);
	size_t size = xenmsg_message_size(job->request);
	ssize_t n = write(fd, data + job->written, size - job->written);

	if (n > 0)
		job->written += (size_t)n;
	/* A command need not read all of its input. */
	if (job->written == size || (n < 0 && errno != EAGAIN && errno != EINTR))
		drop_event(&job->on_in, &job->child.ends[0]);
}

/* Reads what the command has written. Returns false at the end, or if the data can't be kept. */
static bool read_reply(struct job *job)
{
	size_t most = xenmsg_max_message(job->serve->conn);

	for (;;) {
		ssize_t n;

		if (job->size == job->capacity) {
			size_t capacity = job->capacity ? job->capacity * 2 : 4096;
			char *grown = job->size > most ? NULL : realloc(job->reply, capacity);

			if (!grown) {
				job->error = job->size > most ? EMSGSIZE : ENOMEM;
				stop_command(job);
				return false;
			}
			job->reply = grown;
			job->capacity = capacity;
		}
		n = read(job->child.ends[1], job->reply + job->size, job->capacity - job->size);
		if (n <= 0)
			return n < 0 && (errno == EAGAIN || errno == EINTR);
		job->size += (size_t)n;
	}
}

static void on_out(int fd, short what, void *userdata)
{
	struct job *job = userdata;

	if (!read_reply(job))
		drop_event(&job->on_out, &job->child.ends[1]);
}

static void on_end(int fd, short what, void *userdata)
{
	struct job *job = userdata;
	struct serve *serve = job->serve;
	char words[32];
	int status = 0;

	if (!command_has_ended(&job->child, &status))
		return;
	job->ended = true;
	/* Its children may still hold the pipe: only what is there now counts. */
	if (job->child.ends[1] >= 0)
		read_reply(job);
	drop_event(&job->on_in, &job->child.ends[0]);
	drop_event(&job->on_out, &job->child.ends[1]);
	drop_event(&job->on_end, &job->child.pidfd);
	if (status != 0) {
		if (!job->error)
			job->exit_status = command_exit_status(status);
		fail_job(job, EIO, "the command", command_end(status, words));
	}
	if (job->size > xenmsg_max_message(job->serve->conn) && !job->error)
		job->error = EMSGSIZE;
	if (serve_answer(job))
		job_free(job);
	take_calls(serve);
}

static int serve_start_command(struct job *job)
{
	struct event_base *base = job->serve->loop.base;
	struct command_child *child = &job->child;
	int r = command_start(child, "serve", job->serve->command, &job->from, 2);

	if (r < 0)
		return r;
	fcntl(child->ends[0], F_SETFL, O_NONBLOCK);
	fcntl(child->ends[1], F_SETFL, O_NONBLOCK);
	job->on_in = loop_event(base, child->ends[0], EV_WRITE | EV_PERSIST, on_in, job);
	job->on_out = loop_event(base, child->ends[1], EV_READ | EV_PERSIST, on_out, job);
	job->on_end = loop_event(base, child->pidfd, EV_READ | EV_PERSIST, on_end, job);
	return job->on_in && job->on_out && job->on_end ? 0 : -ENOMEM;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void on_withdrawn(void *userdata, struct xenmsg_message *request)
{
	stop_command(userdata);
}

static void start_job(struct serve *serve, struct xenmsg_message *request)
{
	struct job *job = calloc(1, sizeof(*job));
	char why[128];
	int r;

	if (!job) {
		xenmsg_reply_error(request, ENOMEM, NULL, 0);
		xenmsg_message_free(request);
		return;
	}
	job->serve = serve;
	job->request = request;
	job->from = command_peer(xenmsg_message_sender(request), request);
	DL_APPEND(serve->jobs, job);
	serve->count++;
	r = serve_start_command(job);
	if (r == 0) {
		if (xenmsg_message_on_withdrawn(request, on_withdrawn, job) == -ECANCELED)
			stop_command(job);
		return;
	}
	snprintf(why, sizeof(why), "%s%s", strerror(-r), cli_limit_of(-r));
	fail_job(job, -r, "the command can't be started:", why);
	stop_command(job);
	if (job->child.pid > 0)
		waitpid(job->child.pid, NULL, 0);
	serve_answer(job);
	job_free(job);
}

static void take_calls(struct serve *serve)
{
	while (!serve->leaving && serve->count - serve->waiting < serve->jobs_max) {
		struct xenmsg_message *request;
		int r = xenmsg_recv(serve->conn, &request, 0);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			serve->code = cli_error(serve->conn, "serve", serve->endpoint, r);
			event_base_loopbreak(serve->loop.base);
			return;
		}
		start_job(serve, request);
	}
}

static void on_conn(int fd, short what, void *userdata)
{
	struct serve *serve = userdata;
	int r = xenmsg_process(serve->conn);

	if (r < 0 || serve->reconnecting.code) {
		serve->code = r < 0 ? cli_error(serve->conn, "serve", serve->endpoint, r)
				    : serve->reconnecting.code;
		event_base_loopbreak(serve->loop.base);
		return;
	}
	take_calls(serve);
}

/* Answers the calls that it has; whatever it hasn't taken goes to those that share the endpoint. A second
 * signal ends that. */
static void finish_calls(struct serve *serve)
{
	int number = serve->loop.signal;

	serve->leaving = true;
	serve->loop.signal = 0;
	while (serve->jobs && !serve->loop.signal && serve->code == EXIT_DONE)
		event_base_loop(serve->loop.base, EVLOOP_ONCE);
	serve->loop.signal = number;
}

static int serve_calls(struct serve *serve)
{
	struct job *job, *next;
	int r = loop_init(&serve->loop, NULL);

	if (r == 0)
		serve->on_conn = loop_event(serve->loop.base, xenmsg_fd(serve->conn), EV_READ | EV_PERSIST,
					    on_conn, serve);
	if (serve->on_conn) {
		take_calls(serve);
		event_base_dispatch(serve->loop.base);
		if (serve->shared && serve->loop.signal)
			finish_calls(serve);
	} else {
		serve->code = cli_error(serve->conn, "serve", serve->endpoint, r < 0 ? r : -ENOMEM);
	}
	/* Calls that aren't answered by now get an error. */
	DL_FOREACH_SAFE(serve->jobs, job, next) {
		stop_command(job);
		job_free(job);
	}
	loop_event_free(serve->on_conn);
	loop_cleanup(&serve->loop);
	return serve->code;
}

static uint64_t cpus(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count > 0 ? (uint64_t)count : 1;
}

int cmd_serve(struct cli *cli, int argc, char **argv)
{
	struct serve serve = {.cli = cli,
			      .jobs_max = cpus(),
			      .reconnecting = {.cli = cli, .what = "serve"},
			      .code = EXIT_DONE};
	uint64_t workers = 1;
	const struct cli_option options[] = {{"jobs", .count = &serve.jobs_max},
					     {"shared", .flag = &serve.shared},
					     {"workers", .count = &workers},
					     {"once", .flag = &serve.reconnecting.once},
					     {0}};
	unsigned flags = XENMSG_ONLY_CALLS;
	int code, number, r;

	serve.command = cli_command(&argc, argv);
	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind >= argc)
		return cli_usage("serve", "on which endpoint?");
	serve.endpoint = serve.reconnecting.subject = argv[optind++];
	if (optind < argc)
		return cli_usage("serve", "'%s' is too much: the command stands behind --", argv[optind]);
	if (cli_check_endpoint("serve", serve.endpoint))
		return EXIT_USAGE;
	if (!serve.command)
		return cli_usage("serve", "which command? It stands behind --");
	if (!command_can_be_run(serve.command[0]))
		return cli_usage("serve", "the command '%s' can't be run: %s", serve.command[0],
				 strerror(errno));
	if (workers > WORKERS_MAX)
		return cli_usage("serve", "at most %u workers", WORKERS_MAX);
	serve.shared |= workers > 1;
	if (workers > 1 && !worker_set_start(cli, "serve", workers, &code, &number)) {
		interrupt_die_of(number);
		return code;
	}
	code = reconnecting_open(&serve.reconnecting, &serve.conn);
	if (code)
		return code;
	if (serve.shared)
		flags |= XENMSG_SHARED;
	r = xenmsg_bind(serve.conn, serve.endpoint, XENMSG_FLAGS(flags), NULL, NULL);
	if (r == 0)
		cli_note_bound(cli, serve.conn, serve.endpoint);
	code = r < 0 ? cli_error(serve.conn, "serve", serve.endpoint, r) : serve_calls(&serve);
	xenmsg_close(serve.conn);
	interrupt_die_of(serve.loop.signal);
	return code;
}
