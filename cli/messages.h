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

#include "xenmsg.h"

struct cli;
struct json_object;
struct reconnecting;
struct writer;

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

/* ---- how recv and subscribe wait for a message, and print it */

/* What they wait for. */
struct message_wait {
	struct message_command *command;
	const struct reconnecting *reconnecting; /* says what the command does, and whether it ends */
	struct xenmsg *conn;
	int timeout_ms;
	int64_t deadline;
	bool peeks; /* xenmsg_take() follows */
};

/* Returns the next message. NULL: the command ends, with *code. It takes none if a signal has come, or if
 * nobody reads standard output any more. */
struct xenmsg_message *message_next(const struct message_wait *wait, int *code);

/* Returns the time of day, in seconds since 1970. */
double received_now(void);
/* Writes it as a row of JSON, with what it came to as `key`. Returns an exit code. */
int received_json(struct writer *writer, const char *key, struct xenmsg_message *message);
/* Returns who has sent it, each field null if it isn't known. */
struct json_object *received_from(const struct xenmsg_message *message);
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

/* Lines of standard input. */
struct message_lines {
	struct xenmsg *conn;
	/* Takes one, without its newline. Returns 0, or what ends the reading. */
	int (*take)(void *userdata, const char *line, size_t size);
	void *userdata;
	const int *error; /* ends it likewise, once that isn't 0; NULL: nothing does */
	size_t size;	  /* how much is there of the next one */
	bool is_input;	  /* what has failed is standard input */
};

/* Takes lines, while the connection is served, until they or a signal end that. Returns 0, what `take` has
 * returned, or a negative errno, for a line that is too large -EMSGSIZE. */
int message_lines_read(struct message_lines *lines);

/* ---- how send and call wait for the outcome
 *
 * Sends a message, or makes a call, and waits for the outcome, as xenmsg_send() and xenmsg_call() do; but
 * SIGINT and SIGTERM, which interrupt.h has caught, withdraw it as a time-out does:
 *
 *   begun ───outcome──▶ known
 *      └──signal──▶ withdrawn ──outcome, at most 3 s later──▶ known, and whoever asked dies of the signal
 *                       └──another signal──▶ the process says so, and dies at once
 */

/* How long what was withdrawn may take to be settled: a daemon that works needs at most 2 s. */
#define DELIVERY_SETTLE_MS 3000

/* Complains about a message of that size, or (`at_least`) of more. `what` it was for: "send to". Returns the
 * exit code. */
int message_too_large(struct xenmsg *conn, const char *what, const char *address, size_t size, bool at_least);

/* It lives until xenmsg_close(), which may still tell an outcome. */
struct delivery {
	const struct cli *cli;
	struct xenmsg *conn;
	const char *what; /* it is, for complaints: "send to" */
	const char *address;
	int timeout_ms; /* negative: for ever */
	unsigned flags; /* 0, or XENMSG_WAIT */
	/* Called every tenth of a second while there is no outcome; NULL: nobody asks. */
	void (*tick)(void *userdata);
	void *userdata;
	bool is_call;
	bool tells_name; /* prints, when it is begun, what it is called in traces */
	int ticks;	 /* so far; -1: that it takes long was told, or isn't to be */
	/* the outcome: */
	bool known, interrupted;
	struct xenmsg_op *op;
	struct xenmsg_result result; /* its reply is for the caller to free */
};

/* Each returns the error. A signal that comes at any other time than while it waits is still to come. */
int delivery_send(struct delivery *delivery, const void *data, size_t size);
int delivery_call(struct delivery *delivery, const void *data, size_t size);
/* Prints what the message is called in traces that was sent last to the address. */
void delivery_tell_name(struct xenmsg *conn, const char *address);
/* Complains about a failure, in the words for an interrupted one if it was. Returns the exit code. */
int delivery_complain(const struct delivery *delivery);

#endif
