/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_PRIVILEGES_H
#define XENMSG_BASE_PRIVILEGES_H

#include <sys/types.h>

/* Makes the process run as `user`, with its groups, for good. The devices, XenStore and the socket must be
 * open before. Does nothing if that is the user already. -ESRCH: no such user; -EPERM: the process isn't
 * root's; other negative errno. */
int privileges_drop(const char *user);
/* Returns the uid that the process has after privileges_drop(); its own if there is no such user, or `user`
 * is NULL. */
uid_t privileges_uid(const char *user);

#endif
