/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_SAVES_H
#define XENMSG_DAEMON_PEERS_SAVES_H

/*
 * In domain 0: guests that are about to be saved or migrated. The toolstack writes `suspend` into a guest's
 * `control/shutdown`, and the guest's kernel empties it before it stops (0.2 to 114 ms later, measured). A
 * page that is mapped and written until then may be stale in the image, and one that is unmapped is right
 * (doc/protocol.md 5.7, rule 9). So the owner is told to give up its vchan with the guest, and no other is
 * mapped for a moment.
 */

#include <stddef.h>

struct peer;

/* Begins to watch, since there is a vchan with the guest. */
void saves_watch(struct peer *peer);
/* Takes the value of `control/shutdown`, or NULL if there is none. */
void saves_take(struct peer *peer, const char *untrusted_value, size_t size);
void saves_destroy(struct peer *peer);

#endif
