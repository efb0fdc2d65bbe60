/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_COMMANDS_H
#define XENMSG_CLI_COMMANDS_H

/* The commands of a program: xenmsg has them all, and xenmsg-more those which xenmsg leaves to it, because
 * they need libraries that nothing else does. */

#include <stddef.h>

struct cli;

struct command {
	const char *name;
	int (*run)(struct cli *cli, int argc, char **argv);
	const char *text;
	const char *group; /* which begins here, or NULL */
};

extern const struct command commands[];
extern const size_t commands_count;

#endif
