/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A session goes on over another vchan while the present one carries it (doc/protocol.md, 5.9), to have
 * larger rings or to give pages back. The granting end begins; it decides when.
 *
 *   state    event at the end that grants        action                                        next
 *   NOT      link_offer()                        grant another vchan; OFFER                    OFFERED
 *   OFFERED  DECLINE                             close it                                      NOT
 *   OFFERED  MOVE                                MOVE, and go on in the new rings (hop.h)      MOVING
 *
 *            at the end that maps
 *   NOT      OFFER                               map it; MOVE, and go on in the new rings      MOVING
 *   NOT      OFFER, and it can't be mapped       DECLINE                                       NOT
 *
 *            at both
 *   MOVING   both MOVEs were read                close the old vchan                           NOT
 *   any      one of the vchans is lost           leave both: AWAY, and to be resumed, or IDLE  NOT
 *
 * The frames need no proof of their sender: they come over the session itself. Each end writes MOVE as the
 * last frame in its old ring and waits until that was read, so what the peer hasn't processed always lies in
 * one ring. OFFER and DECLINE are frames of the session, and come again after a loss: their epoch tells.
 */

#include <errno.h>
#include <string.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/cost.h"
#include "base/timer.h"
#include "daemon/link/link_internal.h"
#include "daemon/peers/peers.h"
#include "wire/frame.h"

#define DECLINED_MS 60000 /* before it is offered anything again */
/* One part of so many of all pages isn't grown into: a link that shrinks needs both for a moment. */
#define RESERVE	      8u
#define PAGES_UNKNOWN (1u << 30)

void link_drop_move(struct link *link, bool to_resume)
{
	carrier_end(&link->move.to, to_resume);
	link->move = (struct link_move){0};
}

static int gone_error(enum carrier_state state)
{
	switch (state) {
	case CARRIER_LEFT:
		return -ENOLINK;
	case CARRIER_CLOSED:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static void on_other(void *userdata)
{
	struct link *link = userdata;
	/* Read the state first: what the peer wrote before it closed is then in the ring. */
	enum carrier_state state = carrier_state(&link->move.to);

	/* Before, the peer may have mapped a part of what was offered, and declines. */
	if (link->move.state == MOVE_MOVING && state != CARRIER_OPEN && state != CARRIER_WAITING) {
		link->move.gone = gone_error(state);
		link_note_death(link, &link->move.to);
	}
	link_stop_being_polled(link);
	hop_event(link->hop);
}

bool link_note_gone(struct link *link, enum carrier_state state)
{
	if (link->move.state != MOVE_MOVING)
		return false;
	link->move.gone = gone_error(state);
	return true;
}

void link_look_whether_gone(struct link *link)
{
	int error = link->move.gone;

	if (!error)
		return;
	/* The peer closes the old vchan when it has moved. */
	hop_look_at_move(link->hop);
	if (link->move.gone)
		hop_fail(link->hop, error, "a vchan has gone while the session moved");
}

void link_look_at_move(struct link *link)
{
	/* With unread input it was we who stood still. */
	if (link->move.state != MOVE_NOT && !hop_has_input(link->hop) &&
	    clock_ms_since(link->move.begun_ms) >= link->links->options.config->dead_after_ms)
		hop_fail(link->hop, -ETIMEDOUT, "the link didn't move in time");
}

/* --- who grants ------------------------------------------------------------------------------- */

bool link_may_move(const struct link *link)
{
	return link->links->options.maker && link->state == LINK_UP && hop_is_up(link->hop) &&
	       !hop_is_finishing(link->hop) && !hop_is_held(link->hop) && link->move.state == MOVE_NOT &&
	       !carrier_is_there(&link->next) && !link_is_remote(link) && carrier_is_granter(&link->carrier);
}

int link_offer(struct link *link, uint32_t ring_size)
{
	const struct carrier_maker *maker = link->links->options.maker;
	struct link_move *move = &link->move;
	struct carrier_place place;
	struct frame_offer offer;
	uint8_t payload[FRAME_SMALL_MAX];
	int r;

	hop_spend(link->hop, COST_VCHAN);
	r = maker->grant(maker->userdata, link->peer.number, ring_size, &move->to, &place);
	if (r < 0)
		return r;
	offer = (struct frame_offer){
		.ring_ref = place.ring_ref, .port = place.port, .epoch = link->session.epoch};
	r = hop_send(link->hop, FRAME_OFFER, 0, 0, payload, frame_offer_encode(&offer, payload));
	if (r < 0) {
		link_drop_move(link, false);
		return r;
	}
	move->state = MOVE_OFFERED;
	move->begun_ms = clock_ms();
	link->elastic.rests_until_ms = move->begun_ms + ELASTIC_REST_MS;
	elastic_offered(&link->elastic, move->begun_ms);
	carrier_hear(&move->to, on_other, link);
	return 0;
}

int link_take_decline(struct link *link, const uint8_t *payload, uint32_t length)
{
	uint32_t epoch;
	int r = frame_u32_decode(payload, length, &epoch);

	if (r < 0 || epoch != link->session.epoch)
		return r;
	if (link->move.state != MOVE_OFFERED)
		return -EPROTO;
	log_debug("%s: other rings can't be mapped", link->title);
	link_drop_move(link, false);
	link->elastic.declined_until_ms = clock_ms() + DECLINED_MS;
	return 0;
}

/* --- both ------------------------------------------------------------------------------------- */

static int move(struct link *link)
{
	struct hop_rings rings = {0};
	int r;

	carrier_rings(&link->move.to, &rings.in, &rings.out[OUTLET_MAIN]);
	r = hop_move(link->hop, &rings);
	if (r < 0)
		return r;
	link->move.state = MOVE_MOVING;
	/* If it's lost from now on, frames of the larger rings may have to be sent again. */
	if (link->ring_bytes < rings.out[OUTLET_MAIN].size)
		link->ring_bytes = rings.out[OUTLET_MAIN].size;
	return 0;
}

/* The peer's MOVE has come: it may, if we have offered something, which it has mapped. */
int link_on_move(void *owner)
{
	struct link *link = owner;
	int r;

	if (link->move.state != MOVE_OFFERED || carrier_state(&link->move.to) == CARRIER_WAITING)
		return -EPROTO;
	r = move(link);
	on_other(link); /* the peer may have gone already */
	return r;
}

void link_on_moved(void *owner)
{
	struct link *link = owner;
	struct carrier old = link->carrier;

	link->carrier = link->move.to;
	link->move = (struct link_move){0};
	link->moves++;
	carrier_close(&old);
	link_hear_carrier(link);
	log_debug("%s: moved to rings of %u bytes", link->title, link->ring_bytes);
}

/* --- who maps --------------------------------------------------------------------------------- */

static int decline(struct link *link, uint32_t epoch, const char *why)
{
	uint8_t declined[4];

	log_debug("%s: not moved to other rings: %s", link->title, why);
	return hop_answer(link->hop, FRAME_DECLINE, 0, declined, frame_u32_encode(epoch, declined));
}

int link_take_offer(struct link *link, const uint8_t *payload, uint32_t length)
{
	const struct carrier_maker *maker = link->links->options.maker;
	struct frame_offer offer;
	uint64_t now = clock_ms();
	int r = frame_offer_decode(payload, length, &offer);

	/* What was sent again after a loss names a vchan that was given up then. */
	if (r < 0 || offer.epoch != link->session.epoch)
		return r;
	if (hop_is_finishing(link->hop)) /* the vchan is being left: it is offered again after that */
		return 0;
	if (!maker || link_is_remote(link) || link->state != LINK_UP || link->move.state != MOVE_NOT ||
	    carrier_is_granter(&link->carrier))
		return -EPROTO;
	/* Mapping can't be done in pieces, so it isn't done as often as the peer wants. */
	if (!elastic_may_move(&link->elastic, now, 0))
		return decline(link, offer.epoch, "the last move was a moment ago");
	elastic_offered(&link->elastic, now);
	hop_spend(link->hop, COST_VCHAN);
	r = maker->map(maker->userdata, link->peer.number,
		       &(struct carrier_place){offer.ring_ref, offer.port}, &link->move.to);
	if (r == -EPROTO)
		return r;
	if (r < 0)
		return decline(link, offer.epoch, strerror(-r));
	link->move.begun_ms = now;
	carrier_hear(&link->move.to, on_other, link);
	r = move(link);
	on_other(link); /* the peer may have gone already */
	return r;
}

/* --- when to move ---------------------------------------------------------------------------- */

/*
 * Lets the links whose pages this domain grants grow and shrink: it pays, so it decides (elastic.h). While
 * nothing is busy and nothing has grown, nobody looks.
 */

/* What all links have to share. */
struct supply {
	uint32_t pages;	  /* for the busy ones, */
	uint32_t busy;	  /* how many they are */
	uint32_t waiting; /* for pages to begin with: links, */
	uint32_t lacking; /* and those that found too few to grow */
	bool has_hurry;	  /* one look more may make a link busy */
};

/* Whether its pages are ours. */
static bool is_elastic(const struct link *link)
{
	return carrier_is_granter(&link->carrier) && !link_is_remote(link);
}

static struct supply link_move_look_at_all(struct links *links, uint64_t elapsed_ms)
{
	const struct carrier_maker *maker = links->options.maker;
	const uint32_t first = links->options.config->ring_size;
	uint32_t limit = maker->pages_limit(maker->userdata), others = 0;
	struct supply supply = {.pages = limit ? limit - limit / RESERVE : PAGES_UNKNOWN,
				.waiting = peers_waiting(links->peers)};
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next) {
		elastic_look(&link->elastic, hop_tx(link->hop)->bytes, hop_rx(link->hop)->bytes, first,
			     elapsed_ms);
		supply.has_hurry |= is_elastic(link) && link->elastic.much && !link->elastic.is_busy;
		supply.lacking += is_elastic(link) && link->elastic.is_short;
		if (is_elastic(link) && link->elastic.is_busy)
			supply.busy++;
		else if (carrier_is_granter(&link->carrier))
			others += elastic_pages(first);
	}
	others += supply.waiting * elastic_pages(first);
	supply.pages -= others < supply.pages ? others : supply.pages;
	return supply;
}

static void link_move_grow(struct link *link, uint32_t size)
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

	for (; size && size >= link->links->options.config->min_ring_size && r == -ENOSPC; size /= 2)
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
static uint32_t link_move_settle(struct link *link, const struct supply *supply)
{
	const struct config *config = link->links->options.config;
	struct elastic *elastic = &link->elastic;
	bool others_lack = supply->waiting || supply->lacking > elastic->is_short;
	uint32_t first = config->ring_size, wanted = first;
	uint64_t now = clock_ms();
	/* While pages are short, a link that has nothing to send at the moment gives them back at once. */
	bool is_busy = elastic->is_busy && !(others_lack && elastic->little);

	if (is_busy)
		wanted = elastic_share(first, config->max_ring_size, supply->pages, supply->busy);
	if (link->ring_bytes >= wanted)
		elastic->is_short = false;
	if (link_may_move(link) && !rests(link, supply, now)) {
		/* Pages were short when a link that has less than the first size began. While others wait for
		 * theirs, it gets no more than they. */
		if (link->ring_bytes < wanted && (is_busy || wanted == first) &&
		    (!supply->waiting || (is_busy && link->ring_bytes < first)))
			link_move_grow(link, supply->waiting ? first : wanted);
		else if (link->ring_bytes > elastic_larger(wanted) && (others_lack || !is_busy))
			shrink(link, wanted);
	}
	if (elastic->is_busy || elastic->much)
		return ELASTIC_LOOK_MS;
	if (link->ring_bytes <= elastic_larger(first))
		return 0;
	return now < elastic->declined_until_ms ? (uint32_t)(elastic->declined_until_ms - now)
						: ELASTIC_LOOK_MS;
}

static void link_move_on_look(int fd, short what, void *userdata)
{
	struct links *links = userdata;
	uint64_t now = clock_ms(), elapsed = now - links->elastic_since_ms;
	struct supply supply = link_move_look_at_all(links, elapsed);
	struct link *link, *next;
	uint32_t soonest = 0;

	if (elastic_is_whole(elapsed)) {
		links->elastic_since_ms = now;
		elapsed = 0;
	}

	HASH_ITER(hh, links->links, link, next) {
		uint32_t ms = is_elastic(link) ? link_move_settle(link, &supply) : 0;

		if (ms && (!soonest || ms < soonest))
			soonest = ms;
	}
	links->elastic_runs = soonest == ELASTIC_LOOK_MS; /* else the first one that is used has it run */
	if (links->elastic_runs)
		soonest = supply.has_hurry ? ELASTIC_EARLY_MS : ELASTIC_LOOK_MS - (uint32_t)elapsed;
	if (soonest && timer_set(links->elastic, soonest) < 0)
		links->elastic_runs = false;
}

void link_elastic_used(struct link *link)
{
	struct links *links = link->links;
	const struct config *config = links->options.config;

	/* One that was resumed may be larger than it should become. */
	if (links->elastic_runs || !links->options.maker ||
	    (config->max_ring_size <= config->ring_size &&
	     link->ring_bytes <= elastic_larger(config->ring_size)))
		return;
	if (hop_tx(link->hop)->bytes - link->elastic.sent < config->ring_size &&
	    hop_rx(link->hop)->bytes - link->elastic.received < config->ring_size)
		return;
	if (!is_elastic(link))
		return;
	links->elastic_since_ms = clock_ms();
	links->elastic_runs = timer_set(links->elastic, ELASTIC_LOOK_MS) == 0;
}

int links_elastic_start(struct links *links)
{
	links->elastic = evtimer_new(links->board->base, link_move_on_look, links);
	return links->elastic ? 0 : -ENOMEM;
}
