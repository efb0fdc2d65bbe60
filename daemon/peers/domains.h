/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DOMAINS_H
#define XENMSG_DAEMON_DOMAINS_H

/*
 * Follows which domains exist, in domain 0, as a source of registry.h: sets XenStore's two special watches,
 * and lists /local/domain each time that one fires. A guest may not list domains and doesn't use this.
 *
 *   a watch fires, domains_list() ──▶ listing ──the list is there──▶ sinks learn who is in it, who left
 *                 └──while it is listing──▶ listed once more after that;
 *                    where there is an error, a second later
 *
 * It doesn't notice a domid that is used again between two listings; the watches on its nodes do.
 */

#include <stdbool.h>

struct domains;
struct event_base;
struct registry;
struct store;

/* Sets the watches, which then fire. Returns 0 or -ENOMEM. */
int domains_new(struct domains **domains, struct event_base *base, struct store *store,
		struct registry *registry);
void domains_free(struct domains *domains);

/* Lists the domains again: something says that one of them has gone. */
void domains_list(struct domains *domains);
/* Returns whether they were listed, and no new listing is due. */
bool domains_are_listed(const struct domains *domains);

#endif
