/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/unix_listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Removes a file without a listener, so that bind() works; one with a listener isn't ours to remove. */
static int remove_stale(const struct sockaddr_un *address, int type)
{
	struct stat status;
	int fd, r = 0;

	if (stat(address->sun_path, &status) < 0)
		return 0;
	if (!S_ISSOCK(status.st_mode))
		return -ENOTSOCK;
	fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return -errno;
	/* EAGAIN: there is a listener, and its backlog is full */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		r = -EADDRINUSE;
	else if (errno == ECONNREFUSED)
		r = unlink(address->sun_path) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int unix_listener_new(const char *path, int type, mode_t mode, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int fd, r;

	type |= SOCK_NONBLOCK | SOCK_CLOEXEC;
	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	r = remove_stale(&address, type);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, type, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0777 & ~mode);
	r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r == 0 && listen(fd, backlog) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}
