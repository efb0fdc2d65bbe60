/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int shared_memory_new(size_t size, uint8_t **memory)
{
	int fd = memfd_create("xenmsg", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;
	void *mapped = MAP_FAILED;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED) {
		r = -errno;
		close(fd);
		return r;
	}
	*memory = mapped;
	return fd;
}

bool shared_memory_is_sealed(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_FUTURE_WRITE);
}
