/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PROGRAM_NAME_H
#define XENMSG_DAEMON_PROGRAM_NAME_H

#include <sys/types.h>

#define PROGRAM_NAME_SIZE 17

/* Finds the name of the program with this pid, as its kernel tells; "?" if it has gone. The program chooses
 * it, and it goes into logs and into JSON: only printable ASCII is left of it. */
void program_name(pid_t pid, char name[PROGRAM_NAME_SIZE]);

#endif
