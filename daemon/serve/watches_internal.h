/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_INTERNAL_H
#define XENMSG_DAEMON_WATCHES_INTERNAL_H

/* What watches.c, which tells programs, and host_watches.c, whose watches are of other hosts, share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/quota.h"
#include "base/turns.h"
#include "daemon/registry/changes.h"
#include "daemon/registry/registry.h"
#include "daemon/serve/watches.h"
#include "wire/address.h"
#include "wire/ut.h"

#define WATCHES_PER_ASKER 64
/* As a domain's number: another host itself, of which the registry is. It is there while the host is. */
#define WATCHES_HOST UINT32_MAX

struct event;
struct host_watch;

struct watch {
	struct question *question;
	/* A watch walks over the changes while they go on. It was told of all up to `known`; of records that
	 * changed after `walk`, where the walk began, it may have met an earlier change; `heard` is its
	 * position. */
	uint64_t known, walk, heard;
	uint64_t cuts; /* of struct changes, up to which it knows whether there is more */
	uint64_t met;  /* the serial of the domain that it was compared with last */
	bool met_is_meant;
	bool endpoints; /* means matching endpoints only; else the domain and all of its endpoints */
	bool is_listed; /* it was told of all that was there when it began, and that this was all */
	bool is_cut;	/* there is more than it was told of, as it knows */
	bool has_stood; /* the daemon before this has told it of something */
	uint16_t domain_size, endpoint_size;
	struct watch *prev, *next;
	char domain[]; /* its pattern, and behind the zero that of endpoints */
};

/* The watches of one channel. */
struct watcher {
	struct watches *watches;
	const void *asker;
	struct account *account;
	struct task task;
	struct watch *list;
	unsigned count;
	struct host_watch *of_hosts; /* those of other hosts, each with watches of its own */
	unsigned of_hosts_count;
	uint64_t heard; /* the position of all of its watches but the new ones */
	bool is_cut_off;
	UT_hash_handle hh;
};

/* Of one host. */
struct watches {
	const char *host; /* another one; "": this one */
	struct turns *turns;
	struct registry *registry;
	struct registry_sink sink;
	const struct changes *changes;
	struct watcher *watchers; /* by asker */
	size_t others;		  /* watches that may mean other domains */
	size_t slots_left;	  /* places of changes that the last walk left */
	uint64_t woken_for;	  /* the last change for which they were made due */
	bool all_are_due;
	struct event *settle; /* a timer; NULL: all is known that is to be */
	watches_sees_fn sees;
	watches_knows_all_fn knows_all;
	void *userdata;
	struct inquiries *inquiries; /* to ask other hosts */
	struct event *retry, *gather;
};

/* Returns the asker's, which is made if it has none. NULL: out of memory. */
struct watcher *watcher_get(struct watches *watches, const struct question *question);
void watcher_free_if_empty(struct watcher *watcher);
void watch_free(struct watcher *watcher, struct watch *watch);
/* Adds a watch, which is told what is there. */
void watcher_add(struct watcher *watcher, struct watch *watch);
/* Ends the program's connection, which is told too much. */
void watcher_cut_off(struct watcher *watcher, int error, const char *why);

/* In units (turns.h). A match takes from 10 ns to 19 us, by the lengths of both texts. */
#define COST_VISIT			    4u
#define COST_TELL			    30u
#define COST_POLICY			    100u
#define COST_MATCH(pattern_size, text_size) ((uint64_t)(pattern_size) * (text_size) / 8)
/* units of work of one program's watches, then another's turn comes */
#define PIECE 4096u

#endif
