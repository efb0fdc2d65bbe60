/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_ALL_H
#define XENMSG_DAEMON_PEERS_ALL_H

/*
 * Knowing all peers, which costs requests to XenStore for each, so only while somebody asks for all of them.
 * It is a part of peers.c and owns `all...` and `asking` of struct peers.
 *
 *   few ──peers_want_all()──▶ asking: our leaf `asks` is written, those that run answer, each by the endpoints
 *                             leaf that only we can read; one that starts now is looked up when its presence
 *                             appears
 *   asking ──nothing has come for a moment (and domain 0, if it tells us of changes, has told of all)──▶ known,
 *                             which callback `all_known` tells
 *   asking, known ──nobody has wanted it for a while──▶ few: one that starts now is ignored until it has to do with us
 *
 * In domain 0, which watches each domain, there is nothing to ask: those that there are at the start are
 * known when all are listed and read. Nor with a private presence, which nobody may answer.
 */

#include <stdbool.h>
#include <stdint.h>

struct peers;

int all_init(struct peers *peers);
void all_destroy(struct peers *peers);
/* Called when the watches are set: asks if somebody has wanted all since before; in domain 0, waits. */
void all_start(struct peers *peers);
/* Returns whether the domain is to be looked up when its presence appears. */
bool all_follows(const struct peers *peers, uint32_t domid);
/* Notes that something of a peer has come, so the answers aren't complete. */
void all_heard(struct peers *peers);
/* Notes that domain 0 has told of all. */
void all_listed(struct peers *peers);
/* Asks once more, since changes may have been missed. */
void all_again(struct peers *peers);

#endif
