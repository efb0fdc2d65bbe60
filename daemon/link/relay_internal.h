/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RELAY_INTERNAL_H
#define XENMSG_DAEMON_RELAY_INTERNAL_H

/* What channels between domains (relay.c), and channels to other hosts (relay_hosts.c) share. */

#include "base/self.h"
#include "base/turns.h"
#include "daemon/link/relay.h"
#include "daemon/switch/hop.h"
#include "wire/ut.h"

/* Where channels wait for the HELLO of the daemon that is to take them. */
struct waiting_room {
	struct relay *relay;
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

struct relay {
	struct relay_collaborators with;
	struct links *links;
	bool enabled;
	relay_open_fn open;
	void *userdata;
	struct waiting_room *waiting_rooms, *waiting_rooms_by_id;
	uint32_t last_waiting_room;
};

static inline bool relay_in_domain_0(const struct relay *relay)
{
	return relay->with.self->domid == 0;
}

/* --- relay.c */
/* Sends the channel to a daemon that takes it on its way to the address: of a domain, or of another host. */
int relay_send(struct relay *relay, struct channel *channel, struct peer_id peer, const char *address);
/* Has this one's account pay for the channel, not that of domain 0, by way of which it came. -ENOMEM. */
int relay_charge(struct relay *relay, struct channel *channel, struct peer_id peer);
/* Returns the address of which rules speak. NULL: it is that of a daemon, which says itself who may ask it
 * what, so that it takes only a rule by which the domain can be reached at all. */
const char *relay_ruled(const char *address);
/* Asks, in domain 0, policy about a channel that begins: whether it may go to this address in the domain. 0,
 * -EACCES, or another negative errno. */
int relay_allow(struct relay *relay, const struct channel *channel, uint32_t domid, const char *address);
/* Gets the domain that a channel within this host leads to. */
uint32_t relay_destination(const struct channel *channel);

/* --- relay_hosts.c */
/* Whether an OPEN of a domain is from or to another host. */
bool relay_is_remote(const struct frame_open *open);
/* Notes which number and name (invalid: unknown) the sender's domain on another host has, as we are told. */
void relay_note_name(struct channel *channel, uint32_t domid, struct frame_text told);
/* Takes such a channel. */
void relay_open_remote(struct relay *relay, struct peer_id peer, struct channel *channel,
		       const struct frame_open *open);
#endif
