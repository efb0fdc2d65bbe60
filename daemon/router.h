/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ROUTER_H
#define XENMSG_DAEMON_ROUTER_H

/*
 * Endpoints of this domain, and where an address leads: to a program here, or to the link with another
 * domain. A name has one owner at a time, a program's hop; it goes with it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uthash.h>

#include "daemon/base/quota.h"
#include "wire/address.h"
#include "wire/frame.h"

struct channel;
struct hop;
struct router;
struct self;

struct endpoint {
	char name[ENDPOINT_NAME_MAX + 1];
	uint32_t kinds; /* as in BIND */
	struct hop *hop;
	uid_t uid;
	pid_t pid;
	struct charge charge; /* of who has bound it */
	UT_hash_handle hh;
};

struct router_callbacks {
	/* The hop of the link with another domain, which is made if there is none yet, at the cost of
	 * `account`; NULL: -errno in *error. */
	struct hop *(*link)(void *userdata, uint32_t domid, struct account *account, int *error);
	/* A name that isn't a number stands for which domid? Negative errno: unknown. */
	int (*resolve)(void *userdata, const char *domain, uint32_t *domid);
	/* May this sender reach the endpoint (whether it exists or not)? Else -EACCES, or -ENODATA: that
	 * isn't decided yet. */
	int (*may_reach)(void *userdata, const struct frame_identity *from, const char *endpoint);
	/* The same for what was allowed before; nothing is counted. */
	int (*still_allowed)(void *userdata, const struct frame_identity *from, const char *endpoint);
	/* A stream to this endpoint comes in: the program behind it has to fetch it. Below zero: refuse
	 * it. */
	int (*stream)(void *userdata, const struct endpoint *endpoint, struct channel *channel);
	/* The set of endpoints has changed by this one. */
	void (*changed)(void *userdata, const struct endpoint *endpoint, bool bound);
};

int router_new(struct router **router, const struct self *self, const struct router_callbacks *callbacks,
	       void *userdata);
void router_free(struct router *router);

/* -EEXIST: somebody (also this hop) has it; -EINVAL: not a name, or no kinds; -ENOBUFS: the user has too
 * many. */
int router_bind(struct router *router, struct hop *hop, struct frame_text name, uint32_t kinds, uid_t uid,
		pid_t pid);
/* -ENOENT: this hop hasn't bound it. Its channels end with ENOENT, as far as the program hasn't reset them
 * itself. */
int router_unbind(struct router *router, struct hop *hop, struct frame_text name);
/* What this hop has accepted for the endpoint ends with ENOENT. */
void router_end_channels(struct hop *hop, struct frame_text name);
void router_unbind_all(struct router *router, struct hop *hop);

/* A program opens `channel` to an address; refuses it with the error if that leads nowhere. Below zero:
 * violation. */
int router_open_address(struct router *router, struct channel *channel, struct frame_text address);
/* A peer's daemon opens it to an endpoint here. */
int router_open_endpoint(struct router *router, struct channel *channel, struct frame_text name);
/* -EINVAL, or as router_callbacks.resolve. */
int router_resolve(struct router *router, const char *domain, uint32_t *domid);

/* The rules have changed: ends what this hop has accepted and they forbid now. For the hop of every program
 * and every stream: what is open to an endpoint may outlive its name. What a link has accepted is up to the
 * daemon there. */
void router_recheck_hop(struct router *router, struct hop *hop);

unsigned router_endpoints(const struct router *router);
/* Sorted by name. */
/* NULL: nobody has bound it. */
const struct endpoint *router_find(const struct router *router, const char *name);
/* By name, the first one behind `after` ("": of all), which may have gone; NULL: there is no more. */
const struct endpoint *router_next(const struct router *router, const char *after);
void router_each(struct router *router, void (*each)(void *userdata, const struct endpoint *endpoint),
		 void *userdata);

#endif
