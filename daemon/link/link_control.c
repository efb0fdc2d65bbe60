/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the other daemon says besides what it sends on channels. */

#include <errno.h>

#include "base/cost.h"
#include "daemon/link/link_internal.h"
#include "daemon/relay/channel.h"

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

/* Whether it is a ping for somebody else: otherwise what is behind the token means nothing. */
static bool is_relayed_ping(const struct link *link, uint32_t length)
{
	const struct links *links = link->links;

	if (length < FRAME_PING_RELAYED_SIZE || !links->callbacks.ping)
		return false;
	return length > FRAME_PING_RELAYED_SIZE ? links->options.hosts != NULL
						: links->options.relays && !link_is_far(link);
}

static int take_relayed_ping(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_ping_relayed ping;
	int r = frame_ping_relayed_decode(payload, header->length, &ping);

	if (link->state != LINK_UP)
		return -EINVAL;
	link->used_ms = clock_ms();
	if (r == 0)
		link->links->callbacks.ping(link->links->userdata, link->peer, &ping);
	return r;
}

/* Takes the answer to a ping that the peer has relayed. False: it answers none. */
static bool take_relayed_pong(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_ping_relayed pong;
	uint64_t rtt_ns;
	uint32_t domid = link->peer.number;
	struct link *other;

	if (frame_ping_relayed_decode(payload, header->length, &pong) < 0)
		return false;
	rtt_ns = pings_take_relayed(&link->pings, link->hop, pong.token,
				    pong.number ? frame_error(pong.number, -EPROTO) : 0, &domid);
	other = rtt_ns ? link_find_domain(link->links, domid) : NULL;
	if (other)
		other->rtt_ns = rtt_ns;
	return domid != link->peer.number;
}

/* Takes a frame about what is on other hosts. */
static int take_ask(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	const struct links *links = link->links;

	if (!links->callbacks.asked)
		return -EPROTO;
	if (link->state != LINK_UP)
		return -EINVAL;
	link->used_ms = clock_ms();
	return links->callbacks.asked(links->userdata, link->peer, header->type, payload, header->length);
}

/* Takes SOURCE, of what domain 0 or another host passes on. */
static int take_source(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	const struct links *links = link->links;
	struct channel_end *end = hop_find_channel(link->hop, header->channel);
	uint32_t domid;
	int r = frame_u32_decode(payload, header->length, &domid);

	if (link->state != LINK_UP)
		return -EINVAL;
	if (r < 0 || !links->callbacks.source || !(link_is_far(link) || peer_is_domain(link->peer, 0)))
		return -EPROTO;
	hop_spend(link->hop, COST_OPEN);
	if (!end) /* it has ended here while this was on its way */
		return 0;
	return end->is_opener ? links->callbacks.source(links->userdata, end->channel, domid) : -EPROTO;
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
	if (header->type == FRAME_PING && is_relayed_ping(link, header->length))
		return take_relayed_ping(link, header, payload);
	if (header->type == FRAME_SOURCE)
		return take_source(link, header, payload);
	if (header->type == FRAME_IDLE)
		return link_take_idle(link, payload, header->length);
	if (header->type >= FRAME_ASK && header->type <= FRAME_UNASK)
		return take_ask(link, header, payload);
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
		if (take_relayed_pong(link, header, payload))
			return 0;
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
