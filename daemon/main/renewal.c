/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/renewal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/image.h"
#include "base/timer.h"

#define ANSWER_MS  10000
#define WORDS_MAX  1024u
#define KILLED_MAX 8

struct renewal {
	const char *program;
	char **argv;
	renewal_done_fn done;
	void *userdata;
	struct event_base *base;
	struct event *readable, *timer, *child;
	pid_t pid;		  /* 0: nobody is asked */
	pid_t killed[KILLED_MAX]; /* 0: none */
	int fd;			  /* what it says; -1 */
	char words[WORDS_MAX];
	size_t size;
};

char **renewal_arguments(char **argv, const char *option, const char *value)
{
	size_t count = 0, at = 0;
	char **out;

	while (argv[count])
		count++;
	out = calloc(count + 3, sizeof(*out));
	if (!out)
		return NULL;
	out[at++] = argv[0];
	out[at++] = (char *)(uintptr_t)option;
	if (value)
		out[at++] = (char *)(uintptr_t)value;
	for (size_t i = 1; i < count; i++)
		out[at++] = argv[i];
	return out;
}

/* Takes out of the words what they say of the format. Returns whether it is that of this program. */
static bool take_format(char *words)
{
	char *line = strstr(words, "\n" RENEWAL_FORMAT), *rest;
	unsigned long format;

	if (!line)
		return false;
	format = strtoul(line + 1 + strlen(RENEWAL_FORMAT), &rest, 10);
	memmove(line, rest, strlen(rest) + 1);
	return format == image_format;
}

/* Puts the reason in the place of what the program has said of itself. */
static void refuse_format(struct renewal *renewal)
{
	char said[201];

	snprintf(said, sizeof(said), "%.200s", renewal->words);
	snprintf(
		renewal->words, sizeof(renewal->words),
		"%s doesn't take over images of format %u, which this daemon makes: only a restart, which ends "
		"all connections, leads to it",
		said, image_format);
}

/* Reaps those that were killed and have ended. */
static void reap_killed(struct renewal *renewal)
{
	for (unsigned i = 0; i < KILLED_MAX; i++)
		if (renewal->killed[i] && waitpid(renewal->killed[i], NULL, WNOHANG) != 0)
			renewal->killed[i] = 0;
}

static void stop_reading(struct renewal *renewal)
{
	free_event(renewal->readable);
	renewal->readable = NULL;
	if (renewal->fd >= 0)
		close(renewal->fd);
	renewal->fd = -1;
}

static void renewal_forget_process(struct renewal *renewal)
{
	stop_reading(renewal);
	renewal->pid = 0;
	if (renewal->timer)
		event_del(renewal->timer);
}

/* Kills the program. It may take long to end even so, in a call of the kernel's, and nobody waits
 * for that. */
static void renewal_kill(struct renewal *renewal)
{
	unsigned i = 0;

	kill(renewal->pid, SIGKILL);
	while (i < KILLED_MAX - 1 && renewal->killed[i])
		i++;
	renewal->killed[i] = renewal->pid;
	reap_killed(renewal);
}

/* Tells what the program has said, and how it has ended: `status` is that of waitpid(2), -1: it is ended
 * here. */
static void renewal_conclude(struct renewal *renewal, int status)
{
	int error = status < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0 ? -EINVAL : 0;

	if (status < 0)
		renewal_kill(renewal);
	while (renewal->size && renewal->words[renewal->size - 1] == '\n')
		renewal->size--;
	renewal->words[renewal->size] = '\0';
	if (error < 0 && !renewal->size)
		snprintf(renewal->words, sizeof(renewal->words), "%s %s", renewal->program,
			 status < 0 ? "doesn't answer" : "doesn't start");
	if (!take_format(renewal->words) && error == 0) {
		refuse_format(renewal);
		error = -EINVAL;
	}
	renewal_forget_process(renewal);
	renewal->done(renewal->userdata, error, renewal->words);
}

/* Takes what the program has said so far. Returns whether it may say more. */
static bool take_words(struct renewal *renewal)
{
	size_t room = sizeof(renewal->words) - 1 - renewal->size;
	ssize_t size = room ? read(renewal->fd, renewal->words + renewal->size, room) : 0;

	if (size > 0)
		renewal->size += (size_t)size;
	return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

/* One that says more than any would is ended. */
static void on_words(int fd, short what, void *userdata)
{
	struct renewal *renewal = userdata;
	bool goes_on = take_words(renewal);

	if (renewal->size == sizeof(renewal->words) - 1)
		renewal_conclude(renewal, -1);
	else if (!goes_on) /* it has closed its output, and hasn't ended by that */
		stop_reading(renewal);
}

static void renewal_on_late(int fd, short what, void *userdata)
{
	renewal_conclude(userdata, -1);
}

/* What it has said at its end is all, though it may have left others that hold its output. */
static void renewal_on_child(int number, short what, void *userdata)
{
	struct renewal *renewal = userdata;
	int status = 0;
	pid_t ended;

	reap_killed(renewal);
	if (!renewal->pid || (ended = waitpid(renewal->pid, &status, WNOHANG)) == 0)
		return;
	if (renewal->fd >= 0)
		take_words(renewal);
	renewal_conclude(renewal, ended < 0 ? EXIT_FAILURE << 8 : status);
}

/* Starts the program, whose words go to `out`. All other descriptors are close-on-exec. */
static int renewal_start(struct renewal *renewal, int out, bool restarts)
{
	char **argv = renewal_arguments(renewal->argv, "--check-takeover", restarts ? "--restarted" : NULL);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	int r;

	if (!argv)
		return -ENOMEM;
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawn(&renewal->pid, renewal->program, &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	free(argv);
	if (r)
		renewal->pid = 0;
	return -r;
}

int renewal_begin(struct renewal *renewal, bool restarts)
{
	int pipe_fds[2], r;

	if (renewal->pid)
		return -EBUSY;
	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	renewal->size = 0;
	renewal->fd = pipe_fds[0];
	renewal->readable = event_new(renewal->base, renewal->fd, EV_READ | EV_PERSIST, on_words, renewal);
	r = renewal->readable && event_add(renewal->readable, NULL) == 0 ? 0 : -ENOMEM;
	if (r == 0)
		r = renewal_start(renewal, pipe_fds[1], restarts);
	close(pipe_fds[1]);
	if (r < 0)
		renewal_forget_process(renewal);
	else
		timer_set(renewal->timer, ANSWER_MS);
	return r;
}

bool renewal_give_up(struct renewal *renewal)
{
	if (!renewal->pid)
		return false;
	renewal_kill(renewal);
	renewal_forget_process(renewal);
	return true;
}

struct renewal *renewal_new(struct event_base *base, const char *program, char **argv, renewal_done_fn done,
			    void *userdata)
{
	struct renewal *renewal = calloc(1, sizeof(*renewal));

	if (!renewal)
		return NULL;
	*renewal = (struct renewal){
		.program = program, .argv = argv, .done = done, .userdata = userdata, .base = base, .fd = -1};
	renewal->timer = evtimer_new(base, renewal_on_late, renewal);
	renewal->child = evsignal_new(base, SIGCHLD, renewal_on_child, renewal);
	if (renewal->timer && renewal->child && event_add(renewal->child, NULL) == 0)
		return renewal;
	renewal_free(renewal);
	return NULL;
}

void renewal_free(struct renewal *renewal)
{
	if (!renewal)
		return;
	if (!renewal_give_up(renewal))
		renewal_forget_process(renewal);
	free_event(renewal->timer);
	free_event(renewal->child);
	free(renewal);
}
