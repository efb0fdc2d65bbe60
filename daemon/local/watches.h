/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_H
#define XENMSG_DAEMON_WATCHES_H

/*
 * Tells the programs that watch, and listings, which domains and endpoints come and go. A new watch is first
 * told of what is there now (registry.h), that this was all (EVENT_LISTED), and then of every change. A
 * pattern is DOMAIN (the domain and all of its endpoints) or DOMAIN:ENDPOINT (those endpoints); both parts
 * may be shell patterns, and a domain is matched by its domid, its name or `self`. A domain that is renamed
 * goes down for the watches of its old name, comes up for those of the new one, and is reported once more as
 * up, with its new name, to those that match it either way. One whose link is away is reported as that, and
 * as up once more when it is resumed, or has ended. Watches of another host, HOST/DOMAIN or
 * HOST/DOMAIN:ENDPOINT, hear of it as far as it tells us (host_watches.h).
 *
 * No watch is told at once: a change makes the watches of each session due, as a task of the account that
 * watches (turns.h), which compares them with what has changed, in bounded pieces. So a program with many
 * watches delays only itself. Records lie in the order of their last change, each once (changes.h), and a
 * watch knows its position; a new one begins before the first. So nothing is lost, a watch hears of changes
 * in their order, and one that is late hears of what came and went meanwhile only how it ended. When more
 * than WATCHES_GONE_MAX things that have gone are kept for programs that are late, these are cut off. Another
 * host isn't asked again before its watch was told all, which bounds what is kept of that.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

#define WATCHES_GONE_MAX 8192u

struct asks;
struct event_base;
struct image;
struct image_hops;
struct registry;
struct session;
struct turns;
struct watches;

/* Returns whether the program may learn of that endpoint of this domain; asked before each report of it.
 * NULL: of all. */
typedef bool (*watches_sees_fn)(void *userdata, const struct session *session, const char *endpoint);
/* Returns whether all peers that run are known now; if not, REGISTRY_ALL is told. */
typedef bool (*watches_knows_all_fn)(void *userdata);

/* Returns NULL when memory is short. */
struct watches *watches_new(struct turns *turns, struct registry *registry, watches_sees_fn sees,
			    watches_knows_all_fn knows_all, void *userdata);
void watches_free(struct watches *watches);

/* Sets what other hosts are asked by. Before a watch of one is added or read. It may go when the sessions
 * have. -ENOMEM. */
int watches_set_asks(struct watches *watches, struct event_base *base, struct asks *asks);

/* Adds a watch of its pattern's domain and endpoint, of its host if a program `from` wants that. Answers its
 * WATCH request, which has this `number`, now or, when a host has to be asked, later. */
void watches_add(struct watches *watches, struct session *session, uint32_t number,
		 const struct address_parts *pattern, const struct frame_identity *from);
/* Removes a watch. Returns 0, or -ENOENT: the session has none with this number. */
int watches_remove(struct watches *watches, struct session *session, uint32_t number);
/* Tells them all that is known, and from then on nothing: the next daemon can go on from there.
 * That takes up to 20 ms; a program for whose watches this is too little is cut off. */
void watches_hold(struct watches *watches);
/* The same for a part of them, until a time by clock_thread_ns(). */
void watches_hold_until(struct watches *watches, uint64_t end_ns);
/* Whether any have a turn that is due: then they are told more before they are held. */
bool watches_are_behind(const struct watches *watches);
/* It couldn't take over: goes on here, after either of these. */
void watches_stay(struct watches *watches);
/* Returns how many WATCHes of the program the next daemon is to answer. */
unsigned watches_unanswered(struct watches *watches, const struct session *session);
/* Writes sections into the image that the next daemon gets (hop_image.h): a WATCH or HOST_WATCH for each, and
 * what they were told. They are held. */
void watches_write_image(struct watches *watches, struct image *image);
/* Reads a section of one of these types. */
void watches_read_image(struct watches *watches, struct image *image, const struct image_hops *hops,
			uint32_t type);
/* All was read. */
void watches_go_on(struct watches *watches, struct event_base *base);
/* Returns whether some watch may mean another domain than this one. */
bool watches_others(const struct watches *watches);
void watches_remove_session(struct watches *watches, struct session *session);

#ifdef XENMSG_INVARIANTS
/* A watch that isn't about to be told was told of all that has changed. */
void watches_check(const struct watches *watches);
#endif

#endif
