/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_H
#define XENMSG_DAEMON_WATCHES_H

/*
 * Comings and goings of domains and endpoints, for the programs that watch them, and for listings. Knows what
 * is there now: a new watch is first told of that, then of every change. A pattern is DOMAIN (the domain and
 * all of its endpoints) or DOMAIN:ENDPOINT (those endpoints); both parts may be shell patterns, a domain is
 * meant by its domid, its name or `self`. A domain that is renamed goes for the watches of its old name,
 * comes for those of the new one, and is told once more as up, with its new name, to those that mean it
 * either way.
 *
 * Nobody is told at once: a change makes the watches of each session due, as a task of the account that
 * watches (turns.h), which compares them with what has changed, in bounded pieces. So who has many watches
 * waits for them himself. What there is lies in the order of its last change, each thing once (changes.h), and
 * a watch knows up to which change it has heard; a new one begins before the first. So nothing is lost, what a
 * watch hears is in the order of the changes, and who is late hears of what came and went meanwhile only how
 * it ended. When more than WATCHES_GONE_MAX things that have gone are kept for those who are late, these are
 * cut off.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

#define WATCHES_GONE_MAX 8192u

struct directory;
struct self;
struct session;
struct turns;
struct watches;

/* May this program learn of that endpoint of this domain? NULL: of all. Asked whenever it would be told. */
typedef bool (*watches_sees_fn)(void *userdata, const struct session *session, const char *endpoint);

/* The directory says what domains are called, and must outlive this. */
struct watches *watches_new(struct turns *turns, const struct self *self, struct directory *directory,
			    watches_sees_fn sees, void *userdata);
void watches_free(struct watches *watches);
/* This domain was restored or migrated, and may have another number now: who watches it sees the old one go
 * and the new one come. */
void watches_restart(struct watches *watches);

/* `number` is that of the WATCH request, which this answers. */
void watches_add(struct watches *watches, struct session *session, uint32_t number,
		 struct frame_text pattern);
/* -ENOENT */
int watches_remove(struct watches *watches, struct session *session, uint32_t number);
void watches_remove_session(struct watches *watches, struct session *session);

void watches_domain(struct watches *watches, uint32_t domid, bool up);
/* All the endpoints of that domain, as of now. */
void watches_endpoints(struct watches *watches, uint32_t domid, const char *const *names, unsigned count);
void watches_endpoint(struct watches *watches, uint32_t domid, const char *name, bool up);

/* The domain had another name until now; "": none. */
void watches_renamed(struct watches *watches, uint32_t domid, const char *name);

#endif
