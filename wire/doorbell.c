/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/doorbell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define PLENTY ((uint64_t)1 << 63)

int doorbell_new(void)
{
	const uint64_t plenty = PLENTY;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	int r;

	if (fd < 0)
		return -errno;
	r = write(fd, &plenty, sizeof(plenty)) < 0 ? -errno : doorbell_ring(fd);
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
