/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/service.h"

#include <errno.h>
#include <stdlib.h>

#include <sys/syslog.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

int service_sockets(int **fds, char ***names)
{
	int count = sd_listen_fds_with_names(1, names);

	*fds = NULL;
	if (count <= 0)
		return count;
	*fds = calloc((size_t)count, sizeof(**fds));
	if (!*fds)
		return -ENOMEM;
	for (int i = 0; i < count; i++)
		(*fds)[i] = SD_LISTEN_FDS_START + i;
	return count;
}

bool service_is_listener(int fd, int type)
{
	return sd_is_socket_unix(fd, type, 1, NULL, 0) > 0;
}

uint64_t service_watchdog_us(void)
{
	uint64_t time = 0;

	return sd_watchdog_enabled(0, &time) > 0 ? time : 0;
}

int service_open_output(const char *name)
{
	return sd_journal_stream_fd(name, LOG_INFO, 1);
}
