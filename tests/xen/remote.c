/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the rig's dom0 runs commands in a guest that has neither a network nor anything that the tests are
 * about (a vchan would take grants and event channels, and those don't survive a restore): over a few nodes
 * in XenStore.
 *
 * 	rig-remote serve			in a guest: carries out what comes, each command in a process of its own;
 * 						data/rig-up says that it is there
 * 	rig-remote run DOMID SECONDS COMMAND	in dom0: prints the command's output (the last 14 KiB) and exits with
 *  its status;
 * 						124 when the time is up, 125 when the domain has gone
 *
 * ~/data/rig/<id> is "?COMMAND", then "=STATUS\nOUTPUT", and what doesn't fit is in nodes of its own before
 * it. dom0 makes and owns that node, so that a guest whose quota is used up, as some tests have it, can still
 * answer.
 *
 * Processes and XenStore are slow under emulation, and a test runs dozens of commands: hence the few
 * requests, and one serving process without forks of its own. (It can't be linked statically: libxenstore's
 * thread is refused its small stack then.)
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xenstore.h>

#define CHUNK	   1800 /* a value holds 2048 bytes, less the path on C xenstored */
#define CHUNKS	   8
#define PATH_BYTES 128
#define DIRECTORY  "data/rig"
#define JOBS	   16

#define STATUS_TIMEOUT 124
#define STATUS_GONE    125

extern char **environ;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "rig-remote: %s: %s\n", what, strerror(errno));
	exit(STATUS_GONE);
}

/* --- in the guest --- */

struct job {
	pid_t pid; /* 0: free */
	int output;
	char path[PATH_BYTES / 2];
};

struct server {
	struct xs_handle *store;
	struct job jobs[JOBS];
};

/* The last bytes of what the command wrote: the first chunk beside the status, the others, which are written
 * first, behind it. */
static void answer(struct server *server, const struct job *job, int status)
{
	char path[PATH_BYTES], chunk[CHUNK + 16];
	struct stat stat = {.st_size = 0};
	off_t start;
	int head;

	fstat(job->output, &stat);
	start = stat.st_size > CHUNK * CHUNKS ? stat.st_size - CHUNK * CHUNKS : 0;
	for (int i = 1; i < CHUNKS && start + i * CHUNK < stat.st_size; i++) {
		ssize_t n = pread(job->output, chunk, CHUNK, start + i * CHUNK);

		snprintf(path, sizeof(path), "%s/%d", job->path, i);
		if (n > 0)
			xs_write(server->store, XBT_NULL, path, chunk, (unsigned)n);
	}
	head = snprintf(chunk, sizeof(chunk), "=%d\n",
			WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	start = pread(job->output, chunk + head, CHUNK, start);
	xs_write(server->store, XBT_NULL, job->path, chunk, (unsigned)(head + (start > 0 ? start : 0)));
}

static void reap(struct server *server)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct job *job = server->jobs; job < server->jobs + JOBS; job++)
			if (job->pid == pid) {
				answer(server, job, status);
				close(job->output);
				job->pid = 0;
			}
}

static pid_t start(const char *command, int output)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t pid;
	int error;

	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
	error = posix_spawn(&pid, "/bin/sh", &actions, &attributes, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return error ? -1 : pid;
}

static void take(struct server *server, const char *path)
{
	struct job *job = NULL;
	char *value;

	for (int i = 0; i < JOBS; i++) {
		if (!server->jobs[i].pid)
			job = &server->jobs[i];
		else if (!strcmp(server->jobs[i].path, path))
			return; /* it is under way */
	}
	if (!job || strlen(path) >= sizeof(job->path))
		return;
	value = xs_read(server->store, XBT_NULL, path, NULL);
	if (value && value[0] == '?') {
		strcpy(job->path, path);
		job->output = memfd_create("output", MFD_CLOEXEC);
		job->pid = start(value + 1, job->output);
		if (job->pid < 0)
			die("start");
	}
	free(value);
}

/* The watch tells of its own node when it is set, which a guest's kernel does again after a restore. It tells
 * nothing of what dom0 has written there between the restore and then, so that is looked for. */
static void take_event(struct server *server, const char *path)
{
	char child[PATH_BYTES], **names;
	unsigned count = 0;

	if (strcmp(path, DIRECTORY)) {
		take(server, path);
		return;
	}
	names = xs_directory(server->store, XBT_NULL, DIRECTORY, &count);
	for (unsigned i = 0; i < count; i++) {
		snprintf(child, sizeof(child), "%s/%s", DIRECTORY, names[i]);
		take(server, child);
	}
	free(names);
}

static int serve(void)
{
	struct server server = {.store = xs_open(0)};
	struct pollfd pollfds[2] = {{.events = POLLIN}, {.events = POLLIN}};
	struct signalfd_siginfo information;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	/* Relative, so that it goes on after a restore, with another domid. */
	if (!server.store || !xs_watch(server.store, DIRECTORY, "rig"))
		die("watch");
	if (!xs_write(server.store, XBT_NULL, "data/rig-up", "1", 1))
		die("data/rig-up");
	pollfds[0].fd = xs_fileno(server.store);
	pollfds[1].fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	for (;;) {
		char **event;

		if (poll(pollfds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		while ((event = xs_check_watch(server.store)) != NULL) {
			take_event(&server, event[XS_WATCH_PATH]);
			free(event);
		}
		while (read(pollfds[1].fd, &information, sizeof(information)) > 0)
			;
		reap(&server);
	}
}

/* --- in dom0 --- */

static bool ask(struct xs_handle *store, const char *path, const char *command, unsigned domid)
{
	struct xs_permissions permissions[2] = {{.id = 0, .perms = XS_PERM_NONE},
						{.id = domid, .perms = XS_PERM_READ | XS_PERM_WRITE}};
	xs_transaction_t transaction = xs_transaction_start(store);
	size_t size = strlen(command) + 1;
	char value[4096] = "?";
	bool ok;

	if (size >= sizeof(value)) {
		errno = E2BIG;
		return false;
	}
	memcpy(value + 1, command, size);
	ok = xs_write(store, transaction, path, value, (unsigned)size) &&
	     xs_set_permissions(store, transaction, path, permissions, 2);
	return xs_transaction_end(store, transaction, !ok) && ok;
}

/* Whether there is such a domain: dom0 could write nodes for those that have gone, too. */
static bool is_there(struct xs_handle *store, unsigned domid)
{
	char path[PATH_BYTES], *value;

	snprintf(path, sizeof(path), "/local/domain/%u/domid", domid);
	value = xs_read(store, XBT_NULL, path, NULL);
	free(value);
	return value;
}

/* The answer, or NULL with *status. */
static char *await(struct xs_handle *store, const char *path, int seconds, int *status)
{
	time_t deadline = time(NULL) + seconds;

	if (!xs_watch(store, path, "status"))
		die("watch");
	for (;;) {
		struct pollfd pollfd = {.fd = xs_fileno(store), .events = POLLIN};
		bool changed = false;
		char **event, *value;

		poll(&pollfd, 1, 1000);
		while ((event = xs_check_watch(store)) != NULL) {
			changed |= !strcmp(event[XS_WATCH_PATH], path);
			free(event);
		}
		value = changed ? xs_read(store, XBT_NULL, path, NULL) : NULL;
		if (value && value[0] == '=')
			return value;
		free(value);
		if (changed && !value && errno == ENOENT) {
			*status = STATUS_GONE;
			return NULL;
		}
		if (time(NULL) >= deadline) {
			*status = STATUS_TIMEOUT;
			return NULL;
		}
	}
}

static void print_rest(struct xs_handle *store, const char *path)
{
	char more[PATH_BYTES], *chunk;
	unsigned size;

	for (int i = 1; i < CHUNKS; i++) {
		snprintf(more, sizeof(more), "%s/%d", path, i);
		chunk = xs_read(store, XBT_NULL, more, &size);
		if (!chunk)
			return;
		fwrite(chunk, 1, size, stdout);
		free(chunk);
	}
}

static int run(unsigned domid, int seconds, const char *command)
{
	struct xs_handle *store = xs_open(0);
	char path[PATH_BYTES / 2], *value, *end;
	int status;

	if (!store)
		die("XenStore");
	if (!is_there(store, domid)) {
		fprintf(stderr, "rig-remote: there is no domain %u\n", domid);
		return STATUS_GONE;
	}
	snprintf(path, sizeof(path), "/local/domain/%u/" DIRECTORY "/%d", domid, (int)getpid());
	while (!ask(store, path, command, domid))
		if (errno != EAGAIN)
			die(path);
	value = await(store, path, seconds, &status);
	if (value) {
		status = (int)strtol(value + 1, &end, 10);
		fputs(end + 1, stdout);
		if (strlen(end + 1) >= CHUNK)
			print_rest(store, path);
	}
	free(value);
	xs_rm(store, XBT_NULL, path);
	if (status == STATUS_TIMEOUT && !value)
		fprintf(stderr, "rig-remote: domain %u: not done after %d s: %s\n", domid, seconds, command);
	if (status == STATUS_GONE && !value)
		fprintf(stderr, "rig-remote: domain %u has gone during: %s\n", domid, command);
	return status;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "serve"))
		return serve();
	if (argc == 5 && !strcmp(argv[1], "run"))
		return run((unsigned)atoi(argv[2]), atoi(argv[3]), argv[4]);
	fprintf(stderr, "Usage: rig-remote serve | run DOMID SECONDS COMMAND\n");
	return 2;
}
