/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MESSAGE_COMMAND_H
#define XENMSG_CLI_MESSAGE_COMMAND_H

/* The command that recv and subscribe run for each message (--exec): it has the payload on its standard
 * input. */

#include <stdbool.h>
#include <stdint.h>

struct cli;
struct xenmsg;
struct xenmsg_message;

struct message_command {
	/* These are set by the caller. */
	struct cli *cli;
	const char *text;     /* for the shell; NULL: none is run */
	const char *if_fails; /* what else is said of one that has failed */
	uint64_t jobs;	      /* so many may run at a time */
	/* This isn't. */
	uint64_t running;
};

/* Lets the end of a command end a wait, and nothing else. */
void message_command_catch_children(void);
/* Waits while no further command may run. What is there for the connection is done meanwhile. Returns 0, also
 * when a signal has come, or an error of the connection. */
int message_command_wait_for_a_place(struct message_command *command, struct xenmsg *conn);
/* Starts it for this message. With `conn`, takes the message once the command can run, which doesn't if its
 * sender has withdrawn it meanwhile, and gives it back if the command can't. Returns an exit code. */
int message_command_start(struct message_command *command, struct xenmsg *conn,
			  struct xenmsg_message *message);
/* Does the same, and waits until it has ended; *failed says how. The connection is served meanwhile, so long
 * as it is there. */
int message_command_run(struct message_command *command, struct xenmsg *conn, struct xenmsg_message *message,
			bool *failed);
/* Waits until all have ended. */
void message_command_finish(struct message_command *command);

#endif
