/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/log.h"

#define KEPT_FD	  3
#define ANSWER_MS 10000 /* ms: the service has to be started first; a fraction of the unit's WatchdogSec= */

/* --- the service's keeper --------------------------------------------------------------------- */

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int send_descriptor(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec data = {.iov_base = "", .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Waits for the keeper's answer. Until then, what was sent may be lost with the connection, so our own
 * descriptor stays open. */
static int await_answer(int socket)
{
	struct pollfd poll_fd = {.fd = socket, .events = POLLIN};
	char byte;
	ssize_t got;
	int r;

	do /* a signal restarts the time: few come, and none twice */
		r = poll(&poll_fd, 1, ANSWER_MS);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	got = recv(socket, &byte, sizeof(byte), MSG_DONTWAIT);
	if (got < 0)
		return -errno;
	return got == 0 ? -ECONNRESET : 0;
}

static int hand_over(const char *path, int fd)
{
	int socket = connect_to(path), r;

	if (socket < 0)
		return socket;
	r = send_descriptor(socket, fd);
	if (r == 0)
		r = await_answer(socket);
	close(socket);
	return r;
}

/* --- our own ---------------------------------------------------------------------------------- */

/* Runs in the child of a process with threads: nothing here but what is safe after fork(). It must not end,
 * whatever fails: it already has the handle open. */
static _Noreturn void become_keeper(int fd)
{
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
	for (;;) /* a copy of the daemon keeps the handle just as well, only in more memory */
		pause();
}

static int fork_keeper(int fd)
{
	sigset_t all, before;
	int gate[2], error;
	char byte;
	pid_t pid;

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -errno;
	/* Signals stay blocked in the child for ever, so that none ends it. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (pid == 0)
		become_keeper(fd);
	error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	/* We wait until the child has closed its copies of everything else: otherwise, if we were killed now,
	 * the next daemon would find our socket alive. It takes a few system calls for that: its copies aren't the
	 * last ones, so that closing them waits for nothing, and its end of the gate closes even if it dies. */
	close(gate[1]);
	while (read(gate[0], &byte, sizeof(byte)) < 0 && errno == EINTR)
		;
	close(gate[0]);
	return pid < 0 ? -error : 0;
}

int keeper_hold(int fd)
{
	const char *service = getenv(KEEPER_ENVIRONMENT);
	int r;

	if (!service)
		return fork_keeper(fd);
	r = hand_over(service, fd);
	if (r < 0) {
		log_warning(
			"%s doesn't take the event channels of before the restore: %s; a process of this "
			"daemon's keeps them, and "
			"will delay the end of the system",
			service, strerror(-r));
		r = fork_keeper(fd);
	}
	return r;
}
