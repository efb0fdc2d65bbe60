/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_LOOKUPS_H
#define XENMSG_DAEMON_PEERS_LOOKUPS_H

/*
 * Look-ups: asks XenStore whether a domain of which nothing is known is there. A program can ask for any
 * number, so its account pays, in bytes for what is remembered meanwhile and in turns for the work, and only
 * a few look-ups of one account lie in the store thread's queue at a time. Two accounts that ask for the same
 * domain both wait for it, each in its own queue, and the one whose turn comes first looks it up for both.
 *
 *   waiting (a task of its account) ──its turn──▶ under way (in peer.lookup) ──leaves read or time up──▶ gone
 *      └──not wanted any more, or known by now, or another's is under way──▶ gone
 *
 * That a domain isn't there is remembered for a moment, unless something of it appears. This is a part of
 * peers.c and owns `askers`, `absent` and `lookups` of struct peers, and `lookup` and `asked` of struct peer.
 */

#include <stdbool.h>
#include <stdint.h>

struct account;
struct peer;
struct peers;

#define LOOKUPS_AT_ONCE 2u    /* under way, of one account */
#define LOOKUP_BYTES	4096u /* what the daemon holds for a domain that may not be there */
#define ABSENT_MS	1000u
#define ABSENT_MAX	256u

/* Queues a look-up of the peer, for the account. Returns 0, -ENOMEM, or -ENOBUFS: the account has no room. */
int lookups_add(struct peer *peer, struct account *account);
/* All of the peer is to be read. Returns whether a look-up that waits will do so, in the line of who pays. */
bool lookups_defer(struct peer *peer);
/* Ends the peer's look-up, if there is one. */
void lookups_done(struct peer *peer);
void lookups_destroy(struct peers *peers);

/* Notes that the domain was looked up and isn't there. */
void absent_note(struct peers *peers, uint32_t domid);
/* Returns whether that was noted a moment ago. */
bool absent_is_known(const struct peers *peers, uint32_t domid);
/* Forgets that note, since something of the domain has appeared. */
void absent_forget(struct peers *peers, uint32_t domid);

#endif
