/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/unix_listener.h"
#include "daemon/xen/singleton.h"
#include "wire/libc.h"

#define LISTEN_FD 3 /* the keeper's, as the service manager would have it */
#define KEPT_FD	  4
#define OWN_NAME  "keeper" /* of its socket, in SINGLETON_DIRECTORY */
#define WAITING	  8
#define ANSWER_MS 10000 /* ms: the service has to be started first; a fraction of the unit's WatchdogSec= */

/* --- the service's keeper --------------------------------------------------------------------- */

static int keeper_connect_to(const char *path)
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

/* Waits for the keeper's answer. Until then, what was sent may be lost with the connection, so our own
 * descriptor stays open. */
static int keeper_await_answer(int socket)
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

static int keeper_hand_over(const char *path, int fd, const uint8_t *token)
{
	int socket = keeper_connect_to(path), r;

	if (socket < 0)
		return socket;
	r = (int)descriptors_send(socket, token, KEEPER_TOKEN_SIZE, &fd, 1, MSG_DONTWAIT);
	if (r > 0)
		r = keeper_await_answer(socket);
	close(socket);
	return r;
}

/* --- our own ---------------------------------------------------------------------------------- */

/* One by one where the kernel, before 5.9, has no other way: an exec may fail, and close none. */
static void close_between(int first, int last)
{
	struct rlimit limit;

	if (first > last || close_range((unsigned)first, (unsigned)last, 0) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= (rlim_t)last)
		last = (int)limit.rlim_cur - 1;
	while (first <= last)
		close(first++);
}

/* Closes all descriptors but these, of which the second may be -1. */
static void close_others(int fd, int listener)
{
	int low = listener < fd ? listener : fd, high = listener < fd ? fd : listener;

	close_between(0, low - 1);
	close_between(low + 1, high - 1);
	close_between(high + 1, INT_MAX);
}

/* Puts the two where the keeper's program has them. False: they, or what lies in their place, stay as they
 * are. */
static bool put_in_place(int fd, int listener)
{
	/* Either of the two may lie where the other one is to be. */
	int handle = fcntl(fd, F_DUPFD, KEPT_FD + 1),
	    socket = listener >= 0 ? fcntl(listener, F_DUPFD, KEPT_FD + 1) : -1, null;

	if (handle < 0 || (listener >= 0 && socket < 0))
		return false;
	if (dup2(handle, KEPT_FD) < 0 || (socket >= 0 && dup2(socket, LISTEN_FD) < 0))
		return false;
	null = open("/dev/null", O_RDWR); /* may lie where it is to be, and stay */
	if (null >= 0)
		for (int standard = 0; standard < (listener >= 0 ? LISTEN_FD : KEPT_FD); standard++)
			dup2(null, standard);
	close_between(KEPT_FD + 1, INT_MAX);
	return true;
}

/* Runs in the child of a process with threads: nothing here but what is safe after fork(). It must not end,
 * whatever fails: it already has the handle open. */
static _Noreturn void become_keeper(int fd, int listener, char *token)
{
	static char *const alone[] = {"@xenmsg-keeper", NULL};
	char *const listens[] = {"@xenmsg-keeper", "--listen", token, NULL};

	setsid();
	close_others(fd, listener); /* the daemon may have had all that there are */
	if (put_in_place(fd, listener)) {
		if (chdir("/") == 0)
			execv(PKGLIBEXECDIR "/xenmsg-keeper", listener >= 0 ? listens : alone);
		close(LISTEN_FD); /* nobody would answer there */
	}
	for (;;) /* a copy of the daemon keeps the handle just as well, only in more memory */
		pause();
}

static int fork_keeper(int fd, int listener, const uint8_t *token)
{
	char text[2 * KEEPER_TOKEN_SIZE + 1];
	sigset_t all, before;
	int gate[2], error;
	bool has_gate = pipe2(gate, O_CLOEXEC) == 0;
	char byte;
	pid_t pid;

	for (unsigned i = 0; i < KEEPER_TOKEN_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", token[i]);
	/* Signals stay blocked in the child for ever, so that none ends it. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (pid == 0)
		become_keeper(fd, listener, text);
	error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	/* We wait until the child has closed its copies of everything else: otherwise, if we were killed now,
	 * the next daemon would find our socket alive. It takes a few system calls for that: its copies
	 * aren't the last ones, so that closing them waits for nothing, and its end of the gate closes even
	 * if it dies. Where descriptors have run out, we do without: the end of a handle that nobody keeps is
	 * worse. */
	if (has_gate) {
		close(gate[1]);
		while (read(gate[0], &byte, sizeof(byte)) < 0 && errno == EINTR)
			;
		close(gate[0]);
	}
	return pid < 0 ? -error : 0;
}

/* Returns a socket at which a keeper can wait for others' handles. Negative errno: it has to do without. */
static int keeper_listen_at(const char *path)
{
	int fd = unix_listener_new(path, SOCK_STREAM, S_IRUSR | S_IWUSR, WAITING), flags;

	if (fd < 0)
		return fd;
	flags = fcntl(fd, F_GETFL);
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK); /* it waits there */
	return fd;
}

/* Returns a directory through whose descriptor a path is short enough for an address, wherever it is. */
static int own_path(char path[48])
{
	int directory = open(SINGLETON_DIRECTORY, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	snprintf(path, 48, "/proc/self/fd/%d/" OWN_NAME, directory);
	return directory;
}

/* Hands the handle to the keeper that this daemon has made, or another one before, or makes one. */
static int hold_by_own(int fd, const uint8_t *token)
{
	char path[48];
	int directory = own_path(path), listener, r;

	if (directory < 0)
		return fork_keeper(fd, -1, token);
	r = keeper_hand_over(path, fd, token);
	if (r < 0) {
		listener = keeper_listen_at(path);
		r = fork_keeper(fd, listener, token);
		if (listener >= 0)
			close(listener);
	}
	close(directory);
	return r;
}

int keeper_hold(int fd, const uint8_t token[KEEPER_TOKEN_SIZE])
{
	const char *service = getenv(KEEPER_ENVIRONMENT);
	int r;

	if (!service)
		return hold_by_own(fd, token);
	r = keeper_hand_over(service, fd, token);
	if (r < 0) {
		log_warning(
			"%s doesn't take the event channels of before the restore: %s; a process of this "
			"daemon's keeps them, and "
			"will delay the end of the system",
			service, strerror(-r));
		r = hold_by_own(fd, token);
	}
	return r;
}

/* --- what no restore has ended ---------------------------------------------------------------- */

bool keeper_is_there(void)
{
	const char *service = getenv(KEEPER_ENVIRONMENT);
	char path[48];
	int directory;
	bool is_there;

	if (service && access(service, F_OK) == 0)
		return true;
	directory = own_path(path);
	is_there = directory >= 0 && access(path, F_OK) == 0;
	if (directory >= 0)
		close(directory);
	return is_there;
}

int keeper_ask(const uint8_t token[KEEPER_TOKEN_SIZE])
{
	const char *service = getenv(KEEPER_ENVIRONMENT);
	int socket = service ? keeper_connect_to(service) : -ENOENT, directory;
	char path[48];

	if (socket < 0 && (directory = own_path(path)) >= 0) {
		socket = keeper_connect_to(path);
		close(directory);
	}
	if (socket >= 0 && send(socket, token, KEEPER_TOKEN_SIZE, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		close(socket);
		return -ENOTCONN;
	}
	return socket;
}

int keeper_take_back(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char byte;
	struct iovec data = {&byte, 1};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	int fd = -1;

	shutdown(socket, SHUT_RD); /* nothing comes any more that would be closed with the socket */
	if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0)
		fd = keeper_handle_in(&message);
	close(socket);
	return fd < 0 ? -ENOENT : fd;
}
