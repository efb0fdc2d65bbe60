/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

int privileges_drop(const char *user)
{
	const struct passwd *entry;

	errno = 0;
	entry = getpwnam(user);
	if (!entry)
		return errno ? -errno : -ESRCH;
	if (entry->pw_uid == geteuid() && entry->pw_uid == getuid())
		return 0;
	/* glibc does each of these for all threads, including that of XenStore. */
	if (initgroups(user, entry->pw_gid) < 0 ||
	    setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
	    setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0)
		return -errno;
	return 0;
}

uid_t privileges_uid(const char *user)
{
	const struct passwd *entry = user ? getpwnam(user) : NULL;

	return entry ? entry->pw_uid : geteuid();
}
