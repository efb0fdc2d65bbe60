/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_DELIVERY_H
#define XENMSG_CLI_DELIVERY_H

/*
 * Sends a message, or makes a call, and waits for the outcome, as xenmsg_send() and xenmsg_call() do; but
 * SIGINT and SIGTERM, which interrupt.h has caught, withdraw it as a time-out does:
 *
 *   begun ───outcome──▶ known
 *      └──signal──▶ withdrawn ──outcome, at most 3 s later──▶ known, and whoever asked dies of the signal
 *                       └──another signal──▶ the process says so, and dies at once
 */

#include <stdbool.h>
#include <stddef.h>

#include "xenmsg.h"

struct cli;

/* How long what was withdrawn may take to be settled: a daemon that works needs at most 2 s. */
#define DELIVERY_SETTLE_MS 3000

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
