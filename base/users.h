/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_USERS_H
#define XENMSG_BASE_USERS_H

/*
 * Users and groups, as the system knows them: in files, or at a directory over the network, which may fail
 * for a moment. Then it isn't known whether there is such a user.
 *
 * users_find...() return 0 and the entry, which holds until the next call; -ENOENT: there is none; or another
 * negative errno, why that can't be said now.
 */

#include <grp.h>
#include <pwd.h>
#include <sys/types.h>

#define USERS_NO_UID ((uid_t)-1)
#define USERS_NO_GID ((gid_t)-1)

int users_find(const char *name, const struct passwd **user);
int users_find_uid(uid_t uid, const struct passwd **user);
int users_find_group(const char *name, const struct group **group);
/* Do the same for a name that a package gives, which is in the system's files or nowhere: to ask others for
 * one that isn't there would load their libraries into most daemons. */
int users_find_usual(const char *name, const struct passwd **user);
int users_find_usual_group(const char *name, const struct group **group);

/* Gets the supplementary groups of a program when it connected: the kernel's word, which doesn't change while
 * the socket lives. A process may be in 65536 of them. The caller frees `groups`. Negative errno: they aren't
 * known. Then decide as if the program were in every group that is denied something, and in none that is
 * allowed it. */
int peer_groups(int socket, gid_t **groups, unsigned *count);
/* Makes the process run as `user`, with its groups, for good. The devices, XenStore and the socket must be
 * open before. Does nothing if that is the user already. -ENOENT: no such user; -EAGAIN: users can't be
 * looked up now; -EPERM: the process isn't root's; other negative errno. */
int privileges_drop(const char *user);

#endif
