/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_PRESENCE_H
#define XENMSG_DAEMON_PEERS_PRESENCE_H

/*
 * Who is there: watches XenStore, reads the leaves of the peers, and draws the conclusion from them. A part
 * of peers.c: it owns the leaves as last read in struct peer, whether it is up, and its watches. What it
 * reads is a peer's until it has been parsed.
 *
 *   unknown ──a leaf of it appears──▶ looked up ──presence, or leaves for us──▶ up ──none of them left──▶ down
 *   up ──the leaves name another instance──▶ down, then up: it was replaced
 *
 * A leaf is read by one request at a time: a change meanwhile (`reread`) has it read once more, and only then
 * is it believed.
 */

#include <stdint.h>

struct peer;
struct peers;

int presence_watch(struct peers *peers);
void presence_unwatch(struct peers *peers);
void presence_init(struct peer *peer);
void presence_destroy(struct peer *peer);
/* All that tells whether it is there is to be read. */
void presence_look_up(struct peer *peer);
/* In a turn of the peer's: draws the conclusions from what has been read; and asks for what is to be read.
 * Returns what it cost. */
uint64_t presence_take(struct peer *peer);
uint64_t presence_read(struct peer *peer);

#endif
