/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_WORKER_SET_H
#define XENMSG_CLI_WORKER_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"

#define WORKERS_MAX 256u

/*
 * Several processes that do the same, as one command. One that is killed is replaced; if one ends by itself,
 * all end; SIGINT and SIGTERM are for all of them.
 *
 * Returns true in each of them, and false in the command's own process when all have ended, with its exit
 * code in *code and the signal that it is to die of (0: none) in *signal.
 */
bool worker_set_start(struct cli *cli, const char *command, uint64_t count, int *code, int *signal);

#endif
