/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_INTERNAL_H
#define XENMSG_DAEMON_WATCHES_INTERNAL_H

/* What watches.c, which tells programs, watches_image.c, which hands their watches over, and host_watches.c,
 * whose watches are of other hosts, share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/quota.h"
#include "base/turns.h"
#include "daemon/registry/changes.h"
#include "daemon/registry/registry.h"
#include "daemon/local/watches.h"
#include "wire/address.h"
#include "wire/ut.h"

#define WATCHES_PER_SESSION 64
/* As a domain's number: another host itself, of which the registry is. It is there while the host is. */
#define WATCHES_HOST UINT32_MAX

struct event;
struct host_watch;

/* Something that was there when another daemon handed over: the record as it told of it. */
struct thing {
	struct named_domain domain;
	struct record *record;
	char key[ENDPOINT_NAME_MAX + 16]; /* "DOMID ENDPOINT", whatever the domain's name */
	/* It is missed: for so long in all the daemons that handed over since one saw it, and knew all */
	uint32_t missed_ms;
	bool is_settled; /* watches_hold(): it is told now */
	UT_hash_handle hh;
};

struct watch {
	uint32_t number;
	/* A watch walks over the changes while they go on. It was told of all up to `known`; of records that
	 * changed after `walk`, where the walk began, it may have met an earlier change; `heard` is its
	 * position. */
	uint64_t known, walk, heard;
	char domain[DOMAIN_NAME_MAX + 1];
	char endpoint[2 * ENDPOINT_NAME_MAX + 1];
	bool endpoints;	   /* means matching endpoints only; else the domain and all of its endpoints */
	bool is_listed;	   /* it was told of all that was there when it began, and that this was all */
	bool was_told;	   /* all, before a hand-over; else it came when nothing was told any more */
	bool knows_before; /* it was told by the daemon before this of all things in the table `before` */
	const struct thing
		*compared; /* with these it was compared already, up to this one; NULL: with none */
	size_t domain_size, endpoint_size;
	uint64_t met; /* the serial of the domain that it was compared with last, and the answer */
	bool met_is_meant;
	struct watch *prev, *next;
};

/* The watches of one session. */
struct watcher {
	struct watches *watches;
	struct session *session;
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
	bool lacks_some;  /* of what is there: another host doesn't tell all of it */
	struct turns *turns;
	struct registry *registry;
	struct registry_sink sink;
	const struct changes *changes;
	struct watcher *watchers; /* by session */
	size_t others;		  /* watches that may mean other domains */
	size_t slots_left;	  /* places of changes that the last walk left */
	uint64_t woken_for;	  /* the last change for which they were made due */
	bool all_are_due;
	bool is_held; /* nothing is told here any more; the next daemon goes on from there */
	/* What the daemon before this has told of. Until this one knows all that is there nothing is told of
	 * these, and then what has gone. */
	struct thing *before;
	size_t comparing;     /* watches that know_before */
	struct event *settle; /* a timer; NULL: all is known that is to be */
	uint64_t began_ms;    /* by clock_ms(): when it began to look for these */
	watches_sees_fn sees;
	watches_knows_all_fn knows_all;
	void *userdata;
	struct asks *asks; /* by which other hosts are asked */
	struct event *retry;
};

/* Returns the session's, which is made if it has none. NULL: out of memory. */
struct watcher *watcher_get(struct watches *watches, struct session *session);
/* NULL: it has none. */
struct watcher *watcher_find(struct watches *watches, const struct session *session);
void watcher_free_if_empty(struct watcher *watcher);
/* Adds a watch, which is told what is there. */
void watcher_add(struct watcher *watcher, struct watch *watch);
/* NULL: there is none. */
struct watch *watcher_find_watch(const struct watcher *watcher, uint32_t number);
struct host_watch *watcher_find_host_watch(const struct watcher *watcher, uint32_t number);
/* Tells its watches what has changed. Returns false when the piece is over. */
bool watcher_hear(struct watcher *watcher, uint64_t *cost);
/* Returns whether the watch means it, and adds what that cost. */
bool watch_means(struct watch *watch, const struct record *record, uint64_t *cost);
bool watch_means_others(const struct watch *watch);
void watch_tell(struct watcher *watcher, const struct watch *watch, const struct record *record, bool up,
		uint64_t *cost);
/* Tells that the link with the domain is away, if it is. */
void watch_tell_away(struct watcher *watcher, const struct watch *watch, const struct record *record,
		     uint64_t *cost);

/* watches_image.c: whether the daemon before this has told the watch of it, and this one doesn't know yet
 * whether that has changed. */
bool watch_knows_before(const struct watch *watch, const struct watches *watches,
			const struct record *record);
/* Compares what it was told before with what is there, as soon as that is known. Returns false when the piece
 * is over. */
bool watch_compare(struct watcher *watcher, struct watch *watch, uint64_t *cost);
void watches_forget_before(struct watches *watches);
/* A watch has no need of what was before. */
void watches_end_compare(struct watches *watches, struct watch *watch);
/* It was told by the daemon before this of all things that it means. */
void watch_knew_before(struct watcher *watcher, struct watch *watch);
/* Its fields in a section: also that of one of another host, which has all things that were told, too. */
void watch_image(struct image *image, struct watch *watch);
void watches_write_things(const struct watches *watches, struct image *image);
void watches_read_things(struct watches *watches, struct image *image);

/* In units (turns.h). A match takes from 10 ns to 19 us, by the lengths of both texts. */
#define COST_VISIT			    4u
#define COST_TELL			    30u
#define COST_MATCH(pattern_size, text_size) ((uint64_t)(pattern_size) * (text_size) / 8)
/* units of work of one program's watches, then another's turn comes */
#define PIECE 4096u

#endif
