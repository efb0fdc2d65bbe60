/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_POLICY_TABLE_H
#define XENMSG_CLI_POLICY_TABLE_H

/* policy test: asks for each line of a table whether the policy decides as the line says. */

struct cli;

/* Checks the table in this file, "-": standard input. Returns the exit code: 0, all answers are as expected;
 * EXIT_OTHER: some aren't, which was printed; else after a complaint. */
int policy_table_check(struct cli *cli, const char *path);

#endif
