/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_COMMAND_H
#define XENMSG_CLI_COMMAND_H

/* Commands that are run for a peer: whether they can be run, and what they are told about the peer. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "xenmsg.h"

/* Checks a command before any peer comes. Returns false with errno set. */
bool command_can_be_run(const char *command);
/* Makes signals as if none had ever been caught or ignored by us, for a command. */
void command_reset_signals(void);
/* Forks for a command, whose signals are as if none had ever been caught: until it executes, a signal to it
 * would otherwise be taken by the event loop that it shares with its parent. Returns as fork(2). */
pid_t command_fork(void);
/* Writes in words how a command ended, from wait(2)'s status: "ended with status 5". Returns `text`. */
const char *command_end(int status, char text[32]);
/* Returns that status as shells count it: the exit status, or 128 and the number of the signal. */
int command_exit_status(int status);
/* Sets XENMSG_SENDER_* in the environment of this process. `host` is "" for this one, `name` the domain's. */
void command_set_sender(const char *host, uint32_t domid, const char *name, uint32_t uid, uint32_t pid);
/* Writes in words where a sender is: "domain 5", or "domain 5 of host hostb". Returns `text`. */
#define COMMAND_SENDER_SIZE 96
const char *command_sender(const char *host, uint32_t domid, char text[COMMAND_SENDER_SIZE]);
/* Sets XENMSG_ID to what the message (NULL: the stream of the peer) is called in traces, if it has a name. */
void command_set_id(const struct xenmsg_message *message, const struct xenmsg_peer *peer);
void command_set_number(const char *name, uint32_t value);

#endif
