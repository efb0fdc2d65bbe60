/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_COMMAND_H
#define XENMSG_CLI_COMMAND_H

/* Commands that are run for a peer: whether they can be run, and what they are told about the peer. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire/address.h"
#include "xenmsg.h"

/* Checks a command before any peer comes. Returns false with errno set. */
bool command_can_be_run(const char *command);
/* Forks for a command, whose signals are as if none had ever been blocked or caught: until it executes,
 * a signal to it would otherwise be taken by the event loop that it shares with its parent. Returns as
 * fork(2). */
pid_t command_fork(void);
/* Writes in words how a command ended, from wait(2)'s status: "ended with status 5". Returns `text`. */
const char *command_end(int status, char text[32]);
/* Returns that status as shells count it: the exit status, or 128 and the number of the signal. */
int command_exit_status(int status);
/* Whom a command is run for. */
struct command_peer {
	char host[HOST_NAME_SIZE]; /* "": this one */
	char domain_name[DOMAIN_NAME_MAX + 1];
	uint32_t domid, uid, pid;
	char id[XENMSG_NAME_SIZE]; /* of its message or stream in traces; "": it has none */
	char words[96];		   /* where it is: "domain 5", or "domain 5 of host hostb" */
};

/* Of the sender of a message, or (NULL) of who has opened a stream. */
struct command_peer command_peer(const struct xenmsg_peer *peer, const struct xenmsg_message *message);
/* Sets XENMSG_SENDER_* and XENMSG_ID in the environment of this process. */
void command_set_peer(const struct command_peer *peer);
void command_set_number(const char *name, uint32_t value);
/* Becomes the command in a process made for it, whose first `count` descriptors these are. If the command
 * can't be run, `by` complains on this process's standard error, and the caller ends it with
 * COMMAND_NOT_RUN. */
#define COMMAND_NOT_RUN 127
void command_become(const char *by, char **command, const struct command_peer *peer, const int *descriptors,
		    unsigned count);

/* A command in a process group of its own. */
#define COMMAND_STREAMS 3
struct command_child {
	pid_t pid;		   /* 0: there is none */
	int pidfd;		   /* readable when it is worth asking command_has_ended() */
	int ends[COMMAND_STREAMS]; /* ours of the pipes that are its standard input, output and error; or -1 */
};

/* Starts it with so many pipes. Returns 0, or a negative errno, and then nothing is left of it. */
int command_start(struct command_child *child, const char *by, char **command,
		  const struct command_peer *peer, unsigned pipes);
/* Returns whether it has ended, with its status, of which this is told once; it stays to be waited for if
 * `status` is NULL. */
bool command_has_ended(struct command_child *child, int *status);
/* Returns whether a process has this socket of ours open, too. One that can't be looked at may have it. */
bool command_has_socket(pid_t pid, int fd);
/* Kills it, and closes what there is of it. */
void command_drop(struct command_child *child);

#endif
