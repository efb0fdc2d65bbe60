/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/privileges.h"

#include <errno.h>
#include <grp.h>
#include <unistd.h>

#include "base/users.h"

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
