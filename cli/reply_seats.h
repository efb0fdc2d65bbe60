/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_REPLY_SEATS_H
#define XENMSG_CLI_REPLY_SEATS_H

/*
 * Replies that wait for callers who don't read. Those with a seat hold up nobody, and wait for
 * REPLY_PATIENCE_MS. There are few seats, since each may hold the largest message; when they are taken, who
 * has the most of them gives one to who has fewer. A reply without a seat waits where its command ran, so
 * others wait with it: only until somebody of its account should have read. An account is who the daemon
 * charges: a user here, another domain, another host. So one that has many callers, all of which read
 * nothing, holds up the others as briefly as one caller does.
 *
 *     begin ──▶ without a seat ◀──────▶ seated        each ──▶ end: it is accepted, or its time is up
 */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg.h"

#define REPLY_PATIENCE_MS 5000
#define REPLY_MOMENT_MS	  500

struct reply_seats {
	struct waiting_reply *replies; /* the oldest first */
	unsigned most, taken;
	uint32_t domid; /* this domain, whose users have accounts of their own */
};

struct waiting_reply {
	struct waiting_reply *prev, *next;
	char who[72];
	uint64_t since_ms, until_ms; /* until when to wait for its caller */
	bool waits, seated;
};

/* So many seats as there are jobs, within bounds. */
void reply_seats_init(struct reply_seats *seats, uint32_t domid, uint64_t jobs);

/*
 * Begins to wait, or goes on: with a seat if there is one for it. Returns false if its time is up: then it
 * doesn't wait. *unseated: NULL, or the reply whose seat it got; the time of that one is up, so it is to try
 * again at once.
 */
bool reply_seats_wait(struct reply_seats *seats, struct waiting_reply *reply,
		      const struct xenmsg_message *request, uint64_t now_ms, struct waiting_reply **unseated);
/* One that doesn't wait is allowed. */
void reply_seats_end(struct reply_seats *seats, struct waiting_reply *reply);

#endif
