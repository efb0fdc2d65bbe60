/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What leads to other domains and hosts, and to endpoints here: see wiring.c. */

#include <errno.h>

#include "daemon/main/daemon_internal.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/carrier.h"
#include "daemon/link/relay.h"
#include "daemon/link/directory.h"
#include "daemon/policy/access.h"
#include "daemon/switch/channel.h"
#include "daemon/xen/vchan.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/router.h"
#include "daemon/local/streams.h"
#include "daemon/topic/topics.h"
#include "daemon/serve/watches.h"

#define NAMES_BELIEVED_MS 60000

/* --- channels and links ----------------------------------------------------------------------- */

static void open_from_peer(void *userdata, struct peer_id peer, struct channel *channel,
			   const struct frame_open *open)
{
	struct daemon *daemon = userdata;

	if (relay_has_opened(open) || peer_is_host(peer))
		relay_open(daemon->relay, peer, channel, open);
	else
		router_open_endpoint(daemon->router, channel, open->name);
}

static void open_relayed(void *userdata, struct channel *channel, struct frame_text endpoint)
{
	struct daemon *daemon = userdata;

	router_open_endpoint(daemon->router, channel, endpoint);
}

int wiring_start_relay(struct daemon *daemon)
{
	const struct relay_collaborators collaborators = {
		.self = &daemon->self,
		.board = &daemon->board,
		.access = daemon->access,
		.registry = daemon->registry,
		.hosts = daemon->hosts,
	};

	return relay_new(&daemon->relay, &collaborators, daemon->config.relay, open_relayed, daemon);
}

static int zero_names(void *userdata, const uint8_t *payload, uint32_t length)
{
	struct daemon *daemon = userdata;

	return directory_take(daemon->directory, payload, length);
}

static int zero_policy(void *userdata, const uint8_t *payload, uint32_t length)
{
	struct daemon *daemon = userdata;
	int r = access_take_host(daemon->access, payload, length);

	if (r > 0)
		reload_apply_rules(daemon);
	return r < 0 ? r : 0;
}

static bool obeys(const struct daemon *daemon)
{
	return daemon->self.domid != 0 && daemon->config.host_policy != CONFIG_HOST_POLICY_IGNORE;
}

static void peer_unlinkable(void *userdata, struct peer_id peer, struct hop *hop)
{
	struct daemon *daemon = userdata;

	relay_lead_waiting(daemon->relay, peer, hop);
}

static void peer_renumbered(void *userdata, uint32_t from, uint32_t to)
{
	struct daemon *daemon = userdata;

	relay_renumber(daemon->relay, from, to);
}

static bool peer_resumed(void *userdata, struct peer_id from, struct peer_id to, struct hop *hop,
			 uint32_t *at)
{
	struct daemon *daemon = userdata;

	return router_resumed(daemon->router, hop, from, to, at);
}

static int source_moved(void *userdata, struct channel_end *end, const struct frame_sender *now)
{
	struct daemon *daemon = userdata;

	return router_source_moved(daemon->router, end, now);
}

static void ask_for_word(void *userdata, uint32_t domid)
{
	struct daemon *daemon = userdata;

	if (daemon->questions) /* which begins later */
		questions_seek(daemon->questions, domid);
}

static bool wiring_links_wait(void *userdata)
{
	return links_wait(userdata);
}

int wiring_start_links(struct daemon *daemon)
{
	struct links_callbacks callbacks = {
		.open = open_from_peer,
		.unlinkable = peer_unlinkable,
		.renumbered = peer_renumbered,
		.resumed = peer_resumed,
		.names = zero_names,
		.policy = obeys(daemon) ? zero_policy : NULL,
		.source = source_moved,
		.word = ask_for_word,
	};
	const struct links_options options = {
		.self = &daemon->self,
		.config = &daemon->config,
		.channels_max = CHANNEL_NUMBERS / 2, /* the accounts limit how many there are */
		.registry = daemon->registry,
		.hosts = daemon->hosts,
		.maker = &daemon->maker,
		.obeys = obeys(daemon),
	};
	int r;

	daemon->maker = vchan_carrier_maker(daemon->host);
	r = links_new(&daemon->links, &daemon->board, daemon->peers, &options, &callbacks, daemon);
	if (r == 0 && daemon->handover)
		links_hold(daemon->links);
	if (r == 0)
		vchan_host_set_waits(daemon->host, wiring_links_wait, daemon->links);
	if (r == 0)
		relay_set_links(daemon->relay, daemon->links);
	return r;
}

/* --- names for guests ------------------------------------------------------------------------- */

/* Returns whether domain 0 may see us. With a private presence only the domains in `peers` do. */
static bool domain_0_may_see_us(const struct daemon *daemon)
{
	const struct config *config = &daemon->config;

	for (unsigned i = 0; config->presence_private && i < config->peer_count; i++)
		if (config->peers[i] == 0)
			return true;
	return !config->presence_private;
}

/* Rules about names may decide differently now, and programs were told the former ones. */
static void names_have_changed(void *userdata)
{
	struct daemon *daemon = userdata;

	reload_apply_names(daemon);
}

int wiring_start_directory(struct daemon *daemon)
{
	const struct directory_options options = {
		.self = &daemon->self,
		.registry = daemon->registry,
		.peers = daemon->peers,
		.links = daemon->links,
		.access = daemon->access,
		.relays = daemon->config.relay,
		.is_hidden = !domain_0_may_see_us(daemon),
		.believed_ms = NAMES_BELIEVED_MS,
		.kept_ms = daemon->config.resume_for_ms,
	};

	return directory_new(&daemon->directory, daemon->base, &options, names_have_changed, daemon);
}

/* --- endpoints here --------------------------------------------------------------------------- */

static int route_stream(void *userdata, struct channel *channel, const struct frame_open *open)
{
	struct daemon *daemon = userdata;

	router_open_address(daemon->router, channel, open->name);
	return 0;
}

static void route_subscription(void *userdata, struct channel *channel, struct frame_text address)
{
	struct daemon *daemon = userdata;

	router_open_address(daemon->router, channel, address);
}

static int resolve_subscription(void *userdata, const char *domain, uint32_t *domid)
{
	struct daemon *daemon = userdata;
	struct peer_id peer;
	int r = router_resolve_way(daemon->router, domain, &peer);

	*domid = peer.number;
	return r;
}

int wiring_start_router(struct daemon *daemon)
{
	const struct topics_collaborators topics = {
		.self = &daemon->self,
		.board = &daemon->board,
		.registry = daemon->registry,
		.open = route_subscription,
		.resolve = resolve_subscription,
		.userdata = daemon,
	};
	struct router_collaborators collaborators = {
		.self = &daemon->self,
		.turns = &daemon->board.turns,
		.access = daemon->access,
		.registry = daemon->registry,
		.peers = daemon->peers,
		.hosts = daemon->hosts,
		.links = daemon->links,
		.relay = daemon->relay,
	};

	if (!daemon->topics && topics_new(&daemon->topics, &topics) < 0)
		return -ENOMEM;
	collaborators.topics = daemon->topics;
	if (!daemon->streams)
		daemon->streams = streams_new(&daemon->board, route_stream, daemon);
	collaborators.streams = daemon->streams;
	if (!daemon->streams || router_new(&daemon->router, &collaborators) < 0)
		return -ENOMEM;
	daemon->board.pass_on = router_pass_on;
	daemon->board.pass_on_userdata = daemon->router;
	return 0;
}
