/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_REPAIR_H
#define XENMSG_DAEMON_PEERS_REPAIR_H

/*
 * Looks after what we have written into XenStore: others may remove or change it (a toolstack that clears a
 * tree, a store that was restored from before), and then nobody hears of us, or a link never comes about. A
 * watch on our own subtree tells of each change there; what was written is read, and written again if it
 * isn't there as it was. It is a part of peers.c and owns `repair...` of struct peers and struct peer.
 *
 *   stands ──the watch fires──▶ being read ──as written, or being written anew──▶ stands
 *                                   ├──gone or another──▶ written again, which the watch tells of, too
 *                                   └──likewise, for the 17th time in a row──▶ waits ──a second──▶ being read
 *
 * So who removes something again and again costs one write a second of each peer's nodes. An own leaf that
 * goes with the whole tree may be the sign of a migration, of which the owner must hear before another leaf
 * hides it. The owner then begins all anew, but not how often that was: it is bounded likewise.
 */

#include <stddef.h>

#include "daemon/peers/peers_internal.h"

/* What one peer's nodes may be written again at once; it grows back by one a second. */
#define MENDS_AT_ONCE 16

int repair_init(struct peers *peers);
void repair_destroy(struct peers *peers);
/* Sets the watch: after what an earlier daemon left was removed. Negative errno. */
int repair_watch(struct peers *peers);
/* Writes the presence again, so that those who haven't heard of it do. Not if it has gone: then this domain
 * may have been migrated to the same number, and the owner wouldn't miss it any more. */
void repair_show_again(struct peers *peers);
/* Takes what was read of a leaf that we have written for the peer. NULL: there is none. */
void repair_take(struct peer *peer, enum peer_leaf leaf, const char *value, size_t size);
/* Notes that the leaf couldn't be written again: it is tried once more in a second. */
void repair_later(struct peer *peer, enum peer_leaf leaf);

#endif
