/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xensim start --daemons: xenmsgd in each domain of a host, ready before that returns. */
#include "config.h"

#include "sim/commands/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 60000
#define LOOK_MS	 10

static const char allow_all[] = "[rule]\nfrom = *\nto = *\naction = allow\n";

/* Makes the directories that the path leads through. */
static int make_way(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
		*slash = '/';
		if (r < 0)
			return r;
	}
	return 0;
}

/* Lets everybody reach everything in the domain. */
static int allow(const char *dir, unsigned domid)
{
	char path[4200];
	FILE *file;
	int r;

	snprintf(path, sizeof(path), "%s/dom-%u/root/etc/xenmsg/policy.d/xensim.conf", dir, domid);
	r = make_way(path);
	file = r == 0 ? fopen(path, "we") : NULL;
	if (!file)
		return r < 0 ? r : -errno;
	r = fputs(allow_all, file) < 0 ? -EIO : 0;
	return fclose(file) == 0 ? r : -errno;
}

/* Becomes the daemon, whose log is the file. */
static void become_daemon(const char *dir, const char *log, unsigned domid)
{
	char number[16], name[] = "exec", end[] = "--", daemon[] = "xenmsgd";
	char *words[] = {name, number, end, daemon, NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	snprintf(number, sizeof(number), "%u", domid);
	if (null < 0 || out < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(out, STDERR_FILENO) < 0 || setsid() < 0 || setenv("XENSIM_DIR", dir, 1) < 0)
		_exit(EXIT_CANNOT_RUN);
	_exit(command_exec(4, words));
}

static bool answers(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r = -1;

	/* start has seen that such paths have room. */
	if (fd >= 0 && strlen(path) < sizeof(address.sun_path)) {
		memcpy(address.sun_path, path, strlen(path));
		r = connect(fd, (struct sockaddr *)&address, sizeof(address));
	}
	if (fd >= 0)
		close(fd);
	return r == 0;
}

/* Waits until the daemon answers. -1 with a line on stderr: it has ended, or doesn't. */
static int wait_for(pid_t pid, const char *dir, const char *log, unsigned domid)
{
	char path[4200];
	int status;

	snprintf(path, sizeof(path), "%s/dom-%u/xenmsg.sock", dir, domid);
	for (int waited = 0; waited < READY_MS; waited += LOOK_MS) {
		if (answers(path))
			return 0;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			fprintf(stderr, "xensim: start: xenmsgd of domain %u has ended; %s says why\n", domid,
				log);
			return -1;
		}
		poll(NULL, 0, LOOK_MS);
	}
	fprintf(stderr, "xensim: start: xenmsgd of domain %u doesn't answer; see %s\n", domid, log);
	return -1;
}

int start_daemons(const char *dir, unsigned domains, int allows)
{
	pid_t *pids = calloc(domains + 1, sizeof(*pids));
	char log[4200];
	int r = pids ? 0 : -ENOMEM;

	for (unsigned i = 0; i <= domains && r == 0; i++) {
		snprintf(log, sizeof(log), "%s/dom-%u/xenmsgd.log", dir, i);
		r = allows ? allow(dir, i) : 0;
		fflush(NULL);
		pids[i] = r == 0 ? fork() : -1;
		if (pids[i] == 0)
			become_daemon(dir, log, i);
		if (r == 0 && pids[i] < 0)
			r = -errno;
	}
	if (r < 0)
		fprintf(stderr, "xensim: start: %s\n", strerror(-r));
	for (unsigned i = 0; i <= domains && r == 0; i++) {
		snprintf(log, sizeof(log), "%s/dom-%u/xenmsgd.log", dir, i);
		r = wait_for(pids[i], dir, log, i);
	}
	free(pids);
	return r;
}
