/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Simulated Xen hosts in the tests of your project, in C or C++: a header that needs no library, only the
 * command xensim (on the PATH, or named by XENSIM in the environment).
 *
 *	struct xensim_host host;
 *	const char *server[] = {"./server", NULL}, *client[] = {"./client", NULL};
 *
 *	assert(xensim_start(&host, 2) == 0);                 // domain 0 and the guests 1 and 2
 *	pid_t pid = xensim_spawn(&host, 1, server);          // runs in domain 1
 *	assert(xensim_run(&host, 2, client) == 0);           // its exit status
 *	assert(xensim_command(&host, NULL, 0, "destroy", "1") == 0);
 *	assert(!xensim_kernel_complains(&host) && xensim_stop(&host) == 0);
 *
 * The host ends with the test, however that ends, and with it all that runs in its domains. A program that
 * runs itself, "/proc/self/exe", is a test in one file. Functions return 0 or a negative errno unless they
 * say otherwise; they are not for threads that share a host. With -std=c11 it needs _GNU_SOURCE.
 */
#ifndef XENSIM_H
#define XENSIM_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XENSIM_MAX_WORDS 32

struct xensim_host {
	char dir[4096]; /* XENSIM_DIR of its commands */
	pid_t pid;	/* of `xensim run` */
	int keeper;	/* the host ends when this is closed */
};

static inline const char *xensim_program(void)
{
	const char *named = getenv("XENSIM");

	return named && *named ? named : "xensim";
}

/* Returns the exit status, or 128 more than the signal that ended it. */
static inline int xensim_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Starts the command with these words. dir: XENSIM_DIR, or NULL; in, out: its standard input and output, or
 * -1 for those of the test. Returns its process. */
static inline pid_t xensim_fork(const char *dir, const char *const words[], int in, int out)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	if ((dir && setenv("XENSIM_DIR", dir, 1) < 0) || (in >= 0 && dup2(in, STDIN_FILENO) < 0) ||
	    (out >= 0 && dup2(out, STDOUT_FILENO) < 0))
		_exit(126);
	execvp(xensim_program(), (char *const *)words);
	perror(xensim_program());
	_exit(127);
}

/* Reads up to the end, or up to the end of a line, and as much as there is room for. */
static inline void xensim_read(int fd, char *text, size_t size, bool line)
{
	size_t length = 0;
	char byte;
	ssize_t n;

	while ((n = read(fd, &byte, 1)) > 0 || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		if (line && byte == '\n')
			break;
		if (length + 1 < size)
			text[length++] = byte;
	}
	if (size)
		text[length] = '\0';
}

/* Starts a host with domain 0 and the guests 1 to so many. -EIO: xensim has said on stderr why there is
 * none. */
static inline int xensim_start(struct xensim_host *host, unsigned guests)
{
	char number[16];
	const char *words[] = {xensim_program(),
			       "run",
			       "--domains",
			       number,
			       "--",
			       "sh",
			       "-c",
			       "echo \"$XENSIM_DIR\"; exec cat >/dev/null",
			       NULL};
	int in[2], out[2];

	memset(host, 0, sizeof(*host));
	host->keeper = -1;
	snprintf(number, sizeof(number), "%u", guests);
	if (pipe(in) < 0)
		return -errno;
	if (pipe(out) < 0) {
		close(in[0]);
		close(in[1]);
		return -EMFILE;
	}
	for (int i = 0; i < 2; i++) {
		fcntl(in[i], F_SETFD, FD_CLOEXEC);
		fcntl(out[i], F_SETFD, FD_CLOEXEC);
	}
	host->pid = xensim_fork(NULL, words, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	if (host->pid > 0)
		xensim_read(out[0], host->dir, sizeof(host->dir), true);
	close(out[0]);
	if (host->dir[0]) {
		host->keeper = in[1];
		return 0;
	}
	close(in[1]);
	return host->pid < 0 ? host->pid : (xensim_wait(host->pid), -EIO);
}

/* Ends it: all of its processes are killed, and waits until nothing is left. */
static inline int xensim_stop(struct xensim_host *host)
{
	int status;

	if (host->keeper < 0)
		return -EBADF;
	close(host->keeper);
	host->keeper = -1;
	status = xensim_wait(host->pid);
	return status > 0 ? -EIO : status;
}

/* Runs a command of xensim(1), of words up to a NULL: its exit status. What it prints is put into output, as
 * far as there is room; NULL: it is thrown away. */
static inline int xensim_command_words(struct xensim_host *host, char *output, size_t size,
				       const char *const words[])
{
	int out[2];
	pid_t pid;

	if (pipe(out) < 0)
		return -errno;
	fcntl(out[0], F_SETFD, FD_CLOEXEC);
	fcntl(out[1], F_SETFD, FD_CLOEXEC);
	pid = xensim_fork(host->dir, words, -1, out[1]);
	close(out[1]);
	if (pid > 0)
		xensim_read(out[0], output, output ? size : 0, false);
	close(out[0]);
	return pid < 0 ? pid : xensim_wait(pid);
}

static inline int xensim_command_list(struct xensim_host *host, char *output, size_t size, ...)
{
	const char *words[XENSIM_MAX_WORDS + 2] = {xensim_program()};
	va_list list;

	va_start(list, size);
	for (int i = 1; i <= XENSIM_MAX_WORDS && (words[i] = va_arg(list, const char *)); i++)
		;
	va_end(list);
	return xensim_command_words(host, output, size, words);
}

/* The same with the words themselves: xensim_command(&host, NULL, 0, "fault", "refuse-grant", "1", "2"). */
#define xensim_command(host, output, size, ...)                                                              \
	xensim_command_list(host, output, size, __VA_ARGS__, (const char *)0)

/* Starts a program in a domain: of words up to a NULL. Returns its process, which is waited for by
 * xensim_wait() and killed as any other. */
static inline pid_t xensim_spawn(struct xensim_host *host, unsigned domid, const char *const argv[])
{
	const char *words[XENSIM_MAX_WORDS + 5] = {xensim_program(), "exec"};
	char number[16], self[4096];
	ssize_t length;

	snprintf(number, sizeof(number), "%u", domid);
	words[2] = number;
	words[3] = "--";
	for (int i = 0; argv[i]; i++) {
		if (i == XENSIM_MAX_WORDS)
			return -E2BIG;
		words[i + 4] = argv[i];
	}
	/* There it would be xensim. */
	if (argv[0] && strcmp(argv[0], "/proc/self/exe") == 0) {
		length = readlink(argv[0], self, sizeof(self) - 1);
		if (length < 0)
			return -errno;
		self[length] = '\0';
		words[4] = self;
	}
	return xensim_fork(host->dir, words, -1, -1);
}

/* Runs a program in a domain to its end: its exit status, 126 if it can't be run, 127 if it isn't there. */
static inline int xensim_run(struct xensim_host *host, unsigned domid, const char *const argv[])
{
	pid_t pid = xensim_spawn(host, domid, argv);

	return pid < 0 ? pid : xensim_wait(pid);
}

/* Returns whether the kernel of a real guest would have complained by now (kernel_log of `xensim list
 * --json`). */
static inline bool xensim_kernel_complains(struct xensim_host *host)
{
	static const char name[] = "\"kernel_log\":";
	size_t size = 1 << 20;
	char *text = (char *)malloc(size), *list;
	bool complains = true;

	if (text && xensim_command(host, text, size, "list", "--json") == 0 && (list = strstr(text, name))) {
		list += strlen(name);
		list += strspn(list, " \t\n[");
		complains = *list != ']';
	}
	free(text);
	return complains;
}

#ifdef __cplusplus
}
#endif

#endif
