/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_H
#define XENMSG_DAEMON_DIRECTORY_H

/*
 * The directory: what domain 0 tells the guests over their links, of the names and UUIDs of domains and of
 * what changes for them in XenStore (doc/protocol.md, section 5.6). A guest can't read others' names, and
 * what a guest says of itself can't be trusted. So this module has two roles:
 *
 *   in domain 0  a sink of registry.h: it sends each guest whose link is up first the complete list of the
 *                domains that it may see, then every change, gathered for some milliseconds
 *   in a guest   a source of registry.h. While domain 0's daemon runs it wants a link to it:
 *                presence ──▶ wants ──link up──▶ complete list ──▶ served
 *                When that daemon goes, the guest believes what it said last for a while, so that it can be
 *                restarted.
 */

#include <stdbool.h>
#include <stdint.h>

struct access;
struct directory;
struct event_base;
struct registry;
struct links;
struct peers;
struct peers_change;
struct self;

struct directory_options {
	const struct self *self;
	struct registry *registry;
	struct peers *peers; /* are told what changes in XenStore, and tell it */
	struct links *links;
	/* In domain 0: decides which domains a guest may know of, besides itself and domain 0. */
	struct access *access;
	bool relays;	/* domain 0 leads to domains that have gone and may come back */
	bool is_hidden; /* domain 0 can't see that we are here, and no link is wanted */
	/* How long a guest believes what it was told when domain 0's daemon has gone: longer than its upgrade
	 * takes, shorter than it takes domids to come around. */
	unsigned believed_ms;
	/* In domain 0: how long guests go on being told the name of a domain that has gone and may come
	 * back. */
	unsigned kept_ms;
};

/* What the options name outlives it. `renamed` is called some milliseconds after the first change of a name:
 * rules about names may decide differently now. */
int directory_new(struct directory **directory, struct event_base *base,
		  const struct directory_options *options, void (*renamed)(void *userdata), void *userdata);
void directory_free(struct directory *directory);
/* Starts over in a guest that was restored or migrated, perhaps to another host. */
void directory_restart(struct directory *directory);
/* In a guest: domain 0's names are from the daemon before this one: believes them for as long as that would
 * have. */
void directory_believe_on(struct directory *directory);
/* In a guest: takes a DIRECTORY frame's payload (`length` bytes) from domain 0. Returns 0, or -EPROTO if it
 * is malformed; then none of it was used. */
int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length);
/* In domain 0: tells a guest what has changed for it in XenStore. If it can't be told now, it is told
 * everything later (peers_tell()). */
void directory_tell(struct directory *directory, uint32_t guest, const struct peers_change *changes,
		    unsigned count);

#endif
