/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_PRIVILEGES_H
#define XENMSG_BASE_PRIVILEGES_H

/* Makes the process run as `user`, with its groups, for good. The devices, XenStore and the socket must be
 * open before. Does nothing if that is the user already. -ENOENT: no such user; -EAGAIN: users can't be
 * looked up now; -EPERM: the process isn't root's; other negative errno. */
int privileges_drop(const char *user);

#endif
