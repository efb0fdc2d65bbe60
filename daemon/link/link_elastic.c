/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Lets the links whose pages this domain grants grow and shrink: it pays, so it decides (elastic.h). While
 * nothing is busy and nothing has grown, nobody looks.
 */

#include <errno.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/timer.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"

/* One part of so many of all pages isn't grown into: a link that shrinks needs both for a moment. */
#define RESERVE	      8u
#define PAGES_UNKNOWN (1u << 30)

/* What all links have to share. */
struct supply {
	uint32_t pages;	  /* for the busy ones, */
	uint32_t busy;	  /* how many they are */
	uint32_t waiting; /* for pages to begin with: links, */
	uint32_t lacking; /* and those that found too few to grow */
};

/* Whether its pages are ours. */
static bool is_elastic(const struct link *link)
{
	return carrier_is_granter(&link->carrier) && !link_is_far(link);
}

static struct supply look_at_all(struct links *links)
{
	const struct links_options *options = &links->options;
	uint32_t limit = options->maker->pages_limit(options->maker->userdata), others = 0;
	struct supply supply = {.pages = limit ? limit - limit / RESERVE : PAGES_UNKNOWN,
				.waiting = peers_waiting(links->peers)};
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next) {
		elastic_look(&link->elastic, hop_tx(link->hop)->bytes, hop_rx(link->hop)->bytes,
			     options->ring_size);
		supply.lacking += is_elastic(link) && link->elastic.is_short;
		if (is_elastic(link) && link->elastic.is_busy)
			supply.busy++;
		else if (carrier_is_granter(&link->carrier))
			others += elastic_pages(options->ring_size);
	}
	others += supply.waiting * elastic_pages(options->ring_size);
	supply.pages -= others < supply.pages ? others : supply.pages;
	return supply;
}

static void grow(struct link *link, uint32_t size)
{
	int r = -ENOSPC;

	for (; size > link->ring_bytes && r == -ENOSPC; size /= 2) {
		r = link_offer(link, size);
		if (r == -ENOSPC)
			link->elastic.is_short = true;
	}
	if (r < 0)
		link->elastic.rests_until_ms = clock_ms() + ELASTIC_REST_MS;
}

/* The old pages are still there meanwhile, so the new ones may have to be fewer than wanted. */
static void shrink(struct link *link, uint32_t size)
{
	int r = -ENOSPC;

	for (; size && size >= link->links->options.min_ring_size && r == -ENOSPC; size /= 2)
		r = link_offer(link, size);
}

static bool rests(const struct link *link, const struct supply *supply, uint64_t now)
{
	return now < link->elastic.declined_until_ms ||
	       (now < link->elastic.rests_until_ms && !supply->waiting) ||
	       !elastic_may_move(&link->elastic, now, ELASTIC_LATE_MS);
}

/* Lets the link move, if it should. Returns in how many ms it may have to move, though nothing comes over it;
 * 0: never. */
static uint32_t settle(struct link *link, const struct supply *supply)
{
	const struct links_options *options = &link->links->options;
	struct elastic *elastic = &link->elastic;
	bool others_lack = supply->waiting || supply->lacking > elastic->is_short;
	uint32_t first = options->ring_size, wanted = first;
	uint64_t now = clock_ms();
	/* While pages are short, a link that has nothing to send at the moment gives them back at once. */
	bool is_busy = elastic->is_busy && !(others_lack && elastic->little);

	if (is_busy)
		wanted = elastic_share(first, options->max_ring_size, supply->pages, supply->busy);
	if (link->ring_bytes >= wanted)
		elastic->is_short = false;
	if (link_may_move(link) && !rests(link, supply, now)) {
		/* Pages were short when a link that has less than the first size began. While others wait for
		 * theirs, it gets no more than they. */
		if (link->ring_bytes < wanted && (is_busy || wanted == first) &&
		    (!supply->waiting || (is_busy && link->ring_bytes < first)))
			grow(link, supply->waiting ? first : wanted);
		else if (link->ring_bytes > wanted && (others_lack || !is_busy))
			shrink(link, wanted);
	}
	if (elastic->is_busy || elastic->much)
		return ELASTIC_LOOK_MS;
	if (link->ring_bytes <= first)
		return 0;
	return now < elastic->declined_until_ms ? (uint32_t)(elastic->declined_until_ms - now)
						: ELASTIC_LOOK_MS;
}

static void on_look(int fd, short what, void *userdata)
{
	struct links *links = userdata;
	struct supply supply = look_at_all(links);
	struct link *link, *next;
	uint32_t soonest = 0;

	HASH_ITER(hh, links->links, link, next) {
		uint32_t ms = is_elastic(link) ? settle(link, &supply) : 0;

		if (ms && (!soonest || ms < soonest))
			soonest = ms;
	}
	if (soonest && timer_set(links->elastic, soonest) < 0)
		soonest = 0;
	links->elastic_runs = soonest == ELASTIC_LOOK_MS; /* else the first one that is used has it run */
}

void link_elastic_used(struct link *link)
{
	struct links *links = link->links;
	const struct links_options *options = &links->options;

	/* One that was resumed may be larger than it should become. */
	if (links->elastic_runs || !options->maker ||
	    (options->max_ring_size <= options->ring_size && link->ring_bytes <= options->ring_size))
		return;
	if (hop_tx(link->hop)->bytes - link->elastic.sent < options->ring_size &&
	    hop_rx(link->hop)->bytes - link->elastic.received < options->ring_size)
		return;
	if (is_elastic(link))
		links->elastic_runs = timer_set(links->elastic, ELASTIC_LOOK_MS) == 0;
}

int links_elastic_start(struct links *links)
{
	links->elastic = evtimer_new(links->relay->base, on_look, links);
	return links->elastic ? 0 : -ENOMEM;
}
