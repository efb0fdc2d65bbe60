/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PINGS_H
#define XENMSG_DAEMON_PINGS_H

/*
 * What is asked of one peer's daemon to hear that it lives: by programs, which want to know how long the
 * answer took, and by the heartbeat of the link. Zeroed memory is a good beginning.
 *
 *   waiting ──the link is up: PING──▶ sent ──PONG──▶ answered
 *      └─────────────────────────────────┴──the session ends──▶ answered with its error
 *      └─────────────────────────────────┴──who asked has gone──▶ forgotten
 *
 * How many a program may have is up to who takes its requests.
 */

#include <stdbool.h>
#include <stdint.h>

struct hop;
struct ping;
struct pinger;

/* Round trip in ns, or a negative errno. */
typedef void (*ping_fn)(void *userdata, uint32_t request, int64_t result);

struct pings {
	struct ping *list; /* NULL: nobody waits for an answer */
	/* those of them that were, by token: a peer may answer what was never asked, as often as it likes */
	struct ping *sent;
	struct pinger *pingers; /* who has some on the list, by `userdata` */
	bool own_is_out;	/* the heartbeat's */
	uint64_t last_token;
};

/* `done` is called once, by pings_take_pong() or pings_fail(); NULL: the heartbeat asks, of which one at a
 * time is enough. */
int pings_add(struct pings *pings, ping_fn done, void *userdata, uint32_t request);
/* The session is up: those that wait go out. */
void pings_send(struct pings *pings, struct hop *hop);
/* The round trip in ns, or 0 for what answers nothing. */
uint64_t pings_take_pong(struct pings *pings, uint64_t token);
void pings_fail(struct pings *pings, int error);
void pings_forget(struct pings *pings, const void *userdata);

#endif
