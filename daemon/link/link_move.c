/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A session goes on over another vchan while the present one carries it (doc/protocol.md, 5.9), to have
 * larger rings or to give pages back. The granting end begins; link_elastic.c says when.
 *
 *   state    event at the end that grants        action                                        next
 *   NOT      link_offer()                        grant another vchan; OFFER                    OFFERED
 *   OFFERED  DECLINE                             close it                                      NOT
 *   OFFERED  MOVE                                MOVE, and go on in the new rings (move.c)     MOVING
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

#include "base/clock.h"
#include "base/cost.h"
#include "daemon/link/link_internal.h"
#include "wire/frame.h"

#define DECLINED_MS 60000 /* before it is offered anything again */

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
	    clock_ms_since(link->move.begun_ms) >= link->links->options.dead_after_ms)
		hop_fail(link->hop, -ETIMEDOUT, "the link didn't move in time");
}

/* --- who grants ------------------------------------------------------------------------------- */

bool link_may_move(const struct link *link)
{
	return link->links->options.maker && link->state == LINK_UP && hop_is_up(link->hop) &&
	       !hop_is_finishing(link->hop) && !hop_is_held(link->hop) && link->move.state == MOVE_NOT &&
	       !carrier_is_there(&link->next) && !link_is_far(link) && carrier_is_granter(&link->carrier);
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
	if (!maker || link_is_far(link) || link->state != LINK_UP || link->move.state != MOVE_NOT ||
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
