/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_RECONNECTING_H
#define XENMSG_CLI_RECONNECTING_H

/*
 * The session of a command that goes on until it is stopped, or until what it waits for is there: it outlives
 * its xenmsgd, and a line on standard error tells each time that is lost or there again. What the next
 * xenmsgd refuses ends the command.
 */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg.h"

struct cli;

struct reconnecting {
	/* These are set by the caller. */
	struct cli *cli;
	const char *what, *subject; /* of its lines: "recv on", "inbox" */
	bool once;		    /* it doesn't outlive its xenmsgd */
	int timeout_ms;		    /* for opening it; not above 0: the usual one */
	/* Told what was lost and found, too; may be NULL. */
	void (*changed)(void *userdata, const struct xenmsg_change *change);
	void *userdata;
	/* These aren't. */
	int64_t opens_until;
	int code; /* the exit code with which the command ends, once something was refused; 0: it goes on */
};

/* Connects, as cli_open(). What `reconnecting` points to lives until the connection is closed. */
int reconnecting_open(struct reconnecting *reconnecting, struct xenmsg **conn);
/* Returns how many milliseconds there are for what else has to be asked before the command can wait. */
int reconnecting_within(struct reconnecting *reconnecting);
/* Does the same as cli_open_timed(), for a command that does one thing with an address; if it `waits`, also
 * for a first xenmsgd, within the time-out. Signals are caught from now on (interrupt.h): one that comes now
 * ends the command with what is `undone`. */
int reconnecting_open_timed(struct reconnecting *reconnecting, const char *address, bool waits,
			    const char *undone, struct xenmsg **conn, int *timeout_ms);
/* The two lines, for a session of another kind. `reason` may be "". */
void reconnecting_note_lost(const struct reconnecting *reconnecting, const char *reason);
void reconnecting_note_back(const struct reconnecting *reconnecting);

/* Tells who watches a terminal what a call of the library waits for, if that takes long: a first try may take
 * so many milliseconds, */
int long_wait_first(const struct cli *cli, int timeout_ms);
/* and once its time is up, this tells it, and returns how many are left for the next; 0: there is none.
 * `what` is done with the address ("connect to"), `missing` isn't there yet ("no stream"). conn: NULL, or by
 * which to ask whether the domain is away. */
int long_wait_rest(const struct cli *cli, struct xenmsg *conn, const char *what, const char *address,
		   const char *missing, int timeout_ms);

#endif
