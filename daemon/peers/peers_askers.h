/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_ASKERS_H
#define XENMSG_DAEMON_PEERS_ASKERS_H

/*
 * In a guest that domain 0 tells of changes: which domains have asked who is there. One that may know of
 * nothing here but what is for all isn't made known by that. It is looked at once more when the endpoints,
 * the policy or its name have changed, since it doesn't ask again: what is then for it alone makes it known.
 */

#include <stdbool.h>
#include <stdint.h>

struct peers;

/* Notes that the domain has asked. */
void askers_add(struct peers *peers, uint32_t domid);
/* Has an asker that isn't known looked at, as when it asked: its name is another one. */
void askers_named(struct peers *peers, uint32_t domid);
/* Goes on looking at all askers, from peers->asked_next on: it is 0 when the endpoints, or who may see them,
 * are others. Returns whether there is more to do, and adds what it cost. */
bool askers_go_on(struct peers *peers, uint64_t *cost);

#endif
