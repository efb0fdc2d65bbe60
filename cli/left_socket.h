/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_LEFT_SOCKET_H
#define XENMSG_CLI_LEFT_SOCKET_H

#include <sys/un.h>

/* Removes a Unix socket that an earlier run has left, on which nobody listens, so that bind() finds its path
 * free. What is in use, or no socket, stays, and bind() reports it. */
void left_socket_remove(const struct sockaddr_un *address);

#endif
