/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers_askers.h"

#include <stdlib.h>

#include "base/domid_set.h"
#include "daemon/peers/peers_internal.h"

/* In units (turns.h). */
#define COST_ASKER 50u
#define PASSED	   4096u /* domids in a turn, */
#define PER_UNIT   4u	 /* of which so many take a unit */

/* Has the domain's account pay for the question whether anything here is for it (peers.c). */
static void look_at(struct peers *peers, uint32_t domid)
{
	struct peer *peer = peer_get(peers, domid);

	if (!peer || peer->up) /* it is told anyway */
		return;
	peer->asks_us = true;
	task_due(&peer->task);
}

void askers_add(struct peers *peers, uint32_t domid)
{
	if (!peers->asked)
		peers->asked = calloc(1, sizeof(*peers->asked));
	if (peers->asked) /* else it isn't told of what comes later */
		domid_set_put(peers->asked, domid, true);
}

void askers_named(struct peers *peers, uint32_t domid)
{
	if (peers->asked && domid_set_has(peers->asked, domid))
		look_at(peers, domid);
}

bool askers_go_on(struct peers *peers, uint64_t *cost)
{
	uint32_t first = peers->asked_next;

	if (!peers->asked || !peers->names_restricted)
		return false;
	while (peers->asked_next <= DOMID_MAX && peers->asked_next - first < PASSED) {
		uint32_t domid = peers->asked_next++;

		if (domid_set_has(peers->asked, domid)) {
			look_at(peers, domid);
			*cost += COST_ASKER;
			break;
		}
	}
	*cost += (peers->asked_next - first) / PER_UNIT;
	return peers->asked_next <= DOMID_MAX;
}
