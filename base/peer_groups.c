/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/peer_groups.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

int peer_groups(int fd, gid_t **groups, unsigned *count)
{
	socklen_t size = 0;
	int r;

	*groups = NULL;
	*count = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0)
		return 0;
	if (errno != ERANGE)
		return -errno;
	*groups = malloc(size);
	if (!*groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, *groups, &size) < 0) {
		r = -errno;
		free(*groups);
		*groups = NULL;
		return r;
	}
	*count = (unsigned)(size / sizeof(gid_t));
	return 0;
}
