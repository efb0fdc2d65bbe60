/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/users.h"

#include <errno.h>

/* By getpwnam(3) all of these mean that there is none. */
static int why_not(int error)
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
	return *user ? 0 : why_not(errno);
}

int users_find_uid(uid_t uid, const struct passwd **user)
{
	errno = 0;
	*user = getpwuid(uid);
	return *user ? 0 : why_not(errno);
}

int users_find_group(const char *name, const struct group **group)
{
	errno = 0;
	*group = getgrnam(name);
	return *group ? 0 : why_not(errno);
}
