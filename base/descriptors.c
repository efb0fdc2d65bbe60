/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

#define RESERVE 64u /* an idle daemon has about 20 open */
#define ENOUGH	(1u << 20)

uint64_t descriptors_pool(void)
{
	struct rlimit limit;
	uint64_t count;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return ENOUGH;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
		else
			log_warning("can't raise the limit of open files from %llu to %llu: %s",
				    (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max,
				    strerror(errno));
	}
	count = limit.rlim_cur < ENOUGH ? limit.rlim_cur : ENOUGH;
	/* With very few descriptors, half of them have to be enough for the daemon. */
	return count - (count / 2 < RESERVE ? count / 2 : RESERVE);
}

bool descriptors_are_left(uint64_t count)
{
	DIR *dir = opendir("/proc/self/fd");
	struct rlimit limit;

	if (!dir)
		return false;
	while (readdir(dir)) /* three too many: . and .., and this folder itself */
		count++;
	closedir(dir);
	return getrlimit(RLIMIT_NOFILE, &limit) < 0 || count <= limit.rlim_cur;
}

bool descriptors_can_be_made(unsigned count)
{
	int fds[DESCRIPTORS_FEW];
	unsigned made = 0;

	while (made < count && (fds[made] = eventfd(0, EFD_CLOEXEC)) >= 0)
		made++;
	descriptors_close(fds, made);
	return made == count;
}

void descriptors_close(const int *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

ssize_t descriptors_send(int socket, const void *data, size_t size, const int *fds, unsigned count, int flags)
{
	union {
		char space[CMSG_SPACE(DESCRIPTORS_AT_ONCE * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec piece = {(void *)(uintptr_t)data, size};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
	ssize_t sent;

	if (count > DESCRIPTORS_AT_ONCE)
		return -EINVAL;
	if (count) {
		struct cmsghdr *header = &control.align;

		memset(control.space, 0, CMSG_SPACE(count * sizeof(int)));
		message.msg_control = control.space;
		message.msg_controllen = (socklen_t)CMSG_SPACE(count * sizeof(int));
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = (socklen_t)CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	return sent < 0 ? -errno : sent;
}
