/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_WATCHES_H
#define XENMSG_DAEMON_WATCHES_H

/*
 * Comings and goings of domains and endpoints, for the programs that watch them, and for listings. Knows what is there now:
 * a new watch is first told of that, then of every change. A pattern is DOMAIN (the domain and all of its endpoints) or
 * DOMAIN:ENDPOINT (those endpoints); both parts may be shell patterns, a domain is meant by its domid, its
 * name or `self`. A domain that is renamed goes for the watches of its old name, comes for those of the new one, and is told
 * once more as up, with its new name, to those that mean it either way.
 */

#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

struct session;
struct watches;

/* `name_of`: a domain's name as it is now, "" if unknown. */
struct watches *watches_new(uint32_t domid, const char *(*name_of)(void *userdata, uint32_t domid), void *userdata);
/* From now on a program is told of those endpoints of this domain only that it may learn of, by what `sees` says at that moment. */
void watches_restrict(struct watches *watches,
		      bool (*sees)(void *userdata, const struct session *session, const char *endpoint));
void watches_free(struct watches *watches);
/* This domain has another number now: its watchers see the old one go and the new one come. */
void watches_renumber(struct watches *watches, uint32_t domid);

/* `number` is that of the WATCH request, which this answers. */
void watches_add(struct watches *watches, struct session *session, uint32_t number, struct frame_text pattern);
/* -ENOENT */
int watches_remove(struct watches *watches, struct session *session, uint32_t number);
void watches_remove_session(struct watches *watches, struct session *session);

void watches_domain(struct watches *watches, uint32_t domid, bool up);
/* All the endpoints of that domain, as of now. */
void watches_endpoints(struct watches *watches, uint32_t domid, const char *const *names, unsigned count);
void watches_endpoint(struct watches *watches, uint32_t domid, const char *name, bool up);

/* The domain had another name, "" for none, until now. */
void watches_renamed(struct watches *watches, uint32_t domid, const char *old_name, const char *name);

#endif
