/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_INTERNAL_H
#define XENMSG_DAEMON_DIRECTORY_INTERNAL_H

/*
 * What the parts of directory.c share. Directory.c owns what is known of the domains; directory_follow.c
 * reads it from XenStore, directory_serve.c sends it to guests (in domain 0), directory_believe.c receives it
 * from domain 0 (in a guest).
 */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/domains.h"
#include "wire/address.h"
#include "wire/hash.h"

#define DIRECTORY_UUID_TEXT_SIZE 37

/* A domain of which something is known. */
struct domain {
	struct directory *directory;
	uint32_t domid;
	char name[DOMAIN_NAME_MAX + 1];
	uint8_t uuid[16]; /* zero: unknown */
	char uuid_text[DIRECTORY_UUID_TEXT_SIZE];
	uint64_t learned;	   /* when the name or the UUID came, in steps of `clock` */
	bool name_read, uuid_read; /* in XenStore */
	bool known;		   /* both, or domain 0 has told of it */
	bool changed;		   /* domain 0: since the guests were told last */
	bool vanishing;		   /* domain 0: its name is no more; a list will say whether it has gone */
	bool removed;		   /* domain 0: kept until the guests have been told */
	bool away;	  /* it has gone and may come back: its guests have been told, or domain 0 says so */
	uint64_t gone_ms; /* domain 0: when, if it is `removed` */
	bool seen;	  /* a guest: in the list that is being gone through */
	struct store_watch *watch; /* domain 0: of the name */
	struct store_request *name_reading, *uuid_reading;
	UT_hash_handle hh;
};

struct directory {
	struct store *store;
	const struct self *self;
	struct access *access;
	struct directory_callbacks callbacks;
	void *userdata;
	struct domain *domains;
	uint64_t clock;
	unsigned reading;     /* reads of names and UUIDs under way */
	struct event *gather; /* gathers changes, then tells guests or flushes */
	bool changed;	      /* since the last flush */

	/* domain 0 */
	struct domains *following;
	struct domains_follower follower;
	struct guest *guests;
	struct event *resend, *away_over;
	unsigned kept_ms;
	bool complete; /* all domains that there were at the start have been read */

	/* a guest */
	struct store_watch *own_watch;
	bool present, linked; /* domain 0's daemon, and the link with it */
	bool served, listing; /* a complete list has come, is coming */
	struct event *want, *forget;
	unsigned want_ms, believed_ms;
};

struct domain *directory_find(struct directory *directory, uint32_t domid);
/* Returns the domain's entry, made if there was none. NULL: out of memory; it stays unknown until its next
 * change. */
struct domain *directory_get(struct directory *directory, uint32_t domid);
/* Frees the domain without notifying anyone. */
void directory_drop(struct directory *directory, struct domain *domain);
/* Frees the domain, which has gone, and notifies the owner. */
void directory_forget_domain(struct directory *directory, struct domain *domain);

/* Each sets a value and notifies the owner if it has changed. A UUID of zeros, or a size of 0: unknown. */
void directory_set_name(struct directory *directory, struct domain *domain, const char *name, size_t size);
void directory_set_uuid(struct directory *directory, struct domain *domain, const uint8_t uuid[16]);
/* Notes that all is known of the domain: a name or UUID that is missing now doesn't exist. */
void directory_set_known(struct directory *directory, struct domain *domain);
void directory_has_changed(struct directory *directory, struct domain *domain);

/* Returns whether the name can stand in an address or a rule and means nothing else there. */
bool directory_name_is_usable(const char *name, size_t size);
/* Parses 8-4-4-4-12 hexadecimal digits. Returns false if the text has another form. */
bool directory_uuid_parse(const char *text, size_t size, uint8_t uuid[16]);

#endif
