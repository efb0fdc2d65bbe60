/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_FORGET_H
#define XENMSG_DAEMON_PEERS_FORGET_H

/*
 * Forgets peers whose daemons run, but with which nobody here has to do any more: what we have written for
 * such a peer is removed, nothing of it is watched, and its struct is freed. It is a part of peers.c and
 * owns `forget...` of struct peers, and `used`, `is_idle`, `is_ours` and `is_held` of struct peer.
 *
 * The one that began ends it: of two that know each other, the one that wanted to know the other gives it
 * up, by removing its endpoints leaf for it. The other one does the same then; or, if it has become
 * acquainted with it for reasons of its own, it writes its own leaf once more, and so it is known again, as
 * the one that has begun.
 *
 *   used ──no link, look-up or asking for all, for forget_ms──▶ idle
 *   idle ──it has written nothing for us, or we began──▶ forgotten
 *        ──else──▶ stays, since it needs us
 *   any  ──its leaf for us goes, its daemon is there──▶ needed: held, that is, what it offers stays known
 *          │           until it has written its leaf again, or some seconds are over
 *          └──not needed──▶ forgotten
 *
 * Domain 0 knows all domains, and everybody knows domain 0. Those that a private presence is shown to aren't
 * forgotten either.
 */

#include <stdbool.h>

struct peer;
struct peers;

int forget_init(struct peers *peers);
void forget_destroy(struct peers *peers);
/* Notes that there is one more peer, which may become idle. */
void forget_later(struct peer *peer);
/* Notes that something here wants to know the peer. */
void forget_not(struct peer *peer);
/* In a turn of the peer's: forgets it, if it is idle and may be. */
void forget_if_idle(struct peer *peer);
/* The peer's leaf for us has gone, and its daemon hasn't. Returns whether this was taken care of; else it
 * offers nothing any more. */
bool forget_was_forgotten(struct peer *peer);

#endif
