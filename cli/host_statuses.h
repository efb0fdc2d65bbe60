/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_HOST_STATUSES_H
#define XENMSG_CLI_HOST_STATUSES_H

/*
 * The status of every daemon of this host, as domain 0's administrators see it: that of domain 0, and what
 * the daemons of the other domains tell (far_status.h). All are asked at once, so one that is silent costs
 * its time-out once.
 */

struct cli;
struct json_object;
struct xenmsg;

/* Asks all, each for timeout_ms at most. Returns 0 and an array, which the caller puts, in the order of the
 * domids: { domid, name, error (a positive errno; 0: none), why (a text; null: no error), status (null: it
 * told none) }. Or an exit code after a complaint: this isn't domain 0, the user is no administrator, or the
 * local daemon doesn't answer. */
int host_statuses(struct cli *cli, int timeout_ms, struct json_object **all);
/* Does the same by this connection, and returns 0 or a negative errno. *why: NULL, or the reason for
 * -EACCES. */
int host_statuses_ask(struct xenmsg *conn, int timeout_ms, struct json_object **all, const char **why);
/* Complains of such an error. Returns the exit code. */
int host_statuses_complain(struct cli *cli, struct xenmsg *conn, int error, const char *why);

#endif
