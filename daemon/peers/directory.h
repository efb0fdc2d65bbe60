/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_H
#define XENMSG_DAEMON_DIRECTORY_H

/*
 * The directory: the names and UUIDs of domains. A guest can't read those of others, and what a guest says of
 * itself can't be trusted, so they come from domain 0: its daemon reads them from XenStore, where only domain
 * 0 writes them, and serves them to the guests' daemons over their links by DIRECTORY frames
 * (doc/protocol.md, section 5.6). So this module has two roles:
 *
 *   in domain 0  follows the domains in XenStore; it sends each guest whose link is up first the complete
 *                list of those that it may see, then every change, gathered for some milliseconds
 *   in a guest   follows its own name in XenStore, and for the others what domain 0 says. While domain 0's daemon
 *                runs it wants a link to it: presence ──▶ wants ──link up──▶ complete list ──▶ served
 *                When that daemon goes, the guest believes what it said last for a while, so that it can be
 *                restarted.
 *
 * A name is unique among the domains of a host; while XenStore has two (a migration within the host), the
 * name stands for the one that was learned last. The module owns all that it knows, and calls back from its
 * own timers or from within the calls below.
 */

#include <stdbool.h>
#include <stdint.h>

struct access;
struct directory;
struct domains;
struct event_base;
struct peers_change;
struct self;
struct store;

struct directory_options {
	const struct self *self;
	/* in domain 0: decides which domains a guest may know of, besides itself and domain 0 */
	struct access *access;
	struct domains *domains; /* in domain 0, else NULL; outlives the directory */
	/* How long a guest believes what it was told when domain 0's daemon has gone: longer than its upgrade
	 * takes, shorter than it takes domids to come around. */
	unsigned believed_ms;
	/* In domain 0: how long guests go on being told the name of a domain that has gone and may come back. */
	unsigned kept_ms;
};

struct directory_callbacks {
	/* In domain 0: sends a DIRECTORY frame's payload over the link with the guest. Returns 0, or a
	 * negative errno if it can't be sent now. */
	int (*send)(void *userdata, uint32_t guest, const void *payload, uint32_t length);
	/* In domain 0: the guest's link has come up or ended. Returns whether it is told from now on, by
	 * directory_tell(), what changes for it in XenStore. */
	bool (*tells)(void *userdata, uint32_t guest, bool up);
	/* In domain 0: whether what the guest opens to this domain, which has gone, may still get there, through us, and the
	 * guest understands that. */
	bool (*leads_on)(void *userdata, uint32_t guest, uint32_t domid);
	/* In a guest: domain 0 tells what changes in XenStore, or doesn't any more, and this has changed. */
	void (*told)(void *userdata, bool told);
	void (*leaves_changed)(void *userdata, uint32_t domid, unsigned leaves);
	/* In a guest: asks for a link with domain 0. */
	void (*want_link)(void *userdata);
	/* The name or UUID known of this domain has changed ("": it has none), or it is known for the first
	 * time that it has none, or nothing is known any more, or domain 0 says that it is away. */
	void (*changed)(void *userdata, uint32_t domid, const char *old_name, const char *name);
	/* Ends a turn, some milliseconds after the first change, not within any of the calls below: sends
	 * what was queued. `changed`: something has changed for some domain, so rules about names may decide
	 * differently now. */
	void (*flush)(void *userdata, bool changed);
};

int directory_new(struct directory **directory, struct event_base *base, struct store *store,
		  const struct directory_options *options, const struct directory_callbacks *callbacks,
		  void *userdata);
void directory_free(struct directory *directory);

/* Finds the domain that a domid, a name or a UUID stands for. Returns 0, or -EHOSTDOWN: none that is known here. */
int directory_resolve(struct directory *directory, const char *domain, uint32_t *domid);
/* Returns the domain's name, "" if unknown. It is valid until the event loop's next turn. */
const char *directory_name(struct directory *directory, uint32_t domid);
/* Returns the UUID as text, likewise. */
const char *directory_uuid(struct directory *directory, uint32_t domid);
/* Returns whether what the two functions above return is complete, even if it is "". It isn't before the
 * domain's nodes were read or domain 0 has told of it, and never for a domain that domain 0 hides from us. */
bool directory_knows(struct directory *directory, uint32_t domid);
/* In a guest: returns whether the domain was saved, perhaps, and domain 0 knows the way to it. */
bool directory_is_away(const struct directory *directory, uint32_t domid);
/* In a guest: returns whether another domain is away that has the same UUID. */
bool directory_comes_back(const struct directory *directory, uint32_t domid);
/* Returns the reason why it isn't known, for people. */
const char *directory_why_unknown(struct directory *directory, uint32_t domid);
/* Returns whether other domains can be known at all: this is domain 0, or its daemon serves us. */
bool directory_is_served(const struct directory *directory);

/* Starts over in a guest that was restored or migrated and may have another domid now: forgets all that it
 * knew, which may be of another host. */
void directory_restart(struct directory *directory);
/* In a guest: notes that domain 0's daemon has come or gone. */
void directory_presence(struct directory *directory, bool up);
/* Notes that a link has come up, or has ended or lost its vchan. */
void directory_link(struct directory *directory, uint32_t domid, bool up);
/* Notes that a link that had lost its vchan has ended, too: one with domain 0 is wanted at once, without the pauses
 * that have grown while nobody could make one. */
void directory_link_anew(struct directory *directory, uint32_t domid);
/* In a guest: takes a DIRECTORY frame's payload (`length` bytes) from domain 0. Returns 0, or -EPROTO if it
 * is malformed; then none of it was used. */
int directory_take(struct directory *directory, const uint8_t *payload, uint32_t length);
/* In domain 0: tells a guest what has changed for it in XenStore. If it can't be told now, it is told everything
 * later (callback `tells`). */
void directory_tell(struct directory *directory, uint32_t guest, const struct peers_change *changes,
		    unsigned count);
/* In domain 0: asks policy again which guest may know of which domains. */
void directory_refresh(struct directory *directory);

#endif
