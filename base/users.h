/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_USERS_H
#define XENMSG_BASE_USERS_H

/*
 * Looks users and groups up, as the system knows them: in files, or at a directory over the network, which
 * may fail for a moment. Then it isn't known whether there is such a user.
 *
 * Each returns 0 and the entry, which holds until the next call; -ENOENT: there is none; or another negative
 * errno, why that can't be said now.
 */

#include <grp.h>
#include <pwd.h>
#include <sys/types.h>

#define USERS_NO_UID ((uid_t)-1)
#define USERS_NO_GID ((gid_t)-1)

int users_find(const char *name, const struct passwd **user);
int users_find_uid(uid_t uid, const struct passwd **user);
int users_find_group(const char *name, const struct group **group);

#endif
