/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PINGS_H
#define XENMSG_DAEMON_PINGS_H

/*
 * The ping of a link's heartbeat, of which one at a time is enough, and those who await the session: whoever
 * has something to say to the peer is told when it is up, or that it won't be. A struct pings begins zeroed.
 */

#include <stdbool.h>
#include <stdint.h>

struct awaiting;
struct hop;

/* Called with 0 when the session is up, or with a negative errno if it ends before. */
typedef void (*await_fn)(void *userdata, uint32_t request, int result);

struct pings {
	struct awaiting *awaiting; /* utlist; NULL: nobody waits */
	uint64_t sent_ns;	   /* of the ping that is on its way; 0: none is */
	uint64_t token;		   /* of the last one: a peer may answer what was never asked */
};

/* Sends a ping, unless one is on its way. */
void pings_send(struct pings *pings, struct hop *hop);
/* Takes an answer. Returns the round trip in ns, or 0 if it answers no ping. */
uint64_t pings_take_pong(struct pings *pings, uint64_t token);
/* Adds somebody who awaits the session. -ENOMEM. */
int pings_await(struct pings *pings, await_fn done, void *userdata, uint32_t request);
/* Tells those who await it: 0, or a negative errno. */
void pings_tell(struct pings *pings, int result);
/* Has them wait for another link with the same peer. */
void pings_move(struct pings *pings, struct pings *to);
void pings_forget(struct pings *pings, const void *userdata);

#endif
