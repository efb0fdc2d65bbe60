/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_VIA_H
#define XENMSG_DAEMON_VIA_H

/*
 * Channels to other hosts (via_hosts.c), and those between two domains of which neither may map, so that they
 * have no link: they go through the daemon of domain 0, which has a link with both (doc/protocol.md, 5.8).
 *
 *   program ─ its daemon ══ link ══ domain 0's daemon ══ link ══ the other's daemon ─ program
 *             via_lead()            via_open(): forwards          via_open(): takes
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
#include "daemon/link/pings.h"
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
struct relay;
struct self;
struct via;

/* The modules that it calls. They outlive it, but for `links`, which is set later. */
struct via_collaborators {
	const struct self *self;
	struct relay *relay;
	struct access *access;	   /* decides, in domain 0, who may speak with whom */
	struct registry *registry; /* finds, in domain 0, the domain that another host names */
	struct hosts *hosts;
};

/* Called for a channel that somebody opens to an endpoint here; its identity is the true sender's. */
typedef void (*via_open_fn)(void *userdata, struct channel *channel, struct frame_text endpoint);

/* `enabled`: takes part, as our HELLOs must say; otherwise everything is refused. -ENOMEM. */
int via_new(struct via **via, const struct via_collaborators *collaborators, bool enabled, via_open_fn open,
	    void *userdata);
/* Sets the links. They call back, so they are made later than this. */
void via_set_links(struct via *via, struct links *links);
/* Ends what waits. Before links_free(). */
void via_free(struct via *via);

/* Leads a channel that was opened here to an endpoint of a domain with which there is no link. 0, or a
 * negative errno: -EHOSTUNREACH domain 0 can't relay, and the link's last error says why; others as of
 * channel_accept(). */
int via_lead(struct via *via, struct channel *channel, uint32_t domid, const char *endpoint);
/* Whether it is a domain to which only domain 0 knows the way, which was saved, perhaps: there via_lead() and
 * via_ping() lead. */
bool via_zero_knows(const struct via *via, struct peer_id peer);
/* Leads a channel that was opened here to an address on another host. 0, or a negative errno: -EHOSTDOWN its
 * daemon isn't there, -EHOSTUNREACH it can't be reached from this host, -EACCES; others as of
 * channel_accept(). */
int via_lead_out(struct via *via, struct channel *channel, const struct address *address);
/* Does the same as via_lead() for all channels that wait at `hop`, which is the link's with this peer, a
 * domain. */
void via_lead_waiting(struct via *via, struct peer_id peer, struct hop *hop);

/* Pings the daemon of a domain with which there is no link, as links_ping() does; links_ping_cancel() forgets
 * it. */
int via_ping(struct via *via, uint32_t domid, struct account *account, ping_fn done, void *userdata,
	     uint32_t request);

/* Pings, for a program here, the daemon of a domain on another host, likewise. */
int via_ping_out(struct via *via, const struct frame_identity *from, const struct address *address,
		 struct account *account, ping_fn done, void *userdata, uint32_t request);

/* Whether the OPEN is a relayed one. */
bool via_is_relayed(const struct frame_open *open);
/* Takes a channel that this peer's daemon has opened by a relayed OPEN. If it is a domain, its identity has
 * the peer's domid. */
void via_open(struct via *via, struct peer_id peer, struct channel *channel, const struct frame_open *open);

/* Relays, in domain 0, a ping that `source` asks for. */
void via_take_ping(struct via *via, struct peer_id source, const struct frame_ping_relayed *ping);
/* The domain `from` has the number `to` now: answers what it has asked there. */
void via_renumber(struct via *via, uint32_t from, uint32_t to);

/* The domain to which domain 0 forwards the channel was restored and has the number `to` now. 0; -EACCES: by
 * that number it is forbidden; -ENOMEM. */
int via_follow(struct via *via, struct channel *channel, uint32_t to);
/* Likewise the one from which it does, as its identity says already: tells who comes next. Also -ECONNRESET:
 * that one was told the old number, and takes no other. */
int via_follow_source(struct via *via, struct channel *channel);
/* Domain 0, or another host's, says so of what it passes on: notes it. 0; -EPROTO: it can't be; -ENOBUFS:
 * what is held by both numbers is more than one domain may have; -ENOMEM. */
int via_take_source(struct via *via, struct channel *channel, uint32_t to);

/* The daemon hands over: what waits for a link is kept for the next one. */
void via_hand_over(struct via *via);
/* Numbers where something waits from `first` on, among the hops of the image. */
void via_number_for_image(struct via *via, uint32_t first);
/* Writes a section for each of them, and what waits there, or reads one of them. */
void via_write_image(struct via *via, struct image *image);
void via_write_channels(struct via *via, struct image *image);
void via_read_waiting_room(struct via *via, struct image *image, struct image_hops *hops);
/* Wants the links again: with what was read, or since there is no next daemon. */
void via_go_on(struct via *via);
/* Ends what waits. */
void via_drop_image(struct via *via);

/* Whether the rules of domain 0 let go on what it passes on: channels between domains, or to or from other
 * hosts. 0; -EACCES, -ENODATA. */
int via_still_allowed(struct via *via, const struct channel *channel);
/* Ends those that changed rules forbid now. */
void via_recheck(struct via *via);

#endif
