/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PRIVILEGES_H
#define XENMSG_DAEMON_PRIVILEGES_H

/* Becomes `user`, with his groups, for good. The devices, XenStore and the socket must be open before. Does
 * nothing for the user that we are already. -errno: -ESRCH no such user, -EPERM not root. */
int privileges_drop(const char *user);

#endif
