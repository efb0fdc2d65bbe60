/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the rig's dom0 runs commands in a guest that has neither a network nor anything that the tests are about (a vchan would
 * take grants and event channels, and those don't survive a restore): over a few nodes in XenStore.
 *
 *	rig-remote serve			in a guest: carries out what comes, each command in a process of its own
 *	rig-remote run DOMID SECONDS COMMAND	in dom0: prints the command's output (the last 14 KiB) and exits with its status;
 *						124 when the time is up, 125 when the domain has gone
 *
 * ~/data/rig/<id>/{command,status,output0...}: dom0 makes and owns all of them, so that a guest whose quota is used up, as some
 * tests have it, can still answer. status goes from "new" to "taken" to the exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xenstore.h>

#define CHUNK	   1800 /* a value holds 2048 bytes, less the path on C xenstored */
#define CHUNKS	   8
#define PATH_BYTES 128

#define STATUS_TIMEOUT 124
#define STATUS_GONE    125

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "rig-remote: %s: %s\n", what, strerror(errno));
	exit(STATUS_GONE);
}

/* --- in the guest --- */

/* The last bytes of what the command wrote, over the output nodes in order. */
static void write_output(struct xs_handle *store, const char *directory, FILE *output)
{
	char path[PATH_BYTES], chunk[CHUNK];
	long size;

	fseek(output, 0, SEEK_END);
	size = ftell(output);
	fseek(output, size > CHUNK * CHUNKS ? size - CHUNK * CHUNKS : 0, SEEK_SET);
	for (int i = 0; i < CHUNKS; i++) {
		size_t n = fread(chunk, 1, sizeof(chunk), output);

		if (n == 0)
			break;
		snprintf(path, sizeof(path), "%s/output%d", directory, i);
		xs_write(store, XBT_NULL, path, chunk, (unsigned)n);
	}
}

static int carry_out(const char *command, FILE *output)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		dup2(fileno(output), STDOUT_FILENO);
		dup2(fileno(output), STDERR_FILENO);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return STATUS_GONE;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static _Noreturn void job(const char directory[PATH_BYTES / 2])
{
	struct xs_handle *store = xs_open(0);
	char path[PATH_BYTES], status[16];
	FILE *output = tmpfile();
	unsigned size;
	char *command;

	signal(SIGCHLD, SIG_DFL);
	if (!store || !output)
		die("job");
	snprintf(path, sizeof(path), "%s/command", directory);
	command = xs_read(store, XBT_NULL, path, &size);
	if (!command)
		die(path);
	snprintf(status, sizeof(status), "%d", carry_out(command, output));
	write_output(store, directory, output);
	snprintf(path, sizeof(path), "%s/status", directory);
	xs_write(store, XBT_NULL, path, status, (unsigned)strlen(status));
	exit(0);
}

static void take(struct xs_handle *store, const char *path)
{
	const char *slash = strrchr(path, '/');
	char directory[PATH_BYTES / 2];
	unsigned size;
	char *status;
	bool new;

	if (!slash || strcmp(slash, "/status"))
		return;
	status = xs_read(store, XBT_NULL, path, &size);
	new = status && !strcmp(status, "new");
	free(status);
	if (!new || !xs_write(store, XBT_NULL, path, "taken", 5))
		return;
	if (slash - path >= (ptrdiff_t)sizeof(directory))
		return;
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = 0;
	if (fork() == 0)
		job(directory);
}

static int serve(void)
{
	struct xs_handle *store = xs_open(0);

	signal(SIGCHLD, SIG_IGN);
	/* Relative, so that it goes on after a restore, with another domid. */
	if (!store || !xs_watch(store, "data/rig", "rig"))
		die("watch");
	for (;;) {
		unsigned count;
		char **event = xs_read_watch(store, &count);

		if (!event)
			die("read_watch");
		take(store, event[XS_WATCH_PATH]);
		free(event);
	}
}

/* --- in dom0 --- */

static bool make_nodes(struct xs_handle *store, const char *directory, const char *command, unsigned domid)
{
	struct xs_permissions permissions[2] = {{.id = 0, .perms = XS_PERM_NONE},
						{.id = domid, .perms = XS_PERM_READ | XS_PERM_WRITE}};
	xs_transaction_t transaction = xs_transaction_start(store);
	char path[PATH_BYTES];
	bool ok = true;

	for (int i = 0; ok && i < CHUNKS; i++) {
		snprintf(path, sizeof(path), "%s/output%d", directory, i);
		ok = xs_write(store, transaction, path, "", 0) &&
		     xs_set_permissions(store, transaction, path, permissions, 2);
	}
	snprintf(path, sizeof(path), "%s/command", directory);
	ok = ok && xs_write(store, transaction, path, command, (unsigned)strlen(command)) &&
	     xs_set_permissions(store, transaction, path, permissions, 2);
	snprintf(path, sizeof(path), "%s/status", directory);
	ok = ok && xs_write(store, transaction, path, "new", 3) &&
	     xs_set_permissions(store, transaction, path, permissions, 2);
	ok = ok && xs_set_permissions(store, transaction, directory, permissions, 2);
	return xs_transaction_end(store, transaction, !ok) && ok;
}

/* The exit status; -1: not yet. */
static int status_of(struct xs_handle *store, const char *path)
{
	unsigned size;
	char *status = xs_read(store, XBT_NULL, path, &size);
	int result;

	if (!status)
		return errno == ENOENT ? STATUS_GONE : -1;
	result = !strcmp(status, "new") || !strcmp(status, "taken") ? -1 : atoi(status);
	free(status);
	return result;
}

static int await(struct xs_handle *store, const char *path, int seconds)
{
	time_t deadline = time(NULL) + seconds;
	int result;

	if (!xs_watch(store, path, "status"))
		die("watch");
	while ((result = status_of(store, path)) < 0) {
		struct pollfd pollfd = {.fd = xs_fileno(store), .events = POLLIN};
		char **event;

		if (time(NULL) >= deadline)
			return STATUS_TIMEOUT;
		poll(&pollfd, 1, 1000);
		event = xs_check_watch(store);
		free(event);
	}
	return result;
}

static int run(unsigned domid, int seconds, const char *command)
{
	struct xs_handle *store = xs_open(0);
	char directory[PATH_BYTES / 2], path[PATH_BYTES];
	int result;

	if (!store)
		die("XenStore");
	snprintf(directory, sizeof(directory), "/local/domain/%u/data/rig/%d", domid, (int)getpid());
	while (!make_nodes(store, directory, command, domid))
		if (errno != EAGAIN)
			die(directory);
	snprintf(path, sizeof(path), "%s/status", directory);
	result = await(store, path, seconds);
	for (int i = 0; i < CHUNKS && result != STATUS_GONE; i++) {
		unsigned size = 0;
		char *chunk;

		snprintf(path, sizeof(path), "%s/output%d", directory, i);
		chunk = xs_read(store, XBT_NULL, path, &size);
		if (chunk)
			fwrite(chunk, 1, size, stdout);
		free(chunk);
	}
	xs_rm(store, XBT_NULL, directory);
	if (result == STATUS_TIMEOUT)
		fprintf(stderr, "rig-remote: domain %u: not done after %d s: %s\n", domid, seconds, command);
	if (result == STATUS_GONE)
		fprintf(stderr, "rig-remote: domain %u has gone during: %s\n", domid, command);
	return result;
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
