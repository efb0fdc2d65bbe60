/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/doorbell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "wire/libc.h"

#define FULL (UINT64_MAX - 1)

int doorbell_new(void)
{
	const uint64_t full = FULL;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	int r;

	if (fd < 0)
		return -errno;
	r = doorbell_ring(fd);
	if (r == -ENOSYS || r == -EPERM) /* no preadv2(2): an emulator, or a filter of system calls */
		r = -EOPNOTSUPP;
	if (r == 0 && write(fd, &full, sizeof(full)) < 0)
		r = -errno;
	if (r < 0)
		close(fd);
	return r < 0 ? r : fd;
}

bool doorbells_work(void)
{
	int fd = doorbell_new();

	if (fd >= 0)
		close(fd);
	return fd != -EOPNOTSUPP;
}

int doorbell_ring(int fd)
{
	uint64_t taken;
	const struct iovec piece = {.iov_base = &taken, .iov_len = sizeof(taken)};
	ssize_t n;

	do
		n = preadv2(fd, &piece, 1, -1, RWF_NOWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}
