/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/switch/program_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "daemon/switch/call.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/work_pool.h"
#include "wire/frame.h"

/* bytes, each perhaps in a buffer of its own, with which the loop closes a socket */
#define UNREAD_MAX 16
#define DRAIN_SIZE 16384 /* bytes: four buffers */

int program_socket_init(int fd)
{
	const int yes = 1;

	/* Otherwise a peek doesn't see a byte that was sent out of band, and a read drops it, with its
	 * descriptors. */
	return setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &yes, sizeof(yes)) < 0 ? -errno : 0;
}

/* Of a read that has failed; see program_socket_peek(). */
static int error_of_read(void)
{
	return lack_passes(errno) ? -ENOBUFS : errno == EINTR ? -EAGAIN : -errno;
}

ssize_t program_socket_peek(int fd, struct iovec *pieces, unsigned count)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	ssize_t size = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);

	if (size < 0)
		return error_of_read();
	return message.msg_flags & MSG_CTRUNC ? -EBADMSG : size;
}

ssize_t program_socket_peek_before(int fd, size_t offset, struct iovec *pieces, unsigned count)
{
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
	const int from = (int)offset;
	ssize_t size;

	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &from, sizeof(from)) < 0)
		return -errno;
	size = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
	if (size < 0)
		return error_of_read();
	return message.msg_flags & MSG_CTRUNC ? size - 1 : -EBADMSG;
}

/* What is taken goes through a pipe to nowhere: the pipe has room for few buffers, and so is the number of
 * those that one call frees. */
static struct {
	unsigned users;
	int in, out, nowhere; /* as long as there are users; -1: there is none */
} drain = {.in = -1, .out = -1, .nowhere = -1};

static void end_drain(void)
{
	const int fds[] = {drain.in, drain.out, drain.nowhere};

	descriptors_close(fds, 3);
	drain.in = drain.out = drain.nowhere = -1;
}

void program_sockets_begin(void)
{
	int pair[2];

	if (drain.users++ || pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	drain.out = pair[0];
	drain.in = pair[1];
	drain.nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (drain.nowhere < 0 || fcntl(drain.in, F_SETPIPE_SZ, DRAIN_SIZE) < 0)
		end_drain();
}

void program_sockets_end(void)
{
	if (--drain.users == 0)
		end_drain();
}

static ssize_t take_some(int fd, size_t size)
{
	uint8_t bytes[DRAIN_SIZE];
	ssize_t taken, left;

	if (drain.in < 0)
		return recv(fd, bytes, size < sizeof(bytes) ? size : sizeof(bytes), MSG_DONTWAIT);
	taken = splice(fd, NULL, drain.in, NULL, size, SPLICE_F_NONBLOCK);
	for (left = taken; left > 0;) {
		ssize_t gone = splice(drain.out, NULL, drain.nowhere, NULL, (size_t)left, SPLICE_F_NONBLOCK);

		if (gone <= 0) { /* another one begins empty */
			end_drain();
			break;
		}
		left -= gone;
	}
	return taken;
}

ssize_t program_socket_take(int fd, size_t size)
{
	size_t taken = 0;

	while (taken < size) {
		uint64_t began = clock_ns();
		ssize_t some = take_some(fd, size - taken);

		if (some < 0 && !taken)
			return error_of_read();
		if (some > 0)
			taken += (size_t)some;
		if (some <= 0 || clock_ns() - began >= CALL_LONG_NS)
			break;
	}
	return (ssize_t)taken;
}

ssize_t program_socket_read(int fd, struct iovec *pieces, unsigned count)
{
	ssize_t size = program_socket_peek(fd, pieces, count);

	return size > 0 ? program_socket_take(fd, (size_t)size) : size;
}

int program_socket_reply(int fd, int error, struct frame_text body, int passed)
{
	const struct frame_reply reply = {.error = (uint32_t)error, .body = body};
	uint8_t frame[FRAME_HEADER_SIZE + 256];
	const struct frame_header header = {.type = FRAME_REPLY,
					    .length = frame_reply_encode(&reply, frame + FRAME_HEADER_SIZE)};
	ssize_t r =
		descriptors_send(fd, frame, frame_wrap(frame, &header), &passed, passed >= 0, MSG_DONTWAIT);

	if (r >= 0)
		return 0;
	log_debug("telling a program about its stream: %s", strerror((int)-r));
	return lack_passes((int)-r) ? -ENOBUFS : -ECONNRESET;
}

/* Returns whether the socket holds no descriptors, and none can come. */
static bool has_only_bytes(int fd)
{
	char bytes[UNREAD_MAX];
	struct iovec piece = {bytes, sizeof(bytes)};
	int unread;

	/* From here on the program can't send. A listening socket can't be asked. */
	if (shutdown(fd, SHUT_RD) < 0 || ioctl(fd, FIONREAD, &unread) < 0)
		return false;
	return unread == 0 || (unread <= UNREAD_MAX && program_socket_peek(fd, &piece, 1) == unread);
}

void program_socket_close(struct switchboard *board, int fd, struct charge *charge)
{
	if (has_only_bytes(fd))
		close(fd);
	else
		work_pool_close_socket(board, fd, charge);
}
