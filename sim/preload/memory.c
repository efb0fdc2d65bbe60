/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of a program as a kernel reaches it: what a program's wild pointer leads to is its EFAULT, and
 * not our crash. Where a container forbids the calls for that, the memory is taken as it is.
 */
#include "config.h"

#include "sim/preload/device.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

int sim_copy_in(void *to, const void *from, size_t size)
{
	struct iovec here = {.iov_base = to, .iov_len = size},
		     there = {.iov_base = (void *)(uintptr_t)from, .iov_len = size};
	ssize_t n = process_vm_readv(getpid(), &here, 1, &there, 1, 0);

	if (n == (ssize_t)size)
		return 0;
	if (n >= 0 || errno == EFAULT || !from)
		return -EFAULT;
	memcpy(to, from, size);
	return 0;
}

int sim_copy_out(void *to, const void *from, size_t size)
{
	struct iovec here = {.iov_base = (void *)(uintptr_t)from, .iov_len = size},
		     there = {.iov_base = to, .iov_len = size};
	ssize_t n = process_vm_writev(getpid(), &here, 1, &there, 1, 0);

	if (n == (ssize_t)size)
		return 0;
	if (n >= 0 || errno == EFAULT || !to)
		return -EFAULT;
	memcpy(to, from, size);
	return 0;
}

bool sim_is_readable(uintptr_t start, size_t size)
{
	char copy[1024];

	for (size_t done = 0; done < size; done += sizeof(copy)) {
		const size_t left = size - done, part = left < sizeof(copy) ? left : sizeof(copy);

		if (sim_copy_in(copy, (const void *)(start + done), part) < 0)
			return false;
	}
	return true;
}
