/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_LOOKUPS_H
#define XENMSG_DAEMON_PEERS_LOOKUPS_H

/*
 * Look-ups: of a domain that nothing is known of, XenStore is asked whether it is there. A program can ask
 * for any number, so who asks pays, in bytes for what is remembered meanwhile and in turns for the work, and
 * only a few look-ups of one account lie in the store thread's queue at a time. Two accounts that ask for the
 * same domain both wait for it, each in its own line, and whoever's turn comes first looks it up for both.
 *
 *   waiting (a task of its account) ──its turn──▶ under way (in peer.lookup) ──the leaves were read, or the time is up──▶ gone
 *      └──not wanted any more, or known by now, or another's is under way──▶ gone
 *
 * That a domain isn't there is believed for a moment, unless something of it appears. A part of peers.c: it
 * owns `askers`, `absent` and `lookups` of struct peers, and `lookup` and `asked` of struct peer.
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

/* The peer is wanted, and must be looked up. -ENOBUFS: the account has no room. */
int lookups_add(struct peer *peer, struct account *account);
/* The peer's look-up, if there is one, is over. */
void lookups_done(struct peer *peer);
void lookups_destroy(struct peers *peers);

/* It was looked up and isn't there; was it, a moment ago? */
void absent_note(struct peers *peers, uint32_t domid);
bool absent_is_known(const struct peers *peers, uint32_t domid);
/* Something of it has appeared; or of any. */
void absent_forget(struct peers *peers, uint32_t domid);
void absent_forget_all(struct peers *peers);

#endif
