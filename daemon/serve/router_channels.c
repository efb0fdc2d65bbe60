/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/router_internal.h"

#include <errno.h>
#include <string.h>

#include "base/cost.h"
#include "base/self.h"
#include "daemon/link/relay.h"
#include "daemon/local/session.h"
#include "daemon/local/stream.h"
#include "daemon/local/streams.h"
#include "daemon/policy/access.h"
#include "daemon/registry/registry.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/inner.h"
#include "daemon/switch/sharing.h"
#include "daemon/switch/reassign.h"
#include "wire/ut.h"

#define COST_LOOK   1u	  /* at a channel. Measured: 6 ns */
#define PIECE_UNITS 2048u /* of channels that are looked at, before others have their turns */

/* --- asking policy again ---------------------------------------------------------------------- */

/* Whether it is one in which a topic brings something to a program, which has subscribed, or the other way
 * round: the replica has asked policy. */
static bool is_of_topic(const struct channel *channel)
{
	const struct hop *from = channel->opener.hop, *to = channel->acceptor.hop;

	return channel->kind == CHANNEL_MESSAGE &&
	       ((from && hop_is_inner(from)) || (to && hop_is_inner(to)) || channel_is_relayed(channel));
}

struct channel *router_next_accepted(const struct hop *hop, uint32_t *number)
{
	struct channel_end *end;

	while ((end = hop_next_channel(hop, number)))
		if (!end->is_opener && end->channel->endpoint && !is_of_topic(end->channel))
			return end->channel;
	return NULL;
}

/* Whether the rules here let it go on, by whatever way it was led. 0; -EACCES, -ENODATA. */
static int still_allowed(struct router *router, const struct channel *channel)
{
	if (channel_is_relayed(channel))
		return relay_still_allowed(router->with.relay, channel);
	if (!strcmp(channel->endpoint, DAEMON_ENDPOINT)) /* who may ask what it says itself */
		return 0;
	return access_still_allowed(router->with.access, access_sender_of(channel), channel->endpoint);
}

/* Asks policy about what it has allowed. */
static void ask_again(struct router *router, struct channel *channel, bool is_renumbered)
{
	int r = channel_note_verdict(channel, still_allowed(router, channel), is_renumbered);

	if (r < 0)
		channel_forbid(channel, -r);
}

/* Notes which number and name the domain of the sender has now, and tells who was told others. A host tells
 * its own domains' when the channel is opened. */
static void take_sender(struct router *router, struct channel *channel, uint32_t domid)
{
	const char *name = registry_name(router->with.registry, domid), *had = channel_from_domain(channel);

	if (channel_from_host(channel) || (channel->identity.domid == domid && !strcmp(had ? had : "", name)))
		return;
	channel->identity.domid = domid;
	channel_set_from_domain(channel, name);
	channel_tell_sender(channel);
}

void router_tell_name(struct router *router, struct channel *channel)
{
	if (channel_to_host(channel) && channel->identity.domid != 0) /* domain 0 tells none of its own */
		take_sender(router, channel, channel->identity.domid);
}

void router_recheck(struct router *router, struct channel *channel, bool rules)
{
	if (!channel->endpoint || is_of_topic(channel))
		return;
	take_sender(router, channel, channel->identity.domid);
	if (!rules || !channel_can_be_judged(channel))
		return;
	switch_spend(channel->board, NULL, access_cost(router->with.access));
	ask_again(router, channel, false);
}

static bool is_from_here(const struct router *router, const struct channel *channel)
{
	return !channel_from_host(channel) && channel->identity.domid == router->with.self->domid;
}

/* The domain of who takes what is sent there has another number. */
static void take_acceptor(struct channel *channel, uint32_t domid)
{
	if (!channel->knows_acceptor)
		return;
	channel->acceptor_identity.domid = domid;
	channel_tell_acceptor(channel);
	if (channel->opener.hop && hop_is_inner(channel->opener.hop))
		inner_due(channel->opener.hop); /* a replica names it as the publisher */
}

void router_restart_hop(struct router *router, struct hop *hop, uint32_t was)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next_channel(hop, &number))) {
		struct channel *channel = end->channel;

		/* A peer may have had the number that is ours now, but not ours before. */
		if (channel->identity.domid == was)
			take_sender(router, channel, router->with.self->domid);
		if (end->is_opener)
			continue;
		if (channel->acceptor_identity.domid == was)
			take_acceptor(channel, router->with.self->domid);
		channel->verdict =
			is_from_here(router, channel) ? CHANNEL_AWAITS_NAME : CHANNEL_AWAITS_NUMBER;
	}
}

/* A domain of which domain 0 relays a channel was restored, and has the number `to` now. */
static void follow_relayed(struct router *router, const struct channel_end *end, uint32_t to)
{
	struct channel *channel = end->channel;
	int r;

	if (end->is_opener) {
		take_sender(router, channel, to);
		r = relay_follow_source(router->with.relay, channel);
	} else {
		r = relay_follow(router->with.relay, channel, to);
		if (r == 0)
			take_acceptor(channel, to);
	}
	if (r < 0)
		channel_forbid(channel, r == -ENOMEM ? ECONNRESET : -r);
}

/* Domain 0, or another host, says so of who answers. */
static int acceptor_moved(struct channel *channel, uint32_t to)
{
	if (to == 0 || to > DOMID_MAX)
		return -EPROTO;
	take_acceptor(channel, to);
	return 0;
}

int router_source_moved(struct router *router, struct channel_end *end, const struct frame_sender *now)
{
	struct channel *channel = end->channel;
	int r;

	if (!end->is_opener)
		return acceptor_moved(channel, now->domid);
	r = relay_take_source(router->with.relay, channel, now);
	if (r == -EPROTO)
		return r;
	if (!channel->endpoint || channel_is_reset(&channel->opener))
		return 0;
	switch_spend(channel->board, channel->charge.account, access_cost(router->with.access));
	if (r == 0 && channel_is_relayed(channel))
		r = relay_follow_source(router->with.relay, channel);
	else if (r == 0)
		ask_again(router, channel, true);
	if (r < 0)
		channel_forbid(channel, r == -ENOMEM ? ENOBUFS : -r);
	else
		channel_tell_sender(channel);
	return 0;
}

/* Whether this end is that of the domain whose session is resumed, so that policy depends on who that is. */
static bool is_of(const struct channel_end *end, struct peer_id peer)
{
	return end->is_opener ? channel_from_host(end->channel) || peer_is(channel_source(end->channel), peer)
			      : channel_is_relayed(end->channel);
}

bool router_resumed(struct router *router, struct hop *hop, struct peer_id from, struct peer_id to,
		    uint32_t *at)
{
	bool is_other = !peer_is(from, to);
	uint64_t start = hop_spent_by_all(hop);
	struct channel_end *end;

	while ((end = hop_next_channel(hop, at))) {
		struct channel *channel = end->channel;

		hop_spend(hop, COST_LOOK);
		if (!channel->endpoint)
			continue;
		if (is_other && !end->is_opener && !channel_is_remote(channel) &&
		    !channel_is_relayed(channel))
			take_acceptor(channel, to.number);
		if (is_other && channel_is_relayed(channel)) {
			hop_spend(hop, COST_CHANNEL_END);
			follow_relayed(router, end, to.number);
		} else if ((is_other || channel->verdict != CHANNEL_DECIDED) && is_of(end, from)) {
			hop_spend(hop, COST_OPEN);
			if (is_other)
				take_sender(router, channel, to.number);
			ask_again(router, channel, true);
		}
		if (hop_spent_by_all(hop) - start >= PIECE_UNITS)
			return true;
	}
	return false;
}

/* --- passing on ------------------------------------------------------------------------------- */

struct binder *router_next_binder(const struct endpoint *endpoint, const struct hop *but)
{
	struct binder *binder, *best = NULL;

	DL_FOREACH(endpoint->binders, binder)
		if (binder->hop != but && (!best || worker_is_freer(binder->worker, best->worker)))
			best = binder;
	return best;
}

void router_note_given(struct router *router, const struct channel *channel)
{
	if (channel->sharing && channel->sharing->worker)
		channel->sharing->worker->turn = ++router->turn;
}

/* As router_pass_on(). `sure` is as for channel_go_on(). */
static bool router_channels_pass_on(struct router *router, struct channel *channel, bool sure)
{
	struct endpoint *endpoint = router_get(router, channel->endpoint, strlen(channel->endpoint));
	const struct binder *binder = endpoint ? router_next_binder(endpoint, channel->acceptor.hop) : NULL;

	if (!binder || !binder->worker || channel_go_on(channel, binder->hop, binder->worker, sure) < 0)
		return false;
	router_note_given(router, channel);
	return true;
}

bool router_pass_on(void *userdata, struct channel *channel)
{
	struct router *router = userdata;

	return router_channels_pass_on(router, channel, true);
}

/* Has a stream that a program that goes, or has unbound the endpoint, hasn't fetched be fetched by another
 * one. */
static struct hop *pass_stream_on(void *userdata, const struct hop *from, const char *name)
{
	struct router *router = userdata;
	struct endpoint *endpoint = router_get(router, name, strlen(name));
	struct binder *binder = endpoint ? router_next_binder(endpoint, NULL) : NULL;

	/* The one that leaves has unbound it by now. */
	if (!binder || !binder->worker || binder->hop == from)
		return NULL;
	binder->worker->turn = ++router->turn;
	return binder->hop;
}

bool router_leave(struct router *router, struct hop *hop, uint32_t *at)
{
	uint64_t start = hop_spent_by_all(hop);
	bool sure = !hop_is_unsure(hop);
	struct channel_end *end;

	while ((end = hop_next_channel(hop, at))) {
		hop_spend(hop, COST_LOOK);
		if (!end->is_opener && end->channel->sharing) {
			hop_spend(hop, COST_CHANNEL_END + COST_OPEN);
			if (!channel_give_back(end->channel, sure))
				router_channels_pass_on(router, end->channel, sure);
		}
		if (hop_spent_by_all(hop) - start >= PIECE_UNITS)
			return true;
	}
	return streams_pass_on(router->with.streams, hop, NULL, pass_stream_on, router);
}

/* --- unbinding -------------------------------------------------------------------------------- */

/* A piece of router_end_channels(). */
struct ending {
	struct frame_text name;
	uint64_t start;
};

static bool is_for(const struct channel_end *end, struct frame_text name)
{
	const char *endpoint = end->channel->endpoint;

	return !end->is_opener && !channel_is_reset(end) && endpoint && strlen(endpoint) == name.size &&
	       !memcmp(endpoint, name.data, name.size);
}

/* Ends channels of this hop, from number *at on. True: the piece is over, and there may be more. */
static bool end_some(const struct ending *ending, struct hop *hop, uint32_t *at)
{
	struct channel_end *end;

	while ((end = hop_next_channel(hop, at))) {
		hop_spend(hop, COST_LOOK);
		if (is_for(end, ending->name)) {
			hop_spend(hop, COST_CHANNEL_END);
			channel_unbound(end->channel);
		}
		if (hop_spent_by_all(hop) - ending->start >= PIECE_UNITS)
			return true;
	}
	return false;
}

static bool end_stream(void *userdata, struct stream *stream)
{
	uint32_t number = 0;

	return stream_is_waiting(stream) && end_some(userdata, stream_hop(stream), &number);
}

static bool router_channels_is_shared(struct router *router, struct frame_text name)
{
	const struct endpoint *endpoint = router_get(router, name.data, name.size);

	return endpoint && endpoint->kinds & BIND_SHARED;
}

bool router_end_channels(struct router *router, struct hop *hop, struct frame_text name, uint32_t *at)
{
	struct ending ending = {.name = name, .start = hop_spent_by_all(hop)};

	/* Others share it: of those the program resets each channel itself, also whose OPEN it hasn't seen
	 * yet, and that goes on. */
	if (router_channels_is_shared(router, name))
		return streams_pass_on(router->with.streams, hop, &name, pass_stream_on, router);
	/* Measured: half a nanosecond for an empty place of the table, 6 for a channel. */
	hop_spend(hop, hop_channel_pages(hop));
	return end_some(&ending, hop, at) ||
	       streams_each_waiting(router->with.streams, hop, end_stream, &ending);
}
