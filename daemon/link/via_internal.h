/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VIA_INTERNAL_H
#define XENMSG_DAEMON_VIA_INTERNAL_H

/* What channels between domains, and pings (via.c), and channels to other hosts (via_hosts.c) share. */

#include "base/self.h"
#include "base/turns.h"
#include "daemon/link/via.h"
#include "daemon/relay/hop.h"
#include "wire/hash.h"

struct relayed_ping;

/* Where channels wait for the HELLO of the daemon that is to take them. */
struct waiting_room {
	struct via *via;
	struct peer_id peer; /* by which it is found: whose daemon it is */
	struct peer_id
		goes_to; /* whose it is now: another waiting room may have been made for it before the two */
			 /* numbers were known to be one domain's, and then `peer` is nobody */
	uint32_t id;	 /* by which the link is awaited */
	struct hop hop;
	bool asked; /* the link is awaited */
	int error;  /* with which all that waits ends: a negative errno, or 0 */
	struct task leading;
	UT_hash_handle hh, by_id;
};

struct via {
	struct via_collaborators with;
	struct links *links;
	bool enabled;
	via_open_fn open;
	void *userdata;
	struct waiting_room *waiting_rooms, *waiting_rooms_by_id;
	uint32_t last_waiting_room;
	struct relayed_ping *pings;
};

static inline bool via_in_domain_0(const struct via *via)
{
	return via->with.self->domid == 0;
}

/* --- via.c */
/* Sends the channel to a daemon that takes it on its way to the address: of a domain, or of another host. */
int via_send(struct via *via, struct channel *channel, struct peer_id peer, const char *address);
/* Has this one's account pay for the channel, not that of domain 0, by way of which it came. -ENOMEM. */
int via_charge(struct via *via, struct channel *channel, struct peer_id peer);
/* Gets the domain that a channel within this host leads to. */
uint32_t via_destination(const struct channel *channel);

/* --- via_hosts.c */
/* Whether an OPEN of a domain is from or to another host. */
bool via_is_remote(const struct frame_open *open);
/* Takes such a channel. */
void via_open_remote(struct via *via, struct peer_id peer, struct channel *channel,
		     const struct frame_open *open);
/* Pings, in domain 0, a domain of another host for the domain `source` of this one, or one of this host for
 * the host `source`. Calls `done`, at once perhaps, or returns a negative errno. */
int via_ping_remote(struct via *via, struct peer_id source, const struct frame_ping_relayed *asked,
		    struct account *account, ping_fn done, void *userdata);

#endif
