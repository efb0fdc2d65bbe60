/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_DESCRIPTORS_H
#define XENMSG_BASE_DESCRIPTORS_H

/*
 * How many descriptors this process may have open, and how many of them are for programs and peers. The rest
 * is the daemon's own: devices, XenStore, the loop and the socket, the files that it reads now and then, and
 * the connection of a program that is to be told that it can't have one.
 */

#include <stdint.h>

/* Raises the process's limit as far as it may be raised, and returns how many are for programs and peers. */
uint64_t descriptors_pool(void);
/* Closes those that are there: negative ones aren't. */
void descriptors_close(const int *fds, unsigned count);

#endif
