/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_LEAVES_H
#define XENMSG_DAEMON_PEERS_LEAVES_H

/*
 * Reads the leaves that peers write, each by one request at a time, in the turns of their accounts. It is a
 * part of peers.c and owns `reread` of struct peers, and `stale` to `looked` of struct peer.
 *
 *   stale ──the peer's turn──▶ being read ──answered──▶ came ──the peer's next turn──▶ taken
 *   being read ──has changed meanwhile (`reread`)──▶ stale again, when it is taken
 *   came ──couldn't be read (`missed`)──▶ stale, when there is a connection to XenStore
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/peers/peers_internal.h"

int leaves_init(struct peers *peers);
void leaves_destroy(struct peers *peers);
void leaves_begin(struct peer *peer);
void leaves_end(struct peer *peer);
/* Writes the path of a leaf of the peer's. */
void leaf_path(const struct peer *peer, enum peer_leaf leaf, char path[PEERS_PATH_SIZE]);
/* In a turn of the peer's: asks for what is stale. Returns what it cost. */
uint64_t leaves_read(struct peer *peer);
/* In a turn of the peer's: takes a leaf that came; the caller frees its value, NULL: there is none. Returns
 * whether it counts: not if it is to be read once more. */
bool leaf_take(struct peer *peer, enum peer_leaf leaf, char **untrusted_value, size_t *size);

#endif
