/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What leads to other domains and hosts, and to endpoints here: see wiring.c. */

#include <errno.h>

#include "daemon/main/daemon_internal.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/vchan_transport.h"
#include "daemon/link/via.h"
#include "daemon/link/asks.h"
#include "daemon/relay/channel.h"
#include "daemon/serve/router.h"
#include "daemon/local/streams.h"
#include "daemon/xen/vchan.h"
#include "daemon/local/host_watches.h"
#include "daemon/local/watches.h"

/* --- channels and links ----------------------------------------------------------------------- */

static void open_from_peer(void *userdata, struct channel *channel, const struct frame_open *open)
{
	struct daemon *daemon = userdata;

	if (via_is_relayed(open) || number_is_host(channel->identity.domid))
		via_open(daemon->via, channel, open);
	else
		router_open_endpoint(daemon->router, channel, open->name);
}

static void open_relayed(void *userdata, struct channel *channel, struct frame_text endpoint)
{
	struct daemon *daemon = userdata;

	router_open_endpoint(daemon->router, channel, endpoint);
}

int wiring_start_via(struct daemon *daemon)
{
	const struct via_collaborators collaborators = {
		.self = &daemon->self,
		.relay = &daemon->relay,
		.access = daemon->access,
		.directory = daemon->directory,
		.hosts = daemon->hosts,
	};

	return via_new(&daemon->via, &collaborators, daemon->config.relay, open_relayed, daemon);
}

/* Gets an endpoint that a question of another host may be about. */
static const char *next_endpoint(void *userdata, const char *after, uint32_t *kinds)
{
	struct daemon *daemon = userdata;
	const struct endpoint *endpoint = router_next(daemon->router, after);

	if (endpoint)
		*kinds = endpoint->kinds & ((1u << CHANNEL_STREAM) - 1);
	return endpoint ? endpoint->name : NULL;
}

int wiring_start_asks(struct daemon *daemon)
{
	const struct asks_collaborators collaborators = {
		.self = &daemon->self,
		.relay = &daemon->relay,
		.access = daemon->access,
		.directory = daemon->directory,
		.hosts = daemon->hosts,
		.peers = daemon->peers,
		.answer_ms = daemon->config.dead_after_ms,
		.resume_for_ms = daemon->config.resume_for_ms,
	};

	return asks_new(&daemon->asks, &collaborators, daemon->config.relay, next_endpoint, daemon);
}

int wiring_start_host_watches(struct daemon *daemon)
{
	daemon->host_watches = host_watches_new(&daemon->relay, daemon->asks);
	return daemon->host_watches ? 0 : -ENOMEM;
}

static int peer_asked(void *userdata, uint32_t domid, uint8_t type, const uint8_t *payload, uint32_t length)
{
	struct daemon *daemon = userdata;

	return asks_take(daemon->asks, domid, type, payload, length);
}

static void session_ended(void *userdata, uint32_t domid, int error)
{
	struct daemon *daemon = userdata;

	asks_session_ended(daemon->asks, domid, error);
}

static void peer_unlinkable(void *userdata, uint32_t domid, struct hop *hop)
{
	struct daemon *daemon = userdata;

	via_lead_waiting(daemon->via, domid, hop);
}

static void peer_away(void *userdata, uint32_t domid, bool away)
{
	struct daemon *daemon = userdata;

	watches_away(daemon->watches, domid, away);
}

static void peer_renumbered(void *userdata, uint32_t from, uint32_t to)
{
	struct daemon *daemon = userdata;

	via_renumber(daemon->via, from, to);
	asks_renumber(daemon->asks, from, to);
}

static bool peer_resumed(void *userdata, uint32_t from, uint32_t to, struct hop *hop, uint32_t *at)
{
	struct daemon *daemon = userdata;

	return router_resumed(daemon->router, hop, from, to, at);
}

static int source_moved(void *userdata, struct channel *channel, uint32_t to)
{
	struct daemon *daemon = userdata;

	return router_source_moved(daemon->router, channel, to);
}

static void ping_through_us(void *userdata, uint32_t domid, const struct frame_ping_relayed *ping)
{
	struct daemon *daemon = userdata;

	via_take_ping(daemon->via, domid, ping);
}

int wiring_start_links(struct daemon *daemon)
{
	struct links_callbacks callbacks = {
		.open = open_from_peer,
		.unlinkable = peer_unlinkable,
		.away = peer_away,
		.renumbered = peer_renumbered,
		.resumed = peer_resumed,
		.asked = peer_asked,
		.source = source_moved,
		.ended = session_ended,
		.ping = daemon->self.domid == 0 ? ping_through_us : NULL,
	};
	const struct config *config = &daemon->config;
	const struct links_options options = {
		.self = &daemon->self,
		.heartbeat_ms = config->heartbeat_ms,
		.busy_poll_ns = config->busy_poll_us * UINT64_C(1000),
		.dead_after_ms = config->dead_after_ms,
		.idle_close_ms = config->idle_close_ms,
		.resume_for_ms = config->resume_for_ms,
		.channels_max = CHANNEL_NUMBERS / 2, /* the accounts limit how many there are */
		.relays = config->relay,
		.hosts = daemon->hosts,
		.maker = &daemon->maker,
		.ring_size = config->ring_size,
		.max_ring_size = config->max_ring_size,
		.min_ring_size = config->min_ring_size,
	};
	int r;

	daemon->maker = vchan_transport_maker(daemon->host);
	r = links_new(&daemon->links, &daemon->relay, daemon->peers, daemon->directory, &options, &callbacks,
		      daemon);
	if (r == 0)
		via_set_links(daemon->via, daemon->links);
	if (r == 0)
		asks_set_links(daemon->asks, daemon->links);
	return r;
}

/* --- endpoints here --------------------------------------------------------------------------- */

static int route_stream(void *userdata, struct channel *channel, const struct frame_open *open)
{
	struct daemon *daemon = userdata;

	router_open_address(daemon->router, channel, open->name);
	return 0;
}

int wiring_start_router(struct daemon *daemon)
{
	struct router_collaborators collaborators = {
		.self = &daemon->self,
		.turns = &daemon->relay.turns,
		.access = daemon->access,
		.directory = daemon->directory,
		.peers = daemon->peers,
		.hosts = daemon->hosts,
		.links = daemon->links,
		.via = daemon->via,
		.asks = daemon->asks,
		.watches = daemon->watches,
	};

	collaborators.streams = daemon->streams = streams_new(&daemon->relay, route_stream, daemon);
	return daemon->streams ? router_new(&daemon->router, &collaborators) : -ENOMEM;
}
