/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xenmsg-keeper: holds the event-channel handles of daemons whose domain was saved and restored
 * (daemon/xen/keeper.h), until the system goes down, or its daemon asks for them, since there was no restore.
 * Nothing ends it: all signals are blocked, and it goes on whatever fails. It never uses the handles.
 *
 * With --listen descriptor 3 is a socket, and each client hands over one handle, or asks for one: it is the
 * service, or xenmsgd's child, which inherits its first handle, of the token that follows. Without
 * arguments it is a child that has no socket.
 */
#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "daemon/xen/keeper.h"

#define LISTEN_FD      3
#define KEPT_FD	       4
#define PATIENCE_S     5
#define OUT_OF_FILES_S 1

/* A handle that may be asked for. */
struct held {
	uint8_t token[KEEPER_TOKEN_SIZE];
	int fd;
};

static struct held *held;
static size_t held_count;

/* Without memory it stays open, and nobody gets it. */
static void keep(const uint8_t *token, int fd)
{
	struct held *grown = realloc(held, (held_count + 1) * sizeof(*held));

	if (!grown)
		return;
	held = grown;
	held[held_count].fd = fd;
	memcpy(held[held_count++].token, token, KEEPER_TOKEN_SIZE);
}

/* Room for one descriptor: the padding of CMSG_SPACE would have some for a second one. */
union rights {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int))];
};

/* Gives the client the last handle of its token, which is the client's from then on. */
static void give_back(int connection, const uint8_t *token)
{
	union rights rights = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS}};
	struct iovec data = {"", 1};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &rights,
				 .msg_controllen = CMSG_LEN(sizeof(int))};
	size_t i = held_count;

	while (i && memcmp(held[i - 1].token, token, KEEPER_TOKEN_SIZE))
		i--;
	if (!i)
		return;
	memcpy(CMSG_DATA(&rights.header), &held[i - 1].fd, sizeof(int));
	if (sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT) <= 0)
		return;
	close(held[i - 1].fd);
	memmove(held + i - 1, held + i, (held_count-- - i) * sizeof(*held));
}

/* Receives a token, and a descriptor that is ours from now on; if there are more, the kernel drops the
 * rest. */
static void answer_client(int connection)
{
	union rights rights = {0};
	uint8_t token[KEEPER_TOKEN_SIZE];
	struct iovec data = {token, sizeof(token)};
	struct msghdr message = {.msg_iov = &data,
				 .msg_iovlen = 1,
				 .msg_control = &rights,
				 .msg_controllen = CMSG_LEN(sizeof(int))};
	ssize_t size = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
	int fd = size > 0 ? keeper_handle_in(&message) : -1;

	if (fd >= 0) {
		if (size == sizeof(token))
			keep(token, fd);
		send(connection, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	} else if (size == sizeof(token)) {
		give_back(connection, token);
	}
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
	if (setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0)
		answer_client(connection);
	close(connection);
}

/* The handle that is inherited, of the token that is written so. */
static void keep_first(const char *text)
{
	uint8_t token[KEEPER_TOKEN_SIZE];
	unsigned byte;

	for (size_t i = 0; i < sizeof(token); i++) {
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return;
		token[i] = (uint8_t)byte;
	}
	keep(token, KEPT_FD);
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
	if (argc > 2 && strlen(argv[2]) == 2 * (size_t)KEEPER_TOKEN_SIZE)
		keep_first(argv[2]);
	while (argc > 1 && !strcmp(argv[1], "--listen"))
		keeper_serve();
	for (;;)
		pause();
}
