/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_KNOWN_H
#define XENMSG_DAEMON_KNOWN_H

/*
 * One table of the domains that are there, their names and UUIDs, which of them have a daemon, and their
 * endpoints. Sources write it, and sinks read it:
 *
 *   domains, names: what XenStore has ──────────┐        ┌──▶ watches: each change, in its order (changes.h)
 *   peers: other daemons, and their endpoints ──┤        ├──▶ directory, in domain 0: what each guest is told
 *   directory, in a guest: what domain 0 tells ─┼─ known ┼──▶ asks: what other hosts are told
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
#include "wire/hash.h"

#define KNOWN_TAGS_MAX 1026u /* bytes of a domain's tags */

struct changes;
struct image;
struct known;
struct named_domain;
struct record;

/* What is known of a domain. */
struct known_domain {
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
	struct named_domain *current; /* with records under its present name; NULL: there are none */
	UT_hash_handle hh;
};

enum known_what {
	KNOWN_NAME, /* name, UUID, whether they are complete, whether domain 0 leads to it */
	KNOWN_PRESENCE,
	KNOWN_ENDPOINTS,
	KNOWN_AWAY,
	KNOWN_LINK_UP, /* our session with another domain of this host goes on, has lost its vchan or has */
	KNOWN_LINK_LOST,
	KNOWN_LINK_ENDED, /* ended without one */
	KNOWN_READ,	  /* in domain 0: all names that there were at the start are known */
	KNOWN_EXISTS,	  /* in domain 0: the domain is in XenStore's list, or isn't any more */
	KNOWN_LISTED,	  /* that was the list */
	KNOWN_RULES,	  /* what anybody may see */
	KNOWN_ALL,	  /* all peers that run are known now (peers_want_all()) */
};

typedef void (*known_fn)(void *userdata, enum known_what what, uint32_t domid);

struct known_sink {
	known_fn changed;
	void *userdata;
	struct known_sink *prev, *next;
};

/* Names of endpoints, in one allocation, to be freed by free(list). */
struct offered {
	char **list;	/* of valid names, NULL-terminated; or NULL */
	uint8_t *kinds; /* by their places, the bits of BIND; 0: it isn't told */
	unsigned count;
};

/* Returns NULL when memory is short. `self` describes this domain, and outlives it. */
struct known *known_new(const struct self *self);
/* After all sources and sinks. */
void known_free(struct known *known);
/* Adds a sink, which is called whenever something has changed; removes it, if it was added. */
void known_listen(struct known *known, struct known_sink *sink, known_fn changed, void *userdata);
void known_leave(struct known *known, struct known_sink *sink);
/* Tells the sinks what isn't in the table. */
void known_tell(struct known *known, enum known_what what, uint32_t domid);

/* --- what names mean */

/* Finds the domain that a domid, a name or a UUID stands for. Returns 0, or -EHOSTDOWN: none that is known
 * here. */
int known_resolve(struct known *known, const char *domain, uint32_t *domid);
/* Returns the domain's name, "" if unknown. It is valid until the event loop's next turn. */
const char *known_name(struct known *known, uint32_t domid);
/* Returns the UUID as text, likewise. */
const char *known_uuid(struct known *known, uint32_t domid);
/* Returns whether what the two functions above return is complete, even if it is "". It isn't before the
 * domain's nodes were read or domain 0 has told of it, and never for a domain that domain 0 hides from us. */
bool known_is_complete(struct known *known, uint32_t domid);
/* Returns the reason why it isn't, for people. */
const char *known_why_not(struct known *known, uint32_t domid);
/* Returns, in domain 0, whether KNOWN_READ was told. */
bool known_is_read(const struct known *known);
/* Returns whether other domains' names can be known at all: this is domain 0, or its daemon tells us. */
bool known_is_told(const struct known *known);
/* In a guest: returns whether the domain was saved, perhaps, and domain 0 knows the way to it; or, if its
 * daemon `is_late`, to one with the same UUID. */
bool known_is_led_to(struct known *known, uint32_t domid, bool is_late);
/* Returns whether the name can stand in an address or a rule and means nothing else there. */
bool known_name_is_usable(const char *name, size_t size);

/* --- their sources */

/* In domain 0: a domain is in this list; that was all of it, and the others have gone. */
void known_set_exists(struct known *known, uint32_t domid, uint64_t list);
void known_end_list(struct known *known, uint64_t list);

struct known_domain *known_find(struct known *known, uint32_t domid);
/* Returns the domain's entry, made if there was none. NULL: out of memory. */
struct known_domain *known_get(struct known *known, uint32_t domid);
/* Returns the domain behind this one (NULL: the first). */
struct known_domain *known_next(struct known *known, const struct known_domain *after);
/* Each sets a value, and tells it if it has changed. A UUID of zeros, a size of 0: there is none. */
void known_set_name(struct known *known, struct known_domain *domain, const char *name, size_t size);
void known_set_uuid(struct known *known, struct known_domain *domain, const uint8_t uuid[16]);
/* `tags`: NULL: there are none. Copies them. 0 or -ENOMEM. */
int known_set_tags(struct known *known, struct known_domain *domain, const char *tags, bool are_refused);
void known_set_complete(struct known *known, struct known_domain *domain, bool is_complete);
/* Notes that something else of it has changed. */
void known_touch(struct known *known, struct known_domain *domain);
/* Forgets a domain's name; those of all others that were told before this list, and of this one, if that is
 * wanted. */
void known_forget_name(struct known *known, uint32_t domid);
void known_forget_names(struct known *known, uint64_t told_before, bool own);
/* Removes the source; notes that the end of a domain that has gone was told. The entry goes if there is
 * nothing in it. */
void known_drop_source(struct known *known, struct known_domain *domain);
void known_drop_gone(struct known *known, struct known_domain *domain);
/* In a guest: the daemon of domain 0. */
struct known_teller {
	bool is_there, tells; /* names */
	uint64_t lost_ms;     /* since when our link with it is lost; 0: it isn't */
};
struct known_teller *known_teller(struct known *known);
uint64_t known_version(const struct known *known);
/* Writes what domains are called, and whether domain 0 tells it, into the image that the next daemon gets
 * (known_image.c), or reads it: of domains of which nothing was read yet. */
void known_names_image(struct image *image, struct known *known);

/* --- who is there, and what they offer */

/* Notes that a domain's daemon has come, or gone with all of its endpoints. */
void known_set_up(struct known *known, uint32_t domid, bool up);
/* Notes that our link with a domain that is there is lost and may be resumed, or isn't so any more. */
void known_set_away(struct known *known, uint32_t domid, bool away);
/* Sets the endpoints that the domain has now: all of these lists. */
void known_set_endpoints(struct known *known, uint32_t domid, const struct offered *lists, unsigned count);
/* Notes that one has come or gone. */
void known_set_endpoint(struct known *known, uint32_t domid, const char *name, bool up);
/* This domain was restored or migrated, and may have another number: the others go, and it comes by the new
 * one. */
void known_restart(struct known *known);
bool known_is_up(struct known *known, uint32_t domid);
/* Returns the domain's endpoint behind this one (NULL: the first). */
const struct record *known_offered(struct known *known, uint32_t domid, const struct record *after);

/* --- who reads the changes */

struct changes *known_changes(struct known *known);
/* As changes_forget(), with what domains are called now. */
void known_forget(struct known *known, uint64_t heard, uint64_t by_name);

#endif
