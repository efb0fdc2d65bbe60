/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_FD_PARCEL_H
#define XENMSG_BASE_FD_PARCEL_H

/*
 * One descriptor that carries many others: a Unix socket where they lie unread. A service manager that
 * keeps it for the next daemon (doc/handover.md) keeps two descriptors instead of some for each program. They
 * are taken out once: a program would wait forever on a socket that somebody holds a second time.
 */

#include <stdbool.h>
#include <stdint.h>

/* Makes a parcel with these; the caller's stay open. Returns it, close-on-exec, or a negative errno. */
int fd_parcel_fill(const int *fds, uint32_t count);
/* Whether it can be carried. The socket of a program may hold unread Unix sockets that hold others, and so
 * on: the kernel carries only some of these in each other. */
bool fd_parcel_takes(int fd);
/* Takes out what lies there, close-on-exec, in its order, and appends it: *fds is NULL at first; the caller
 * frees it. Returns 0; -EBADF for what is no parcel, and nothing stays open but the parcel; or -ENOMEM: it
 * must be called again. */
int fd_parcel_empty(int parcel, int **fds, uint32_t *count);

#endif
