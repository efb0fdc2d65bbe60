/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/memory_left.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Reads a number that the file has alone, or behind this word. False: it has none, as where there is no
 * limit. */
static bool read_number(const char *path, const char *word, uint64_t *number)
{
	FILE *file = fopen(path, "re");
	char line[256];
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file))
		found = !strncmp(line, word, strlen(word)) &&
			sscanf(line + strlen(word), "%" SCNu64, number) == 1;
	if (file)
		fclose(file);
	return found;
}

/* The kernel takes back the memory of files before it ends anybody; what memfds take it doesn't. */
static uint64_t left_in_group(const char *folder)
{
	char path[2 * PATH_MAX + sizeof("/memory.current")];
	uint64_t max, used, file = 0, shared = 0;

	snprintf(path, sizeof(path), "%s/memory.max", folder);
	if (!read_number(path, "", &max))
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s/memory.current", folder);
	if (!read_number(path, "", &used))
		return UINT64_MAX;
	snprintf(path, sizeof(path), "%s/memory.stat", folder);
	if (read_number(path, "file ", &file) && read_number(path, "shmem ", &shared) && file > shared &&
	    file - shared < used)
		used -= file - shared;
	return max > used ? max - used : 0;
}

/* Returns the folder of this process's group, in the one hierarchy that there is since version 2; its length,
 * 0: there is none. */
static size_t find_group(const char *root, char *folder, size_t size)
{
	char path[PATH_MAX], line[PATH_MAX] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file) && strncmp(line, "0::/", 4))
		*line = '\0';
	if (file)
		fclose(file);
	if (strncmp(line, "0::/", 4))
		return 0;
	line[strcspn(line, "\n")] = '\0';
	snprintf(folder, size, "%s/sys/fs/cgroup%s", root, line + 3);
	return strlen(folder);
}

uint64_t memory_left(const char *root)
{
	char path[PATH_MAX], folder[2 * PATH_MAX];
	uint64_t left = UINT64_MAX, here, kilobytes;
	size_t top = strlen(root) + strlen("/sys/fs/cgroup"),
	       length = find_group(root, folder, sizeof(folder));

	while (length > top) {
		folder[length] = '\0';
		here = left_in_group(folder);
		if (here < left)
			left = here;
		while (length > top && folder[--length] != '/')
			;
	}
	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	if (read_number(path, "MemAvailable:", &kilobytes) && kilobytes * 1024 < left)
		left = kilobytes * 1024;
	return left;
}
