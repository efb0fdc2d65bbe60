/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_TELL_H
#define XENMSG_DAEMON_PEERS_TELL_H

/*
 * Tells guests what changes for them in XenStore, in domain 0, whose watch on each domain's subtree fires for
 * everything: so a guest needs no watch on all domains, which would fire for each that comes or goes. It is a
 * part of peers.c and owns `telling` of struct peer.
 *
 *   what a domain writes for a guest          is told to that guest
 *   its presence, its endpoints for everybody to those that know it or that it knows (one has written
 *   something
 *                                             for the other), and to those that ask for all
 *   that it asks for all                      to all, and it is told of all whose daemons run, and at the
 *                                             end of that it is told that it asks
 *
 *   not told ──its link with us is up──▶ told first what it would have missed until now
 *   told ──the link ends──▶ not told: it watches for itself
 *
 * Leaves may have been written before this daemon began, or while it had no connection to XenStore. It finds
 * them in a list of those for whom a domain has written.
 *
 * News of a domain wait for a turn of that domain's account. So a domain that changes something again and
 * again pays with its own time, and a change that wasn't told yet is told once.
 */

#include <stdbool.h>

struct peer;

void tell_init(struct peer *peer);
void tell_destroy(struct peer *peer);
/* Notes that something below the peer's subtree has changed. */
void tell_change(struct peer *peer, const char *untrusted_path);
/* Notes that anything of the peer may have changed. */
void tell_anything(struct peer *peer);
/* Notes that the peer shows its presence to everybody: only of such a one are domains told that it has
 * written nothing for. */
void tell_shown(struct peer *peer);
/* Notes whether the peer asks for all. */
void tell_asks(struct peer *peer, bool asks);
/* Returns whether there is still something to tell of the peer. */
bool tell_is_pending(const struct peer *peer);

#endif
