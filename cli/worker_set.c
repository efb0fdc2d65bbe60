/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/worker_set.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct set {
	pid_t pids[WORKERS_MAX];
	unsigned count;
	sigset_t caught, before;
	bool ending;
	int signal, code;
};

static void signal_all(const struct set *set, int number)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->pids[i] > 0)
			kill(set->pids[i], number);
}

static void end_all(struct set *set)
{
	set->ending = true;
	signal_all(set, SIGTERM);
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
	if (pid < 0) {
		cli_complain("can't start a process: %s%s", strerror(errno), cli_limit_of(errno));
		set->code = EXIT_OTHER;
		end_all(set);
	}
	return false;
}

/* Notes that one has ended. Returns true in the process that replaces it. */
static bool on_end(struct set *set, struct cli *cli, const char *command, pid_t pid, int status)
{
	const struct timespec pause = {.tv_sec = 1};
	unsigned i = 0;

	while (i < set->count && set->pids[i] != pid)
		i++;
	if (i == set->count)
		return false;
	set->pids[i] = 0;
	if (set->ending)
		return false;
	if (WIFSIGNALED(status)) {
		cli_note(cli, "%s: a worker was killed by %s; another one is started", command,
			 strsignal(WTERMSIG(status)));
		nanosleep(&pause, NULL); /* one that can't live isn't started again and again at once */
		return start_one(set, i);
	}
	set->code = WEXITSTATUS(status);
	end_all(set);
	return false;
}

static bool any_lives(const struct set *set)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->pids[i] > 0)
			return true;
	return false;
}

bool worker_set_start(struct cli *cli, const char *command, uint64_t count, int *code, int *number)
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
	while (any_lives(&set)) {
		int status, came = sigwaitinfo(&set.caught, NULL);
		pid_t pid;

		if (came == SIGINT || came == SIGTERM) {
			set.signal = came;
			set.ending = true;
			signal_all(&set, came);
		}
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (on_end(&set, cli, command, pid, status))
				return true;
	}
	sigprocmask(SIG_SETMASK, &set.before, NULL);
	*code = set.code;
	*number = set.signal;
	return false;
}
