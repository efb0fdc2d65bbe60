/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/stream_break.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The daemon takes bytes that come with a descriptor as the request to break the stream. */
void stream_break(int stream, int cause)
{
	uint8_t mark = (uint8_t)cause;
	struct iovec piece = {&mark, 1};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	const int most = INT_MAX / 2; /* the kernel makes it as much as may be, which is twice as much */

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &stream, sizeof(int));
	/* If there is no room for it, because the other program is slow, a larger buffer has some. */
	if (sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN &&
	    setsockopt(stream, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most)) == 0)
		sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(stream);
}
