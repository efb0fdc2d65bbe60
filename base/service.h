/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_SERVICE_H
#define XENMSG_BASE_SERVICE_H

/*
 * Gifts of a service manager to its service: sockets, a watchdog, and an output for the programs that the
 * service starts. There are two of it, and configure takes one: service_systemd.c, and service_none.c
 * (--without-systemd), where nothing is given. Messages to the manager: notify.h.
 */

#include <stdbool.h>
#include <stdint.h>

/* Takes the sockets that the manager listens at already; *fds and *names have as many entries, to be freed
 * with those of *names; works once in a process. Returns their number, or a negative errno. */
int service_sockets(int **fds, char ***names);
/* Returns whether it is a Unix socket of this type (SOCK_STREAM, ...) that listens. */
bool service_is_listener(int fd, int type);
/* Returns how long the manager waits for a word of this process before it kills it, in microseconds; 0: for
 * ever. */
uint64_t service_watchdog_us(void);
/* Opens an output that leads into the manager's log, under this name. Needs no memory and no lock, so a child
 * may call it after fork(). Returns a descriptor, or a negative errno. */
int service_open_output(const char *name);

#endif
