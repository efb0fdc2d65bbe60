/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEER_GROUPS_H
#define XENMSG_DAEMON_PEER_GROUPS_H

/*
 * The supplementary groups that a program was in when it connected: the kernel's word, which doesn't change
 * while the socket lives. A process may be in 65536 of them. Who can't have them knows nothing, and decides
 * as if every group that is denied something were among them, and none that is allowed it.
 */

#include <sys/types.h>

/* The caller frees `groups`. -errno: they aren't known. */
int peer_groups(int socket, gid_t **groups, unsigned *count);

#endif
