/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_PEER_ID_H
#define XENMSG_BASE_PEER_ID_H

/*
 * The other end of a link, which pays for what comes over it: a domain of this host, or another
 * host's domain 0. A session whose domain's number is somebody else's by now, since this domain was restored,
 * is with nobody's number until its other end has proven itself (daemon/link/link_claim.c). The order of
 * kinds is that of listings.
 */

#include <stdbool.h>
#include <stdint.h>

enum peer_kind {
	PEER_DOMAIN,	   /* by its domid */
	PEER_HOST,	   /* by its number in daemon/hosts/hosts.h */
	PEER_UNATTRIBUTED, /* by a number of its own */
};

/* Without padding, so it can be a key. */
struct peer_id {
	uint32_t kind; /* enum peer_kind */
	uint32_t number;
};

static inline struct peer_id peer_domain(uint32_t domid)
{
	return (struct peer_id){PEER_DOMAIN, domid};
}

static inline struct peer_id peer_host(uint32_t number)
{
	return (struct peer_id){PEER_HOST, number};
}

static inline bool peer_is(struct peer_id peer, struct peer_id other)
{
	return peer.kind == other.kind && peer.number == other.number;
}

static inline bool peer_is_domain(struct peer_id peer, uint32_t domid)
{
	return peer_is(peer, peer_domain(domid));
}

static inline bool peer_is_host(struct peer_id peer)
{
	return peer.kind == PEER_HOST;
}

/* Returns less than 0, 0 or more, as the first comes before the second in listings or behind it. */
static inline int peer_order(struct peer_id a, struct peer_id b)
{
	if (a.kind != b.kind)
		return a.kind < b.kind ? -1 : 1;
	return (a.number > b.number) - (a.number < b.number);
}

#endif
