/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_WHY_H
#define XENMSG_CLI_WHY_H

struct xenmsg;

/* Asks the daemon for what an outcome doesn't say. Returns NULL if it doesn't know more, else what the caller
 * frees. */
char *cli_why_refused(struct xenmsg *conn, const char *address, int error);

#endif
