/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DOMAINS_H
#define XENMSG_DAEMON_DOMAINS_H

/*
 * Follows which domains exist, in domain 0: sets XenStore's two special watches, and lists /local/domain each
 * time that one fires. A guest may not list domains and doesn't use this.
 *
 *   a watch fires, domains_list() ──▶ listing ──the list is there──▶ followers learn who is in it, who left
 *                 └──while it is listing──▶ listed once more after that
 *
 * It owns the watches and the set of domids. Its followers (peers and directory) own their entry in its list,
 * and leave before it is freed. It doesn't notice a domid that is used again between two listings; the
 * watches on its nodes do.
 */

#include <stdbool.h>
#include <stdint.h>

struct domains;
struct store;

struct domains_follower {
	/* The domain is in the list. Called for each list, so that the follower can retry what failed for
	 * lack of memory. */
	void (*there)(void *userdata, uint32_t domid);
	/* The domain was in the last list, and isn't in this one. */
	void (*gone)(void *userdata, uint32_t domid);
	/* The list has ended. May be NULL. */
	void (*listed)(void *userdata);
	void *userdata;
	struct domains_follower *prev, *next;
};

/* Sets the watches, which then fire. Returns 0 or -ENOMEM. */
int domains_new(struct domains **domains, struct store *store);
void domains_free(struct domains *domains);

/* Adds a follower, with its callbacks set, and tells it at once which domains are known. */
void domains_follow(struct domains *domains, struct domains_follower *follower);
/* Removes the follower. Does nothing if it doesn't follow. */
void domains_leave(struct domains *domains, struct domains_follower *follower);
/* Lists the domains again: something says that one of them has gone. */
void domains_list(struct domains *domains);
/* Returns whether they were listed, and no new listing is due. */
bool domains_are_listed(const struct domains *domains);

#endif
