/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_NAMES_H
#define XENMSG_DAEMON_NAMES_H

/*
 * Reads names and UUIDs from XenStore, as a source of registry.h: in domain 0 those of all domains, with the
 * tags that the toolstack gives them (peers_parse.h), in a guest its own. It owns the requests to the store
 * and the watches, which end with their domain.
 *
 *   domain 0: listed (domains.h) ──▶ each new domain watched and read
 *             ──the last answer of the start──▶ REGISTRY_READ
 *             ──a name is no more──▶ vanishing: a list will say whether the domain has gone
 */

#include "base/self.h"

struct domains;
struct registry;
struct names;
struct store;

/* What is named outlives it. `domains`: NULL in a guest. 0 or -ENOMEM. */
int names_new(struct names **names, struct store *store, const struct self *self, struct registry *registry,
	      struct domains *domains);
void names_free(struct names *names);
/* Starts over in a guest that was restored or migrated and may have another domid now. Forgets all
 * names, which may be of another host. */
void names_restart(struct names *names);

#endif
