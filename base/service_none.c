/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/service.h"

#include <errno.h>
#include <stddef.h>

int service_sockets(int **fds, char ***names)
{
	*fds = NULL;
	*names = NULL;
	return 0;
}

bool service_is_listener(int fd, int type)
{
	return false;
}

uint64_t service_watchdog_us(void)
{
	return 0;
}

int service_open_output(const char *name)
{
	return -EOPNOTSUPP;
}
