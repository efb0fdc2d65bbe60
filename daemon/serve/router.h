/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ROUTER_H
#define XENMSG_DAEMON_ROUTER_H

/*
 * Endpoints of this domain, and where an address leads: to a program here, to the link with another domain,
 * or, where there can be none, and to other hosts, through domain 0 (via.h). A name has one owner at a time, a program, and ends
 * with it, unless it is started on demand (daemon/activation/activation.h): then it stays, and what comes
 * while no program has bound it waits. Programs that watch are told of each name that comes or goes; other
 * domains are sent all names at most once in a turn of the loop.
 */

#include <stdint.h>

#include "base/quota.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/hash.h"

struct access;
struct activation;
struct asks;
struct channel;
struct directory;
struct hop;
struct hosts;
struct links;
struct peers;
struct router;
struct self;
struct session;
struct streams;
struct turns;
struct via;
struct watches;

struct endpoint {
	char name[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds;		       /* as in BIND */
	struct session *session;       /* NULL: no program has bound it, and one can be started */
	struct activation *activation; /* NULL: nothing is started for it */
	uint64_t opened, refused;      /* channels to it, since it was bound */
	struct channel_tally *tally;   /* what these have carried */
	struct charge charge;	       /* of the user that has bound it */
	UT_hash_handle hh;
};

/* The modules that the router calls. They outlive it. */
struct router_collaborators {
	const struct self *self;
	struct turns *turns;
	struct access *access;	     /* decides who may reach what */
	struct directory *directory; /* finds the domain that a name means */
	struct peers *peers;	     /* advertises what is bound here */
	struct hosts *hosts;	     /* know the name of this one */
	struct links *links;	     /* lead to other domains, */
	struct via *via;	     /* and where there can't be a link, this does */
	struct asks *asks;	     /* tell other hosts what is bound here */
	struct streams *streams;     /* that programs here should fetch */
	struct watches *watches;     /* are told what is bound and unbound */
};

int router_new(struct router **router, const struct router_collaborators *collaborators);
void router_free(struct router *router);

/* Binds a name. Returns 0, -EEXIST: a program (perhaps this one) has it, -EINVAL: not a name, or no kinds,
 * -ENOBUFS: the user has too many, -ENOMEM. */
int router_bind(struct router *router, struct session *session, struct frame_text name, uint32_t kinds);
/* Unbinds a name. Its channels go on until router_end_channels(). Returns 0, or -ENOENT: this program hasn't bound it. */
int router_unbind(struct router *router, struct session *session, struct frame_text name);
/* Ends a piece of the channels to the name that the program has unbound, and that it hasn't reset itself, with ENOENT, and
 * of the streams that it hasn't fetched. Streams that it has fetched stay its own, like connections of a socket that
 * listened. *at, which begins as 0, is the first channel that wasn't looked at. Returns whether there may be more. */
bool router_end_channels(struct router *router, struct session *session, struct frame_text name,
			 uint32_t *at);
void router_unbind_all(struct router *router, struct session *session);
/* Adds an endpoint that is started on demand; a program may have bound it already. 0 or -ENOMEM. */
int router_add_activation(struct router *router, struct activation *activation);
/* The endpoint isn't started on demand any more; a program that has bound it keeps it. */
void router_remove_activation(struct router *router, struct activation *activation);
/* Leads a channel that has waited to the program that has bound its endpoint. 0, or the negative errno that
 * it is to end with. */
int router_lead(struct router *router, struct channel *channel, const char *name);
/* Tells the peers what is bound here. Call it when policy has changed who may see it, or the peers start
 * over; router_bind() and router_unbind() tell the peers themselves. */
void router_advertise(struct router *router);

/* Routes a channel that a program, or a stream of one, opens to an address; refuses it with the error if that
 * leads nowhere. */
void router_open_address(struct router *router, struct channel *channel, struct frame_text address);
/* Routes a channel that a peer's daemon opens to an endpoint here, likewise. */
void router_open_endpoint(struct router *router, struct channel *channel, struct frame_text name);
/* Finds the domain that a domid, a name, a UUID or `self` stands for. Errors as of directory_resolve(). */
int router_resolve(struct router *router, const char *domain, uint32_t *domid);
/* Likewise where what is sent there goes, as links_resolve() has it. */
int router_resolve_way(struct router *router, const char *domain, uint32_t *domid);

/* Ends the channels that this hop has accepted and that changed rules forbid now. Call it for the hop of
 * every program and every stream: a channel to an endpoint may outlive its name. The peer's daemon checks
 * what a link has accepted. */
void router_recheck_hop(struct router *router, struct hop *hop);
/* This domain was restored, and had the domid `was` before: what this hop, one of the same, has opened is that of the new
 * one for policy. Names are unknown until they are told again: what it has accepted goes on until they are. */
void router_restart_hop(struct router *router, struct hop *hop, uint32_t was);
/* The session of a link goes on with the domain `to`, which was `from` before it was restored, or is the same. What it has
 * opened is that domain's now, by which policy decides again, at once or when its name is known; of what is relayed the far
 * end is told. Does a piece of that, from the channel with the number *at on, 0 at first.
 * True: call it again, in another turn. */
bool router_resumed(struct router *router, struct hop *hop, uint32_t from, uint32_t to, uint32_t *at);

/* The domain from which domain 0, or another host, passes the channel on was restored, and has the number `to` now: policy
 * decides likewise. -EPROTO: that can't be. */
int router_source_moved(struct router *router, struct channel *channel, uint32_t to);

unsigned router_endpoints(const struct router *router);
/* Returns the endpoint with this name. NULL: there is none. */
const struct endpoint *router_find(const struct router *router, const char *name);
/* Returns the first endpoint, by name, behind `after` ("": the first of all), which may have gone. NULL:
 * there is no more. */
const struct endpoint *router_next(const struct router *router, const char *after);

#endif
