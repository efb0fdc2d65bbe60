/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ROUTER_H
#define XENMSG_DAEMON_ROUTER_H

/*
 * Endpoints of this domain, and where an address leads: to a program here, or to the link with another
 * domain. A name has one owner at a time, a program; it goes with it. Programs that watch are told of each that
 * is bound or unbound, and other domains once in a turn of the loop of all that there are.
 */

#include <stdbool.h>
#include <stdint.h>

#include <uthash.h>

#include "daemon/base/quota.h"
#include "wire/address.h"
#include "wire/frame.h"

struct access;
struct channel;
struct directory;
struct hop;
struct links;
struct peers;
struct router;
struct self;
struct session;
struct streams;
struct turns;
struct watches;

struct endpoint {
	char name[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds; /* as in BIND */
	struct session *session;
	struct charge charge; /* of who has bound it */
	UT_hash_handle hh;
};

/* Whom it asks and tells. They outlive it. */
struct router_collaborators {
	const struct self *self;
	struct turns *turns;
	struct access *access;	     /* who may reach what */
	struct directory *directory; /* which domain a name means */
	struct peers *peers;	     /* to them it is advertised what is bound here */
	struct links *links;	     /* to other domains */
	struct streams *streams;     /* that programs here are to fetch */
	struct watches *watches;     /* they are told what is bound and unbound */
};

int router_new(struct router **router, const struct router_collaborators *collaborators);
void router_free(struct router *router);

/* -EEXIST: somebody (also this program) has it; -EINVAL: not a name, or no kinds; -ENOBUFS: the user has too
 * many. */
int router_bind(struct router *router, struct session *session, struct frame_text name, uint32_t kinds);
/* -ENOENT: this program hasn't bound it. Its channels end with ENOENT, as far as the program hasn't reset them
 * itself, and so do streams that it hasn't fetched. Those that it has are its own, as connections of a socket
 * that listened. */
int router_unbind(struct router *router, struct session *session, struct frame_text name);
void router_unbind_all(struct router *router, struct session *session);
/* Tells the peers what is bound here: when policy says something else now about who may see it, or they begin
 * anew. What is bound and unbound is told by itself. */
void router_advertise(struct router *router);

/* A program, or a stream of one, opens `channel` to an address; refuses it with the error if that leads
 * nowhere. */
void router_open_address(struct router *router, struct channel *channel, struct frame_text address);
/* A peer's daemon opens it to an endpoint here. */
void router_open_endpoint(struct router *router, struct channel *channel, struct frame_text name);
/* A domid, a name, a UUID or `self`: which domain is it? As directory_resolve(). */
int router_resolve(struct router *router, const char *domain, uint32_t *domid);

/* The rules have changed: ends what this hop has accepted and they forbid now. For the hop of every program
 * and every stream: what is open to an endpoint may outlive its name. What a link has accepted is up to the
 * daemon there. */
void router_recheck_hop(struct router *router, struct hop *hop);

unsigned router_endpoints(const struct router *router);
/* NULL: nobody has bound it. */
const struct endpoint *router_find(const struct router *router, const char *name);
/* By name, the first one behind `after` ("": of all), which may have gone; NULL: there is no more. */
const struct endpoint *router_next(const struct router *router, const char *after);

#endif
