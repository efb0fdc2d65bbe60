/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REGISTRY_H
#define XENMSG_DAEMON_REGISTRY_H

/*
 * One table of the domains that are there, their names and UUIDs, which of them have a daemon, and their
 * endpoints. Sources write it, and sinks read it:
 *
 *   domains, names: what XenStore has ──────────┐        ┌──▶ watches: each change, in its order (changes.h)
 *   peers: other daemons, and their endpoints ──┤        ├──▶ directory, in domain 0: what each guest is told
 *   directory, in a guest: what domain 0 tells ─┼─ known ┤
 *   links: whose session is away ───────────────┤        ├──▶ peers, links: whose name is another one now
 *   router: the endpoints here ─────────────────┘        └──▶ look-ups, listings, policy's names
 *
 * Each change has a number, the version. Of what changes sinks are told at once, by one callback; they read
 * the table then or later, and what has changed since a version that they remember. What an account, a guest
 * or another host may see is decided by its sink, which also has that account pay.
 *
 * A name is unique among the domains of a host; while two have it (a migration within the host), it stands
 * for the one that was learned last.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/self.h"
#include "wire/address.h"
#include "wire/ut.h"

#define REGISTRY_TAGS_MAX 1026u /* bytes of a domain's tags */

struct changes;
struct image;
struct registry;
struct named_domain;
struct record;

/* What is known of a domain. */
struct registry_domain {
	uint32_t domid;
	char name[DOMAIN_NAME_MAX + 1];
	uint8_t uuid[16]; /* zero: unknown */
	char uuid_text[SELF_UUID_TEXT_SIZE];
	char *tags;	   /* in domain 0: that its toolstack gives, ",a,b,"; NULL: none */
	bool tags_refused; /* there are some that can't be read: nobody knows which */
	bool is_complete;  /* a name or a UUID that is missing doesn't exist */
	bool is_led_to;	   /* it was saved, perhaps, and domain 0 knows the way to it */
	/* In domain 0: XenStore has it; its name is no more, and a list will say whether it has gone; when it
	 * went, as long as its end wasn't told. */
	bool exists, is_vanishing;
	uint64_t gone_ms;
	uint64_t version; /* when any of this changed last */
	/* Its source's: what reads it, for which the entry stays, and the list in which it was told last. */
	void *source;
	uint64_t told;
	struct named_domain *current;	     /* with records under its present name; NULL: there are none */
	struct registry_domain *prev, *next; /* in the order of their versions */
	UT_hash_handle hh;
};

enum registry_what {
	REGISTRY_NAME, /* name, UUID, whether they are complete, whether domain 0 leads to it */
	REGISTRY_PRESENCE,
	REGISTRY_ENDPOINTS,
	REGISTRY_CUT, /* whether these are all that it has */
	REGISTRY_AWAY,
	REGISTRY_LINK_UP, /* our session with another domain of this host goes on, has lost its vchan or has */
	REGISTRY_LINK_LOST,
	REGISTRY_LINK_ENDED, /* ended without one */
	REGISTRY_READ,	     /* in domain 0: all names that there were at the start are known */
	REGISTRY_EXISTS,     /* in domain 0: the domain is in XenStore's list, or isn't any more */
	REGISTRY_LISTED,     /* that was the list */
	REGISTRY_RULES,	     /* what anybody may see */
	REGISTRY_ALL,	     /* all peers that run are known now (peers_want_all()) */
};

typedef void (*registry_fn)(void *userdata, enum registry_what what, uint32_t domid);

struct registry_sink {
	registry_fn changed;
	void *userdata;
	struct registry_sink *prev, *next;
};

/* Names of endpoints, in one allocation, to be freed by free(list). */
struct offered {
	char **list;	/* of valid names, NULL-terminated; or NULL */
	uint8_t *kinds; /* by their places, the bits of BIND; 0: it isn't told */
	unsigned count;
	bool is_cut; /* there are more */
};

/* Returns NULL when memory is short. `self` describes this domain, and outlives it. */
struct registry *registry_new(const struct self *self);
/* After all sources and sinks. */
void registry_free(struct registry *registry);
/* Adds a sink, which is called whenever something has changed; removes it, if it was added. */
void registry_listen(struct registry *registry, struct registry_sink *sink, registry_fn changed,
		     void *userdata);
void registry_leave(struct registry *registry, struct registry_sink *sink);
/* Tells the sinks what isn't in the table. */
void registry_tell(struct registry *registry, enum registry_what what, uint32_t domid);

/* --- what names mean */

/* Finds the domain that a domid, a name or a UUID stands for. Returns 0, or -EHOSTDOWN: none that is known
 * here. */
int registry_resolve(struct registry *registry, const char *domain, uint32_t *domid);
/* Returns the domain's name, "" if unknown. It is valid until the event loop's next turn. */
const char *registry_name(struct registry *registry, uint32_t domid);
/* Returns the UUID as text, likewise. */
const char *registry_uuid(struct registry *registry, uint32_t domid);
/* Returns whether what the two functions above return is complete, even if it is "". It isn't before the
 * domain's nodes were read or domain 0 has told of it, and never for a domain that domain 0 hides from us. */
bool registry_is_complete(struct registry *registry, uint32_t domid);
/* Returns the reason why it isn't, for people. */
const char *registry_why_not(struct registry *registry, uint32_t domid);
/* Returns, in domain 0, whether REGISTRY_READ was told. */
bool registry_is_read(const struct registry *registry);
/* Returns whether other domains' names can be known at all: this is domain 0, or its daemon tells us. */
bool registry_is_told(const struct registry *registry);
/* In a guest: returns whether the domain was saved, perhaps, and domain 0 knows the way to it; or, if its
 * daemon `is_late`, to one with the same UUID. */
bool registry_is_led_to(struct registry *registry, uint32_t domid, bool is_late);
/* Returns whether the name can stand in an address or a rule and means nothing else there. */
bool registry_name_is_usable(const char *name, size_t size);

/* --- their sources */

/* In domain 0: a domain is in this list; that was all of it, and the others have gone. */
void registry_set_exists(struct registry *registry, uint32_t domid, uint64_t list);
void registry_end_list(struct registry *registry, uint64_t list);

struct registry_domain *registry_find(struct registry *registry, uint32_t domid);
/* Returns the domain's entry, made if there was none. NULL: out of memory. */
struct registry_domain *registry_get(struct registry *registry, uint32_t domid);
/* Returns the domain behind this one (NULL: the first). */
struct registry_domain *registry_next(struct registry *registry, const struct registry_domain *after);
/* Returns the domain that has changed behind this one (NULL: the first since that version). */
struct registry_domain *registry_next_changed(struct registry *registry, const struct registry_domain *after,
					      uint64_t since);
/* Each sets a value, and tells it if it has changed. A UUID of zeros, a size of 0: there is none. */
void registry_set_name(struct registry *registry, struct registry_domain *domain, const char *name,
		       size_t size);
void registry_set_uuid(struct registry *registry, struct registry_domain *domain, const uint8_t uuid[16]);
/* `tags`: NULL: there are none. Copies them. 0 or -ENOMEM. */
int registry_set_tags(struct registry *registry, struct registry_domain *domain, const char *tags,
		      bool are_refused);
void registry_set_complete(struct registry *registry, struct registry_domain *domain, bool is_complete);
/* Notes that something else of it has changed. */
void registry_touch(struct registry *registry, struct registry_domain *domain);
/* Forgets a domain's name; those of all others that were told before this list, and of this one, if that is
 * wanted. */
void registry_forget_name(struct registry *registry, uint32_t domid);
void registry_forget_names(struct registry *registry, uint64_t told_before, bool own);
/* Removes the source; notes that the end of a domain that has gone was told. The entry goes if there is
 * nothing in it. */
void registry_drop_source(struct registry *registry, struct registry_domain *domain);
void registry_drop_gone(struct registry *registry, struct registry_domain *domain);
/* In a guest: the daemon of domain 0. */
struct registry_teller {
	bool is_there, tells; /* names */
	uint64_t lost_ms;     /* since when our link with it is lost; 0: it isn't */
};
struct registry_teller *registry_teller(struct registry *registry);
uint64_t registry_version(const struct registry *registry);
/* Writes what domains are called, and whether domain 0 tells it, into the image that the next daemon gets,
 * or reads it: of domains of which nothing was read yet. */
void registry_names_image(struct image *image, struct registry *registry);

/* --- who is there, and what they offer */

/* Notes that a domain's daemon has come, or gone with all of its endpoints. */
void registry_set_up(struct registry *registry, uint32_t domid, bool up);
/* Notes that our link with a domain that is there is lost and may be resumed, or isn't so any more. */
void registry_set_away(struct registry *registry, uint32_t domid, bool away);
/* Sets the endpoints that the domain has now: all of these lists, and whether there are more. */
void registry_set_endpoints(struct registry *registry, uint32_t domid, const struct offered *lists,
			    unsigned count);
/* Notes that one has come or gone. */
void registry_set_endpoint(struct registry *registry, uint32_t domid, const char *name, bool up);
/* This domain was restored or migrated, and may have another number: the others go, and it comes by the new
 * one. */
void registry_restart(struct registry *registry);
bool registry_is_up(struct registry *registry, uint32_t domid);
/* Notes whether there is more of a domain that is up than is known. */
void registry_set_cut(struct registry *registry, uint32_t domid, bool is_cut);
bool registry_is_cut(struct registry *registry, uint32_t domid);
/* Returns the domain's endpoint behind this one (NULL: the first). */
const struct record *registry_offered(struct registry *registry, uint32_t domid, const struct record *after);

/* --- who reads the changes */

struct changes *registry_changes(struct registry *registry);
/* As changes_forget(), with what domains are called now. */
void registry_forget(struct registry *registry, uint64_t heard, uint64_t by_name);

#endif
