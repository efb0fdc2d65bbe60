/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_OWN_PROCESS_H
#define XENMSG_TESTS_OWN_PROCESS_H

/* What the test's own process holds, for tests after which nothing more may be held than before. */

#include <dirent.h>

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

static inline unsigned open_descriptors(void)
{
	return own_process_count("/proc/self/fd");
}

static inline unsigned running_threads(void)
{
	return own_process_count("/proc/self/task");
}

#endif
