/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CHANGES_H
#define XENMSG_DAEMON_CHANGES_H

/*
 * The domains and endpoints that exist. Each is a record, and the records lie in the order of their last
 * change, each once; a reader that knows up to which change it has read finds the rest behind it. The record
 * of something that has gone stays until changes_forget() is told that all readers have passed it:
 *
 *   there ──goes──▶ gone: kept until all have heard of it ──▶ forgotten
 *     ▲───comes─────┘
 *
 * Watches.c reads the records and decides which program is told.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/address.h"
#include "wire/hash.h"

struct directory;
struct self;

/* A domain under one name. When it gets another name, it becomes another struct named_domain, and its records exist
 * under both for a while. */
struct named_domain {
	uint32_t domid;
	bool is_own;
	bool away;	/* our link with it is lost, and may be resumed */
	bool is_listed; /* in changes.domains, by its domid: not when it has got another name or number */
	uint64_t serial;
	unsigned references;	     /* of records, and of what it is called now */
	struct named_domain *before; /* what it was called until this change; NULL: no watch needs it */
	uint64_t began;		     /* with the changes after this one */
	char name[DOMAIN_NAME_MAX + 1];
	struct record *self;
	struct record *names;
	UT_hash_handle hh;
};

/* A domain or an endpoint that is there, or that was, for watches that haven't been told of its end. */
struct record {
	struct named_domain *domain;
	struct named_domain *to; /* after it was renamed, with this endpoint */
	bool up, seen;
	/* Numbers of changes: when it came first, under whatever name of the domain and under this one; since
	 * when it has been up, under whatever name; when it went last; when it changed last. */
	uint64_t first, born, since, went, changed;
	size_t slot;
	size_t size;
	UT_hash_handle hh;
	char text[]; /* "": the domain itself */
};

struct changes {
	const struct self *self;
	struct directory *directory;
	struct named_domain *domains;
	uint64_t last, last_serial;
	struct slot *slots; /* in the order of changes */
	size_t slots_used, slots_room;
	size_t records, gone; /* the records of things that aren't there any more */
};

void changes_init(struct changes *changes, const struct self *self, struct directory *directory);
void changes_destroy(struct changes *changes);

/* These do what the functions of watches.h with these names say. */
void changes_domain(struct changes *changes, uint32_t domid, bool up);
void changes_away(struct changes *changes, uint32_t domid, bool away);
void changes_endpoints(struct changes *changes, uint32_t domid, const char *const *names, unsigned count);
void changes_endpoint(struct changes *changes, uint32_t domid, const char *name, bool up);
void changes_renamed(struct changes *changes, uint32_t domid, const char *name);
void changes_restart(struct changes *changes);

/* Returns the record that changed next after `heard`. NULL: none has, up to `upto`. */
struct record *changes_next(const struct changes *changes, uint64_t heard, uint64_t upto);

/* Returns whether so much has gone, or changed again, that forgetting is worth a walk. */
bool changes_are_sparse(const struct changes *changes);
/* Forgets what has gone up to the change `heard`, and which names domains had before the change `known`.
 * Records that a caller holds may go. */
void changes_forget(struct changes *changes, uint64_t heard, uint64_t known);
/* Returns the change by which this many of the things that have gone had gone; 0: fewer have. */
uint64_t changes_until_gone(const struct changes *changes, size_t count);

#endif
