/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * By what programs know a domain whose session is away. XenStore and domain 0 forget a domain as soon as it is saved, and
 * its daemon isn't there by the new number before it has heard of the restore itself. So its link keeps the name and UUID
 * that were known last, and they lead to the session, as its number does, for resume-for.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/timer.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/directory.h"
#include "wire/address.h"

/* `xl migrate` gives this to a domain that is about to go, and its name to the one that comes. */
#define MIGRATED_AWAY "--migratedaway"

static bool is_name_to_keep(const char *name)
{
	size_t size = strlen(name), end = strlen(MIGRATED_AWAY);

	return size > 0 && (size <= end || strcmp(name + size - end, MIGRATED_AWAY) != 0);
}

void link_note_name(struct link *link)
{
	struct directory *directory = link->links->directory;
	const char *name, *uuid;

	if (link_is_far(link) || link_is_nowhere(link))
		return;
	name = directory_name(directory, link->domid);
	uuid = directory_uuid(directory, link->domid);
	if (is_name_to_keep(name))
		snprintf(link->name, sizeof(link->name), "%s", name);
	if (uuid[0])
		snprintf(link->uuid, sizeof(link->uuid), "%s", uuid);
}

void links_note_name(struct links *links, uint32_t domid)
{
	struct link *link = link_find(links, domid);

	if (!link)
		return;
	link_note_name(link);
	if (link->word_until_ms) /* in a turn of its own, since domain 0's frame is being read */
		timer_set(link->again, 0);
}

void link_note_former(struct link *link, uint32_t domid)
{
	link->former = domid;
	link->former_until_ms = link->session.away_ms + link->links->options.resume_for_ms;
}

static bool has_number(const struct link *link, uint32_t domid)
{
	if (link->state == LINK_AWAY && link->stamped == domid)
		return true;
	return link->former == domid && clock_ms() < link->former_until_ms;
}

/* Finds the session with the domain that had this number. NULL: none is away, or was a moment ago. */
static struct link *find_by_number(const struct links *links, uint32_t domid)
{
	struct link *link;

	DL_FOREACH2(links->met, link, met_next)
		if (!link->claims && !link_is_far(link) && has_number(link, domid))
			return link;
	return NULL;
}

/* Finds the session that is away with a domain of this name, or UUID. */
static struct link *find_by_name(const struct links *links, const char *name)
{
	struct link *link;

	DL_FOREACH2(links->met, link, met_next)
		if (link->state == LINK_AWAY && !link->claims && name[0] &&
		    (!strcmp(link->name, name) || !strcasecmp(link->uuid, name)))
			return link;
	return NULL;
}

/* Whether the domain with this number, in which no daemon is yet, can be the one with which the session was. */
static bool can_be(struct links *links, uint32_t domid, const struct link *link)
{
	const char *uuid = directory_uuid(links->directory, domid);

	return !uuid[0] || !link->uuid[0] || !strcmp(uuid, link->uuid);
}

uint32_t links_meant(struct links *links, uint32_t domid)
{
	const struct link *link;

	if (number_is_host(domid) || domid == links->options.self->domid || links_is_there(links, domid))
		return domid;
	link = find_by_number(links, domid);
	if (link && !can_be(links, domid, link))
		link = NULL;
	if (!link) /* or it comes back, under this one */
		link = find_by_name(links, directory_uuid(links->directory, domid));
	return link ? link->domid : domid;
}

int links_resolve(struct links *links, const char *domain, uint32_t *domid)
{
	int r = directory_resolve(links->directory, domain, domid);
	const struct link *link;

	if (r == 0 && (*domid == links->options.self->domid || links_is_there(links, *domid)))
		return 0;
	link = find_by_name(links, domain);
	if (link && (r < 0 || can_be(links, *domid, link))) {
		*domid = link->domid;
		return 0;
	}
	if (r == 0)
		*domid = links_meant(links, *domid);
	return r;
}

static bool has_session(const struct link *link)
{
	return link && !link->claims && (link->state == LINK_UP || link->state == LINK_AWAY);
}

bool links_had_session(const struct links *links, uint32_t domid)
{
	return has_session(link_find(links, domid)) || find_by_number(links, domid);
}

bool links_zero_knows(struct links *links, uint32_t domid)
{
	if (number_is_host(domid) || has_session(link_find(links, domid)))
		return false;
	/* Domain 0 may have said so before we have read that its presence has gone. */
	return directory_is_away(links->directory, domid) ||
	       (!links_is_there(links, domid) && directory_comes_back(links->directory, domid));
}

/* --- domain 0's word ------------------------------------------------------------------------------ */

/* A domain that is saved has gone from XenStore, where whoever asks reads it, before domain 0 has heard of that and told it. */
#define WORD_MS 500

static bool may_be_told(const struct link *link)
{
	struct links *links = link->links;

	return links->options.relays && links->options.self->domid != 0 && link->domid != 0 &&
	       !link_is_far(link) && links_relays(links, 0) == 1 &&
	       directory_knows(links->directory, link->domid);
}

bool link_waits_for_word(struct link *link, int error, const char *reason)
{
	uint64_t now = clock_ms();

	if (error != -EHOSTDOWN || links_zero_knows(link->links, link->domid) || !may_be_told(link))
		return false;
	if (link_make_timer(link) < 0)
		return false;
	if (!link->word_until_ms)
		link->word_until_ms = now + WORD_MS;
	if (now >= link->word_until_ms || timer_set(link->again, link->word_until_ms - now) < 0)
		return false;
	snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	return true;
}

void link_end_wait_for_word(struct link *link)
{
	char reason[LINK_REASON_SIZE];

	if (link->word_until_ms)
		links_failed(link->links, link->domid, -EHOSTDOWN,
			     memcpy(reason, link->last_error, sizeof(reason)));
}
