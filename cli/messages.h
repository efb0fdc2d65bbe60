/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MESSAGES_H
#define XENMSG_CLI_MESSAGES_H

/*
 * What commands do with a message: where that to be sent comes from, how one that has come is printed, and
 * the command that recv and subscribe run for each (--exec), which has the payload on its standard input.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cli;
struct writer;
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

/* ---- how recv and subscribe print a message */

/* Returns the time of day, in seconds since 1970. */
double received_now(void);
/* Returns whose value a message of a topic is, as its publisher says; NULL: nobody's. */
const char *received_key(const struct xenmsg_message *message);
/* Writes it as a row of JSON, with what it came to as `key`. Returns an exit code. */
int received_json(struct writer *writer, const char *key, struct xenmsg_message *message);
/* Prints its payload: as it is (`raw`), or for a reader, with a newline behind it, and (`apart`) as
 * cli_show_apart(). Returns an exit code. */
int received_text(struct xenmsg_message *message, bool raw, bool apart);

/* ---- what send, call and publish send: MESSAGE, what a file has, or standard input */

/* Takes MESSAGE of the arguments that are left; NULL: there is none, or "-", which means standard input. The
 * address before it is looked at first; NULL: a topic has none. Returns 0, or an exit code after a
 * complaint. */
int message_argument(const char *command, const char *address, int argc, char **argv, const char **message);

/* Reads a file, or standard input (NULL or "-"), where somebody who types is told what that is. The caller
 * frees *data. Returns 0, or a negative errno after a complaint; without one -EMSGSIZE: it has at least *size
 * bytes, which is more than `most`, and they aren't all there. */
int message_read(const struct cli *cli, const char *path, const char *what, size_t most, char **data,
		 size_t *size);

#endif
