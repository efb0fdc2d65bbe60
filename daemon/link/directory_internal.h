/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_DIRECTORY_INTERNAL_H
#define XENMSG_DAEMON_DIRECTORY_INTERNAL_H

/* What the parts of directory.c share: directory_serve.c tells guests (in domain 0), directory_believe.c is
 * told (in a guest). */

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/self.h"
#include "daemon/known/known.h"
#include "daemon/link/directory.h"
#include "wire/hash.h"

struct directory {
	struct directory_options with;
	void (*renamed)(void *userdata);
	void *userdata;
	struct known_sink sink;
	struct event *gather; /* gathers changes, then tells guests */
	bool changed;	      /* since then: names */

	/* domain 0 */
	struct guest *guests;
	uint64_t
		doubted; /* the version at which rules have changed: what was told before may be hidden now */
	struct event *resend, *away_over;

	/* a guest */
	struct known_teller *zero; /* a complete list has come from it, */
	bool linked, listing;	   /* the link with it is up, and such a list is coming */
	uint64_t lists;		   /* that have begun */
	struct event *want, *forget;
	unsigned want_ms;
};

static inline bool directory_in_domain_0(const struct directory *directory)
{
	return directory->with.self->domid == 0;
}

/* --- directory_serve.c: domain 0's side, with a struct guest for each link that is up, and what each was
 * told
 *
 *   came ──tell──▶ told all ──a domain changed, tell──▶ told the change
 *   any ──it couldn't be sent──▶ all of it, once more
 *   any ──what it may see has changed──▶ what differs
 *   any ──link lost──▶ left
 *
 * Of a domain that XenStore has forgotten while it may come back to its session with us, a guest that knows
 * it is told that it is away, and its end later (`kept_ms`): so its name and number lead it to us, and us to
 * that session. */
void serve_guest_came(struct directory *directory, uint32_t domid);
void serve_guest_left(struct directory *directory, uint32_t domid);
/* Removes all guests. */
void serve_stop(struct directory *directory);
/* An event's callback: ends what is kept of domains that haven't come back. `userdata` is the directory. */
void serve_away_over(evutil_socket_t fd, short what, void *userdata);
/* Tells each guest what has changed, then forgets the domains that have gone. */
void serve_tell(struct directory *directory);

/* --- directory_believe.c: a guest's side, which has the fields below `a guest`, directory_take() and
 * directory_restart()
 *
 *   absent ──its daemon is there──▶ wants a link, again and again with growing pauses ──link up──▶ linked
 *   linked ──a complete list──▶ served: changes are taken as they come; a new complete list replaces all
 *   served ──link lost──▶ still served, and the link is wanted
 *          ──believed_ms without a list──▶ nothing is known any more */
int believe_init(struct directory *directory, struct event_base *base);
void believe_destroy(struct directory *directory);
/* Notes that domain 0's daemon has come or gone. */
void believe_presence(struct directory *directory, bool up);
/* KNOWN_LINK_... */
void believe_link(struct directory *directory, enum known_what what, uint32_t domid);

#endif
