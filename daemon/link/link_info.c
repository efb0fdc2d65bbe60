/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is told of links: those that there are, and why others couldn't be made. */

#include <stdio.h>
#include <time.h>

#include "daemon/link/link_internal.h"

void link_remember_failure(struct links *links, uint32_t domid, const char *reason)
{
	struct link_failure *failure = NULL;

	for (unsigned i = 0; i < links->failures_count; i++)
		if (links->failures[i].domid == domid)
			failure = &links->failures[i];
	if (!failure) {
		failure = &links->failures[links->failures_next++ % LINKS_FAILURES_MAX];
		links->failures_count += links->failures_count < LINKS_FAILURES_MAX;
	}
	failure->domid = domid;
	failure->since = (uint64_t)time(NULL);
	snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
}

static const char *state_name(enum link_state state)
{
	switch (state) {
	case LINK_CONNECTING:
		return "connecting";
	case LINK_GREETING:
		return "greeting";
	case LINK_UP:
		return "up";
	case LINK_AWAY:
		return "away";
	default:
		return "idle";
	}
}

static void fill_info(struct link *link, struct link_info *info)
{
	const struct link_transport *vchan = link->state == LINK_GREETING ? &link->next : &link->carrier;

	*info = (struct link_info){
		.domid = link->stamped,
		.state = link->state,
		.state_name = state_name(link->state),
		.has_vchan = transport_is_there(vchan),
		.granter = transport_is_granter(vchan),
		.ring_bytes = transport_is_there(&link->carrier) ? link->ring_bytes : 0,
		.pages = transport_pages(vchan),
		.channels = hop_channel_count(link->hop),
		.unacknowledged = hop_unacknowledged(link->hop),
		.rtt_ns = link->rtt_ns,
		.round_trips = link->round_trips,
		.tx = *hop_tx(link->hop),
		.rx = *hop_rx(link->hop),
		.account = hop_account(link->hop),
		.since = link->since,
		.resumes = link->resumes,
		.moves = link->moves,
		.version = link->version,
		.last_error = link->last_error,
	};
}

/* Returns the link without a number that is shown under the lowest one behind `after`, which it had; but where another
 * domain has it now, that one's link is shown. They are the last ones of all. */
static struct link *next_nowhere(const struct links *links, int64_t after)
{
	struct link *best = NULL, *link = NULL;

	if (links->links)
		link = ELMT_FROM_HH(links->links->hh.tbl, links->links->hh.tbl->tail);
	for (; link && link_is_nowhere(link); link = link->hh.prev)
		if (link->stamped > after && (!best || link->stamped < best->stamped) &&
		    !link_find(links, link->stamped))
			best = link;
	return best;
}

unsigned links_count(const struct links *links)
{
	unsigned count = HASH_COUNT(links->links);

	for (const struct link *link = links->links; link; link = link->hh.next)
		count -= link_is_nowhere(link) && link_find(links, link->stamped);
	return count;
}

bool links_next(struct links *links, int64_t after, struct link_info *info)
{
	struct link *link = after >= 0 ? link_find(links, (uint32_t)after) : NULL, *nowhere;

	links_sort(links);
	nowhere = next_nowhere(links, after);
	if (link)
		link = link->hh.next;
	else
		for (link = links->links; link && link->domid <= after; link = link->hh.next)
			;
	if (nowhere && (!link || link->domid > nowhere->stamped))
		link = nowhere;
	if (link && link_is_nowhere(link))
		link = nowhere;
	if (link)
		fill_info(link, info);
	return link != NULL;
}

void links_each_failure(const struct links *links,
			void (*each)(void *userdata, const struct link_failure *failure), void *userdata)
{
	for (unsigned i = 1; i <= links->failures_count; i++)
		each(userdata, &links->failures[(links->failures_next - i) % LINKS_FAILURES_MAX]);
}

bool links_info(struct links *links, uint32_t domid, struct link_info *info)
{
	struct link *link = link_find(links, domid);

	if (!link) {
		links_sort(links);
		link = next_nowhere(links, (int64_t)domid - 1);
		link = link && link->stamped == domid ? link : NULL;
	}
	if (link)
		fill_info(link, info);
	return link != NULL;
}
