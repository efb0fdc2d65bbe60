/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_RELAY_H
#define XENMSG_DAEMON_RELAY_H

/*
 * Channels to other hosts (relay_hosts.c), and those between two domains of which neither may map, so that
 * they have no link: they go through the daemon of domain 0, which has a link with both (doc/protocol.md,
 * 5.8).
 *
 *   program ─ its daemon ══ link ══ domain 0's daemon ══ link ══ the other's daemon ─ program
 *             relay_lead()          relay_open(): forwards        relay_open(): takes
 *
 * To each daemon it is a channel like any other, in at one hop and out at another, so credit, cancelling and
 * what is certain about a message hold end to end. What makes it a relayed one is the OPEN: it has an
 * address, not an endpoint, and the identity of the true sender, which a guest believes from domain 0 alone.
 * Such an OPEN is only sent to a daemon whose HELLO says that it takes part. Until that HELLO is there the
 * channel waits in a waiting room, of which there is one for each daemon that is to take channels.
 *
 * In domain 0 the account of the domain that opens a channel pays for it, and in the domain that it leads to,
 * likewise the account of the true sender's domain, not domain 0's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/peer_id.h"
#include "wire/frame.h"

struct access;
struct account;
struct address;
struct channel;
struct registry;
struct hop;
struct image;
struct image_hops;
struct hosts;
struct links;
struct switchboard;
struct self;
struct relay;

/* The modules that it calls. They outlive it, but for `links`, which is set later. */
struct relay_collaborators {
	const struct self *self;
	struct switchboard *board;
	struct access *access;	   /* decides, in domain 0, who may speak with whom */
	struct registry *registry; /* finds, in domain 0, the domain that another host names */
	struct hosts *hosts;
};

/* Called for a channel that somebody opens to an endpoint here; its identity is the true sender's. */
typedef void (*relay_open_fn)(void *userdata, struct channel *channel, struct frame_text endpoint);

/* `enabled`: takes part, as our HELLOs must say; otherwise everything is refused. -ENOMEM. */
int relay_new(struct relay **relay, const struct relay_collaborators *collaborators, bool enabled,
	      relay_open_fn open, void *userdata);
/* Sets the links. They call back, so they are made later than this. */
void relay_set_links(struct relay *relay, struct links *links);
/* Ends what waits. Before links_free(). */
void relay_free(struct relay *relay);

/* Leads a channel that was opened here to an endpoint of a domain with which there is no link. 0, or a
 * negative errno: -EHOSTUNREACH domain 0 can't relay, and the link's last error says why; others as of
 * channel_accept(). */
int relay_lead(struct relay *relay, struct channel *channel, uint32_t domid, const char *endpoint);
/* As relay_lead(), but what programs are told of the way there stays as it is. */
int relay_try(struct relay *relay, struct channel *channel, uint32_t domid, const char *endpoint);
/* Whether it is a domain to which only domain 0 knows the way, which was saved, perhaps: there relay_lead()
 * leads. */
bool relay_zero_knows(const struct relay *relay, struct peer_id peer);
/* Leads a channel that was opened here to an address on another host. 0, or a negative errno: -EHOSTDOWN its
 * daemon isn't there, -EHOSTUNREACH it can't be reached from this host, -EACCES; others as of
 * channel_accept(). */
int relay_lead_out(struct relay *relay, struct channel *channel, const struct address *address);
/* The daemon of the host with this number has gone, though its session may be resumed: ends the channels to
 * daemons there. Returns how many channels were looked at. */
unsigned relay_host_gone(struct relay *relay, uint32_t number);
/* Does the same as relay_lead() for all channels that wait at `hop`, which is the link's with this peer, a
 * domain. */
void relay_lead_waiting(struct relay *relay, struct peer_id peer, struct hop *hop);

/* Whether the OPEN is a relayed one. */
bool relay_has_opened(const struct frame_open *open);
/* Takes a channel that this peer's daemon has opened by a relayed OPEN. If it is a domain, its identity has
 * the peer's domid. */
void relay_open(struct relay *relay, struct peer_id peer, struct channel *channel,
		const struct frame_open *open);

/* The domain `from` has the number `to` now. */
void relay_renumber(struct relay *relay, uint32_t from, uint32_t to);

/* The domain to which domain 0 forwards the channel was restored and has the number `to` now. 0; -EACCES: by
 * that number it is forbidden; -ENOMEM. */
int relay_follow(struct relay *relay, struct channel *channel, uint32_t to);
/* Likewise the one from which it does, as its identity says already: tells who comes next. Also -ECONNRESET:
 * that one was told the old number, and takes no other. */
int relay_follow_source(struct relay *relay, struct channel *channel);
/* Domain 0, or another host's, says so of what it passes on: notes it, and the name of another host's domain.
 * 0; -EPROTO: it can't be; -ENOBUFS: what is held by both numbers is more than one domain may have;
 * -ENOMEM. */
int relay_take_source(struct relay *relay, struct channel *channel, const struct frame_sender *now);

/* The daemon hands over: what waits for a link is kept for the next one, in a section for each waiting room,
 * and that wants the links again, or this one does if there is no next one. */
extern const struct part relay_part;

/* Whether the rules of domain 0 let go on what it passes on: channels between domains, or to or from other
 * hosts. 0; -EACCES, -ENODATA. */
int relay_still_allowed(struct relay *relay, const struct channel *channel);
/* Ends one of these, which a link has accepted or will, if changed rules forbid it now. */
void relay_recheck(struct relay *relay, struct channel *channel);

#endif
