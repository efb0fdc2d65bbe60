/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_KEEPER_H
#define XENMSG_DAEMON_KEEPER_H

/*
 * Closing or unbinding an event channel that was bound before the domain was saved and restored is a kernel
 * BUG (Linux 6.1, drivers/xen/evtchn.c; the process never ends, and the kernel asks for a reboot), and so is
 * the end of the process that has it open. Such a handle is parked with a keeper: a process that holds it,
 * sleeps, and outlives the daemon.
 *
 * The keeper has to outlive everything. When the system goes down, systemd kills the processes that are left,
 * and waits until they have ended: it passes by only a process of root's whose name begins with "@". A daemon
 * that isn't root can't make one. So there are two:
 *
 *   the service's   xenmsg-keeper.service, root's, which systemd starts when a client connects to its socket,
 *                   named by $XENMSG_KEEPER. One process keeps the handles of all restores. A connection
 *                   carries a token with one descriptor; the answer, one byte, says that it is kept. A token
 *                   without a descriptor asks for the last one of that token; the answer, one byte, brings
 *                   it, and the keeper has it no more; or there is no answer, and none of that token.
 *   our own         a child of the daemon, where there is no such service or it doesn't answer. It listens in
 *                   the directory of singleton.h, which only root and the daemon's user can enter, for the
 *                   handles of further restores, also of later daemons; only where it doesn't answer there is
 *                   another one.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define KEEPER_ENVIRONMENT "XENMSG_KEEPER" /* the path of the service's socket */

/* A handle is asked for by the token with which it was given. */
#define KEEPER_TOKEN_SIZE 16

/* Makes a keeper hold a duplicate of `fd`. On 0 the caller may close its own; on a negative errno it may not.
 * This may block for some seconds if the service manager is slow, which happens at most once in each restore,
 * when no link works anyway. */
int keeper_hold(int fd, const uint8_t token[KEEPER_TOKEN_SIZE]);
/* Returns whether there seems to be a keeper. */
bool keeper_is_there(void);
/* Asks for what is held by this token. Returns a socket, which is readable when the answer is there, or a
 * negative errno: there is no keeper that could be asked. */
int keeper_ask(const uint8_t token[KEEPER_TOKEN_SIZE]);
/* Takes what has come there, and closes the socket; what hasn't come stays with the keeper. Returns the
 * handle, or -ENOENT. */
int keeper_take_back(int socket);
/* Returns the one descriptor that has come with a message; -1: none, or something else. */
static inline int keeper_handle_in(const struct msghdr *message)
{
	const struct cmsghdr *header = CMSG_FIRSTHDR(message);
	int fd = -1;

	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

#endif
