/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/conf_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ini_file.h"

#define USUAL	"/etc/xenmsg/"
#define LONGEST 1048576

/* Whether only those may change it who may change all that it says: as sshd asks of its own files. */
static bool is_trusted(const struct stat *status)
{
	return (status->st_uid == 0 || status->st_uid == geteuid()) && !(status->st_mode & S_IWOTH) &&
	       (!(status->st_mode & S_IWGRP) || status->st_gid == 0);
}

static int say_untrusted(const char *path, const struct stat *status, char **error)
{
	if (asprintf(
		    error,
		    "%s: isn't trusted, since uid %u owns it and its mode is %03o; chown root %s && chmod go-w %s",
		    path, (unsigned)status->st_uid, (unsigned)status->st_mode & 0777u, path, path) < 0)
		*error = NULL;
	return -EPERM;
}

static int say_readable(const char *path, const struct stat *status, char **error)
{
	if (asprintf(error, "%s: isn't secret, since its mode is %03o, and others may read it; chmod o= %s",
		     path, (unsigned)status->st_mode & 0777u, path) < 0)
		*error = NULL;
	return -EPERM;
}

static int check(const char *path, int fd, bool is_secret, char **error)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return ini_file_unreadable(path, -errno, error);
	if (S_ISDIR(status.st_mode))
		return ini_file_unreadable(path, -EISDIR, error);
	if (!S_ISREG(status.st_mode)) {
		if (asprintf(error, "%s: isn't a regular file", path) < 0)
			*error = NULL;
		return -EINVAL;
	}
	return !is_trusted(&status)		       ? say_untrusted(path, &status, error)
	       : is_secret && status.st_mode & S_IROTH ? say_readable(path, &status, error)
	       : status.st_size > LONGEST	       ? ini_file_unreadable(path, -EFBIG, error)
						       : 0;
}

static FILE *open_checked(const char *path, bool is_secret, int *r, char **error)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	FILE *file = NULL;

	*r = fd < 0 ? ini_file_unreadable(path, -errno, error) : check(path, fd, is_secret, error);
	if (*r == 0 && !(file = fdopen(fd, "r")))
		*r = ini_file_unreadable(path, -errno, error);
	if (!file && fd >= 0)
		close(fd);
	return file;
}

FILE *conf_open(const char *path, int *r, char **error)
{
	return open_checked(path, false, r, error);
}

FILE *conf_open_secret(const char *path, int *r, char **error)
{
	return open_checked(path, true, r, error);
}

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

int conf_dir_list(const char *directory, char ***names, unsigned *count, char **error)
{
	DIR *dir = opendir(directory);
	struct stat status;
	struct dirent *entry;
	int r = 0;

	*names = NULL;
	*count = 0;
	if (!dir && errno == ENOENT && !strncmp(directory, USUAL, sizeof(USUAL) - 1))
		return 0;
	if (!dir)
		return ini_file_unreadable(directory, -errno, error);
	if (fstat(dirfd(dir), &status) == 0 && !is_trusted(&status))
		r = say_untrusted(directory, &status, error);
	while (r == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
		char **grown;

		if (!is_conf(entry->d_name))
			continue;
		grown = realloc(*names, (*count + 1) * sizeof(char *));
		if (grown)
			*names = grown;
		if (!grown || asprintf(&grown[*count], "%s/%s", directory, entry->d_name) < 0)
			r = ini_file_unreadable(directory, -ENOMEM, error);
		else
			++*count;
	}
	if (r == 0 && errno) /* 0: that was all */
		r = ini_file_unreadable(directory, -errno, error);
	closedir(dir);
	if (r < 0)
		conf_dir_free(*names, *count);
	else if (*count)
		qsort(*names, *count, sizeof(char *), by_bytes);
	return r;
}

static int read_file(const char *path,
		     int (*read)(void *userdata, FILE *file, const char *path, char **error), void *userdata,
		     char **error)
{
	int r;
	FILE *file = conf_open(path, &r, error);

	if (!file)
		return r;
	r = read(userdata, file, path, error);
	fclose(file);
	return r;
}

int conf_dir_read(const char *directory,
		  int (*read)(void *userdata, FILE *file, const char *path, char **error), void *userdata,
		  char **error)
{
	struct stat status;
	unsigned count;
	char **paths;
	int r;

	if (stat(directory, &status) == 0 && S_ISREG(status.st_mode))
		return read_file(directory, read, userdata, error);
	r = conf_dir_list(directory, &paths, &count, error);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count && r == 0; i++)
		r = read_file(paths[i], read, userdata, error);
	conf_dir_free(paths, count);
	return r;
}
