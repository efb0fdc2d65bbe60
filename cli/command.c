/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/command.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "wire/libc.h"

#define LOOK_NS	   20000000 /* between two looks whether a child has ended */
#define FILES_MOST 4096	    /* a process with more may have any */

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

/* Makes signals as if none had ever been blocked, caught or ignored by us, for a command. A shell has those
 * that it runs in the background ignore SIGINT, which is for the command as well. */
static void reset_signals(void)
{
	static const int caught[] = {SIGINT, SIGTERM, SIGCHLD, SIGPIPE, SIGXFSZ};

	sigset_t none;

	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		if (signal(caught[i], SIG_DFL) == SIG_IGN && caught[i] == SIGINT)
			signal(SIGINT, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
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
		reset_signals();
	else
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

struct command_peer command_peer(const struct xenmsg_peer *peer, const struct xenmsg_message *message)
{
	struct command_peer is = {
		.domid = xenmsg_peer_domid(peer), .uid = xenmsg_peer_uid(peer), .pid = xenmsg_peer_pid(peer)};

	snprintf(is.host, sizeof(is.host), "%s", xenmsg_peer_host(peer));
	snprintf(is.domain_name, sizeof(is.domain_name), "%s", xenmsg_peer_domain_name(peer));
	snprintf(is.words, sizeof(is.words), "domain %u%s%s", is.domid, *is.host ? " of host " : "", is.host);
	if ((message ? xenmsg_message_name(message, is.id, sizeof(is.id))
		     : xenmsg_peer_channel(peer, is.id, sizeof(is.id))) < 0)
		*is.id = '\0';
	return is;
}

void command_set_peer(const struct command_peer *peer)
{
	setenv("XENMSG_SENDER_HOST", peer->host, 1);
	command_set_number("XENMSG_SENDER_DOMID", peer->domid);
	command_set_number("XENMSG_SENDER_UID", peer->uid);
	command_set_number("XENMSG_SENDER_PID", peer->pid);
	setenv("XENMSG_SENDER_NAME", peer->domain_name, 1);
	if (*peer->id)
		setenv("XENMSG_ID", peer->id, 1);
	else
		unsetenv("XENMSG_ID");
}

void command_become(const char *by, char **command, const struct command_peer *peer, const int *descriptors,
		    unsigned count)
{
	int own_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, COMMAND_STREAMS), error;
	unsigned set = 0;

	command_set_peer(peer);
	while (set < count && dup2(descriptors[set], (int)set) >= 0)
		set++;
	if (set == count)
		execvp(command[0], command);
	error = errno;
	/* The path of a command here is nothing to tell the other domain. */
	dup2(own_stderr, STDERR_FILENO);
	cli_complain("%s: %s: %s", by, command[0], strerror(error));
}

/* Returns a descriptor that says when a child may have ended: without pidfd_open(2), which an emulator or a
 * filter of system calls may lack, a timer, at which it is looked. */
static int watch_child(pid_t pid)
{
	const struct itimerspec often = {.it_value.tv_nsec = LOOK_NS, .it_interval.tv_nsec = LOOK_NS};
	int fd = pidfd_open(pid, 0);

	if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
		return fd < 0 ? -errno : fd;
	fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd >= 0)
		timerfd_settime(fd, 0, &often, NULL);
	return fd < 0 ? -errno : fd;
}

bool command_has_ended(struct command_child *child, int *status)
{
	siginfo_t end = {0};
	uint64_t ticks;

	if (status && waitpid(child->pid, status, WNOHANG) == child->pid)
		return true;
	if (!status && waitid(P_PID, (id_t)child->pid, &end, WEXITED | WNOHANG | WNOWAIT) == 0 && end.si_pid)
		return true;
	(void)!read(child->pidfd, &ticks, sizeof(ticks)); /* until the next tick, if it is a timer */
	return false;
}

/* Whether a process that hasn't been waited for has closed its files, as its end begins. */
static bool is_ending(pid_t pid)
{
	static const char none[] = "FDSize:\t0\n";
	char path[32], line[256];
	bool ends = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && !ends && fgets(line, sizeof(line), file))
		ends = strcmp(line, none) == 0;
	if (file)
		fclose(file);
	return ends || !file;
}

/* Finds it by the name that the kernel shows of it, which asks no file system. */
static bool lists_socket(DIR *files, int fd)
{
	char path[32], own[64] = "", name[64];
	const struct dirent *entry;
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, own, sizeof(own) - 1) < 0)
		return true;
	while ((entry = readdir(files)) && count++ < FILES_MOST) {
		ssize_t size = readlinkat(dirfd(files), entry->d_name, name, sizeof(name) - 1);

		name[size < 0 ? 0 : size] = '\0';
		if (strcmp(name, own) == 0)
			return true;
	}
	return entry;
}

bool command_has_socket(pid_t pid, int fd)
{
	char path[32];
	DIR *files;
	bool has;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	files = opendir(path);
	has = !files || lists_socket(files, fd);
	if (files)
		closedir(files);
	return has || is_ending(pid);
}

int command_start(struct command_child *child, const char *by, char **command,
		  const struct command_peer *peer, unsigned pipes)
{
	int theirs[COMMAND_STREAMS] = {-1, -1, -1}, r = 0;

	*child = (struct command_child){.pidfd = -1, .ends = {-1, -1, -1}};
	for (unsigned i = 0; i < pipes && r == 0; i++) {
		int ends[2] = {-1, -1};

		r = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
		theirs[i] = ends[i > 0];
		child->ends[i] = ends[i == 0];
	}
	if (r == 0 && (child->pid = command_fork()) < 0)
		r = -errno;
	if (r == 0 && child->pid == 0) {
		setpgid(0, 0);
		command_become(by, command, peer, theirs, pipes);
		_exit(COMMAND_NOT_RUN);
	}
	for (unsigned i = 0; i < pipes; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	if (r == 0) {
		setpgid(child->pid, child->pid); /* the child does the same, whichever comes first */
		child->pidfd = watch_child(child->pid);
		r = child->pidfd < 0 ? child->pidfd : 0;
	}
	if (r < 0)
		command_drop(child);
	return r;
}

void command_drop(struct command_child *child)
{
	for (unsigned i = 0; i < COMMAND_STREAMS; i++)
		if (child->ends[i] >= 0)
			close(child->ends[i]);
	if (child->pidfd >= 0)
		close(child->pidfd);
	if (child->pid > 0) {
		kill(-child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
	}
	*child = (struct command_child){.pidfd = -1, .ends = {-1, -1, -1}};
}
