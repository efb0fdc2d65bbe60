/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "daemon/singleton.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

int singleton_claim(int *fd)
{
	/* An opened device without ports, of our own: that of the event channels may go to the keeper, and its lock with it. */
	int r, device = open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (device < 0)
		return -errno;
	if (flock(device, LOCK_EX | LOCK_NB) < 0) {
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
		close(device);
		return r;
	}
	*fd = device;
	return 0;
}
