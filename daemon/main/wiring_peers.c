/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The domains and hosts that there are, and who watches them: see wiring.c. */

#include <errno.h>
#include <string.h>

#include "daemon/policy/access.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/domains.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/shared_transport.h"
#include "daemon/link/vchan_transport.h"
#include "daemon/link/asks.h"
#include "base/log.h"
#include "daemon/peers/peers.h"
#include "daemon/serve/queries.h"
#include "base/quota.h"
#include "daemon/xen/vchan.h"
#include "daemon/serve/viewer.h"
#include "daemon/local/watches.h"

#define NAMES_BELIEVED_MS 60000

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

static bool leads_on(void *userdata, uint32_t guest, uint32_t domid)
{
	struct daemon *daemon = userdata;
	const struct frame_identity from = {.domid = guest};

	return daemon->links && daemon->config.relay && peers_can_be_told(daemon->peers, guest) &&
	       links_had_session(daemon->links, domid) &&
	       access_still_relayed(daemon->access, &from, domid) == 0;
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
	if (daemon->links)
		links_note_name(daemon->links, domid);
	asks_changed(daemon->asks);
	peers_advertise_to(daemon->peers, domid);
}

static void directory_flush(void *userdata, bool changed)
{
	struct daemon *daemon = userdata;

	if (changed && access_needs_names(daemon->access))
		reload_recheck_channels(daemon);
}

int wiring_start_domains(struct daemon *daemon)
{
	return daemon->self.domid == 0 ? domains_new(&daemon->domains, daemon->store) : 0;
}

int wiring_start_directory(struct daemon *daemon)
{
	static const struct directory_callbacks callbacks = {
		.send = directory_send,
		.tells = directory_tells,
		.leads_on = leads_on,
		.told = directory_told,
		.leaves_changed = leaves_changed,
		.want_link = want_domain_0,
		.changed = domain_changed,
		.flush = directory_flush,
	};
	const struct directory_options options = {.self = &daemon->self,
						  .access = daemon->access,
						  .domains = daemon->domains,
						  .believed_ms = NAMES_BELIEVED_MS,
						  .kept_ms = daemon->config.resume_for_ms};

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

int wiring_start_watches(struct daemon *daemon)
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
	struct link_transport transport = vchan_transport(vchan);

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

int wiring_start_peers(struct daemon *daemon)
{
	static const struct peers_callbacks callbacks = {
		.presence = peer_presence,
		.forgotten = peer_forgotten,
		.endpoints = peer_endpoints,
		.connected = peer_connected,
		.failed = peer_failed,
		.lost = peer_lost,
		.own_leaf_gone = restore_on_own_leaf_gone,
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

static void host_connected(void *userdata, uint32_t number, struct conversation_memory *memory,
			   struct charge *charge)
{
	struct daemon *daemon = userdata;
	struct link_transport transport;
	int r = shared_transport_new(&transport, &daemon->relay, memory, charge,
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

static unsigned host_gone(void *userdata, uint32_t number)
{
	struct daemon *daemon = userdata;

	return asks_host_gone(daemon->asks, number);
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

int wiring_start_hosts(struct daemon *daemon)
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
		.handed_over = &daemon->sockets,
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
	if (r < 0)
		return r;
	quota_name_hosts(daemon->quota, name_of_host, daemon->hosts);
	log_name_hosts(name_of_host, daemon->hosts);
	return 0;
}
