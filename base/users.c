/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/users.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* By getpwnam(3) all of these mean that there is none. */
static int users_why_not(int error)
{
	switch (error) {
	case 0:
	case ENOENT:
	case ESRCH:
	case EBADF:
	case EPERM:
		return -ENOENT;
	default:
		return -error;
	}
}

int users_find(const char *name, const struct passwd **user)
{
	errno = 0;
	*user = getpwnam(name);
	return *user ? 0 : users_why_not(errno);
}

int users_find_uid(uid_t uid, const struct passwd **user)
{
	errno = 0;
	*user = getpwuid(uid);
	return *user ? 0 : users_why_not(errno);
}

int users_find_group(const char *name, const struct group **group)
{
	errno = 0;
	*group = getgrnam(name);
	return *group ? 0 : users_why_not(errno);
}

int users_find_usual(const char *name, const struct passwd **user)
{
	FILE *file = fopen("/etc/passwd", "re");
	int r = -ENOENT;

	if (!file)
		return users_why_not(errno);
	while (r == -ENOENT && (errno = 0, *user = fgetpwent(file)))
		r = strcmp((*user)->pw_name, name) ? -ENOENT : 0;
	if (r < 0)
		r = users_why_not(errno);
	fclose(file);
	return r;
}

int users_find_usual_group(const char *name, const struct group **group)
{
	FILE *file = fopen("/etc/group", "re");
	int r = -ENOENT;

	if (!file)
		return users_why_not(errno);
	while (r == -ENOENT && (errno = 0, *group = fgetgrent(file)))
		r = strcmp((*group)->gr_name, name) ? -ENOENT : 0;
	if (r < 0)
		r = users_why_not(errno);
	fclose(file);
	return r;
}

/* --- of a program ---------------------------------------------------------------------------- */

int peer_groups(int fd, gid_t **groups, unsigned *count)
{
	socklen_t size = 0;
	int r;

	*groups = NULL;
	*count = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0)
		return 0;
	if (errno != ERANGE)
		return -errno;
	*groups = malloc(size);
	if (!*groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, *groups, &size) < 0) {
		r = -errno;
		free(*groups);
		*groups = NULL;
		return r;
	}
	*count = (unsigned)(size / sizeof(gid_t));
	return 0;
}

/* --- of this process ------------------------------------------------------------------------- */

int privileges_drop(const char *user)
{
	const struct passwd *entry;
	int r = users_find(user, &entry);

	if (r < 0)
		return r == -ENOENT ? r : -EAGAIN;
	if (entry->pw_uid == geteuid() && entry->pw_uid == getuid())
		return 0;
	/* glibc does each of these for all threads, including that of XenStore. */
	if (initgroups(user, entry->pw_gid) < 0 ||
	    setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
	    setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0)
		return -errno;
	return 0;
}
