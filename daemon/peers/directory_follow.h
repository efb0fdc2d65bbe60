/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_FOLLOW_H
#define XENMSG_DAEMON_DIRECTORY_FOLLOW_H

/*
 * Reads names and UUIDs from XenStore: in domain 0 those of all domains, in a guest its own. It is a part of
 * directory.c and owns the requests to the store and the watches, which end with their domain.
 *
 *   domain 0: listed (domains.h) ──▶ each new domain watched and read
 *             ──the last answer of the start──▶ complete: the guests may be told
 */

struct directory;
struct domain;

int follow_start(struct directory *directory);
void follow_stop(struct directory *directory);
/* Cancels the domain's reads and its watch. */
void follow_end(struct domain *domain);
/* Reads this guest's own name and UUID. */
void follow_own(struct directory *directory);

#endif
