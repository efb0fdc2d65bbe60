/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_PEER_GROUPS_H
#define XENMSG_BASE_PEER_GROUPS_H

/*
 * The supplementary groups of a program when it connected: the kernel's word, which doesn't change while the
 * socket lives. A process may be in 65536 of them. A caller that can't get them knows nothing, and decides as
 * if the program were in every group that is denied something, and in none that is allowed it.
 */

#include <sys/types.h>

/* Gets the groups; the caller frees `groups`. Negative errno: they aren't known. */
int peer_groups(int socket, gid_t **groups, unsigned *count);

#endif
