/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_RECONNECT_H
#define XENMSG_LIBCLIENT_RECONNECT_H

/*
 * A connection that outlives its daemon (XENMSG_RECONNECT). When the daemon is lost, what was under way has
 * ended with what is known; the program's endpoints and watches are its wish, and the next daemon is asked
 * for them before anything else, since these requests are the first that wait in the backlog. What the
 * program begins meanwhile waits behind them.
 *
 *   OFF    it doesn't
 *   UP ──the daemon is lost: `lost` is told──▶ RESTS ──a moment later──▶ DIALS ──connected──▶ ASKS ──all answered: `back`──▶ UP
 *                                               ▲  └────no daemon, or no answer in time────┘   │
 *                                               └──────────────────────lost once more──────────┘
 *
 * It knows the parts of the connection, and is driven by it: what is to be told lies in `changes` until then.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libclient/transport.h"
#include "libclient/inbox.h"
#include "libclient/requests.h"
#include "xenmsg.h"

enum reconnect_state { RECONNECT_OFF, RECONNECT_UP, RECONNECT_ASKS, RECONNECT_RESTS, RECONNECT_DIALS };

struct reconnect_parts {
	struct transport *transport;
	struct inbox *inbox;
	struct requests *requests;
	struct incoming *incoming;
};

struct reconnect {
	enum reconnect_state state;
	struct reconnect_parts parts;
	uint32_t losses;
	/* when to dial, or to give up waiting for an answer (deadline.h); -1: that isn't waited for */
	int64_t due;
	int64_t up_since;
	int pause_ms;
	bool lost_told;			/* and `back` isn't yet */
	struct pending_change *changes; /* utlist: what is to be told, the first one first */
	xenmsg_change_handler handler;
	void *userdata;
};

/* Makes the connection outlive its daemon. What it is told by, if that is set, stays. */
void reconnect_init(struct reconnect *reconnect, const struct reconnect_parts *parts);
void reconnect_free(struct reconnect *reconnect);
/* Whether there is no daemon now. */
static inline bool reconnect_is_lost(const struct reconnect *reconnect)
{
	return reconnect->state >= RECONNECT_RESTS;
}
/* Whether the next daemon has answered everything, and the program isn't told yet that it is back. `waits`
 * here and below: it isn't back yet even if all was answered, since the caller waits for something of its
 * own. */
static inline bool reconnect_is_answered(const struct reconnect *reconnect, bool waits)
{
	return reconnect->state == RECONNECT_ASKS && !waits &&
	       !requests_are_unanswered(reconnect->parts.requests);
}
/* Tells of a change, of any connection; the texts are copied, and "" if there are none. Without memory the
 * program isn't told: NULL. */
struct pending_change *reconnect_tell(struct reconnect *reconnect, enum xenmsg_change_kind kind, int error,
				      const char *endpoint, int watch, const char *reason);
/* Tells that the domain has another number, unless the program is still to be told so. */
void reconnect_renumbered(struct reconnect *reconnect);
/* Tells that a topic has so many listeners, likewise, instead of what the program hasn't been told yet. */
void reconnect_listeners(struct reconnect *reconnect, const char *endpoint, uint64_t count);
/* Lets go of the daemon, because of `error`; the outbox and the dials have ended what was under way. The
 * transport goes without one from now on. `reason`: its last words. */
void reconnect_lose(struct reconnect *reconnect, int error, const char *reason);
/* Dials, or goes on with that, as far as it goes without waiting. */
void reconnect_further(struct reconnect *reconnect, bool waits);
/* The daemon hasn't granted what was asked for by this request of the library's own, about this endpoint
 * (NULL: none is bound by it): the program will be told, and the caller undoes it. */
void reconnect_refused(struct reconnect *reconnect, const struct request *request, const char *endpoint);
/* Looks whether all was answered, and calls the program back for up to `budget` changes. Returns for how
 * many. */
int reconnect_run(struct reconnect *reconnect, bool waits, int budget, const bool *stop);

#endif
