/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/xen/singleton.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Shuts others out of the directory. A process that was in it before may still have it open, and locked; new
 * ones can't enter. */
static int close_to_others(int directory)
{
	struct stat status;

	if (fstat(directory, &status) < 0)
		return -errno;
	if ((status.st_mode & (S_IRWXG | S_IRWXO)) && fchmod(directory, S_IRWXU) < 0)
		return -errno;
	return 0;
}

int singleton_claim(const char *path, int *fd)
{
	int r, directory;

	if (mkdir(path, S_IRWXU) < 0 && errno != EEXIST)
		return -errno;
	directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	r = close_to_others(directory);
	if (r == 0 && flock(directory, LOCK_EX | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (r < 0) {
		close(directory);
		return r;
	}
	*fd = directory;
	return 0;
}
