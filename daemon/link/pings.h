/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PINGS_H
#define XENMSG_DAEMON_PINGS_H

/*
 * The pings of one peer's daemon: of programs, which want to know how long the answer took, and of the link's
 * heartbeat. A struct pings begins zeroed.
 *
 *   waiting ──the link is up: PING──▶ sent ──PONG──▶ answered
 *      └─────────────────────────────────┴──the session ends──▶ answered with its error
 *      │                                 ├──this daemon hands over──▶ answered with EAGAIN: it is asked for again
 *      │                                 └──no answer in time──▶ answered with ETIMEDOUT
 *      └─────────────────────────────────┴──the pinger has gone──▶ forgotten
 *
 * A ping that only awaits the session is told when it is up: whoever has something to say to the peer then
 * doesn't depend on whether it answers.
 *
 * A relayed ping is of another domain's daemon: this peer, domain 0 or that of another host, is to ask that
 * one, and answers when it has answered (relay.h).
 *
 * The module that takes a program's requests limits how many it may have.
 */

#include <stdbool.h>
#include <stdint.h>

struct frame_ping_relayed;
struct hop;
struct ping;
struct pinger;

/* Called with the round trip in ns, or a negative errno. */
typedef void (*ping_fn)(void *userdata, uint32_t request, int64_t result);

struct pings {
	struct ping *list;     /* NULL: none waits for an answer */
	struct ping *awaiting; /* those that only await the session */
	/* those that were sent, by token: a peer may answer what was never asked, as often as it likes */
	struct ping *sent;
	struct pinger *pingers; /* those that have pings on the list, by `userdata` */
	bool own_is_out;	/* the heartbeat's ping is on the list */
	uint64_t last_token;
};

/* Adds a ping. `done` is called once, by pings_take_pong() or pings_fail(); NULL: it is the heartbeat's, of
 * which one at a time is enough. Returns 0 or a negative errno. */
int pings_add(struct pings *pings, ping_fn done, void *userdata, uint32_t request);
/* Adds one that isn't sent: `done` is called with 0 when the session is up, or as for a ping if it ends
 * before. */
int pings_await(struct pings *pings, ping_fn done, void *userdata, uint32_t request);
/* Adds a ping that the peer is to relay as `what` says, whose token means nothing. It fails with
 * -EHOSTUNREACH if the session ends. */
int pings_add_relayed(struct pings *pings, const struct frame_ping_relayed *what, ping_fn done,
		      void *userdata, uint32_t request);
/* Moves the pings of domain `domid` to those of the peer that is to relay them; what can't be fails with
 * -EHOSTUNREACH. */
void pings_relay(struct pings *pings, uint32_t domid, struct pings *to);
/* Moves all pings to those of another link with the same peer; what can't be fails with -EHOSTUNREACH. */
void pings_move(struct pings *pings, struct pings *to);
/* Fails those that wait to be relayed within this host: the peer doesn't do that. */
void pings_refuse_relayed(struct pings *pings);
/* Takes an answer to one of them: `result` is 0 or a negative errno; -EAGAIN: who relays it has handed over,
 * so it is sent again. Returns the round trip in ns, and in *domid whose it is (UINT32_MAX: a domain's on
 * another host); 0 if it answers none of them, or with an error. */
uint64_t pings_take_relayed(struct pings *pings, struct hop *hop, uint64_t token, int result,
			    uint32_t *domid);
/* Whether anything is on its way, or waits. */
bool pings_are_there(const struct pings *pings);
/* Ends with -ETIMEDOUT those of programs, and of who relays, that were sent by `until_ns` and weren't
 * answered. */
void pings_expire(struct pings *pings, uint64_t until_ns);
/* Sends the pings that wait, and tells those who await it: the session is up. */
void pings_send(struct pings *pings, struct hop *hop);
/* Takes an answer. Returns the round trip in ns, or 0 if it answers no ping of the peer itself. */
uint64_t pings_take_pong(struct pings *pings, uint64_t token);
void pings_fail(struct pings *pings, int error);
/* Like pings_fail(), but pings that weren't sent yet stay queued. */
void pings_fail_sent(struct pings *pings, int error);
void pings_forget(struct pings *pings, const void *userdata);

#endif
