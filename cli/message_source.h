/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MESSAGE_SOURCE_H
#define XENMSG_CLI_MESSAGE_SOURCE_H

/* What send, call and publish send: MESSAGE, what a file has, or standard input. */

#include <stddef.h>

struct cli;

/* Takes MESSAGE of the arguments that are left; NULL: there is none, or "-", which means standard input. The
 * address before it is looked at first; NULL: a topic has none. Returns 0, or an exit code after a
 * complaint. */
int message_argument(const char *command, const char *address, int argc, char **argv, const char **message);

/* Reads a file, or standard input (NULL or "-"), where somebody who types is told what that is. The caller
 * frees *data. Returns 0, or a negative errno after a complaint; without one -EMSGSIZE: it has at least *size
 * bytes, which is more than `most`, and they aren't all there. */
int message_read(const struct cli *cli, const char *path, const char *what, size_t most, char **data,
		 size_t *size);

#endif
