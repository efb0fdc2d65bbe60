/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/link/directory_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/timer.h"

#define GATHER_MS 10 /* a new domain's nodes are written one by one, and a host starts many domains at once */

static void on_gathered(evutil_socket_t fd, short what, void *userdata)
{
	struct directory *directory = userdata;
	bool changed = directory->changed;

	/* A list that isn't complete yet would take from the guests what an earlier daemon has told them. */
	if (known_is_read(directory->with.known))
		serve_tell(directory);
	directory->changed = false;
	if (changed)
		directory->renamed(directory->userdata);
}

static void on_link(struct directory *directory, enum known_what what, uint32_t domid)
{
	if (!directory_in_domain_0(directory))
		believe_link(directory, what, domid);
	else if (what == KNOWN_LINK_UP)
		serve_guest_came(directory, domid);
	else
		serve_guest_left(directory, domid);
}

static void on_known(void *userdata, enum known_what what, uint32_t domid)
{
	struct directory *directory = userdata;

	if (what == KNOWN_LINK_UP || what == KNOWN_LINK_LOST || what == KNOWN_LINK_ENDED)
		on_link(directory, what, domid);
	if (what == KNOWN_PRESENCE && domid == 0 && !directory_in_domain_0(directory))
		believe_presence(directory,
				 known_is_up(directory->with.known, 0) && !directory->with.is_hidden);
	if (what == KNOWN_RULES)
		directory->doubted = known_version(directory->with.known);
	directory->changed = directory->changed || what == KNOWN_NAME;
	if (what == KNOWN_NAME || what == KNOWN_RULES || what == KNOWN_READ)
		timer_start(directory->gather, what == KNOWN_READ ? 0 : GATHER_MS);
}

/* --- life ------------------------------------------------------------------------------------- */

int directory_new(struct directory **out, struct event_base *base, const struct directory_options *options,
		  void (*renamed)(void *userdata), void *userdata)
{
	struct directory *directory = calloc(1, sizeof(*directory));

	if (!directory)
		return -ENOMEM;
	directory->with = *options;
	directory->zero = known_teller(options->known);
	directory->renamed = renamed;
	directory->userdata = userdata;
	directory->gather = evtimer_new(base, on_gathered, directory);
	directory->resend = evtimer_new(base, on_gathered, directory);
	directory->away_over = evtimer_new(base, serve_away_over, directory);
	known_listen(options->known, &directory->sink, on_known, directory);
	if (!directory->gather || !directory->resend || !directory->away_over ||
	    believe_init(directory, base) < 0) {
		directory_free(directory);
		return -ENOMEM;
	}
	*out = directory;
	return 0;
}

void directory_free(struct directory *directory)
{
	if (!directory)
		return;
	known_leave(directory->with.known, &directory->sink);
	serve_stop(directory);
	free_event(directory->gather);
	free_event(directory->resend);
	free_event(directory->away_over);
	believe_destroy(directory);
	free(directory);
}
