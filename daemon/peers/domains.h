/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DOMAINS_H
#define XENMSG_DAEMON_DOMAINS_H

/*
 * Which domains there are, as domain 0 sees it: it follows XenStore's two special watches, and lists
 * /local/domain each time that one fires. In a guest, which may not list them, there is none of this.
 *
 *   a watch fires, domains_list() ──▶ listing ──the list is there──▶ who is in it is told, and who no longer is
 *                 └──while it is listing──▶ listed once more after that
 *
 * Owns the watches and the set of domids. Those who follow it (peers and directory) own their entry in its
 * list, and leave before it is freed. A domid that is used again between two listings isn't noticed here; its
 * nodes' watches tell.
 */

#include <stdbool.h>
#include <stdint.h>

struct domains;
struct store;

struct domains_follower {
	/* It is in the list, each time that there is one: so what failed for lack of memory is tried again. */
	void (*there)(void *userdata, uint32_t domid);
	/* It was, and is no more. */
	void (*gone)(void *userdata, uint32_t domid);
	/* The end of a list. May be NULL. */
	void (*listed)(void *userdata);
	void *userdata;
	struct domains_follower *prev, *next;
};

/* Sets the watches, which then fire. -ENOMEM. */
int domains_new(struct domains **domains, struct store *store);
void domains_free(struct domains *domains);

/* Is told at once of those that are there. The callbacks are the follower's own, set before. */
void domains_follow(struct domains *domains, struct domains_follower *follower);
/* Nothing is told any more; also where it doesn't follow. */
void domains_leave(struct domains *domains, struct domains_follower *follower);
/* Something says that one of them has gone. */
void domains_list(struct domains *domains);
/* Have they been, with nothing after that which has them listed again? */
bool domains_are_listed(const struct domains *domains);

#endif
