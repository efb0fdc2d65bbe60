/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_PRESENCE_H
#define XENMSG_DAEMON_PEERS_PRESENCE_H

/*
 * Presence: watches XenStore, reads the leaves of the peers, and decides from them which peers are up. It is
 * a part of peers.c and owns the leaves as last read in struct peer, whether it is up, and its watches. What
 * it reads is untrusted until it has been parsed.
 *
 *   unknown ──a leaf of it appears──▶ looked up ──presence, or leaves for us──▶ up ──none is left──▶ down
 *   up ──nothing to do with it any more (peers_forget.h)──▶ unknown
 *   up ──the leaves name another instance──▶ down, then up: it was replaced
 *
 * A leaf is read by one request at a time: after a change meanwhile (`reread`) it is read once more, and only
 * then used. One that couldn't be read (`missed`) is read again when there is a connection to XenStore.
 */

#include <stdint.h>

struct peer;
struct peers;

int presence_watch(struct peers *peers);
/* Takes the event of a watch on something of the peers'. */
void presence_on_change(void *userdata, const char *untrusted_path);
/* Watches a leaf of the peer's, or doesn't any more, as is needed now. */
void presence_watch_leaf(struct peer *peer);
void presence_unwatch(struct peers *peers);
void presence_init(struct peer *peer);
void presence_destroy(struct peer *peer);
/* Takes the peer for one of which nothing is known, and removes what we have written for it. */
void presence_forget(struct peer *peer);
/* Reads all the leaves that show whether the peer is up. */
void presence_look_up(struct peer *peer);
/* In a turn of the peer's: decides from what has been read, and asks for what is stale. Returns what it
 * cost. */
uint64_t presence_take(struct peer *peer);
uint64_t presence_read(struct peer *peer);

#endif
