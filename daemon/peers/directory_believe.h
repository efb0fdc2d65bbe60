/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_BELIEVE_H
#define XENMSG_DAEMON_DIRECTORY_BELIEVE_H

/*
 * A guest's side of the directory: it is told the names of other domains by domain 0's daemon, wants a link
 * to it for this, and decides how long to believe what it was told. It is a part of directory.c
 * (directory_presence() and directory_take() are here) and owns the fields below `a guest` in struct
 * directory. Domain 0 doesn't use it.
 *
 *   absent ──its daemon is there──▶ wants a link, again and again with growing pauses ──link up──▶ linked
 *   linked ──a complete list──▶ served: changes are taken as they come; a new complete list replaces all
 *   served ──link lost──▶ still served, and the link is wanted
 *          ──believed_ms without a list──▶ nothing is known any more
 */

#include <stdbool.h>
#include <stdint.h>

struct directory;
struct event_base;

int believe_init(struct directory *directory, struct event_base *base);
void believe_destroy(struct directory *directory);
/* Forgets all that domain 0 has told: this may be another host. */
void believe_reset(struct directory *directory);
void believe_link(struct directory *directory, uint32_t domid, bool up);
void believe_link_anew(struct directory *directory, uint32_t domid);

#endif
