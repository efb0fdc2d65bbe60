/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_H
#define XENMSG_DAEMON_WATCHES_H

/*
 * Tells the programs that watch which domains and endpoints come and go. A watch is a question that stands
 * (questions.h). It is first told of what is there now (registry.h), that this was all (EVENT_LISTED), and
 * then of every change. A pattern is DOMAIN (the domain and all of its endpoints) or DOMAIN:ENDPOINT (those
 * endpoints); both parts may be shell patterns, and a domain is matched by its domid, its name or `self`. A
 * domain that is renamed goes down for the watches of its old name, comes up for those of the new one, and
 * is reported once more as up, with its new name, to those that match it either way. One whose link is away
 * is reported as that, and as up once more when it is resumed, or has ended. Watches of another host,
 * HOST/DOMAIN or HOST/DOMAIN:ENDPOINT, hear of it as far as it tells us (host_watches.h).
 *
 * No watch is told at once: a change makes the watches of each channel due, as a task of the account that
 * watches (turns.h), which compares them with what has changed, in bounded pieces. So a program with many
 * watches delays only itself, and one that doesn't read is told nothing until it does. Records lie in the
 * order of their last change, each once (changes.h), and a watch knows its position; a new one begins before
 * the first. So nothing is lost, a watch hears of changes in their order, and one that is late hears of what
 * came and went meanwhile only how it ended. When more than WATCHES_GONE_MAX things that have gone are kept
 * for programs that are late, these are cut off. Another host isn't asked again before its watch was told
 * all, which bounds what is kept of that.
 *
 * A daemon that has taken over begins the watches anew. A program compares what it is told up to
 * EVENT_LISTED with what it was told before (libclient/requests.c).
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

#define WATCHES_GONE_MAX 8192u

struct event_base;
struct inquiries;
struct question;
struct registry;
struct turns;
struct watches;

/* Returns whether who asks may learn of that endpoint of a domain ("": of the domain); asked before each
 * report of it. NULL: of all. */
typedef bool (*watches_sees_fn)(void *userdata, const struct question *question, uint32_t domid,
				const char *endpoint);
/* Returns whether all peers that run are known now; if not, REGISTRY_ALL is told. */
typedef bool (*watches_knows_all_fn)(void *userdata);

/* Returns NULL when memory is short. */
struct watches *watches_new(struct turns *turns, struct registry *registry, watches_sees_fn sees,
			    watches_knows_all_fn knows_all, void *userdata);
void watches_free(struct watches *watches);

/* Sets what other hosts are asked by. Before a watch of one is added or read. It may go when the sessions
 * have. -ENOMEM. */
int watches_set_inquiries(struct watches *watches, struct event_base *base, struct inquiries *inquiries);

/* Answers a question that asks for a watch of the pattern's domain and endpoint, of its host if a program
 * `from` wants that: now or, when a host has to be asked, later. */
void watches_add(struct watches *watches, struct question *question, const struct address_parts *pattern,
		 const struct frame_identity *from);
/* Nobody waits for the answer any more, if it is one to a watch. */
void watches_forget_question(struct watches *watches, const struct question *question);
/* All that this asker's watches were told was sent. */
void watches_heard(struct watches *watches, const void *asker);
/* This daemon has taken over, and finds soon who is there. */
void watches_settle(struct watches *watches, struct event_base *base);
/* Ends the watches of other domains' programs, by EAGAIN: other rules or names let them see other things,
 * and who asks anew is told what is there. */
void watches_hang_up(struct watches *watches);
/* Returns whether some watch may mean another domain than this one. */
bool watches_others(const struct watches *watches);

#ifdef XENMSG_INVARIANTS
/* A watch that isn't about to be told was told of all that has changed. */
void watches_check(const struct watches *watches);
#endif

#endif
