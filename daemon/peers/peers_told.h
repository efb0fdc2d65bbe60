/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_TOLD_H
#define XENMSG_DAEMON_PEERS_TOLD_H

/*
 * A guest's watches, and whether it needs the one on all domains, which fires for each that comes or goes. It
 * is a part of peers.c and owns `told...`, `hears`, `zero_watch` and `all_watch` of struct peers.
 *
 *   starts ──domain 0's daemon isn't there, or can't tell us──▶ watches all
 *          ──it is there, but takes too long to tell us──▶ watches all
 *   starts, watches all ──domain 0 tells us, over our link with it──▶ told: watches only what domain 0 writes
 *   told ──that link ends──▶ watches all
 *
 * It shows itself only when it hears what others answer to that: when it watches all, or domain 0, which it
 * has looked up by then, will tell it.
 *
 * Being told is like a watch: it says what has changed, and the rest is read from XenStore.
 */

#include <stdbool.h>

struct image;
struct peers;

int told_init(struct peers *peers);
void told_destroy(struct peers *peers);
/* Whether domain 0's daemon may still begin to tell of the others, so nobody else is looked for. */
bool told_is_awaited(const struct peers *peers);
/* For how long it may, if a daemon hands over: those that domain 0 doesn't tell wait together as long as
 * one. */
void told_image(struct image *image, struct peers *peers);
/* Sets the watches that are needed now. */
int told_watch(struct peers *peers);
/* Notes that more is known of domain 0's daemon. */
void told_check(struct peers *peers);

#endif
