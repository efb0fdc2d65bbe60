/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ROUTER_H
#define XENMSG_DAEMON_ROUTER_H

/*
 * Endpoints of this domain, and where an address leads: to a program here, to the link with another domain,
 * or, where there can be none, and to other hosts, through domain 0 (relay.h). A name has one owner at a
 * time, a program, and ends with it, unless it is started on demand (daemon/activation/activation.h): then it
 * stays, and what comes while no program has bound it waits. Or it has several, programs of one user that all
 * share it: each channel is led to the one with the least to do, and what one of them leaves goes to another
 * (doc/decisions/0039). Programs that watch are told of each name that comes or goes; other domains are sent
 * all names at most once in a turn of the loop.
 */

#include <stdint.h>

#include "base/quota.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/ut.h"

struct access;
struct activation;
struct channel;
struct channel_end;
struct questions;
struct registry;
struct hop;
struct hosts;
struct image;
struct image_hops;
struct links;
struct peers;
struct router;
struct self;
struct worker;
struct streams;
struct topic;
struct topics;
struct turns;
struct relay;

/* A program that has bound an endpoint. */
struct binder {
	struct hop *hop;
	struct worker *worker; /* what it has to do there; NULL: it doesn't share */
	struct charge charge;  /* of its user */
	struct binder *prev, *next;
};

struct endpoint {
	char name[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds;		/* as in BIND */
	struct binder *binders; /* utlist */
	struct hop *hop;     /* of the first of them; NULL: no program has bound it, and one can be started */
	struct topic *topic; /* NULL: it is none */
	struct activation *activation; /* NULL: nothing is started for it */
	uint32_t uid;		       /* of who has bound it last */
	struct channel_tally *tally;   /* of the channels to it */
	UT_hash_handle hh;
};

/* The modules that the router calls. They outlive it. */
struct router_collaborators {
	const struct self *self;
	struct turns *turns;
	struct access *access;	   /* decides who may reach what */
	struct registry *registry; /* finds the domain that a name means, and is told what is bound here */
	struct peers *peers;	   /* advertises what is bound here */
	struct hosts *hosts;	   /* know the name of this one */
	struct links *links;	   /* lead to other domains, */
	struct relay *relay;	   /* and where there can't be a link, this does */
	struct streams *streams;   /* that programs here should fetch */
	struct topics *topics;	   /* that programs here publish */
};

int router_new(struct router **router, const struct router_collaborators *collaborators);
void router_free(struct router *router);
/* Sets who answers what is asked of the daemon itself. */
void router_set_questions(struct router *router, struct questions *questions);

/* Binds a name. What the daemon before this one has bound (`is_bound`) is charged beyond what its user may
 * have, and `topic` is its topic; else NULL. Returns 0, -EEXIST: a program (perhaps this one) has it and they
 * don't both share it, or not for the same kinds or user, -EINVAL: not a name, or no kinds, -ENOBUFS: the
 * user has too many, -ENOMEM. */
int router_bind(struct router *router, struct hop *program, struct frame_text name, uint32_t kinds,
		struct topic *topic, bool is_bound);
/* Unbinds a name. Its channels go on: until router_end_channels(), or, of a program that drains them, as long
 * as it likes, but what it hasn't taken of them is refused. Returns 0, or -ENOENT: this program hasn't bound
 * it. */
int router_unbind(struct router *router, struct hop *program, struct frame_text name, bool drains);
/* Ends a piece of the channels to the name that the program has unbound, and that it hasn't reset itself,
 * with ENOENT, and of the streams that it hasn't fetched. Streams that it has fetched stay its own, like
 * connections of a socket that listened. *at, which begins as 0, is the first channel that wasn't looked at.
 * Returns whether there may be more. */
bool router_end_channels(struct router *router, struct hop *program, struct frame_text name, uint32_t *at);
void router_unbind_all(struct router *router, struct hop *program);
/* Does a piece of what is left to do for a program that has gone, while its hop still has its rings: what it
 * has unbound and not taken goes to programs that share the endpoints. *at is as above. Returns whether there
 * may be more. */
bool router_leave(struct router *router, struct hop *program, uint32_t *at);
/* Leads a channel that its program leaves to another one that shares the endpoint: board.pass_on, with the
 * router. */
bool router_pass_on(void *userdata, struct channel *channel);
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
/* Finds the domain that a domid, a name, a UUID or `self` stands for. Errors as of registry_resolve(). */
int router_resolve(struct router *router, const char *domain, uint32_t *domid);
/* Likewise where what is sent there goes, as links_resolve() has it. */
int router_resolve_way(struct router *router, const char *domain, struct peer_id *peer);

/* Tells who has accepted the channel here how its sender's domain is called now, and ends it if changed
 * `rules` forbid it. It may have outlived the name of its endpoint. The peer's daemon checks what a link has
 * accepted. */
void router_recheck(struct router *router, struct channel *channel, bool rules);
/* This domain was restored, and had the domid `was` before: what this hop, one of the same, has opened is
 * that of the new one for policy. Names are unknown until they are told again: what it has accepted goes on
 * until they are. */
void router_restart_hop(struct router *router, struct hop *hop, uint32_t was);
/* The session of a link goes on with the domain `to`, which was `from` before it was restored, or is the
 * same. What it has opened is that domain's now, by which policy decides again, at once or when its name is
 * known; of what is relayed the far end is told. Does a piece of that, from the channel with the number *at
 * on, 0 at first. True: call it again, in another turn. */
bool router_resumed(struct router *router, struct hop *hop, struct peer_id from, struct peer_id to,
		    uint32_t *at);

/* The domain whose channel domain 0, or another host, passes on to this end has this number now, since it was
 * restored, or this name: policy decides likewise. At an end that has accepted it is the one that answers,
 * and whoever names it is told. -EPROTO: that can't be. */
int router_source_moved(struct router *router, struct channel_end *end, const struct frame_sender *now);
/* Tells another host how the domain here whose channel goes there is called now. */
void router_tell_name(struct router *router, struct channel *channel);

/* A section for each program that has bound an endpoint, which the next daemon binds again: what policy has
 * allowed once stays. */
extern const struct part router_part;
/* What the router remembers of endpoints that nobody has bound now. */
void router_past_image(struct image *image, struct router *router);
/* Lets the channels that were read belong to their endpoints. */
void router_adopt_channels(struct router *router, const struct image_hops *hops);

unsigned router_endpoints(const struct router *router);
/* Returns the endpoint with this name. NULL: there is none. */
const struct endpoint *router_find(const struct router *router, const char *name);
/* Returns the first endpoint, by name, behind `after` ("": the first of all), which may have gone. NULL:
 * there is no more. */
const struct endpoint *router_next(const struct router *router, const char *after);

#endif
