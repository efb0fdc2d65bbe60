/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/activation/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/activation/activation_read.h"
#include "daemon/activation/units.h"
#include "base/image.h"
#include "base/service.h"
#include "base/timer.h"
#include "wire/libc.h"
#include "wire/ut.h"

#define STOP_MS	      5000u /* until a command that was asked to end is killed */
#define STOP_REST_MS  1000u /* once it has ended: until what is left of its process group is killed */
#define STOP_LOOKS_MS 10    /* how often that is looked at when the daemon ends */
#define FILES_SOFT    1024u /* the usual limit: what uses select(2) can't have more */

/* A command:
 *
 *   lives ──it ends──▶ reaped
 *     └──start_stop(), SIGTERM──▶ stopping ──it ends──▶ leaving ──STOP_REST_MS, SIGKILL──▶ reaped
 *
 * In `leaving` it is a zombie, so that the number of its process group can't be another's by then. */
struct start {
	struct starter *starter;
	start_ended_fn ended; /* NULL: forgotten, or told */
	void *userdata;
	struct unit_start *unit; /* NULL: a command */
	pid_t pid;
	bool stopping, leaving;
	struct deadline kill;
	struct start *prev, *next;
};

struct starter {
	struct event_base *base;
	const char *socket;
	struct units *units;
	struct event *child_event;
	struct start *commands;
};

/* --- commands --------------------------------------------------------------------------------- */

static void free_command(struct start *start)
{
	DL_DELETE(start->starter->commands, start);
	event_free(start->kill.timer);
	free(start);
}

/* Sends a signal to it and to what it has started, also if it has left its process group. Its number is
 * nobody else's before it is reaped. */
static void signal_command(const struct start *start, int number)
{
	kill(-start->pid, number);
	if (!start->leaving && getpgid(start->pid) != start->pid)
		kill(start->pid, number);
}

static uint32_t kill_after(const struct start *start)
{
	return start->leaving ? STOP_REST_MS : STOP_MS;
}

static void on_kill(int fd, short what, void *userdata)
{
	struct start *start = userdata;

	if (!deadline_is_over(&start->kill, kill_after(start)))
		return;
	signal_command(start, SIGKILL);
	if (!start->leaving)
		return; /* it is reaped when it has ended by that */
	waitpid(start->pid, NULL, WNOHANG);
	free_command(start);
}

static void say_end(const siginfo_t *end, char *why, size_t size)
{
	if (end->si_code != CLD_EXITED)
		snprintf(why, size, "the command was ended by signal %d", end->si_status);
	else if (end->si_status == 127)
		snprintf(why, size, "the command can't be run, or ended with status 127");
	else
		snprintf(why, size, "the command ended with status %d", end->si_status);
}

/* Reaps a command if it has ended, and tells its owner. */
static void reap(struct start *start)
{
	start_ended_fn ended = start->ended;
	void *userdata = start->userdata;
	siginfo_t end = {0};
	char why[96];

	if (start->leaving || waitid(P_PID, (id_t)start->pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 ||
	    end.si_pid == 0)
		return;
	say_end(&end, why, sizeof(why));
	start->ended = NULL;
	if (start->stopping) {
		start->leaving = true;
		deadline_set(&start->kill, STOP_REST_MS);
	} else {
		waitpid(start->pid, NULL, WNOHANG);
		free_command(start);
	}
	if (ended)
		ended(userdata, why);
}

void starter_look(struct starter *starter)
{
	struct start *start, *next;

	/* Only our own: the daemon may have other children (daemon/xen/keeper.h). */
	DL_FOREACH_SAFE(starter->commands, start, next)
		reap(start);
}

static void on_child(int number, short what, void *userdata)
{
	starter_look(userdata);
}

/* Everything that the child needs, made before fork(): there only what is safe after it may be called. */
struct child_setup {
	const struct activation_settings *settings;
	char **environment;
	char *socket, *home, *user, *logname;
	bool switches;
};

/* Whether a variable is about the daemon's own service or user, as systemd.exec(5) lists them. */
static bool is_own_variable(const char *variable)
{
	static const char *const own[] = {
		"CACHE_DIRECTORY=",
		"CONFIGURATION_DIRECTORY=",
		"CREDENTIALS_",
		"FDSTORE=",
		"HOME=",
		"INVOCATION_ID=",
		"JOURNAL_STREAM=",
		"LISTEN_",
		"LOGNAME=",
		"LOGS_DIRECTORY=",
		"MAINPID=",
		"MANAGERPID=",
		"MEMORY_PRESSURE_",
		"NOTIFY_SOCKET=",
		"OLDPWD=",
		"PWD=",
		"RUNTIME_DIRECTORY=",
		"SHELL=",
		"STATE_DIRECTORY=",
		"SYSTEMD_EXEC_PID=",
		"USER=",
		"WATCHDOG_",
		"XDG_",
		"XENMSG_KEEPER=",
		"XENMSG_SOCKET=",
	};

	for (unsigned i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (!strncmp(variable, own[i], strlen(own[i])))
			return true;
	return false;
}

/* Adds NAME=VALUE to the environment, unless the value is NULL. Returns what the caller frees. */
static char *add_variable(char ***end, const char *name, const char *value, int *r)
{
	char *text = NULL;

	if (!value)
		return NULL;
	if (asprintf(&text, "%s=%s", name, value) < 0) {
		*r = -ENOMEM;
		return NULL;
	}
	*(*end)++ = text;
	return text;
}

static int starter_prepare(struct child_setup *child, const struct starter *starter,
			   const struct activation_settings *settings)
{
	unsigned count = 0;
	char **end;
	int r = 0;

	*child = (struct child_setup){.settings = settings, .switches = geteuid() != settings->uid};
	while (environ[count])
		count++;
	child->environment = end = calloc(count + 5, sizeof(char *));
	if (!child->environment)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		if (!is_own_variable(environ[i]))
			*end++ = environ[i];
	child->socket = add_variable(&end, "XENMSG_SOCKET", starter->socket, &r);
	child->home = add_variable(&end, "HOME", settings->home, &r);
	child->user = add_variable(&end, "USER", settings->user_name, &r);
	child->logname = add_variable(&end, "LOGNAME", settings->user_name, &r);
	return r;
}

static void clean_up(struct child_setup *child)
{
	free(child->environment);
	free(child->socket);
	free(child->home);
	free(child->user);
	free(child->logname);
}

/* Returns a descriptor that leads where the daemon's log does, with a description of its own where it can
 * have one: a program could make the daemon's non-blocking, or shut the journal's socket down. A file that
 * isn't appended to is shared, since two offsets would overwrite each other's lines. */
static int own_output(const char *name, int null)
{
	int flags = fcntl(STDERR_FILENO, F_GETFL) & O_APPEND, fd;
	struct stat status;

	if (fstat(STDERR_FILENO, &status) < 0)
		return null;
	if (S_ISREG(status.st_mode) && !flags)
		return STDERR_FILENO;
	if (S_ISSOCK(status.st_mode))
		fd = service_open_output(name);
	else
		fd = open("/proc/self/fd/2", O_WRONLY | O_NOCTTY | flags);
	return fd >= 0 ? fd : null;
}

static bool become(const struct activation_settings *settings)
{
	return setgroups((size_t)settings->group_count, settings->groups) == 0 &&
	       setresgid(settings->gid, settings->gid, settings->gid) == 0 &&
	       setresuid(settings->uid, settings->uid, settings->uid) == 0;
}

/* Runs in the child of a process with threads: nothing here but what is safe after fork(). */
static void __attribute__((noreturn)) run(const struct child_setup *child)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	struct rlimit files;
	sigset_t none;
	int null, output;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	null = open("/dev/null", O_RDWR);
	output = own_output(child->settings->endpoint, null);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0)
		_exit(127);
	closefrom(STDERR_FILENO + 1);
	/* The daemon has raised its own (base/descriptors.h). */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > FILES_SOFT) {
		files.rlim_cur = FILES_SOFT;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (child->switches && !become(child->settings))
		_exit(127);
	execve(child->settings->command[0], child->settings->command, child->environment);
	_exit(127);
}

static int start_command(struct start *start, const struct activation_settings *settings)
{
	struct child_setup child;
	sigset_t all, before;
	int r;

	start->kill.timer = evtimer_new(start->starter->base, on_kill, start);
	if (!start->kill.timer)
		return -ENOMEM;
	r = starter_prepare(&child, start->starter, settings);
	if (r == 0) {
		/* Until the child has its own signals, one to it would be taken by the event loop that it
		 * shares with us. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		start->pid = fork();
		r = start->pid < 0 ? -errno : 0;
		if (start->pid == 0)
			run(&child);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	clean_up(&child);
	if (r < 0) {
		event_free(start->kill.timer);
		return r;
	}
	setpgid(start->pid, start->pid); /* the child does the same: it may be killed before it has run */
	DL_APPEND(start->starter->commands, start);
	return 0;
}

/* Reaps what has ended. Returns whether the process group has anybody left. */
static bool is_left(struct start *start)
{
	if (waitpid(start->pid, NULL, WNOHANG) == start->pid)
		start->leaving = true;
	return !start->leaving || kill(-start->pid, 0) == 0;
}

/* Ends all commands at the daemon's end, when no loop runs any more. */
static void stop_all(struct starter *starter)
{
	struct start *start, *next;
	bool left = starter->commands != NULL;

	DL_FOREACH(starter->commands, start)
		signal_command(start, SIGTERM);
	for (unsigned ms = 0; left && ms < STOP_MS; ms += STOP_LOOKS_MS) {
		left = false;
		DL_FOREACH_SAFE(starter->commands, start, next) {
			if (is_left(start))
				left = true;
			else
				free_command(start);
		}
		if (left)
			poll(NULL, 0, STOP_LOOKS_MS);
	}
	DL_FOREACH_SAFE(starter->commands, start, next) {
		signal_command(start, SIGKILL);
		free_command(start);
	}
}

static bool is_child(pid_t pid)
{
	siginfo_t end;

	return waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Makes a command of what was read, which needs what only this process has. */
static void adopt_command(struct image *image, struct start *start, uint32_t kill_ms)
{
	start->kill.timer = evtimer_new(start->starter->base, on_kill, start);
	if (!start->kill.timer) {
		image_fail(image, -ENOMEM);
		return;
	}
	if (kill_ms != DEADLINE_OFF)
		deadline_set(&start->kill, kill_ms);
	DL_APPEND(start->starter->commands, start);
}

void start_image(struct image *image, struct starter *starter, struct start **out, start_ended_fn ended,
		 void *userdata)
{
	struct start *start = image->is_read ? calloc(1, sizeof(*start)) : *out;
	uint32_t pid, kill_ms;

	if (!start) {
		image_fail(image, -ENOMEM);
		return;
	}
	pid = (uint32_t)start->pid;
	kill_ms = image->is_read ? DEADLINE_OFF : deadline_to_hand_over(&start->kill, kill_after(start));
	image_upto(image, &pid, INT32_MAX);
	image_bool(image, &start->stopping);
	image_bool(image, &start->leaving);
	image_u32(image, &kill_ms);
	if (!image->is_read)
		return;
	*start = (struct start){.starter = starter,
				.ended = ended,
				.userdata = userdata,
				.pid = (pid_t)pid,
				.stopping = start->stopping,
				.leaving = start->leaving};
	/* One that was killed and hasn't ended yet has no timer any more. */
	image_expect(image, pid > 1 && (start->stopping || (!start->leaving && kill_ms == DEADLINE_OFF)) &&
				    (!start->leaving || kill_ms != DEADLINE_OFF));
	*out = NULL;
	if (!image->error && is_child(start->pid))
		adopt_command(image, start, kill_ms);
	if (start->kill.timer)
		*out = start;
	else
		free(start);
}

void starter_write_forgotten(struct starter *starter, struct image *image)
{
	struct start *start;

	DL_FOREACH(starter->commands, start) {
		if (start->ended)
			continue;
		image_section(image, IMAGE_COMMAND);
		start_image(image, starter, &start, NULL, NULL);
	}
}

/* --- units ------------------------------------------------------------------------------------ */

static void on_unit_failed(void *userdata, const char *why)
{
	struct start *start = userdata;
	start_ended_fn ended = start->ended;
	void *owner = start->userdata;

	free(start);
	ended(owner, why);
}

/* --- both ------------------------------------------------------------------------------------- */

struct start *start_new(struct starter *starter, const struct activation_settings *settings,
			start_ended_fn ended, void *userdata, int *error)
{
	struct start *start = calloc(1, sizeof(*start));

	*error = -ENOMEM;
	if (!start)
		return NULL;
	start->starter = starter;
	start->ended = ended;
	start->userdata = userdata;
	if (settings->command) {
		*error = start_command(start, settings);
	} else {
		*error = starter->units ? 0 : units_new(&starter->units, starter->base);
		if (*error == 0)
			start->unit =
				unit_start_new(starter->units, settings->unit, on_unit_failed, start, error);
		if (start->unit)
			*error = 0;
	}
	if (*error == 0)
		return start;
	free(start);
	return NULL;
}

bool start_lives(const struct start *start)
{
	return !start->unit;
}

void start_stop(struct start *start)
{
	if (start->unit || start->stopping)
		return;
	start->stopping = true;
	signal_command(start, SIGTERM);
	deadline_set(&start->kill, STOP_MS);
}

void start_forget(struct start *start)
{
	start->ended = NULL;
	if (start->unit) {
		unit_start_free(start->unit);
		free(start);
	}
}

int starter_new(struct starter **out, struct event_base *base, const char *socket)
{
	struct starter *starter = calloc(1, sizeof(*starter));

	if (!starter)
		return -ENOMEM;
	starter->base = base;
	starter->socket = socket;
	starter->child_event = evsignal_new(base, SIGCHLD, on_child, starter);
	if (!starter->child_event || event_add(starter->child_event, NULL) < 0) {
		starter_free(starter);
		return -ENOMEM;
	}
	*out = starter;
	return 0;
}

void starter_free(struct starter *starter)
{
	if (!starter)
		return;
	stop_all(starter);
	units_free(starter->units);
	free_event(starter->child_event);
	free(starter);
}
