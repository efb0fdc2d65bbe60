/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the other daemon says besides what it sends on channels. */

#include <errno.h>

#include "base/clock.h"
#include "base/cost.h"
#include "base/self.h"
#include "daemon/link/link_internal.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "wire/frame.h"

static int take_goodbye(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_goodbye goodbye;
	char why[LINK_REASON_SIZE];
	int r = frame_goodbye_decode(payload, header->length, &goodbye);

	if (r < 0)
		return r;
	link_read_goodbye(&goodbye, why, sizeof(why));
	hop_fail(link->hop, -ECONNRESET, "%s", why);
	return 0;
}

/* Takes a DIRECTORY frame. Only domain 0 may send names. */
static int take_directory(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	if (link->state != LINK_UP)
		return -EINVAL;
	if (!peer_is_domain(link->peer, 0) || !link->links->callbacks.names)
		return -EPROTO;
	return link->links->callbacks.names(link->links->userdata, payload, header->length);
}

/* Takes POLICY. Only domain 0 may say what the host's policy is, and only to a guest that has said that
 * it obeys. */
static int take_policy(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	if (link->state != LINK_UP)
		return -EINVAL;
	if (!peer_is_domain(link->peer, 0) || !link->links->callbacks.policy)
		return -EPROTO;
	hop_spend(link->hop, COST_OPEN + COST_BYTES(header->length));
	return link->links->callbacks.policy(link->links->userdata, payload, header->length);
}

/* Whether what is opened here is passed on to a domain of which OPENED has said that it answers. */
static bool has_acceptor_there(const struct channel_end *end)
{
	return end->channel->opened && channel_is_relayed(end->channel);
}

/* Takes SENDER, of what domain 0 or another host passes on. */
static int take_sender(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	const struct links *links = link->links;
	struct channel_end *end = hop_find_channel(link->hop, header->channel);
	struct frame_sender now;
	int r = frame_sender_decode(payload, header->length, &now);

	if (link->state != LINK_UP)
		return -EINVAL;
	if (r < 0 || !links->callbacks.source || !(link_is_remote(link) || peer_is_domain(link->peer, 0)))
		return -EPROTO;
	hop_spend(link->hop, COST_OPEN);
	if (!end || (!end->is_opener && channel_is_reset(end))) /* it has ended while this was on its way */
		return 0;
	if (!end->is_opener && !has_acceptor_there(end))
		return -EPROTO;
	return links->callbacks.source(links->userdata, end, &now);
}

int link_on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	struct link *link = owner;
	uint64_t number, rtt_ns;
	int r;

	if (header->type == FRAME_HELLO)
		return -EBUSY; /* the session began with one */
	if (header->type == FRAME_GOODBYE)
		return take_goodbye(link, header, payload);
	if (header->type == FRAME_DIRECTORY)
		return take_directory(link, header, payload);
	if (header->type == FRAME_POLICY)
		return take_policy(link, header, payload);
	if (header->type == FRAME_OFFER)
		return link_take_offer(link, payload, header->length);
	if (header->type == FRAME_DECLINE)
		return link_take_decline(link, payload, header->length);
	if (header->type == FRAME_SENDER)
		return take_sender(link, header, payload);
	if (header->type == FRAME_IDLE)
		return link_take_idle(link, payload, header->length);
	if (header->type != FRAME_PING && header->type != FRAME_PONG && header->type != FRAME_ACK)
		return -EPROTO;
	if (link->state != LINK_UP)
		return -EINVAL;
	r = frame_u64_decode(payload, header->length, &number);
	if (r < 0)
		return r;
	switch (header->type) {
	case FRAME_PING:
		link->acked = hop_received(link->hop);
		r = hop_answer(link->hop, FRAME_PONG, 0, payload, 8);
		if (r == 0) {
			uint8_t ack[8];

			r = hop_answer(link->hop, FRAME_ACK, 0, ack, frame_u64_encode(link->acked, ack));
		}
		return r;
	case FRAME_PONG:
		rtt_ns = pings_take_pong(&link->pings, number);
		if (rtt_ns) {
			link->rtt_ns = rtt_ns;
			durations_add(&link->round_trips, rtt_ns);
		}
		return 0;
	default:
		if (number > hop_sent(link->hop) || number < link->acked_by_peer)
			return -EPROTO;
		link->acked_by_peer = number;
		return 0;
	}
}

/* --- the heartbeat ------------------------------------------------------------------------------ */

/* What a link's time brings: pings, an answer that is missing, and that nobody uses it. */

/* Whether to send a PING now. One serves both ends: who hears it lives, as does who hears the answer. So
 * the lower domid sends one at each interval, as a hub does for all of its links at once, and the other end
 * only if it has heard nothing for as long, or never how long an answer takes. */
static bool is_ping_due(const struct link *link)
{
	return link_is_lower(link) || !link->rtt_ns ||
	       clock_ms_since(link->times.heard_ms) >= link->links->options.config->heartbeat_ms;
}

static bool carries_directory(const struct link *link)
{
	return !link_is_remote(link) &&
	       (peer_is_domain(link->peer, 0) || link->links->options.self->domid == 0);
}

/* Whether it has been of no use for so long that it is closed. Not if something lies there unread, which may
 * be an OPEN; nor if the peer has gone, which has its own end. */
static bool is_idle(const struct link *link)
{
	uint32_t idle_close_ms = link->links->options.config->idle_close_ms;

	return idle_close_ms && !carries_directory(link) &&
	       clock_ms_since(link->times.used_ms) >= idle_close_ms &&
	       clock_ms_since(link->times.asked_ms) >= idle_close_ms && !hop_has_input(link->hop) &&
	       !hop_is_finishing(link->hop);
}

/* Closes it, but asks first whether the peer is about to use it (protocol.md 5.5). From then on nothing is
 * said: so whoever says GOODBYE has heard all that the other end has said. False: the peer can't be asked
 * now. */
static bool close_idle(struct link *link)
{
	uint8_t payload[4];

	if (link->move.state != MOVE_NOT ||
	    !hop_fall_silent(link->hop, FRAME_IDLE, payload, frame_u32_encode(IDLE_ASKS, payload)))
		return false;
	link->times.asked_ms = clock_ms();
	return true;
}

/* A peer that lives and doesn't answer doesn't let us be silent for ever. One that stood still, or is asked
 * once more since the session was away, has its time. */
static void look_at_answer(struct link *link)
{
	uint32_t patience_ms = 2 * link->links->options.config->dead_after_ms;

	if (clock_ms_since(link->times.asked_ms) >= patience_ms &&
	    clock_ms_since(link->times.carried_ms) >= patience_ms && !hop_has_input(link->hop))
		hop_fail(link->hop, -EPROTO, "the peer doesn't say whether it is idle");
}

/* Whether something of this end is under way, or the link is never closed for this. */
static bool is_in_use(const struct link *link)
{
	return link_is_wanted(link) || hop_has_unsent(link->hop) || link->move.state != MOVE_NOT ||
	       carries_directory(link);
}

int link_take_idle(struct link *link, const uint8_t *payload, uint32_t length)
{
	uint32_t what;
	int r = frame_u32_decode(payload, length, &what);

	if (link->state != LINK_UP)
		return -EINVAL;
	if (r < 0)
		return r;
	if (what == IDLE_ASKS && (hop_is_silent(link->hop) || !is_in_use(link))) {
		/* If both have asked, each knows by this that the other one has. It isn't counted as
		 * heard: if the vchan is left before GOODBYE is said, the next one brings it again. */
		hop_fail(link->hop, -ECONNRESET, LINK_WAS_IDLE);
		return -ECONNRESET;
	} else if (what == IDLE_ASKS) {
		uint8_t no[4];

		return hop_answer(link->hop, FRAME_IDLE, 0, no, frame_u32_encode(IDLE_NO, no));
	} else if (hop_is_silent(link->hop)) {
		hop_speak(link->hop);
		link_tell_awaiting(link);
	}
	return 0;
}

static void beat(struct link *link)
{
	const struct links *links = link->links;
	const uint32_t dead_after_ms = links->options.config->dead_after_ms;
	struct peer_id peer = link->peer;

	if (link->state == LINK_AWAY)
		link_look_at_attempt(link);
	else if (link->state == LINK_GREETING)
		link_look_at_greeting(link);
	/* Once what it claims is proven, it is freed, and the session's has its number. */
	if (link_find(links, peer) != link || link->state != LINK_UP)
		return;
	/* Of an end that has died no event need tell (daemon/xen/vchan.h). */
	if (carrier_state(&link->carrier) != CARRIER_OPEN)
		link_on_carrier(link);
	/* Look into the ring: a peer that was asked to notify us does it once, so after an event was lost no
	 * other comes. And a peer whose frames lie there unread isn't dead: it was we who stood still. */
	hop_look(link->hop);
	link_look_at_move(link);
	link->anews = 0;
	if (link_is_wanted(link))
		link->times.used_ms = clock_ms();
	/* Nor is one that had nothing to say and wasn't asked: this may come late, and the last time was
	 * early. */
	if (clock_ms_since(link->times.heard_ms) >= dead_after_ms && !hop_has_input(link->hop) &&
	    (link->pings.sent_ns || hop_is_silent(link->hop))) {
		hop_fail(link->hop, -ETIMEDOUT, "nothing has come from it for %u s", dead_after_ms / 1000);
		return;
	}
	if (hop_is_silent(link->hop)) {
		look_at_answer(link);
		return;
	}
	if (is_idle(link) && close_idle(link))
		return;
	if (is_ping_due(link))
		pings_send(&link->pings, link->hop);
	pings_tell(&link->pings, 0);
}

/* Returns whether what is remembered of a lost link is old enough to be dropped. */
static bool is_forgotten(const struct link *link)
{
	return link->state == LINK_IDLE && !link_is_wanted(link) &&
	       clock_ms_since(link->times.used_ms) >= link->links->options.config->dead_after_ms;
}

void link_on_heartbeat(int fd, short what, void *userdata)
{
	struct links *links = userdata;
	struct link *link, *next;

	if (links->is_held)
		return;
	HASH_ITER(hh, links->links, link, next) {
		if (is_forgotten(link) && !links_is_there(links, link->peer))
			link_free(link);
		else
			beat(link);
	}
}
