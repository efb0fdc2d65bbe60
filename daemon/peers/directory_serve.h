/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_SERVE_H
#define XENMSG_DAEMON_DIRECTORY_SERVE_H

/*
 * Domain 0's side of the directory: tells the guests' daemons who the other domains are, as far as they may
 * know. A part of directory.c: it owns `guests`, one for each link that is up, with what each was told.
 *
 *   came ──tell──▶ told all ──a domain changed, tell──▶ told the change     any ──it couldn't be sent──▶ all of it, once more
 *   any ──what it may see has changed──▶ all of it                          any ──link lost──▶ left
 */

#include <stdint.h>

struct directory;

void serve_guest_came(struct directory *directory, uint32_t domid);
void serve_guest_left(struct directory *directory, uint32_t domid);
/* What they may see has changed. */
void serve_refresh(struct directory *directory);
/* All of them leave. */
void serve_stop(struct directory *directory);
/* What has changed goes to each guest; domains that have gone are forgotten then. */
void serve_tell(struct directory *directory);

#endif
