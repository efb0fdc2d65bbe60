/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/left_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void left_socket_remove(const struct sockaddr_un *address)
{
	struct stat status;
	int fd;

	if (stat(address->sun_path, &status) < 0 || !S_ISSOCK(status.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED)
		unlink(address->sun_path);
	close(fd);
}
