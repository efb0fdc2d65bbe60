/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How much memory is left before a control group, or one around it, or the machine has none. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/main/memory_left.h"

static void write_text(const char *root, const char *name, const char *text)
{
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s%s", root, name);
	for (char *at = strchr(path + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = '\0';
		mkdir(path, 0755);
		*at = '/';
	}
	file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

TEST(the_narrowest_limit_counts_and_files_do_not)
{
	char root[] = "/tmp/memory-left-XXXXXX", line[320];

	assert_non_null(mkdtemp(root));
	assert_true(memory_left(root) == UINT64_MAX);
	write_text(root, "/proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:   5000 kB\n");
	assert_int_equal(memory_left(root), 5000 * 1024);
	write_text(root, "/proc/self/cgroup", "1:cpu:/\n0::/system.slice/xenmsgd.service\n");
	write_text(root, "/sys/fs/cgroup/system.slice/memory.max", "4000000\n");
	write_text(root, "/sys/fs/cgroup/system.slice/memory.current", "1000000\n");
	write_text(root, "/sys/fs/cgroup/system.slice/xenmsgd.service/memory.max", "max\n");
	assert_int_equal(memory_left(root), 3000000);
	write_text(root, "/sys/fs/cgroup/system.slice/xenmsgd.service/memory.max", "1000000\n");
	write_text(root, "/sys/fs/cgroup/system.slice/xenmsgd.service/memory.current", "900000\n");
	assert_int_equal(memory_left(root), 100000);
	write_text(root, "/sys/fs/cgroup/system.slice/xenmsgd.service/memory.stat",
		   "anon 1\nfile 300000\nkernel 9\nshmem 100000\nfile_mapped 8\n");
	assert_int_equal(memory_left(root), 300000);
	write_text(root, "/sys/fs/cgroup/system.slice/xenmsgd.service/memory.current", "2000000\n");
	assert_int_equal(memory_left(root), 0);
	snprintf(line, sizeof(line), "rm -r %s", root);
	assert_int_equal(system(line), 0);
}
