/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MORE_POLICY_MATRIX_H
#define XENMSG_CLI_MORE_POLICY_MATRIX_H

#include <stdbool.h>

struct cli;

/* Prints which domains of this host may reach which endpoints; as JSON an object for each pair. For
 * administrators in domain 0. Returns the exit code. */
int policy_matrix(struct cli *cli, bool as_json);

#endif
