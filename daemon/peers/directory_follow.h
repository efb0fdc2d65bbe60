/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_FOLLOW_H
#define XENMSG_DAEMON_DIRECTORY_FOLLOW_H

/*
 * What XenStore says of names and UUIDs: in domain 0 those of all domains, in a guest its own. A part of
 * directory.c: it owns the requests to the store and the watches, one for each domain that is listed.
 *
 *   domain 0: listed ──▶ each new domain watched and read ──the last answer of the start──▶ complete: the guests may be told
 */

#include <stdint.h>

struct directory;

void follow_start(struct directory *directory);
void follow_stop(struct directory *directory);
/* Reads the name and the UUID of a domain. */
void follow_read(struct directory *directory, uint32_t domid);

#endif
