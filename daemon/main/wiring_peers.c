/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The domains and hosts that there are, and their watchers: see wiring.c. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "daemon/policy/access.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/link/directory.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/names.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/carrier.h"
#include "base/log.h"
#include "daemon/peers/peers.h"
#include "daemon/link/relay.h"
#include "base/quota.h"
#include "daemon/serve/viewer.h"
#include "daemon/serve/questions.h"
#include "daemon/serve/watches.h"

/* --- domains and their names ------------------------------------------------------------------ */

int wiring_start_names(struct daemon *daemon)
{
	int r = daemon->self.domid == 0 && !daemon->domains
			? domains_new(&daemon->domains, daemon->base, daemon->store, daemon->registry)
			: 0;

	return r < 0 ? r
		     : names_new(&daemon->names, daemon->store, &daemon->self, daemon->registry,
				 daemon->domains);
}

/* --- who watches ------------------------------------------------------------------------------ */

/* Returns whether a program of another domain may learn of an endpoint here, or in domain 0 of a domain. */
static bool may_stranger_learn_of(struct daemon *daemon, const struct channel *channel, uint32_t domid,
				  const char *endpoint)
{
	struct access_sender from = access_sender_of(channel);

	if (domid == daemon->self.domid)
		return !*endpoint || access_still_allowed(daemon->access, from, endpoint) == 0;
	return daemon->self.domid == 0 && !*endpoint && access_sees(daemon->access, from, domid);
}

/* Likewise one of this domain, of an endpoint here, by the same rule as in status. */
static bool wiring_peers_may_learn_of(void *userdata, const struct question *question, uint32_t domid,
				      const char *endpoint)
{
	struct daemon *daemon = userdata;
	const struct hop *from = question_program(question);
	struct access_sender program = {.domid = daemon->self.domid,
					.uid = from ? hop_program(from)->identity.uid : 0};

	if (!from)
		return may_stranger_learn_of(daemon, question_channel(question), domid, endpoint);
	return access_still_allowed(daemon->access, program, endpoint) == 0 ||
	       viewer_of(from, daemon->config.administrators).sees_all;
}

static bool knows_all(void *userdata)
{
	struct daemon *daemon = userdata;

	return peers_want_all(daemon->peers);
}

int wiring_start_watches(struct daemon *daemon)
{
	daemon->watches = watches_new(&daemon->board.turns, daemon->registry, wiring_peers_may_learn_of,
				      knows_all, daemon);
	if (!daemon->watches)
		return -ENOMEM;
	registry_set_up(daemon->registry, daemon->self.domid, true);
	return 0;
}

/* --- other domains ---------------------------------------------------------------------------- */

static void peer_connected(void *userdata, uint32_t domid, struct vchan *vchan)
{
	struct daemon *daemon = userdata;
	struct carrier carrier = vchan_carrier(vchan);

	links_connected(daemon->links, peer_domain(domid), &carrier);
}

static void peer_failed(void *userdata, uint32_t domid, int error, const char *reason)
{
	struct daemon *daemon = userdata;

	links_failed(daemon->links, peer_domain(domid), error, reason);
}

static void peer_lost(void *userdata, uint32_t domid, bool replaced, const char *reason)
{
	struct daemon *daemon = userdata;

	links_lost(daemon->links, peer_domain(domid), replaced, reason);
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

static bool all_peers_watched(void *userdata)
{
	struct daemon *daemon = userdata;

	return watches_others(daemon->watches);
}

static void tell_guest(void *userdata, uint32_t guest, const struct peers_change *changes, unsigned count)
{
	struct daemon *daemon = userdata;

	directory_tell(daemon->directory, guest, changes, count);
}

int wiring_start_peers(struct daemon *daemon)
{
	static const struct peers_callbacks callbacks = {
		.connected = peer_connected,
		.failed = peer_failed,
		.lost = peer_lost,
		.own_leaf_gone = restore_on_own_leaf_gone,
		.saved = peer_saved,
		.least_ring = least_ring,
		.all_watched = all_peers_watched,
		.tell = tell_guest,
	};
	const struct config *config = &daemon->config;
	const struct peers_options options = {
		.self = &daemon->self,
		.registry = daemon->registry,
		.access = daemon->access,
		.config = config,
		.domains = daemon->domains,
		.takes_over = daemon->handover != NULL,
		/* It can't see the presence of one that hides it, so it doesn't know that we can be told. */
		.told = daemon->self.domid != 0 && !config->presence_private,
		.turns = &daemon->board.turns,
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
	struct carrier carrier;
	int r = shared_carrier_new(&carrier, &daemon->board, memory, charge,
				   hosts_is_lower(daemon->hosts, number));

	if (r < 0)
		links_failed(daemon->links, peer_host(number), -EHOSTUNREACH, strerror(-r));
	else
		links_connected(daemon->links, peer_host(number), &carrier);
}

static void host_failed(void *userdata, uint32_t number, int error, const char *reason)
{
	struct daemon *daemon = userdata;

	links_failed(daemon->links, peer_host(number), error, reason);
}

static unsigned host_gone(void *userdata, uint32_t number)
{
	struct daemon *daemon = userdata;

	return relay_host_gone(daemon->relay, number);
}

static void host_replaced(void *userdata, uint32_t number, const uint8_t instance[16])
{
	struct daemon *daemon = userdata;

	links_replaced(daemon->links, peer_host(number), instance, "another daemon runs there now");
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
	struct hosts_options options = {
		.self = &daemon->self,
		.name = config->host_name,
		.socket_path = config->socket,
		.handed_over = &daemon->sockets,
		.user = config->gateway_uid,
		.setup_timeout_ms = config->setup_timeout_ms,
		.dead_after_ms = config->dead_after_ms,
	};
	int r;

	if (config->host_name && daemon->self.domid != 0) {
		log_warning(
			"[hosts] name isn't used here, but by domain 0's daemon, which leads to other hosts");
		options.name = NULL;
	}
	/* The part that serves it keeps it to itself. */
	if (daemon->sockets.gateway < 0 && daemon->gateway_socket >= 0) {
		daemon->sockets.gateway = fcntl(daemon->gateway_socket, F_DUPFD_CLOEXEC, 3);
		if (daemon->sockets.gateway < 0)
			return -errno;
	}
	r = hosts_new(&daemon->hosts, &daemon->board, &options, &callbacks, daemon);
	if (r < 0)
		return r;
	log_name_hosts(name_of_host, daemon->hosts);
	return 0;
}
