/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_PRESENCE_H
#define XENMSG_DAEMON_PEERS_PRESENCE_H

/*
 * Presence: watches XenStore, and decides from the leaves of the peers which of them are up. It is a part of
 * peers.c and owns in struct peer what was found in the leaves, whether it is up, and its watches. What
 * peers_leaves.h has read is untrusted until it has been parsed.
 *
 *   unknown ──a leaf of it appears──▶ looked up ──presence, or leaves for us──▶ up ──none is left──▶ down
 *   up ──nothing to do with it any more (peers_forget.h)──▶ unknown
 *   up ──the leaves name another instance──▶ down, then up: it was replaced
 */

#include <stddef.h>
#include <stdint.h>

struct peer;
struct peers;

int presence_watch(struct peers *peers);
/* Takes the event of a watch on something of the peers'; and whether that could be set, which it logs if
 * not. */
void presence_on_change(void *userdata, const char *untrusted_path);
void presence_on_watched(void *userdata, int error, const char *value, size_t size);
/* Watches a leaf of the peer's, or doesn't any more, as is needed now. */
void presence_watch_leaf(struct peer *peer);
void presence_unwatch_leaf(struct peer *peer);
/* Takes the peer for one of which nothing is known, and removes what we have written for it. */
void presence_forget(struct peer *peer);
/* Reads all the leaves that show whether the peer is up. */
void presence_look_up(struct peer *peer);
/* In a turn of the peer's: decides from what has been read. Returns what it cost. */
uint64_t presence_take(struct peer *peer);

#endif
