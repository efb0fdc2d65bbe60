/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What is told of links: those that there are, and why others couldn't be made. */

#include <stdio.h>
#include <time.h>

#include "base/image.h"
#include "daemon/link/link_internal.h"

void link_remember_failure(struct links *links, struct peer_id peer, const char *reason)
{
	struct link_failure *failure = NULL;

	for (unsigned i = 0; i < links->failures_count; i++)
		if (peer_is(links->failures[i].peer, peer))
			failure = &links->failures[i];
	if (!failure) {
		failure = &links->failures[links->failures_next++ % LINKS_FAILURES_MAX];
		links->failures_count += links->failures_count < LINKS_FAILURES_MAX;
	}
	failure->peer = peer;
	failure->since = (uint64_t)time(NULL);
	snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
}

/* The oldest comes first. */
void links_failures_image(struct image *image, struct links *links)
{
	uint32_t count = links->failures_count;

	image_upto(image, &count, LINKS_FAILURES_MAX);
	links->failures_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct link_failure *failure =
			&links->failures[(links->failures_next - count + i) % LINKS_FAILURES_MAX];

		image_u32(image, &failure->peer.number);
		failure->peer.kind = failure->peer.number < HOST_FIRST ? PEER_DOMAIN : PEER_HOST;
		image_u64(image, &failure->since);
		image_text(image, failure->reason, sizeof(failure->reason));
	}
	if (image->error)
		links->failures_count = 0;
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
	const struct carrier *vchan = link->state == LINK_GREETING ? &link->next : &link->carrier;

	*info = (struct link_info){
		.peer = link->stamped,
		.state = link->state,
		.state_name = state_name(link->state),
		.has_vchan = carrier_is_there(vchan),
		.granter = carrier_is_granter(vchan),
		.ring_bytes = carrier_is_there(&link->carrier) ? link->ring_bytes : 0,
		.pages = carrier_pages(vchan),
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
		.flags = link->flags,
	};
}

/* Returns the link behind this one (NULL: the first) of those with nobody's number, which are the last ones
 * of all. */
static struct link *behind_nobodys(const struct links *links, const struct link *link)
{
	struct link *before = NULL;

	if (link)
		before = link->hh.prev;
	else if (links->links)
		before = ELMT_FROM_HH(links->links->hh.tbl, links->links->hh.tbl->tail);
	return before && link_is_nobodys(before) ? before : NULL;
}

/* Returns the link with nobody's number that is shown under the lowest one behind `after`, which it had; but
 * where another domain has it now, that one's link is shown. */
static struct link *next_nobodys(const struct links *links, const struct peer_id *after)
{
	struct link *best = NULL, *link = NULL;

	while ((link = behind_nobodys(links, link)))
		if ((!after || peer_order(link->stamped, *after) > 0) &&
		    (!best || peer_order(link->stamped, best->stamped) < 0) &&
		    !link_find(links, link->stamped))
			best = link;
	return best;
}

unsigned links_count(const struct links *links)
{
	unsigned count = HASH_COUNT(links->links);

	for (const struct link *link = links->links; link; link = link->hh.next)
		count -= link_is_nobodys(link) && link_find(links, link->stamped);
	return count;
}

bool links_next(struct links *links, const struct peer_id *after, struct link_info *info)
{
	struct link *link = after ? link_find(links, *after) : NULL, *nobodys;

	links_sort(links);
	nobodys = next_nobodys(links, after);
	if (link)
		link = link->hh.next;
	else
		for (link = links->links; link && after && peer_order(link->peer, *after) <= 0;
		     link = link->hh.next)
			;
	if (nobodys && (!link || peer_order(link->peer, nobodys->stamped) > 0))
		link = nobodys;
	if (link && link_is_nobodys(link))
		link = nobodys;
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

bool links_info(struct links *links, struct peer_id peer, struct link_info *info)
{
	struct link *link = link_find(links, peer);

	if (!link) {
		links_sort(links);
		while ((link = behind_nobodys(links, link)) && !peer_is(link->stamped, peer))
			;
	}
	if (link)
		fill_info(link, info);
	return link != NULL;
}
