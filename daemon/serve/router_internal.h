/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ROUTER_INTERNAL_H
#define XENMSG_DAEMON_ROUTER_INTERNAL_H

/* What router.c (endpoints, and where an address leads) and router_channels.c (what becomes of channels that
 * were led there: when policy changes, a domain is restored, or a program unbinds or goes) share. */

#include "daemon/registry/past.h"
#include "base/turns.h"
#include "daemon/serve/router.h"

#define ROUTER_PAST_SIZE (ENDPOINT_NAME_MAX + 12)

struct router {
	struct router_collaborators with;
	struct questions *questions; /* to the daemon itself */
	struct endpoint *endpoints;  /* in the order of their names */
	struct past past;	     /* tallies of those that aren't bound, by user and name */
	struct task advertise;	     /* due when some were bound or unbound */
	uint64_t turn;		     /* counts what is given to programs that share endpoints */
};

/* --- router.c */
/* Returns the endpoint with this name. NULL: there is none. */
struct endpoint *router_get(struct router *router, const char *name, size_t size);
/* Writes by what name the endpoint's tally is remembered. */
char *router_past_name(const struct endpoint *endpoint, char name[ROUTER_PAST_SIZE]);
/* Returns the program among those that have bound the endpoint. NULL: it hasn't. */
struct binder *router_binder(const struct endpoint *endpoint, const struct hop *program);

/* --- router_channels.c */
/* Returns the next channel that this hop has accepted for an endpoint. NULL: there is none. */
struct channel *router_next_accepted(const struct hop *hop, uint32_t *number);
/* Returns whose turn it is to be given a channel: of those that share the endpoint the one with the least to
 * do, but not on this hop (NULL: on whichever). NULL: nobody's. */
struct binder *router_next_binder(const struct endpoint *endpoint, const struct hop *but);
/* Counts what one of them was given. */
void router_note_given(struct router *router, const struct channel *channel);

#endif
