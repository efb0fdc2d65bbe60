/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_ADVERTISE_H
#define XENMSG_DAEMON_PEERS_ADVERTISE_H

/*
 * Writes what we show to others in XenStore: our presence leaf, the endpoints that everyone may see, once for
 * all, and for each peer that is up the others that it may reach (all, if it doesn't read the leaf for all).
 * It is a part of peers.c and owns `names...`, `public...`, `advertise...` and `presence_written` of struct
 * peers, and `advertis...` of struct peer.
 *
 * When the endpoints or the policy change, first it is found out which of them are for all, then that leaf is
 * written, then those of the peers, each only if it says something else than before.
 *
 * One peer's leaf, by advertised_version, which is compared with the version of what there is to say:
 *
 *   old or 0 ──the peer is there──▶ compared with what stands there ──the same──▶ current: nothing is written
 *                                  ├──nothing, for who learns of us by domain 0──▶ current: likewise
 *                                  └──another, or a new daemon──▶ advertising (the write is under way)
 *   advertising ──written──▶ current
 *   advertising ──other endpoints meanwhile──▶ written once more
 *   advertising ──error──▶ 0, and again after a growing pause
 *   any ──the peer has gone──▶ withdrawn: the leaves for it are removed
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/peers/peers_parse.h"

struct peer;
struct peers;

int advertise_init(struct peers *peers);
void advertise_destroy(struct peers *peers);

/* Writes the presence leaf if there should be one and it isn't there. */
void advertise_presence(struct peers *peers);
/* Writes it once more, for those whose watches it fires. */
void advertise_presence_again(struct peers *peers);
/* What stands in it. */
void presence_format(const struct peers *peers, char value[PEERS_INSTANCE_SIZE + 16]);
/* Writes the leaf for all even if it hasn't changed. */
void advertise_public_anew(struct peers *peers);
/* Returns whether the peer may know of us, is up, and hasn't got our latest endpoints. */
bool advertise_is_wanted(const struct peer *peer);
void advertise_to(struct peer *peer);
/* Does so soon: policy, or what the peer reads, may be another one. */
void advertise_soon(struct peer *peer);
/* Makes the peer's next turn write the leaf even if it hasn't changed. */
void advertise_anew(struct peer *peer);
/* Writes the peer's leaf once more, though it stands there already, since it has asked again: its connection
 * to XenStore may have been lost, and the event with it. Answers all who do so together, once a second. */
void advertise_again(struct peer *peer);
/* Returns whether the peer may know of endpoints that aren't in the leaf for all, as far as that is known. */
bool advertise_shows_more(struct peer *peer);
/* Returns what that costs. */
uint64_t advertise_cost(const struct peers *peers);
/* Removes what stands there for a peer that has gone. */
void advertise_withdraw(struct peer *peer);

/*
 * In a guest that domain 0 tells of changes: which domains have asked who is there. One that may know of
 * nothing here but what is for all isn't made known by that. It is looked at once more when the endpoints,
 * the policy or its name have changed, since it doesn't ask again: what is then for it alone makes it known.
 */

/* Notes that the domain has asked. */
void askers_add(struct peers *peers, uint32_t domid);
/* Has an asker that isn't known looked at, as when it asked: its name is another one. */
void askers_named(struct peers *peers, uint32_t domid);

#endif
