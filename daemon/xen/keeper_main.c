/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xenmsg-keeper: holds the event-channel handles of daemons whose domain was saved and restored
 * (daemon/xen/keeper.h), until the system goes down. Nothing ends it: all signals are blocked, and it goes on
 * whatever fails. It never uses the handles.
 *
 * With --listen descriptor 3 is a socket, and each client hands over one handle: it is the service, or
 * xenmsgd's child, which inherits its first handle. Without arguments it is a child that has no socket.
 */
#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LISTEN_FD      3
#define PATIENCE_S     5
#define OUT_OF_FILES_S 1

/* Receives a descriptor, which is ours from now on and never closed; if there are more, the kernel drops the
 * rest. */
static bool take_handle(int connection)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	char byte;
	struct iovec data = {.iov_base = &byte, .iov_len = sizeof(byte)};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(
			sizeof(int)), /* the padding of CMSG_SPACE would have room for a second one */
	};
	const struct cmsghdr *header;

	if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) <= 0)
		return false;
	header = CMSG_FIRSTHDR(&message);
	return header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	       header->cmsg_len == CMSG_LEN(sizeof(int));
}

static void keeper_serve(void)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	int connection = accept4(LISTEN_FD, NULL, NULL, SOCK_CLOEXEC);

	if (connection < 0) {
		if (errno != ECONNABORTED && errno != EINTR)
			sleep(OUT_OF_FILES_S);
		return;
	}
	/* A client that connects and sends nothing must not stop the service. */
	if (setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
	    take_handle(connection))
		send(connection, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(connection);
}

/* A person has typed it, who may want it to end. */
static int answer(const char *option)
{
	if (!strcmp(option, "--version")) {
		puts("xenmsg-keeper " PACKAGE_VERSION);
		return 0;
	}
	fprintf(strcmp(option, "--help") ? stderr : stdout,
		"usage: xenmsg-keeper --listen, by xenmsg-keeper.socket\n");
	return strcmp(option, "--help") ? 2 : 0;
}

int main(int argc, char **argv)
{
	sigset_t all;

	if (argc > 1 && strcmp(argv[1], "--listen"))
		return answer(argv[1]);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (argc > 1 && !strcmp(argv[1], "--listen"))
		keeper_serve();
	for (;;)
		pause();
}
