/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_DESCRIPTORS_H
#define XENMSG_TESTS_DESCRIPTORS_H

/* Descriptors that harm who receives them: for the unit tests and the hostile programs. */

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_S 3600

/*
 * A TCP socket whose last close waits for a peer that doesn't read. Returns -1 if it can't be had; the caller
 * owns it and the peer's end in *peer, with which the waiting is over when it is closed.
 */
static inline int lingering_socket(int *peer)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = LINGER_S};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t size = sizeof(address);
	static const uint8_t bytes[65536];
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*peer = -1;
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0 &&
	    getsockname(listener, (struct sockaddr *)&address, &size) == 0 &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		*peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	while (*peer >= 0 && send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	if (*peer >= 0 && setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0)
		return fd;
	if (*peer >= 0)
		close(*peer);
	*peer = -1;
	close(fd);
	return -1;
}

/* Sends `size` bytes with up to 3 descriptors, which stay the caller's. What sendmsg() returns. */
static inline ssize_t send_descriptors(int to, const void *bytes, size_t size, const int *fds, unsigned count,
				       int flags)
{
	unsigned room = count * (unsigned)sizeof(int); /* musl's lengths are no size_t */
	struct iovec piece = {(void *)(uintptr_t)bytes, size};
	union {
		char space[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = (unsigned)CMSG_SPACE(room)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = (unsigned)CMSG_LEN(room);
	memcpy(CMSG_DATA(cmsg), fds, room);
	return sendmsg(to, &message, MSG_NOSIGNAL | flags);
}

static inline ssize_t send_descriptor(int to, const void *bytes, size_t size, int fd, int flags)
{
	return send_descriptors(to, bytes, size, &fd, 1, flags);
}

#endif
