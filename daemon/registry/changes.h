/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_CHANGES_H
#define XENMSG_DAEMON_CHANGES_H

/*
 * The changes of domains and endpoints. Each domain and each endpoint is a record, and the records lie in the
 * order of their last change, each once; a reader that knows up to which change it has read finds the rest
 * behind it. The record of something that has gone stays until changes_forget() is told that all readers have
 * passed it:
 *
 *   there ──goes──▶ gone: kept until all have heard of it ──▶ forgotten
 *     ▲───comes─────┘
 *
 * It is a part of registry.h, which decides what is recorded.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/address.h"
#include "wire/ut.h"

/* A domain under one name. When it gets another name, it becomes another struct named_domain, and its records
 * exist under both for a while. */
struct named_domain {
	uint32_t domid;
	bool is_own;
	bool away;		     /* our link with it is lost, and may be resumed */
	bool is_cut;		     /* it has more endpoints than are known */
	struct named_domain **place; /* what points to it while this is its name and number */
	uint64_t serial;
	unsigned references;	     /* of records, and of what it is called now */
	struct named_domain *before; /* what it was called until this change; NULL: no watch needs it */
	uint64_t began;		     /* with the changes after this one */
	char name[DOMAIN_NAME_MAX + 1];
	struct record *self;
	struct record *names;
	struct named_domain *prev, *next; /* of those that are cut */
};

/* A domain or an endpoint that is there, or that was, for watches that haven't been told of its end. */
struct record {
	struct named_domain *domain;
	struct named_domain *to; /* after it was renamed, with this endpoint */
	bool up;
	uint8_t kinds; /* the bits of BIND; 0: they aren't told */
	uint64_t seen; /* in which list of endpoints */
	/* Numbers of changes: when it came first, under whatever name of the domain and under this one; since
	 * when it has been up, and when it went last, under whatever name; when it changed last. */
	uint64_t first, born, since, went, changed;
	size_t slot;
	size_t size;
	UT_hash_handle hh;
	char text[]; /* "": the domain itself */
};

struct changes {
	uint64_t last, last_serial;
	struct slot *slots; /* in the order of changes */
	size_t slots_used, slots_capacity;
	size_t records, gone; /* the records of things that aren't there any more */
	struct named_domain *cut;
	uint64_t cuts; /* how often one was cut, or became whole */
};

void changes_destroy(struct changes *changes);

/* Makes a domain under its present name, at *place, where nothing is. NULL: out of memory. */
struct named_domain *named_new(struct changes *changes, struct named_domain **place, uint32_t domid,
			       const char *name);
struct named_domain *named_ref(struct named_domain *domain);
void named_unref(struct named_domain *domain);
/* Notes that it has another name or number now. */
void named_unlist(struct named_domain *domain);

/* Notes whether it is cut, which it is until somebody says otherwise. */
void named_set_cut(struct changes *changes, struct named_domain *domain, bool is_cut);

/* NULL: there is none. */
struct record *record_find(const struct named_domain *domain, const char *text);
/* Makes a record of something that isn't there yet. NULL: out of memory. */
struct record *record_new(struct changes *changes, struct named_domain *domain, const char *text);
/* Notes that the thing comes or goes, or that something else of it has changed. */
void record_change(struct changes *changes, struct record *record, bool up);
void record_move(struct changes *changes, struct record *record);

/* Returns the record that changed next after `heard`. NULL: none has, up to `upto`. */
struct record *changes_next(const struct changes *changes, uint64_t heard, uint64_t upto);

/* Returns whether so much has gone, or changed again, that forgetting is worth a walk. */
bool changes_are_sparse(const struct changes *changes);
/* Forgets what has gone up to the change `heard`. Records that a caller holds may go. */
void changes_forget(struct changes *changes, uint64_t heard);
/* Returns the change by which this many of the things that have gone had gone; 0: fewer have. */
uint64_t changes_until_gone(const struct changes *changes, size_t count);

#endif
