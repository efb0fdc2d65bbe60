/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/router.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/activation/activation.h"
#include "base/cost.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/link/asks.h"
#include "daemon/link/link.h"
#include "daemon/link/via.h"
#include "daemon/hosts/hosts.h"
#include "daemon/local/session.h"
#include "daemon/local/stream.h"
#include "daemon/local/streams.h"
#include "daemon/local/watches.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/peers.h"
#include "daemon/policy/access.h"
#include "daemon/relay/channel.h"
#include "daemon/relay/hop.h"

#define COST_ADVERTISE	    20u /* units (turns.h) */
#define COST_ADVERTISE_NAME 10u
#define COST_LOOK	    1u	  /* at a channel. Measured: 6 ns */
#define PIECE_UNITS	    2048u /* of channels that are looked at, before others have their turns */

struct router {
	struct router_collaborators with;
	struct endpoint *endpoints; /* in the order of their names */
	struct task advertise;	    /* due when some were bound or unbound */
};

/* --- names ------------------------------------------------------------------------------------ */

void router_advertise(struct router *router)
{
	unsigned count = HASH_COUNT(router->endpoints), i = 0;
	const char **names = calloc(count + 1, sizeof(*names));
	uint8_t *kinds = calloc(count + 1, 1);
	const struct endpoint *endpoint;

	for (endpoint = router->endpoints; names && kinds && endpoint; endpoint = endpoint->hh.next) {
		kinds[i] = (uint8_t)(endpoint->kinds & ~BIND_HOSTS);
		names[i++] = endpoint->name;
	}
	if (names && kinds)
		peers_advertise(router->with.peers, names, kinds, count);
	asks_changed(router->with.asks);
	free(kinds);
	free(names);
}

/* Advertises once for all that was bound in a turn of the loop, since it gathers all names. */
static void on_advertise(struct task *task)
{
	struct router *router = (struct router *)((char *)task - offsetof(struct router, advertise));

	router_advertise(router);
	turns_spend(task->turns, task->line,
		    COST_ADVERTISE + COST_ADVERTISE_NAME * HASH_COUNT(router->endpoints));
}

static void tell(struct router *router, const struct endpoint *endpoint, bool bound)
{
	watches_endpoint(router->with.watches, router->with.self->domid, endpoint->name, bound);
	task_due(&router->advertise);
}

int router_new(struct router **out, const struct router_collaborators *collaborators)
{
	struct router *router = calloc(1, sizeof(*router));

	if (!router)
		return -ENOMEM;
	router->with = *collaborators;
	task_init(&router->advertise, router->with.turns, NULL, on_advertise);
	*out = router;
	return 0;
}

void router_free(struct router *router)
{
	struct endpoint *endpoint, *next;

	if (!router)
		return;
	task_cancel(&router->advertise);
	HASH_ITER(hh, router->endpoints, endpoint, next) {
		HASH_DEL(router->endpoints, endpoint);
		charge_end(&endpoint->charge);
		channel_tally_unref(endpoint->tally);
		free(endpoint);
	}
	free(router);
}

static struct endpoint *find(struct router *router, const char *name, size_t size)
{
	struct endpoint *endpoint;

	HASH_FIND(hh, router->endpoints, name, size, endpoint);
	return endpoint;
}

static int by_name(const struct endpoint *a, const struct endpoint *b)
{
	return strcmp(a->name, b->name);
}

/* Adds an endpoint that no program has bound yet, and tells who watches. NULL: out of memory. */
static struct endpoint *add_endpoint(struct router *router, const char *name, size_t size)
{
	struct endpoint *endpoint = calloc(1, sizeof(*endpoint));

	if (!endpoint)
		return NULL;
	endpoint->tally = channel_tally_new();
	if (!endpoint->tally) {
		free(endpoint);
		return NULL;
	}
	memcpy(endpoint->name, name, size);
	HASH_ADD_KEYPTR_INORDER(hh, router->endpoints, endpoint->name, size, endpoint, by_name);
	tell(router, endpoint, true);
	return endpoint;
}

int router_bind(struct router *router, struct session *session, struct frame_text name, uint32_t kinds)
{
	struct endpoint *endpoint;
	struct charge charge;
	int r;

	if (!endpoint_name_is_valid(name.data, name.size) || !(kinds & ~BIND_HOSTS))
		return -EINVAL;
	endpoint = find(router, name.data, name.size);
	if (endpoint && endpoint->session)
		return -EEXIST;
	charge_init(&charge, hop_account(session_hop(session)));
	r = charge_add(&charge, QUOTA_ENDPOINTS, 1);
	if (r == 0 && !endpoint)
		endpoint = add_endpoint(router, name.data, name.size);
	if (r < 0 || !endpoint) {
		charge_end(&charge);
		return r < 0 ? r : -ENOMEM;
	}
	charge_move(&endpoint->charge, &charge);
	endpoint->kinds = kinds;
	endpoint->session = session;
	if (endpoint->activation)
		activation_bound(endpoint->activation);
	return 0;
}

static void remove_endpoint(struct router *router, struct endpoint *endpoint)
{
	HASH_DEL(router->endpoints, endpoint);
	tell(router, endpoint, false);
	charge_end(&endpoint->charge);
	channel_tally_unref(endpoint->tally);
	free(endpoint);
}

/* Takes the endpoint from its program. One that is started on demand stays there for all others. */
static void release_endpoint(struct router *router, struct endpoint *endpoint)
{
	if (!endpoint->activation) {
		remove_endpoint(router, endpoint);
		return;
	}
	charge_end(&endpoint->charge);
	endpoint->session = NULL;
	endpoint->kinds = 0;
	activation_unbound(endpoint->activation);
}

int router_add_activation(struct router *router, struct activation *activation)
{
	const char *name = activation_endpoint(activation);
	struct endpoint *endpoint = find(router, name, strlen(name));

	if (!endpoint)
		endpoint = add_endpoint(router, name, strlen(name));
	if (!endpoint)
		return -ENOMEM;
	endpoint->activation = activation;
	if (endpoint->session)
		activation_bound(activation);
	return 0;
}

void router_remove_activation(struct router *router, struct activation *activation)
{
	const char *name = activation_endpoint(activation);
	struct endpoint *endpoint = find(router, name, strlen(name));

	if (!endpoint)
		return; /* there was no memory for it */
	endpoint->activation = NULL;
	if (!endpoint->session)
		remove_endpoint(router, endpoint);
}

/* Returns the next channel that this hop has accepted for an endpoint. NULL: there is none. */
static struct channel *next_accepted(const struct hop *hop, uint32_t *number)
{
	struct channel_end *end;

	while ((end = hop_next_channel(hop, number)))
		if (!end->is_opener && end->channel->endpoint)
			return end->channel;
	return NULL;
}

/* Asks policy about what it has allowed. `unsure`: after a restore, a name may not be known again. Until it is, nothing
 * is decided. */
static void recheck(struct router *router, struct channel *channel, bool unsure)
{
	int r = channel->host
			? access_still_allowed_far(router->with.access, channel, channel->endpoint)
			: access_still_allowed(router->with.access, &channel->identity, channel->endpoint);

	channel->undecided = r == -ENODATA && unsure;
	if (r < 0 && !channel->undecided)
		channel_forbid(channel, -r);
}

void router_recheck_hop(struct router *router, struct hop *hop)
{
	struct channel *channel;
	uint32_t number = 0;

	while ((channel = next_accepted(hop, &number))) {
		const struct hop *from = channel->opener.hop;
		bool is_away = from && hop_is_away(from);

		/* By this number it may be another domain now, until it is resumed. */
		if (!is_away || !channel->undecided)
			recheck(router, channel, is_away || channel->undecided);
	}
}

void router_restart_hop(struct router *router, struct hop *hop, uint32_t was)
{
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next_channel(hop, &number))) {
		struct channel *channel = end->channel;

		/* A peer may have had the number that is ours now, but not ours before. */
		if (channel->identity.domid == was && !channel->host)
			channel->identity.domid = router->with.self->domid;
		channel->undecided |= !end->is_opener;
	}
}

/* A domain of which domain 0 relays a channel was restored, and has the number `to` now. */
static void follow_relayed(struct router *router, const struct channel_end *end, uint32_t to)
{
	struct channel *channel = end->channel;
	int r;

	if (end->is_opener) {
		channel->identity.domid = to;
		r = via_follow_source(router->with.via, channel);
	} else {
		r = via_follow(router->with.via, channel, to);
	}
	if (r < 0)
		channel_forbid(channel, r == -ENOMEM ? ECONNRESET : -r);
}

int router_source_moved(struct router *router, struct channel *channel, uint32_t to)
{
	int r = via_take_source(router->with.via, channel, to);

	if (r == -EPROTO)
		return r;
	if (!channel->endpoint || channel_is_reset(&channel->opener))
		return 0;
	if (r == 0 && channel_is_relayed(channel))
		r = via_follow_source(router->with.via, channel);
	else if (r == 0)
		recheck(router, channel, true);
	if (r < 0)
		channel_forbid(channel, r == -ENOMEM ? ENOBUFS : -r);
	return 0;
}

bool router_resumed(struct router *router, struct hop *hop, uint32_t from, uint32_t to, uint32_t *at)
{
	uint64_t start = hop_spent_by_all(hop);
	struct channel_end *end;

	while ((end = hop_next_channel(hop, at))) {
		struct channel *channel = end->channel;

		hop_spend(hop, COST_LOOK);
		if (!channel->endpoint)
			continue;
		if (from != to && channel_is_relayed(channel)) {
			hop_spend(hop, COST_CHANNEL_END);
			follow_relayed(router, end, to);
		} else if (end->is_opener && (channel->identity.domid == from || channel->host) &&
			   (from != to || channel->undecided)) {
			hop_spend(hop, COST_OPEN);
			if (!channel->host)
				channel->identity.domid = to;
			recheck(router, channel, true);
		}
		if (hop_spent_by_all(hop) - start >= PIECE_UNITS)
			return true;
	}
	return false;
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
			channel_forbid(end->channel, ENOENT);
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

bool router_end_channels(struct router *router, struct session *session, struct frame_text name, uint32_t *at)
{
	struct hop *hop = session_hop(session);
	struct ending ending = {.name = name, .start = hop_spent_by_all(hop)};

	/* Measured: half a nanosecond for an empty place of the table, 6 for a channel. */
	hop_spend(hop, hop_channel_pages(hop));
	return end_some(&ending, hop, at) ||
	       streams_each_waiting(router->with.streams, session, end_stream, &ending);
}

int router_unbind(struct router *router, struct session *session, struct frame_text name)
{
	struct endpoint *endpoint = find(router, name.data, name.size);

	if (!endpoint || endpoint->session != session)
		return -ENOENT;
	release_endpoint(router, endpoint);
	return 0;
}

void router_unbind_all(struct router *router, struct session *session)
{
	struct endpoint *endpoint, *next;

	HASH_ITER(hh, router->endpoints, endpoint, next) {
		if (endpoint->session == session)
			release_endpoint(router, endpoint);
	}
}

/* --- addresses -------------------------------------------------------------------------------- */

int router_resolve(struct router *router, const char *domain, uint32_t *domid)
{
	if (!strcmp(domain, "self")) {
		*domid = router->with.self->domid;
		return 0;
	}
	return directory_resolve(router->with.directory, domain, domid);
}

int router_resolve_way(struct router *router, const char *domain, uint32_t *domid)
{
	return strcmp(domain, "self") != 0 ? links_resolve(router->with.links, domain, domid)
					   : router_resolve(router, domain, domid);
}

/* Adds the name of the sender's domain to the OPEN that the receiver gets. */
static void stamp_name(struct router *router, struct channel *channel)
{
	if (!channel->host) /* else it has been told */
		channel_set_domain_name(channel,
					directory_name(router->with.directory, channel->identity.domid));
}

/* Whether the endpoint's program can tell that a sender is on another host. It would take the domid for one of this
 * host otherwise. Each message tells it; who accepts a stream must ask, and has said so. */
static bool takes_from_hosts(const struct endpoint *endpoint, unsigned kind)
{
	return kind == CHANNEL_STREAM ? endpoint->kinds & BIND_HOSTS : session_knows_hosts(endpoint->session);
}

/* Leads the channel to the program that has bound the endpoint, or to a stream of its. */
static int lead_to_program(struct router *router, struct channel *channel, struct endpoint *endpoint)
{
	if (!(endpoint->kinds & (1u << (channel->kind - 1))))
		return -EPROTOTYPE;
	if (channel->host && !takes_from_hosts(endpoint, channel->kind))
		return -EOPNOTSUPP;
	if (channel->kind == CHANNEL_STREAM && !session_is_mux(endpoint->session))
		return streams_incoming(router->with.streams, channel, endpoint->name, endpoint->session);
	return channel_accept(channel, session_hop(endpoint->session), endpoint->name);
}

int router_lead(struct router *router, struct channel *channel, const char *name)
{
	struct endpoint *endpoint = find(router, name, strlen(name));

	return endpoint && endpoint->session ? lead_to_program(router, channel, endpoint) : -ENOENT;
}

/* Leads the channel to an endpoint here: to its program, or to where it waits for one. The
 * endpoint counts it. */
static int lead_to_endpoint(struct router *router, struct channel *channel, struct frame_text name)
{
	struct endpoint *endpoint;
	char text[ENDPOINT_NAME_MAX + 1];
	int r;

	if (!endpoint_name_is_valid(name.data, name.size))
		return -ENOENT;
	memcpy(text, name.data, name.size);
	text[name.size] = '\0';
	/* Asked first: a sender that may not reach the endpoint doesn't learn whether it exists. */
	r = channel->host ? access_reach_far(router->with.access, channel, text)
			  : access_reach(router->with.access, &channel->identity, text);
	endpoint = find(router, name.data, name.size);
	if (r == 0 && endpoint)
		channel_count(channel, endpoint->tally);
	if (r == 0 && !endpoint)
		r = -ENOENT;
	else if (r == 0 && (!endpoint->session ||
			    /* What waits already comes first. */
			    (endpoint->activation && activation_has_waiting(endpoint->activation))))
		r = activation_wait(endpoint->activation, channel);
	else if (r == 0)
		r = lead_to_program(router, channel, endpoint);
	if (endpoint && r < 0)
		endpoint->refused++;
	else if (endpoint)
		endpoint->opened++;
	return r;
}

static int lead_to_address(struct router *router, struct channel *channel, struct frame_text text)
{
	struct address address;
	struct hop *hop;
	uint32_t domid;
	int r = address_parse(text.data, text.size, &address, NULL);

	if (r == 0 && address.host[0] && strcmp(address.host, hosts_own_name(router->with.hosts)) != 0)
		return via_lead_out(router->with.via, channel, &address);
	if (r == 0)
		r = router_resolve_way(router, address.domain, &domid);
	if (r < 0)
		return r;
	if (domid == router->with.self->domid)
		return lead_to_endpoint(router, channel, frame_text_of(address.endpoint));
	if (via_zero_knows(router->with.via, domid))
		return via_lead(router->with.via, channel, domid, address.endpoint);
	hop = links_want(router->with.links, domid, hop_account(channel->opener.hop), &r);
	if (r == -ENOLINK)
		return via_lead(router->with.via, channel, domid, address.endpoint);
	return hop ? channel_accept(channel, hop, address.endpoint) : r;
}

/* Refuses a channel that wasn't accepted (`r` below zero). The session of the program that opened it goes
 * on. */
static void refuse_unless_taken(struct channel *channel, int r)
{
	if (r < 0)
		channel_refuse(channel, r == -ENOMEM ? ENOBUFS : -r);
}

void router_open_endpoint(struct router *router, struct channel *channel, struct frame_text name)
{
	stamp_name(router, channel);
	refuse_unless_taken(channel, lead_to_endpoint(router, channel, name));
}

void router_open_address(struct router *router, struct channel *channel, struct frame_text address)
{
	stamp_name(router, channel);
	refuse_unless_taken(channel, lead_to_address(router, channel, address));
}

/* --- listings --------------------------------------------------------------------------------- */

unsigned router_endpoints(const struct router *router)
{
	return HASH_COUNT(router->endpoints);
}

const struct endpoint *router_next(const struct router *router, const char *after)
{
	const struct endpoint *endpoint;

	HASH_FIND_STR(router->endpoints, after, endpoint);
	if (endpoint)
		return endpoint->hh.next;
	for (endpoint = router->endpoints; endpoint && strcmp(endpoint->name, after) < 0;
	     endpoint = endpoint->hh.next)
		;
	return endpoint;
}

const struct endpoint *router_find(const struct router *router, const char *name)
{
	const struct endpoint *endpoint;

	HASH_FIND_STR(router->endpoints, name, endpoint);
	return endpoint;
}
