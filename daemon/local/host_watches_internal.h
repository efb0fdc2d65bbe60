/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_WATCHES_INTERNAL_H
#define XENMSG_DAEMON_HOST_WATCHES_INTERNAL_H

/* Watches of other hosts (host_watches.c), which host_watches_image.c hands over to the next daemon. */

#include <string.h>

#include "base/turns.h"
#include "daemon/link/asks.h"
#include "daemon/local/host_watches.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/hash.h"

struct event;

/* A list that another host has told, in its order, and a cursor over it. */
struct told_list {
	uint8_t *text;
	struct frame_told all, left;
	struct frame_told_entry entry; /* where the cursor is */
	bool has_entry;		       /* else it is at the end */
};

enum place_state {
	PLACE_ASKED,
	PLACE_COMPARES,
	PLACE_RESTS, /* until its host has answered */
	PLACE_WAITS, /* to be asked again */
	PLACE_RETRIES,
};

/* What is asked again and again: of a host its domains, or of a domain its endpoints. */
struct watched_place {
	struct host_watch *watch;
	uint32_t id; /* by which answers find it */
	enum place_state state;
	enum ask_kind kind;
	char domain[DOMAIN_NAME_MAX + 1]; /* as it is asked for */
	/* It is among what the host has told. While that is compared, it isn't known; but nothing else is
	 * compared then. */
	bool is_wanted;
	bool is_up, is_going; /* the domain, or the host, is reported; and will be as gone */
	bool is_listed;	      /* what there was first is reported, or why there is nothing is known */
	uint32_t failures;    /* since it was told last: the link may just have been idle */
	uint32_t domid;
	char name[DOMAIN_NAME_MAX + 1]; /* of the domain, as it was told */
	uint64_t version;
	struct told_list known, fresh;
	struct watched_place *prev, *next;
	UT_hash_handle hh;
};

struct host_watch {
	struct host_watches *watches;
	struct session *session;
	uint32_t number;
	bool is_answered; /* the WATCH */
	bool is_listed;	  /* as of a watch of this host */
	bool is_cut_off;
	char host[HOST_NAME_SIZE];
	char domain[DOMAIN_NAME_MAX + 1];
	bool is_pattern; /* the domain */
	bool endpoints;	 /* means matching endpoints only; else the domain and all of its endpoints */
	char endpoint[2 * ENDPOINT_NAME_MAX + 1];
	struct frame_identity from;
	struct account *account;
	struct task task;
	struct watched_place *places; /* the first is the host */
	unsigned count;
	struct host_watch *prev, *next;
	UT_hash_handle hh; /* of its session's first one */
};

struct host_watches {
	struct switchboard *board;
	struct asks *asks;
	struct host_watch *list;       /* those of a session are neighbours */
	struct host_watch *by_session; /* the first one of each */
	struct watched_place *by_id;
	uint32_t last_id;
	struct event *timer;
	bool is_held; /* nothing is asked: the daemon hands over */
};

/* Return the session's first one, and its next one. NULL: it has no more. */
struct host_watch *host_watch_first(const struct host_watches *watches, const struct session *session);
static inline struct host_watch *host_watch_next(const struct host_watch *watch)
{
	return watch->next && watch->next->session == watch->session ? watch->next : NULL;
}

/* Adds one of the session's, which means nothing yet. NULL: no memory. */
struct host_watch *host_watch_new(struct host_watches *watches, struct session *session);
void host_watch_free(struct host_watch *watch);
/* Adds what is asked of its host, or of the domain there. NULL: no memory. */
struct watched_place *host_watch_add_place(struct host_watch *watch, enum ask_kind kind, const char *domain);

static inline bool host_watch_is_pattern(const struct host_watch *watch)
{
	return strpbrk(watch->domain, "*?[");
}

/* Copies what an answer has. -ENOMEM. */
int told_list_copy(struct told_list *list, const struct frame_told *told);

#endif
