/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_WATCHES_H
#define XENMSG_DAEMON_HOST_WATCHES_H

/*
 * Watches of another host, a part of watches.h. Each has a registry of its own, of what that host's
 * daemons tell us, and a watch of all that is in there: that one tells the program, as it does of this
 * host. The registry is filled by watches of ours at those daemons (inquiries.h): at domain 0's, of the
 * domains that are meant, which also says that the host is there; and at the daemon of each of them, of
 * its endpoints. A domain without * ? [ needn't be one that the host lists.
 *
 *   RETRIES ──its turn──▶ ASKED ──something has come──▶ NEWS, or within 100 ms of the last time LATER ──▶ NEWS
 *      ▲                    ▲ ├──an error, and again: it has gone──▶ WAITS                                │
 *      └── a second later ──┼─┴─────────────────────────────────────┘                                     │
 *                           └──────────────── its turn, in which all of that is taken ◀───────────────────┘
 *
 * The program's question stands when domain 0 there has begun to tell, or it is said why it can't be
 * asked. The program's user pays for all of it: the channels, and the records; what the user can't
 * pay for is cut, and asked anew when that may be. How often something is looked at isn't up to the other
 * host.
 */

#include "base/quota.h"
#include "base/turns.h"
#include "wire/address.h"
#include "wire/frame.h"

struct inquiry;
struct registry;
struct watch;
struct watcher;
struct watches;

#define HOST_WATCHES_PER_ASKER 16u
#define HOST_WATCH_DOMAINS     128u  /* of a pattern, by their domids; more aren't watched */
#define HOST_WATCH_ENDPOINTS   4096u /* of a domain */

enum place_state {
	PLACE_RETRIES, /* will be asked */
	PLACE_ASKED,
	PLACE_LATER, /* something has come that must wait */
	PLACE_NEWS,
	PLACE_WAITS, /* to be asked again */
};

/* One thing that is watched there: a host's domains, or a domain's endpoints. */
struct watched_place {
	struct host_watch *watch;
	enum place_state state;
	struct inquiry *inquiry;	  /* NULL: none is out */
	char domain[DOMAIN_NAME_MAX + 1]; /* as it is asked for; "": the host */
	bool is_wanted;			  /* it is among what the host has told */
	bool is_up;			  /* as far as the program was told, also by the daemon before this */
	bool is_listed;	    /* what there was first is entered, or why there is nothing is known */
	bool is_listing;    /* all that is there is being told */
	uint32_t list_size; /* bytes that this has taken */
	uint32_t failures;  /* since it was told last: the link may just have been lost */
	uint64_t asked_ms, read_ms;
	uint32_t quick;	      /* answers in a row that ended at once */
	uint32_t domid;	      /* in the registry */
	uint32_t entries;     /* endpoints there */
	struct charge charge; /* for their records */
	uint64_t lacks;	      /* bytes for which its user couldn't pay, so that some were cut; 0: none were */
	/* of a domain, while they are listed: their names */
	char (*names)[ENDPOINT_NAME_MAX + 1];
	uint32_t count, room;
	bool is_cut; /* more than may be kept was told */
	struct watched_place *prev, *next;
};

struct host_watch {
	struct watcher *watcher; /* its channel's */
	bool is_answered;	 /* its question stands */
	bool is_known;		 /* all of its places are listed */
	bool is_pattern;	 /* the domain */
	bool lacks_some;	 /* for want of room, of what the host has told */
	char host[HOST_NAME_SIZE];
	char domain[DOMAIN_NAME_MAX + 1];
	struct frame_identity from;
	struct registry *registry;
	struct watches *watches; /* of that, with one watch of all that is there */
	struct watcher *inner;
	struct watch *watch;
	struct task task;
	struct watched_place *places; /* the first is the host */
	unsigned count;
	struct host_watch *prev, *next;
};

/* Adds a watch of the pattern's host, which takes over `told`, with its question and endpoint. That is
 * answered, or will be. The watcher may be freed. */
void host_watch_add(struct watcher *watcher, struct watch *told, const struct address_parts *pattern,
		    const struct frame_identity *from);
void host_watch_free(struct host_watch *watch);
/* Frees the watcher, too, if it has no other one. */
void host_watch_end(struct host_watch *watch);
/* Has what waits in one of these states go on. */
void host_watch_go_on(struct host_watch *watch, enum place_state from);

#endif
