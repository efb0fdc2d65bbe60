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

#define ANSWER_MS 10000
#define WORDS_MAX 1024u

struct renewal {
	const char *program;
	char **argv;
	renewal_done_fn done;
	void *userdata;
	struct event_base *base;
	struct event *readable, *timer;
	pid_t pid; /* 0: nobody is asked */
	int fd;	   /* what it says; -1 */
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

static void renewal_forget_process(struct renewal *renewal)
{
	free_event(renewal->readable);
	renewal->readable = NULL;
	if (renewal->fd >= 0)
		close(renewal->fd);
	renewal->fd = -1;
	renewal->pid = 0;
	event_del(renewal->timer);
}

/* The program has ended, or is ended here (`is_late`), as one that says more than any would: what it says at
 * its end is all, so this doesn't wait for long. */
static void renewal_conclude(struct renewal *renewal, bool is_late)
{
	int status = 0, error = 0;
	pid_t pid = renewal->pid;

	if (is_late)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	while (renewal->size && renewal->words[renewal->size - 1] == '\n')
		renewal->size--;
	renewal->words[renewal->size] = '\0';
	if (is_late || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		error = -EINVAL;
	if (error < 0 && !renewal->size)
		snprintf(renewal->words, sizeof(renewal->words), "%s %s", renewal->program,
			 is_late ? "doesn't answer" : "doesn't start");
	if (!take_format(renewal->words) && error == 0) {
		refuse_format(renewal);
		error = -EINVAL;
	}
	renewal_forget_process(renewal);
	renewal->done(renewal->userdata, error, renewal->words);
}

static void on_words(int fd, short what, void *userdata)
{
	struct renewal *renewal = userdata;
	char more[256];
	ssize_t size = read(fd, more, sizeof(more));
	size_t room = sizeof(renewal->words) - 1 - renewal->size;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size <= 0) {
		renewal_conclude(renewal, false);
		return;
	}
	if ((size_t)size < room)
		room = (size_t)size;
	memcpy(renewal->words + renewal->size, more, room);
	renewal->size += room;
	if (renewal->size == sizeof(renewal->words) - 1)
		renewal_conclude(renewal, true);
}

static void renewal_on_late(int fd, short what, void *userdata)
{
	renewal_conclude(userdata, true);
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
	pid_t pid = renewal->pid;

	if (!pid)
		return false;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
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
	if (renewal->timer)
		return renewal;
	free(renewal);
	return NULL;
}

void renewal_free(struct renewal *renewal)
{
	if (!renewal)
		return;
	if (!renewal_give_up(renewal))
		renewal_forget_process(renewal);
	event_free(renewal->timer);
	free(renewal);
}
