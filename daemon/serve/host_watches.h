/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_WATCHES_H
#define XENMSG_DAEMON_HOST_WATCHES_H

/*
 * Watches of another host, a part of watches.h. Each has a registry of its own, of what the host tells us
 * (link/asks.h), and a watch of all that is in there: that one tells the program, as it does of this host.
 * The registry is filled by questions that are asked again with every answer, so that the next one tells of a
 * change: which domains there are, by which the host is there, and for each domain that is meant, which
 * endpoints it has. A domain without * ? [ is asked by its name, and needn't be one that the host lists.
 *
 *   ASKED ──told, and entered──▶ RETRIES ──its turn──▶ ASKED
 *     └──an error, and once more: it has gone──▶ WAITS ──a second later──▶ RETRIES
 *
 * The program's question stands when the host has told which domains it has, or why it can't be asked. What
 * is told costs the program's user as much (asks.h), and so do the records of it. What failed is asked again
 * in pieces, in the turns of the user that watches.
 */

#include "base/quota.h"
#include "base/turns.h"
#include "daemon/link/asks.h"
#include "wire/address.h"
#include "wire/frame.h"

struct registry;
struct watch;
struct watcher;
struct watches;

#define HOST_WATCHES_PER_ASKER 16u
#define HOST_WATCH_DOMAINS     128u /* of a pattern, by their domids; more aren't watched */

enum place_state {
	PLACE_RESTS, /* until its host has answered */
	PLACE_ASKED,
	PLACE_WALKS, /* over the domains that the host has told */
	PLACE_WAITS, /* to be asked again */
	PLACE_RETRIES,
};

/* What is asked again and again: of a host its domains, or of a domain its endpoints. */
struct watched_place {
	struct host_watch *watch;
	enum place_state state;
	enum ask_kind kind;
	char domain[DOMAIN_NAME_MAX + 1]; /* as it is asked for */
	bool is_wanted;			  /* it is among what the host has told */
	bool is_up;			  /* as far as the program was told, also by the daemon before this */
	bool is_listed;	   /* what there was first is entered, or why there is nothing is known */
	uint32_t failures; /* since it was told last: the link may just have been idle */
	uint64_t asked_ms;
	uint32_t quick; /* answers in a row that came at once: how often we ask isn't up to the other host */
	uint32_t domid; /* in the registry */
	uint64_t version;
	struct charge charge; /* for its records, or the host's text */
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
	uint8_t *text;		 /* the domains that the host has told */
	struct frame_told fresh; /* those of them that are still to be looked at */
	struct host_watch *prev, *next;
};

/* Adds a watch of the pattern's host, which takes over `told`, with its question and endpoint. That is
 * answered, or will be. The watcher may be freed. */
void host_watch_add(struct watcher *watcher, struct watch *told, const struct address_parts *pattern,
		    const struct frame_identity *from);
void host_watch_free(struct host_watch *watch);
/* Frees the watcher, too, if it has no other one. */
void host_watch_end(struct host_watch *watch);
/* A second is over. */
void host_watch_retry(struct host_watch *watch);

#endif
