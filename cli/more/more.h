/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MORE_H
#define XENMSG_CLI_MORE_H

/* The commands that need libraries which no other does. */

struct cli;

int cmd_doctor(struct cli *cli, int argc, char **argv);
int cmd_exporter(struct cli *cli, int argc, char **argv);
int cmd_policy(struct cli *cli, int argc, char **argv);
int cmd_top(struct cli *cli, int argc, char **argv);

#endif
