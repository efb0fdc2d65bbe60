/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_UNIX_LISTENER_H
#define XENMSG_BASE_UNIX_LISTENER_H

/* A Unix socket that listens at a path. */

#include <sys/types.h>

/* Makes one of SOCK_STREAM or SOCK_SEQPACKET, whose file gets the permissions `mode`. Removes the file that a
 * killed daemon has left there. Returns the descriptor, which doesn't block; -EADDRINUSE: somebody listens
 * there; -ENOTSOCK: something else is there; -ENAMETOOLONG; others of socket(2) and bind(2). */
int unix_listener_new(const char *path, int type, mode_t mode, int backlog);

#endif
