/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_H
#define XENMSG_DAEMON_DIRECTORY_H

/*
 * Who is who: the names and UUIDs of domains. A guest can't read those of others, and what a guest says of
 * itself is worth nothing, so they come from domain 0: its daemon reads them from XenStore, where only domain
 * 0 writes them, and serves them to the guests' daemons over their links by DIRECTORY frames
 * (doc/protocol.md, section 5.6). So this module has two lives:
 *
 *   in domain 0  follows the domains in XenStore; each guest whose link is up gets first the complete list of those that it
 *                may see, then every change, gathered for some milliseconds
 *   in a guest   follows its own name in XenStore, and for the others what domain 0 says. While domain 0's daemon is there it
 *                wants a link to it: presence ──▶ wants ──link up──▶ complete list ──▶ served
 *                When that daemon goes, what it said last is believed for a while, so that it can be restarted.
 *
 * A name is unique among the domains of a host; while XenStore has two (a migration within the host), the one
 * that was learned last is meant. Owns all that it knows; calls back from its own timers or from within the
 * calls below.
 */

#include <stdbool.h>
#include <stdint.h>

struct access;
struct directory;
struct domains;
struct event_base;
struct self;
struct store;

struct directory_options {
	const struct self *self;
	/* says in domain 0 which domains a guest may know of; of itself and of domain 0 it does in any case */
	struct access *access;
	struct domains *domains; /* in domain 0, else NULL; outlives the directory */
	/* How long a guest believes what it was told when domain 0's daemon has gone: longer than its upgrade
	 * takes, shorter than it takes domids to come around. */
	unsigned believed_ms;
};

struct directory_callbacks {
	/* In domain 0: a DIRECTORY frame's payload for the link with the guest. Below zero: it can't be had
	 * now. */
	int (*send)(void *userdata, uint32_t guest, const void *payload, uint32_t length);
	/* In a guest: a link with domain 0 is wanted. */
	void (*want_link)(void *userdata);
	/* Another name or UUID than before is known of this domain ("" where it has none), or for the first
	 * time that it has none, or nothing any more. */
	void (*changed)(void *userdata, uint32_t domid, const char *old_name, const char *name);
	/* The end of a turn, some milliseconds after the first change, not within any of the calls below:
	 * what was sent is to go. With `changed` for some domain meanwhile, rules about names may say
	 * something else now. */
	void (*flush)(void *userdata, bool changed);
};

int directory_new(struct directory **directory, struct event_base *base, struct store *store,
		  const struct directory_options *options, const struct directory_callbacks *callbacks,
		  void *userdata);
void directory_free(struct directory *directory);

/* A name or a UUID stands for which domain? -EHOSTDOWN: none that is known here. */
int directory_resolve(struct directory *directory, const char *domain, uint32_t *domid);
/* "" if unknown. Valid until the event loop's next turn. */
const char *directory_name(struct directory *directory, uint32_t domid);
/* The UUID as text, likewise. */
const char *directory_uuid(struct directory *directory, uint32_t domid);
/* Whether what the two say of this domain is all that there is to say, even if it is "". Not so before its
 * nodes were read or domain 0 has told of it, and of what domain 0 hides from us never. */
bool directory_knows(struct directory *directory, uint32_t domid);
/* Why it doesn't, in words for people. */
const char *directory_why_unknown(struct directory *directory, uint32_t domid);
/* Whether others than this domain can be known at all: this is domain 0, or its daemon serves us. */
bool directory_is_served(const struct directory *directory);

/* In a guest that was restored or migrated and may have another number now: all that it knew may be of another
 * host. */
void directory_restart(struct directory *directory);
/* In a guest: domain 0's daemon has come or gone. */
void directory_presence(struct directory *directory, bool up);
/* A link has come up or ended. */
void directory_link(struct directory *directory, uint32_t domid, bool up);
/* In a guest: a DIRECTORY frame from domain 0. -EPROTO: it isn't one; nothing of it was believed. */
int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length);
/* In domain 0: policy may say something else now about who may know of whom. */
void directory_refresh(struct directory *directory);

#endif
