/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool file_can_be_run(const char *file)
{
	struct stat info;

	if (access(file, X_OK) < 0 || stat(file, &info) < 0)
		return false;
	errno = EACCES;
	return S_ISREG(info.st_mode);
}

bool command_can_be_run(const char *command)
{
	const char *path = getenv("PATH");
	char *copy, *rest, *part;
	bool found = false;

	if (strchr(command, '/'))
		return file_can_be_run(command);
	copy = rest = strdup(path ? path : "/usr/bin:/bin");
	while (copy && !found && (part = strsep(&rest, ":")) != NULL) {
		char file[4096];

		snprintf(file, sizeof(file), "%s/%s", *part ? part : ".", command);
		found = file_can_be_run(file);
	}
	free(copy);
	if (!found)
		errno = ENOENT;
	return found;
}

void command_reset_signals(void)
{
	static const int caught[] = {SIGINT, SIGTERM, SIGCHLD, SIGPIPE, SIGXFSZ};

	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		signal(caught[i], SIG_DFL);
}

pid_t command_fork(void)
{
	sigset_t all, before;
	pid_t pid;
	int error;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	error = errno;
	if (pid == 0)
		command_reset_signals();
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return pid;
}

const char *command_end(int status, char text[32])
{
	if (WIFSIGNALED(status))
		snprintf(text, 32, "was killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, 32, "ended with status %d", WEXITSTATUS(status));
	return text;
}

int command_exit_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void command_set_number(const char *name, uint32_t value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	setenv(name, text, 1);
}

void command_set_sender(const char *host, uint32_t domid, const char *name, uint32_t uid, uint32_t pid)
{
	setenv("XENMSG_SENDER_HOST", host, 1);
	command_set_number("XENMSG_SENDER_DOMID", domid);
	command_set_number("XENMSG_SENDER_UID", uid);
	command_set_number("XENMSG_SENDER_PID", pid);
	setenv("XENMSG_SENDER_NAME", name, 1);
}

void command_set_id(const struct xenmsg_message *message, const struct xenmsg_peer *peer)
{
	char name[XENMSG_NAME_SIZE];
	int r = message ? xenmsg_message_name(message, name, sizeof(name))
			: xenmsg_peer_channel(peer, name, sizeof(name));

	if (r == 0)
		setenv("XENMSG_ID", name, 1);
	else
		unsetenv("XENMSG_ID");
}

const char *command_sender(const char *host, uint32_t domid, char text[COMMAND_SENDER_SIZE])
{
	snprintf(text, COMMAND_SENDER_SIZE, "domain %u%s%s", domid, *host ? " of host " : "", host);
	return text;
}
