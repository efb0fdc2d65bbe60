/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_RUN_SERVER_H
#define XENMSG_CLI_RUN_SERVER_H

/* The serving end of `xenmsg run`: a command for each stream, whose standard input, output, error and exit
 * status its opener gets (doc/protocol.md, 6.2). */

#include <stdbool.h>

#include "cli/cli.h"

struct event_base;
struct run_server;

/* `command` ends with NULL, and outlives the server. `takes_arguments`: it gets those that the opener sends,
 * behind its own. Returns NULL if memory has run out. */
struct run_server *run_server_new(struct event_base *base, const struct cli *cli, const char *endpoint,
				  char **command, bool takes_arguments);
/* Ends all commands by SIGTERM. NULL is allowed. */
void run_server_free(struct run_server *server);
/* Serves a stream, and takes it over. Returns 0, or a negative errno if it was
 * broken instead: -ENOMEM, or -EMFILE if the opener's domain, or host, has as many streams as are left for
 * all others. */
int run_server_take(struct run_server *server, int stream, const struct xenmsg_peer *peer);

#endif
