/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_SERVE_H
#define XENMSG_DAEMON_DIRECTORY_SERVE_H

/*
 * Domain 0's side of the directory: tells the guests' daemons the names of the other domains, as far as they
 * may know. It is a part of directory.c and owns `guests`, one for each link that is up, with what each was
 * told.
 *
 *   came ──tell──▶ told all ──a domain changed, tell──▶ told the change
 *   any ──it couldn't be sent──▶ all of it, once more
 *   any ──what it may see has changed──▶ all of it
 *   any ──link lost──▶ left
 *
 * Of a domain that XenStore has forgotten while it may come back to its session with us, a guest that knows it is told that
 * it is away, and its end later (`kept_ms`): so its name and number lead it to us, and us to that session.
 */

#include <stdint.h>

#include <event2/util.h>

struct directory;

void serve_guest_came(struct directory *directory, uint32_t domid);
void serve_guest_left(struct directory *directory, uint32_t domid);
/* Notes that what the guests may see may have changed. */
void serve_refresh(struct directory *directory);
/* Removes all guests. */
void serve_stop(struct directory *directory);
/* An event's callback: ends what is kept of domains that haven't come back. `userdata` is the directory. */
void serve_away_over(evutil_socket_t fd, short what, void *userdata);
/* Tells each guest what has changed, then forgets the domains that have gone. */
void serve_tell(struct directory *directory);

#endif
