/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/activation/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>
#include <utlist.h>

#include "daemon/activation/activation_read.h"
#include "daemon/activation/units.h"
#include "daemon/base/log.h"
#include "daemon/base/timer.h"

#define STOP_MS	   5000u /* until a command that was asked to end is killed */
#define GROUPS_MAX 256

struct start {
	struct starter *starter;
	start_failed_fn failed; /* NULL: forgotten */
	void *userdata;
	struct unit_start *unit; /* NULL: a command */
	pid_t pid;
	struct event *kill_timer;
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
	event_free(start->kill_timer);
	free(start);
}

static void on_kill(int fd, short what, void *userdata)
{
	struct start *start = userdata;

	kill(-start->pid, SIGKILL);
}

/* Reaps a command if it has ended, and tells its owner. */
static void reap(struct start *start)
{
	start_failed_fn failed = start->failed;
	void *userdata = start->userdata;
	char why[96];
	int status;

	if (waitpid(start->pid, &status, WNOHANG) <= 0)
		return;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		snprintf(why, sizeof(why), "the command can't be run, or ended with status 127");
	else if (WIFEXITED(status))
		snprintf(why, sizeof(why), "the command ended with status %d", WEXITSTATUS(status));
	else
		snprintf(why, sizeof(why), "the command was ended by signal %d", WTERMSIG(status));
	free_command(start);
	if (failed)
		failed(userdata, why);
}

static void on_child(int number, short what, void *userdata)
{
	struct starter *starter = userdata;
	struct start *start, *next;

	/* Only our own: the daemon may have other children (daemon/xen/keeper.h). */
	DL_FOREACH_SAFE(starter->commands, start, next)
		reap(start);
}

/* Everything that the child needs, made before fork(): there only what is safe after it may be called. */
struct child {
	char *const *arguments;
	char **environment;
	uid_t uid;
	gid_t gid;
	gid_t groups[GROUPS_MAX];
	int group_count;
	bool switches;
	char socket[160], home[160], user[96], logname[96];
};

static bool is_own_variable(const char *variable)
{
	static const char *const own[] = {"XENMSG_SOCKET=", "NOTIFY_SOCKET=", "LISTEN_",  "WATCHDOG_",
					  "HOME=",	    "USER=",	      "LOGNAME=", "XENMSG_KEEPER="};

	for (unsigned i = 0; i < sizeof(own) / sizeof(*own); i++)
		if (!strncmp(variable, own[i], strlen(own[i])))
			return true;
	return false;
}

static int prepare(struct child *child, const struct starter *starter,
		   const struct activation_settings *settings)
{
	const struct passwd *entry = getpwuid(settings->uid);
	unsigned count = 0, out = 0;

	*child = (struct child){.arguments = settings->command, .uid = settings->uid};
	child->switches = geteuid() != settings->uid;
	if (child->switches && !entry)
		return -ESRCH;
	if (child->switches) {
		child->gid = entry->pw_gid;
		child->group_count = GROUPS_MAX;
		if (getgrouplist(entry->pw_name, entry->pw_gid, child->groups, &child->group_count) < 0)
			return -E2BIG;
	}
	while (environ[count])
		count++;
	child->environment = calloc(count + 5, sizeof(char *));
	if (!child->environment)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		if (!is_own_variable(environ[i]))
			child->environment[out++] = environ[i];
	snprintf(child->socket, sizeof(child->socket), "XENMSG_SOCKET=%s", starter->socket);
	child->environment[out++] = child->socket;
	if (!entry)
		return 0;
	snprintf(child->home, sizeof(child->home), "HOME=%s", entry->pw_dir);
	snprintf(child->user, sizeof(child->user), "USER=%s", entry->pw_name);
	snprintf(child->logname, sizeof(child->logname), "LOGNAME=%s", entry->pw_name);
	child->environment[out++] = child->home;
	child->environment[out++] = child->user;
	child->environment[out++] = child->logname;
	return 0;
}

/* Runs in the child of a process with threads: nothing here but what is safe after fork(). */
static void __attribute__((noreturn)) run(const struct child *child)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;
	int null;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(127);
	close_range(STDERR_FILENO + 1, ~0u, 0);
	if (child->switches && (setgroups((size_t)child->group_count, child->groups) < 0 ||
				setresgid(child->gid, child->gid, child->gid) < 0 ||
				setresuid(child->uid, child->uid, child->uid) < 0))
		_exit(127);
	execve(child->arguments[0], child->arguments, child->environment);
	_exit(127);
}

static int start_command(struct start *start, const struct activation_settings *settings)
{
	struct child child;
	int r;

	start->kill_timer = evtimer_new(start->starter->base, on_kill, start);
	if (!start->kill_timer)
		return -ENOMEM;
	r = prepare(&child, start->starter, settings);
	if (r == 0) {
		start->pid = fork();
		if (start->pid == 0)
			run(&child);
		r = start->pid < 0 ? -errno : 0;
	}
	free(child.environment);
	if (r < 0) {
		event_free(start->kill_timer);
		return r;
	}
	setpgid(start->pid, start->pid); /* whoever is first: it may be killed before it has run */
	DL_APPEND(start->starter->commands, start);
	return 0;
}

/* --- units ------------------------------------------------------------------------------------ */

static void on_unit_failed(void *userdata, const char *why)
{
	struct start *start = userdata;
	start_failed_fn failed = start->failed;
	void *owner = start->userdata;

	free(start);
	failed(owner, why);
}

/* --- both ------------------------------------------------------------------------------------- */

struct start *start_new(struct starter *starter, const struct activation_settings *settings,
			start_failed_fn failed, void *userdata, int *error)
{
	struct start *start = calloc(1, sizeof(*start));

	*error = -ENOMEM;
	if (!start)
		return NULL;
	start->starter = starter;
	start->failed = failed;
	start->userdata = userdata;
	if (settings->command) {
		*error = start_command(start, settings);
	} else {
		start->unit = unit_start_new(starter->units, settings->unit, on_unit_failed, start, error);
		if (start->unit)
			*error = 0;
	}
	if (*error == 0)
		return start;
	free(start);
	return NULL;
}

void start_forget(struct start *start, bool stop)
{
	if (start->unit) {
		unit_start_free(start->unit);
		free(start);
		return;
	}
	start->failed = NULL;
	if (!stop)
		return;
	kill(-start->pid, SIGTERM);
	timer_set(start->kill_timer, STOP_MS);
}

int starter_new(struct starter **out, struct event_base *base, const char *socket)
{
	struct starter *starter = calloc(1, sizeof(*starter));
	int r;

	if (!starter)
		return -ENOMEM;
	starter->base = base;
	starter->socket = socket;
	r = units_new(&starter->units, base);
	starter->child_event = evsignal_new(base, SIGCHLD, on_child, starter);
	if (r < 0 || !starter->child_event || event_add(starter->child_event, NULL) < 0) {
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
	while (starter->commands) {
		kill(-starter->commands->pid, SIGTERM);
		free_command(starter->commands);
	}
	units_free(starter->units);
	if (starter->child_event)
		event_free(starter->child_event);
	free(starter);
}
