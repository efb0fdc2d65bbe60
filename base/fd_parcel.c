/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fd_parcel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptors.h"

#define ROOM	  (8 << 20) /* bytes; the kernel may allow less: some hundreds for each message */
#define COUNT_MAX 1048576u  /* more than any daemon has */

/* Room for the descriptors of one message. */
union control {
	char space[CMSG_SPACE(DESCRIPTORS_AT_ONCE * sizeof(int))];
	struct cmsghdr align;
};

int fd_parcel_fill(const int *fds, uint32_t count)
{
	int pair[2], room = ROOM, r = 0;
	ssize_t sent;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	for (uint32_t at = 0, piece; r == 0 && at < count; at += piece) {
		piece = count - at < DESCRIPTORS_AT_ONCE ? count - at : DESCRIPTORS_AT_ONCE;
		sent = descriptors_send(pair[0], "", 1, fds + at, piece, MSG_DONTWAIT);
		r = sent < 0 ? (int)sent : 0;
	}
	close(pair[0]);
	if (r == 0)
		return pair[1];
	close(pair[1]);
	return r;
}

bool fd_parcel_takes(int fd)
{
	int parcel = fd_parcel_fill(&fd, 1);

	if (parcel >= 0)
		close(parcel);
	return parcel >= 0;
}

/* Appends what has come with a message, for which there is room. */
static int take_piece(struct msghdr *message, int *fds, uint32_t *count)
{
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	uint32_t n;

	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		return -EBADF;
	n = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(fds + *count, CMSG_DATA(header), n * sizeof(int));
	*count += n;
	return message->msg_flags & MSG_CTRUNC ? -EBADF : 0; /* too many for this process */
}

/* Takes one message out of the parcel. Returns 1, or 0: there is none. */
static int empty_once(int parcel, int **fds, uint32_t *count)
{
	union control control = {0};
	uint8_t byte;
	struct iovec one = {&byte, 1};
	struct msghdr message = {.msg_iov = &one,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control)};
	int *grown =
		*count > COUNT_MAX ? NULL : realloc(*fds, (*count + DESCRIPTORS_AT_ONCE) * sizeof(**fds));
	ssize_t size;
	int r;

	if (!grown)
		return -ENOMEM;
	*fds = grown;
	size = recvmsg(parcel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (size == 0)
		return 0;
	r = size < 0 ? -EBADF : take_piece(&message, *fds, count);
	return r < 0 ? r : 1;
}

int fd_parcel_empty(int parcel, int **fds, uint32_t *count)
{
	int r;

	while ((r = empty_once(parcel, fds, count)) > 0)
		;
	if (r == 0 || r == -ENOMEM)
		return r;
	descriptors_close(*fds, *count);
	free(*fds);
	*fds = NULL;
	*count = 0;
	return r;
}
