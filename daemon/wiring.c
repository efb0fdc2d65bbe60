/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Makes the modules, gives each the ones below that it needs, and connects their callbacks. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/activation/activation.h"
#include "daemon/policy/access.h"
#include "daemon/relay/closer.h"
#include "daemon/daemon_internal.h"
#include "daemon/base/descriptors.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/domains.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/socket_transport.h"
#include "daemon/link/vchan_transport.h"
#include "daemon/link/via.h"
#include "daemon/link/asks.h"
#include "daemon/local/local.h"
#include "daemon/base/log.h"
#include "daemon/base/notify.h"
#include "daemon/peers/peers.h"
#include "daemon/queries.h"
#include "daemon/base/privileges.h"
#include "daemon/base/quota.h"
#include "daemon/relay/channel.h"
#include "daemon/router.h"
#include "daemon/startup.h"
#include "daemon/xen/store.h"
#include "daemon/local/stream.h"
#include "daemon/local/streams.h"
#include "daemon/xen/vchan.h"
#include "daemon/viewer.h"
#include "daemon/local/host_watches.h"
#include "daemon/local/watches.h"

#define GREETING_MS	  10000
#define NAMES_BELIEVED_MS 60000
/* not below the largest ring of a link: a smaller one cost up to two thirds of the throughput */
#define LOCAL_RING_SIZE 1048576u

/* --- the relay, and who may have how much ----------------------------------------------------- */

static int start_relay(struct daemon *daemon)
{
	const struct config *config = &daemon->config;
	/* A peer has no clients here, and we keep of its endpoints what fits into its XenStore leaf. */
	const struct quota_limits limits = {
		.pool =
			{
				[QUOTA_CLIENTS] = config->max_clients,
				[QUOTA_ENDPOINTS] = config->max_endpoints,
				[QUOTA_CHANNELS] = config->max_channels,
				[QUOTA_BYTES] = config->max_queued_bytes,
				[QUOTA_DESCRIPTORS] = descriptors_pool(),
				[QUOTA_MEMORY] = config->max_memory,
			},
		.max =
			{
				[QUOTA_UID] =
					{
						[QUOTA_CLIENTS] = config->max_clients_per_uid,
						[QUOTA_ENDPOINTS] = config->max_endpoints_per_uid,
						[QUOTA_CHANNELS] = config->max_channels_per_uid,
						[QUOTA_BYTES] = config->max_queued_bytes_per_uid,
						[QUOTA_DESCRIPTORS] = config->max_descriptors_per_uid,
						[QUOTA_MEMORY] = config->max_memory_per_uid,
					},
				[QUOTA_PEER] =
					{
						[QUOTA_CHANNELS] = config->max_channels_per_peer,
						[QUOTA_BYTES] = config->max_queued_bytes_per_peer,
						[QUOTA_DESCRIPTORS] = config->max_descriptors_per_peer,
						[QUOTA_MEMORY] = config->max_memory_per_peer,
					},
			},
	};
	int r = relay_init(&daemon->relay, daemon->base, config->max_message);

	if (r < 0)
		return r;
	daemon->has_relay = true;
	daemon->relay.quota = daemon->quota = quota_new(&limits);
	if (!daemon->quota)
		return -ENOMEM;
	r = closer_new(&daemon->closer, &daemon->relay);
	if (r < 0)
		log_warning(
			"programs can hold the daemon by descriptors that they send: close_range(2) and pidfd_getfd(2) don't "
			"work here: %s",
			strerror(-r));
	daemon->relay.closer = daemon->closer;
	return 0;
}

/* --- policy ----------------------------------------------------------------------------------- */

static const char *domain_names(void *userdata, uint32_t domid, const char **name, const char **uuid)
{
	struct daemon *daemon = userdata;

	*name = directory_name(daemon->directory, domid);
	*uuid = directory_uuid(daemon->directory, domid);
	return directory_knows(daemon->directory, domid) ? NULL
							 : directory_why_unknown(daemon->directory, domid);
}

/* Returns -EBADMSG for a bad policy, which a restart doesn't mend. */
static int start_access(struct daemon *daemon)
{
	int r = access_new(&daemon->access, &daemon->self, daemon->config.policy_dir, domain_names, daemon);

	return r < 0 && r != -ENOMEM ? -EBADMSG : r;
}

/* --- names of domains ------------------------------------------------------------------------- */

static int directory_send(void *userdata, uint32_t guest, const void *payload, uint32_t length)
{
	struct daemon *daemon = userdata;

	return links_send(daemon->links, guest, FRAME_DIRECTORY, payload, length);
}

static bool directory_tells(void *userdata, uint32_t guest, bool up)
{
	struct daemon *daemon = userdata;

	return daemon->peers && peers_tell(daemon->peers, guest, up);
}

static void directory_told(void *userdata, bool told)
{
	struct daemon *daemon = userdata;

	if (daemon->peers && !daemon->stopping)
		peers_told(daemon->peers, told);
}

static void leaves_changed(void *userdata, uint32_t domid, unsigned leaves)
{
	struct daemon *daemon = userdata;

	peers_changed(daemon->peers, &(struct peers_change){.domid = domid, .leaves = leaves});
}

static void want_domain_0(void *userdata)
{
	struct daemon *daemon = userdata;
	int error;

	links_want(daemon->links, 0, NULL, &error); /* the directory retries if this fails */
}

/* Tells watches the new name, and advertises anew to the domain: what it may see depends on its name. */
static void domain_changed(void *userdata, uint32_t domid, const char *old_name, const char *name)
{
	struct daemon *daemon = userdata;

	watches_renamed(daemon->watches, domid, name);
	asks_changed(daemon->asks);
	peers_advertise_to(daemon->peers, domid);
}

static void directory_flush(void *userdata, bool changed)
{
	struct daemon *daemon = userdata;

	if (changed && access_needs_names(daemon->access))
		reload_recheck_channels(daemon);
}

static int start_domains(struct daemon *daemon)
{
	return daemon->self.domid == 0 ? domains_new(&daemon->domains, daemon->store) : 0;
}

static int start_directory(struct daemon *daemon)
{
	static const struct directory_callbacks callbacks = {
		.send = directory_send,
		.tells = directory_tells,
		.told = directory_told,
		.leaves_changed = leaves_changed,
		.want_link = want_domain_0,
		.changed = domain_changed,
		.flush = directory_flush,
	};
	const struct directory_options options = {.self = &daemon->self,
						  .access = daemon->access,
						  .domains = daemon->domains,
						  .believed_ms = NAMES_BELIEVED_MS};

	return directory_new(&daemon->directory, daemon->base, daemon->store, &options, &callbacks, daemon);
}

/* --- who watches ------------------------------------------------------------------------------ */

/* Returns whether a program may learn of an endpoint here, by the same rule as in status. */
static bool may_learn_of(void *userdata, const struct session *session, const char *endpoint)
{
	struct daemon *daemon = userdata;
	struct frame_identity program = {.domid = daemon->self.domid,
					 .uid = session_credentials(session)->uid};

	return access_still_allowed(daemon->access, &program, endpoint) == 0 ||
	       viewer_of(session, daemon->administrators).sees_all;
}

static int start_watches(struct daemon *daemon)
{
	daemon->watches =
		watches_new(&daemon->relay.turns, &daemon->self, daemon->directory, may_learn_of, daemon);
	if (!daemon->watches)
		return -ENOMEM;
	watches_domain(daemon->watches, daemon->self.domid, true);
	return 0;
}

/* --- other domains ---------------------------------------------------------------------------- */

/* Returns whether domain 0 may see us. With a private presence only the domains in `peers` do. */
static bool domain_0_may_see_us(const struct daemon *daemon)
{
	const struct config *config = &daemon->config;

	for (unsigned i = 0; config->presence_private && i < config->peer_count; i++)
		if (config->peers[i] == 0)
			return true;
	return !config->presence_private;
}

static void peer_presence(void *userdata, uint32_t domid, bool up)
{
	struct daemon *daemon = userdata;

	log_limited(LOG_PRESENCE, LOG_BY_DOMAIN(domid), LOG_LEVEL_INFO, "domain %u: its daemon is %s", domid,
		    up ? "there" : "gone");
	watches_domain(daemon->watches, domid, up);
	asks_changed(daemon->asks);
	if (domid == 0)
		directory_presence(daemon->directory, up && domain_0_may_see_us(daemon));
}

static void peer_forgotten(void *userdata, uint32_t domid)
{
	struct daemon *daemon = userdata;

	watches_domain(daemon->watches, domid, false);
	asks_changed(daemon->asks);
}

static void peer_endpoints(void *userdata, uint32_t domid, const char *const *names, unsigned count)
{
	struct daemon *daemon = userdata;

	watches_endpoints(daemon->watches, domid, names, count);
}

static void peer_connected(void *userdata, uint32_t domid, struct vchan *vchan)
{
	struct daemon *daemon = userdata;
	struct transport transport = vchan_transport(vchan);

	links_connected(daemon->links, domid, &transport);
}

static void peer_failed(void *userdata, uint32_t domid, int error, const char *reason)
{
	struct daemon *daemon = userdata;

	links_failed(daemon->links, domid, error, reason);
}

static void peer_lost(void *userdata, uint32_t domid, bool replaced, const char *reason)
{
	struct daemon *daemon = userdata;

	links_lost(daemon->links, domid, replaced, reason);
}

static void peer_saved(void *userdata, uint32_t domid)
{
	struct daemon *daemon = userdata;

	links_saved(daemon->links, domid);
}

static uint32_t least_ring(void *userdata, uint32_t domid)
{
	const struct daemon *daemon = userdata;

	return daemon->links ? links_least_ring(daemon->links, domid) : 0;
}

static void all_peers_known(void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->queries)
		queries_try_again(daemon->queries);
	asks_changed(daemon->asks);
}

static bool all_peers_watched(void *userdata)
{
	struct daemon *daemon = userdata;

	return watches_others(daemon->watches) || asks_follow_peers(daemon->asks);
}

static void tell_guest(void *userdata, uint32_t guest, const struct peers_change *changes, unsigned count)
{
	struct daemon *daemon = userdata;

	directory_tell(daemon->directory, guest, changes, count);
}

static int start_peers(struct daemon *daemon)
{
	static const struct peers_callbacks callbacks = {
		.presence = peer_presence,
		.forgotten = peer_forgotten,
		.endpoints = peer_endpoints,
		.connected = peer_connected,
		.failed = peer_failed,
		.lost = peer_lost,
		.saved = peer_saved,
		.least_ring = least_ring,
		.all_known = all_peers_known,
		.all_watched = all_peers_watched,
		.tell = tell_guest,
	};
	const struct config *config = &daemon->config;
	const struct peers_options options = {
		.self = &daemon->self,
		.access = daemon->access,
		.ring_size = config->ring_size,
		.min_ring_size = config->min_ring_size,
		.map = config->map == CONFIG_MAP_YES  ? PEERS_MAP_YES
		       : config->map == CONFIG_MAP_NO ? PEERS_MAP_NO
						      : PEERS_MAP_AUTO,
		.presence_private = config->presence_private,
		.allowed = config->peers,
		.allowed_count = config->peer_count,
		.setup_timeout_ms = config->setup_timeout_ms,
		.forget_ms = config->idle_close_ms,
		.domains = daemon->domains,
		/* It can't see the presence of one that hides it, so it doesn't know that we can be told. */
		.told = daemon->self.domid != 0 && !config->presence_private,
		.turns = &daemon->relay.turns,
		.quota = daemon->quota,
	};

	return peers_new(&daemon->peers, daemon->base, daemon->store, daemon->host, &options, &callbacks,
			 daemon);
}

/* --- other hosts ------------------------------------------------------------------------------ */

static void host_connected(void *userdata, uint32_t number, int fd, struct charge *charge)
{
	struct daemon *daemon = userdata;
	struct transport transport;
	int r = socket_transport_new(&transport, &daemon->relay, fd, charge,
				     hosts_is_lower(daemon->hosts, number));

	if (r < 0)
		links_failed(daemon->links, number, -EHOSTUNREACH, strerror(-r));
	else
		links_connected(daemon->links, number, &transport);
}

static void host_failed(void *userdata, uint32_t number, int error, const char *reason)
{
	struct daemon *daemon = userdata;

	links_failed(daemon->links, number, error, reason);
}

static void host_gone(void *userdata, uint32_t number)
{
	struct daemon *daemon = userdata;

	asks_host_gone(daemon->asks, number);
}

static void host_replaced(void *userdata, uint32_t number)
{
	struct daemon *daemon = userdata;

	links_lost(daemon->links, number, true, "another daemon runs there now");
}

static const char *name_of_host(const void *userdata, uint32_t number)
{
	return hosts_name(userdata, number);
}

static int start_hosts(struct daemon *daemon)
{
	static const struct hosts_callbacks callbacks = {
		.connected = host_connected,
		.failed = host_failed,
		.gone = host_gone,
		.replaced = host_replaced,
	};
	const struct config *config = &daemon->config;
	const struct hosts_options options = {
		.self = &daemon->self,
		.name = config->host_name,
		.socket_path = config->socket,
		.user = config->gateway_user,
		.setup_timeout_ms = config->setup_timeout_ms,
		.dead_after_ms = config->dead_after_ms,
	};
	int r;

	if (config->host_name && daemon->self.domid != 0) {
		log_error("[hosts] name is for domain 0's daemon, which leads to other hosts");
		return -EBADMSG;
	}
	r = hosts_new(&daemon->hosts, &daemon->relay, &options, &callbacks, daemon);
	if (r == 0)
		quota_name_hosts(daemon->quota, name_of_host, daemon->hosts);
	return r;
}

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

static int start_via(struct daemon *daemon)
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

static int start_asks(struct daemon *daemon)
{
	const struct asks_collaborators collaborators = {
		.self = &daemon->self,
		.relay = &daemon->relay,
		.access = daemon->access,
		.directory = daemon->directory,
		.hosts = daemon->hosts,
		.peers = daemon->peers,
	};

	return asks_new(&daemon->asks, &collaborators, daemon->config.relay, next_endpoint, daemon);
}

static int start_host_watches(struct daemon *daemon)
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

static void ping_through_us(void *userdata, uint32_t domid, const struct frame_ping_relayed *ping)
{
	struct daemon *daemon = userdata;

	via_take_ping(daemon->via, domid, ping);
}

static int start_links(struct daemon *daemon)
{
	struct links_callbacks callbacks = {
		.open = open_from_peer,
		.unlinkable = peer_unlinkable,
		.away = peer_away,
		.renumbered = peer_renumbered,
		.resumed = peer_resumed,
		.asked = peer_asked,
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

static int start_router(struct daemon *daemon)
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

/* --- what is started on demand ---------------------------------------------------------------- */

static int activation_added(void *userdata, struct activation *activation)
{
	return router_add_activation(((struct daemon *)userdata)->router, activation);
}

static void activation_removed(void *userdata, struct activation *activation)
{
	router_remove_activation(((struct daemon *)userdata)->router, activation);
}

static int lead_waiting(void *userdata, struct channel *channel, const char *endpoint)
{
	return router_lead(((struct daemon *)userdata)->router, channel, endpoint);
}

static int start_activations(struct daemon *daemon)
{
	static const struct activation_callbacks callbacks = {
		.added = activation_added,
		.removed = activation_removed,
		.lead = lead_waiting,
	};

	return activations_new(&daemon->activations, &daemon->relay, daemon->config.activation_dir,
			       privileges_uid(daemon->config.user), daemon->config.socket, &callbacks,
			       daemon);
}

/* Returns -EBADMSG if they are bad, which a restart
 * doesn't mend. */
static int read_activations(struct daemon *daemon)
{
	int r = activations_reload(daemon->activations);

	return r < 0 && r != -ENOMEM ? -EBADMSG : r;
}

/* --- programs --------------------------------------------------------------------------------- */

static int start_local(struct daemon *daemon)
{
	const struct local_options options = {
		.socket_path = daemon->config.socket,
		.session =
			{
				.self = &daemon->self,
				.ring_size = LOCAL_RING_SIZE,
				.channels_max = CHANNEL_NUMBERS / 2,
				.greeting_ms = GREETING_MS,
			},
	};
	int r = local_new(&daemon->local, &daemon->relay, &options, &requests_session_callbacks, daemon);

	if (r == -EBADF)
		log_error("the service manager must hand over one listening Unix stream socket");
	else if (r == -EADDRINUSE)
		log_error("another daemon listens on %s", daemon->config.socket);
	else if (r == -ENOTSOCK)
		log_error("%s is there and is no socket: remove it, or listen elsewhere",
			  daemon->config.socket);
	else if (r < 0)
		log_error("can't listen on %s: %s", daemon->config.socket, strerror(-r));
	return r;
}

static int start_queries(struct daemon *daemon)
{
	daemon->sources = (struct status_sources){
		.config = &daemon->config,
		.self = &daemon->self,
		.directory = daemon->directory,
		.started_ms = daemon->started_ms,
		.access = daemon->access,
		.activations = daemon->activations,
		.hosts = daemon->hosts,
		.links = daemon->links,
		.local = daemon->local,
		.streams = daemon->streams,
		.quota = daemon->quota,
		.peers = daemon->peers,
		.router = daemon->router,
		.store = daemon->store,
		.turns = &daemon->relay.turns,
		.host = daemon->host,
	};
	daemon->queries = queries_new(&daemon->relay, &daemon->sources, requests_is_ready,
				      requests_begin_answer, daemon);
	return daemon->queries ? 0 : -ENOMEM;
}

/* Writes the line for `systemctl status`. */
static void describe(void *userdata, char *text, size_t size)
{
	struct daemon *daemon = userdata;
	const char *error = reload_error(daemon);

	snprintf(text, size, "Serving domain %u: programs: %u, endpoints: %u, links: %u%s%s",
		 daemon->self.domid, local_count(daemon->local), router_endpoints(daemon->router),
		 links_count(daemon->links), error ? "; older rules are in force: " : "", error ? error : "");
}

static int start_notify(struct daemon *daemon)
{
	return notify_new(&daemon->notify, daemon->base, describe, daemon);
}

/* --- all of them ------------------------------------------------------------------------------ */

static int follow_own_domid(struct daemon *daemon)
{
	return store_watch(daemon->store, "domid", restore_on_domid_changed, daemon, NULL, NULL);
}

static int become_user(struct daemon *daemon)
{
	const char *user = daemon->config.user;
	int r = user ? privileges_drop(user) : 0;

	if (r < 0)
		log_error("can't become %s: %s", user, r == -ESRCH ? "there is no such user" : strerror(-r));
	return r;
}

int wiring_start(struct daemon *daemon)
{
	/* Each step needs those before it. Programs come last: a program that is served finds everything. */
	/* clang-format off */
	static int (*const steps[])(struct daemon *daemon) = {
		startup_xen,
		start_relay,
		start_access,
		start_domains,
		start_directory,
		start_watches,
		start_peers,
		start_hosts,
		start_via,
		start_asks,
		start_host_watches,
		start_links,
		start_router,
		start_activations,
		startup_await_presence,
		start_local,
		start_queries,
		start_notify,
		follow_own_domid,
		read_activations,
		become_user,
	};
	/* clang-format on */
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(steps) / sizeof(*steps); i++)
		r = steps[i](daemon);
	return r;
}

void wiring_end(struct daemon *daemon)
{
	activations_stop(daemon->activations); /* whose programs go now */
	notify_free(daemon->notify);
	local_free(daemon->local); /* its sessions cancel what they have asked for */
	queries_free(daemon->queries);
	router_free(daemon->router);
	activations_free(daemon->activations);
	streams_free(daemon->streams);
	via_free(daemon->via);
	host_watches_free(daemon->host_watches);
	asks_free(daemon->asks);
	daemon->asks = NULL;
	links_free(daemon->links);
	if (daemon->quota)
		quota_name_hosts(daemon->quota, NULL, NULL);
	hosts_free(daemon->hosts);
	peers_free(daemon->peers);
	watches_free(daemon->watches);
	directory_free(daemon->directory);
	domains_free(daemon->domains);
	access_free(daemon->access);
	if (daemon->has_relay)
		relay_cleanup(&daemon->relay);
	closer_free(daemon->closer);
	quota_free(daemon->quota);
	store_free(daemon->store);
	vchan_host_free(daemon->host);
}
