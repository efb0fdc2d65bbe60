/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "daemon/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#define KEPT_FD 3

/* In the child of a process with threads: nothing here but what is safe after fork(). It must not end, whatever fails: the
 * handle is in it already. */
static _Noreturn void become_keeper(int fd)
{
	/* By the "@", systemd leaves it alone when the system goes down, too (if it runs as root). */
	static char *const arguments[] = {"@xenmsg-keeper", NULL};
	int null;

	setsid();
	if (fd != KEPT_FD)
		dup2(fd, KEPT_FD);
	else
		fcntl(fd, F_SETFD, 0);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0)
		for (int standard = 0; standard < KEPT_FD; standard++)
			dup2(null, standard);
	close_range(KEPT_FD + 1, ~0u, 0);
	if (chdir("/") == 0)
		execv(PKGLIBEXECDIR "/xenmsg-keeper", arguments);
	for (;;) /* as a copy of the daemon it keeps just as well, only in more memory */
		pause();
}

int keeper_hold(int fd)
{
	sigset_t all, before;
	int gate[2], error;
	char byte;
	pid_t pid;

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -errno;
	/* They stay blocked in it for ever, so that none ends it. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (pid == 0)
		become_keeper(fd);
	error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	/* Not before the child has closed its copies of everything else: else, if we were killed now, the next daemon would
	 * find our socket alive. */
	close(gate[1]);
	while (read(gate[0], &byte, sizeof(byte)) < 0 && errno == EINTR)
		;
	close(gate[0]);
	return pid < 0 ? -error : 0;
}
