/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_OWN_PROCESS_H
#define XENMSG_TESTS_OWN_PROCESS_H

/* What the test's own process holds, for tests after which nothing more may be held than before. */

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static inline unsigned own_process_count(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* But for the log's own of a pipe or a terminal, which is opened with the first line. */
static inline unsigned open_descriptors(void)
{
	unsigned count = own_process_count("/proc/self/fd");
	struct stat log, status;

	if (fstat(STDERR_FILENO, &log) < 0)
		return count;
	for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
		if (fstat(fd, &status) == 0 && status.st_dev == log.st_dev && status.st_ino == log.st_ino)
			count--;
	return count;
}

static inline unsigned running_threads(void)
{
	return own_process_count("/proc/self/task");
}

#endif
