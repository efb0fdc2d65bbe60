/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "libclient/deadline.h"

/* Keeps connect() within the deadline: it waits while the daemon's queue of connections is full. */
static void limit_connect(int fd, int64_t deadline)
{
	int left = deadline_left(deadline);
	struct timeval limit = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};

	if (left == 0)
		limit.tv_usec = 1; /* 0 would mean for ever */
	if (left >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

const char *handshake_path(const char *path)
{
	const char *set = secure_getenv("XENMSG_SOCKET");

	if (path)
		return path;
	return set && *set ? set : "/run/xenmsg/xenmsg.sock";
}

int handshake_connect(const char *path, int64_t deadline)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval for_ever = {0};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	/* A caller without any time doesn't wait for room in that queue either. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (deadline_left(deadline) == 0 ? SOCK_NONBLOCK : 0),
		    0);
	if (fd < 0)
		return -errno;
	do {
		limit_connect(fd, deadline);
		r = connect(fd, (struct sockaddr *)&address, sizeof(address));
	} while (r < 0 && errno == EINTR);
	if (r < 0) {
		r = errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return r;
	}
	/* The socket of a stream becomes the program's own, and blocks. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &for_ever, sizeof(for_ever)) < 0 ||
	    fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int handshake_hello(int fd, uint32_t flags, const void *more, uint32_t size)
{
	uint8_t frames[1024];
	const struct frame_hello_local hello = {
		.major = PROTOCOL_MAJOR, .minor = PROTOCOL_MINOR, .flags = flags};
	const struct frame_header header = {
		.type = FRAME_HELLO, .length = frame_hello_local_encode(&hello, frames + FRAME_HEADER_SIZE)};
	uint32_t used = frame_wrap(frames, &header);

	if (size)
		memcpy(frames + used, more, size);
	used += size;
	/* An empty socket takes this at once. A daemon that has refused the connection already has closed its
	 * end, behind a GOODBYE that says why, which the caller reads. */
	return send(fd, frames, used, MSG_NOSIGNAL) == (ssize_t)used || errno == EPIPE ? 0 : -errno;
}

static void keep_descriptors(struct msghdr *message, int fds[HANDSHAKE_FDS])
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t count;
		const uint8_t *data = CMSG_DATA(c);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, data + i * sizeof(int), sizeof(int));
			if (fds && i < HANDSHAKE_FDS && fds[i] < 0)
				fds[i] = fd;
			else
				close(fd);
		}
	}
}

/* Reads exactly `size` bytes, of which there are *got already, since what follows belongs to the pump. */
static int read_exactly(int fd, void *buffer, size_t size, size_t *got, int fds[HANDSHAKE_FDS],
			int64_t deadline)
{
	while (*got < size) {
		union {
			struct cmsghdr align;
			char space[CMSG_SPACE(HANDSHAKE_FDS * sizeof(int))];
		} control;
		struct iovec piece = {.iov_base = (char *)buffer + *got, .iov_len = size - *got};
		struct msghdr message = {.msg_iov = &piece,
					 .msg_iovlen = 1,
					 .msg_control = control.space,
					 .msg_controllen = sizeof(control.space)};
		ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);

		if (n > 0) {
			keep_descriptors(&message, fds);
			*got += (size_t)n;
			if (message.msg_flags & MSG_CTRUNC) /* there was room for as many as it sends */
				return -EMFILE;
		} else if (n == 0) {
			return -ECONNREFUSED;
		} else if (errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLIN};
			int left = deadline_left(deadline);

			if (left == 0)
				return -ETIMEDOUT;
			poll(&wait, 1, left);
		} else if (errno != EINTR) {
			return errno == ECONNRESET ? -ECONNREFUSED : -errno;
		}
	}
	return 0;
}

int handshake_read(int fd, struct handshake_answer *answer, int fds[HANDSHAKE_FDS], int64_t deadline)
{
	struct frame_goodbye goodbye;
	uint32_t padded;
	size_t got;
	int r;

	answer->reason = (struct frame_text){.data = NULL};
	r = read_exactly(fd, answer->raw, sizeof(answer->raw), &answer->got, fds, deadline);
	if (r < 0)
		return r;
	if (frame_header_decode(answer->raw, &answer->header) < 0)
		return -EPROTO;
	padded = frame_size(answer->header.length) - FRAME_HEADER_SIZE;
	if (padded > sizeof(answer->payload))
		return -EPROTO;
	got = answer->got - sizeof(answer->raw);
	r = read_exactly(fd, answer->payload, padded, &got, fds, deadline);
	answer->got = r == 0 ? 0 : got + sizeof(answer->raw);
	if (r < 0 || answer->header.type != FRAME_GOODBYE)
		return r;
	if (frame_goodbye_decode(answer->payload, answer->header.length, &goodbye) < 0)
		return -EPROTO;
	answer->reason = goodbye.text;
	return frame_error(goodbye.error, -ECONNREFUSED);
}
