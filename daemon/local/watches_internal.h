/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_INTERNAL_H
#define XENMSG_DAEMON_WATCHES_INTERNAL_H

/* What watches.c, which tells programs, and watches_image.c, which hands their watches over, share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/quota.h"
#include "base/turns.h"
#include "daemon/known/known.h"
#include "daemon/local/watches.h"
#include "wire/address.h"
#include "wire/hash.h"

#define WATCHES_PER_SESSION 64

struct watch {
	uint32_t number;
	/* A watch walks over the changes while they go on. It was told of all up to `known`; of records that
	 * changed after `walk`, where the walk began, it may have met an earlier change; `heard` is its
	 * position. */
	uint64_t known, walk, heard;
	char domain[DOMAIN_NAME_MAX + 1];
	char endpoint[2 * ENDPOINT_NAME_MAX + 1];
	bool endpoints; /* means matching endpoints only; else the domain and all of its endpoints */
	bool is_listed; /* it was told of all that was there when it began, and that this was all */
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
	uint64_t heard; /* the position of all of its watches but the new ones */
	bool is_cut_off;
	UT_hash_handle hh;
};

struct watches {
	struct turns *turns;
	struct known *known;
	struct known_sink sink;
	const struct changes *changes;
	struct watcher *watchers; /* by session */
	size_t others;		  /* watches that may mean other domains */
	uint64_t woken_for;	  /* the last change for which they were made due */
	bool all_are_due;
	watches_sees_fn sees;
	watches_knows_all_fn knows_all;
	void *userdata;
};

/* Returns the session's, which is made if it has none. NULL: out of memory. */
struct watcher *watcher_get(struct watches *watches, struct session *session);
/* Adds a watch, which is told what is there. */
void watcher_add(struct watcher *watcher, struct watch *watch);

#endif
