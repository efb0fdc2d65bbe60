/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/conf_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/ini_file.h"

static bool is_conf(const char *name)
{
	size_t size = strlen(name);

	return size > 5 && name[0] != '.' && !strcmp(name + size - 5, ".conf");
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void conf_dir_free(char **names, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

int conf_dir_list(const char *directory, char ***names, unsigned *count)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;
	int r = 0;

	*names = NULL;
	*count = 0;
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		char **grown;

		if (!is_conf(entry->d_name))
			continue;
		grown = realloc(*names, (*count + 1) * sizeof(char *));
		if (grown)
			*names = grown;
		if (!grown || asprintf(&grown[*count], "%s/%s", directory, entry->d_name) < 0)
			r = -ENOMEM;
		else
			++*count;
	}
	if (r == 0)
		r = -errno; /* 0: that was all */
	closedir(dir);
	if (r < 0)
		conf_dir_free(*names, *count);
	else if (*count)
		qsort(*names, *count, sizeof(char *), by_bytes);
	return r;
}

int conf_dir_read(const char *directory,
		  int (*read)(void *userdata, FILE *file, const char *path, char **error), void *userdata,
		  char **error)
{
	unsigned count;
	char **paths;
	int r = conf_dir_list(directory, &paths, &count);

	if (r < 0)
		return ini_file_unreadable(directory, r, error);
	for (unsigned i = 0; i < count && r == 0; i++) {
		FILE *file = fopen(paths[i], "re");

		r = file ? read(userdata, file, paths[i], error)
			 : ini_file_unreadable(paths[i], -errno, error);
		if (file)
			fclose(file);
	}
	conf_dir_free(paths, count);
	return r;
}
