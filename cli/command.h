/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_COMMAND_H
#define XENMSG_CLI_COMMAND_H

/* Commands that are run for somebody: whether they can be, and what they are told of who that is. */

#include <stdbool.h>
#include <stdint.h>

/* Known before anybody comes. False: errno says why not. */
bool command_can_be_run(const char *command);
/* How it ended, as wait(2) has it, in words: "ended with status 5". Returns `text`. */
const char *command_end(int status, char text[32]);
/* XENMSG_SENDER_* in the environment of this process. `name` is that of the domain, NULL: not known here. */
void command_set_sender(uint32_t domid, const char *name, uint32_t uid, uint32_t pid);
void command_set_number(const char *name, uint32_t value);

#endif
