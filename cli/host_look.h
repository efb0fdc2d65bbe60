/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_HOST_LOOK_H
#define XENMSG_CLI_HOST_LOOK_H

/*
 * One picture of the host, for commands that end then: two looks (host_view.h), some time apart.
 */

struct cli;
struct host_view;
struct json_object;

#define HOST_ANSWER_MS 3000 /* who says nothing for so long isn't waited for */

/* Looks twice, delay_ms apart (0: once, and there are no rates). Returns 0 and what was seen, which the
 * caller frees, or an exit code after a complaint. */
int host_look(struct cli *cli, int delay_ms, struct host_view **view);
/* Prints it as JSON. Returns an exit code. */
int host_look_print(const struct host_view *view);

#endif
