/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Makes the modules, gives each the ones below that it needs, and connects their callbacks. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/activation/activation.h"
#include "daemon/policy/access.h"
#include "daemon/xen/singleton.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "wire/advice.h"
#include "wire/doorbell.h"
#include "daemon/main/daemon_internal.h"
#include "base/descriptors.h"
#include "daemon/link/directory.h"
#include "daemon/registry/registry.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "daemon/local/local.h"
#include "base/log.h"
#include "base/timer.h"
#include "base/notify.h"
#include "daemon/peers/domains.h"
#include "daemon/peers/names.h"
#include "daemon/peers/peers.h"
#include "daemon/serve/questions.h"
#include "base/users.h"
#include "base/quota.h"
#include "daemon/serve/router.h"
#include "daemon/serve/tracers.h"
#include "daemon/main/startup.h"
#include "daemon/xen/store.h"
#include "daemon/local/streams.h"
#include "daemon/topic/topics.h"
#include "daemon/xen/vchan.h"
#include "daemon/serve/watches.h"

#define GREETING_MS 10000
/* not below the largest ring of a link: a smaller one cost up to two thirds of the throughput */
#define LOCAL_RING_SIZE 1048576u

/* --- the switch, and the shares of accounts ----------------------------------------------------- */

static int start_switch(struct daemon *daemon)
{
	const struct config *config = &daemon->config;
	struct quota_limits limits = {
		.pool =
			{
				[QUOTA_CLIENTS] = config->max_clients,
				[QUOTA_ENDPOINTS] = config->max_endpoints,
				[QUOTA_CHANNELS] = config->max_channels,
				[QUOTA_BYTES] = config->max_queued_bytes,
				[QUOTA_DESCRIPTORS] = daemon->descriptors,
				[QUOTA_MEMORY] = config->max_memory,
			},
	};
	int r;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		limits.max[QUOTA_UID][i] = limits.max[QUOTA_PEER][i] = limits.pool[i] / 2;
	/* A peer has no clients here, and we keep of its endpoints what fits into its XenStore leaf. */
	limits.max[QUOTA_PEER][QUOTA_CLIENTS] = limits.max[QUOTA_PEER][QUOTA_ENDPOINTS] = 0;
	r = daemon->has_board ? 0 : switch_init(&daemon->board, daemon->base, config->max_message);
	if (r < 0)
		return r;
	if (!daemon->has_board)
		reload_prepare(daemon);
	daemon->has_board = true;
	if (!daemon->quota)
		daemon->board.quota = daemon->quota = quota_new(&limits);
	if (!daemon->quota)
		return -ENOMEM;
	r = daemon->work_pool ? 0 : work_pool_new(&daemon->work_pool, &daemon->board);
	if (r < 0)
		return r;
	daemon->board.work_pool = daemon->work_pool;
	r = memfd_lifetimes_new(&daemon->memfd_lifetimes, &daemon->board);
	if (r < 0)
		log_warning("memory that programs keep isn't charged to them: %s", strerror(-r));
	daemon->board.memfd_lifetimes = daemon->memfd_lifetimes;
	return 0;
}

/* --- policy ----------------------------------------------------------------------------------- */

static int start_known(struct daemon *daemon)
{
	daemon->registry = registry_new(&daemon->self);
	return daemon->registry ? 0 : -ENOMEM;
}

/* Returns -EBADMSG for a bad policy, which a restart doesn't repair; -EAGAIN where users can't be
 * looked up. */
static int start_access(struct daemon *daemon)
{
	const struct config *config = &daemon->config;
	int r = access_new(&daemon->access, &daemon->self, config->policy_dir, daemon->registry);

	if (r == 0 && (r = access_set_host(daemon->access, config->host_policy_dir, config->host_policy,
					   daemon->singleton)) < 0) {
		access_free(daemon->access);
		daemon->access = NULL;
	}
	return r < 0 ? startup_error(r, -EBADMSG) : 0;
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

	return activations_new(&daemon->activations, &daemon->board, daemon->config.activation_dir,
			       daemon->config.uid, daemon->config.socket, &callbacks, daemon);
}

/* Returns -EBADMSG if they are bad, which a restart doesn't repair; -EAGAIN as above. */
static int read_activations(struct daemon *daemon)
{
	int r = activations_reload(daemon->activations);

	return r < 0 ? startup_error(r, -EBADMSG) : 0;
}

/* --- programs --------------------------------------------------------------------------------- */

static int take_sockets(struct daemon *daemon)
{
	int r = daemon->has_sockets ? 0 : handover_take(daemon);

	if (r == 0 && !daemon->has_sockets) {
		daemon->gateway_socket = daemon->sockets.gateway;
		daemon->sockets.gateway = -1;
		daemon->has_sockets = true;
	}
	return r;
}

static int start_local(struct daemon *daemon)
{
	const struct local_options options = {
		.socket_path = daemon->config.socket,
		.handed_over = &daemon->sockets,
		.session =
			{
				.self = &daemon->self,
				.ring_size = LOCAL_RING_SIZE,
				.channels_max = CHANNEL_NUMBERS / 2,
				.greeting_ms = GREETING_MS,
				.can_share_memory = doorbells_work(),
			},
	};
	int r = local_new(&daemon->local, &daemon->board, &options, &requests_session_callbacks,
			  &daemon->request_context);

	if (r == -EADDRINUSE)
		log_error("another daemon listens on %s: stop it, or listen elsewhere",
			  daemon->config.socket);
	else if (r == -ENOTSOCK)
		log_error("%s is there and is no socket: remove it, or listen elsewhere",
			  daemon->config.socket);
	else if (r == -EROFS)
		log_error(
			"can't listen on %s: %s; mount -o remount,rw $(findmnt -n -o TARGET -T %.*s), or listen elsewhere",
			daemon->config.socket, strerror(-r),
			(int)(strrchr(daemon->config.socket, '/') - daemon->config.socket),
			daemon->config.socket);
	else if (lack_passes(-r))
		log_error("can't listen on %s: %s", daemon->config.socket, strerror(-r));
	else if (r < 0)
		log_error(
			"can't listen on %s: %s; this user must be able to write to its directory, or " ADVICE_LISTEN,
			daemon->config.socket, strerror(-r));
	return r;
}

static int start_questions(struct daemon *daemon)
{
	daemon->sources = (struct status_sources){
		.config = &daemon->config,
		.self = &daemon->self,
		.registry = daemon->registry,
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
		.topics = daemon->topics,
		.turns = &daemon->board.turns,
		.host = daemon->host,
	};
	daemon->questions = questions_new(&daemon->board, &daemon->sources, &requests_questions_callbacks,
					  &daemon->request_context);
	if (!daemon->questions)
		return -ENOMEM;
	router_set_questions(daemon->router, daemon->questions);
	return watches_set_inquiries(daemon->watches, daemon->base, questions_inquiries(daemon->questions));
}

static int start_tracers(struct daemon *daemon)
{
	const struct tracers_collaborators with = {
		.self = &daemon->self,
		.board = &daemon->board,
		.access = daemon->access,
		.hosts = daemon->hosts,
	};

	daemon->tracers = tracers_new(&with);
	return daemon->tracers ? 0 : -ENOMEM;
}

static int start_request_context(struct daemon *daemon)
{
	daemon->request_context = (struct request_context){
		.self = &daemon->self,
		.access = daemon->access,
		.registry = daemon->registry,
		.hosts = daemon->hosts,
		.links = daemon->links,
		.local = daemon->local,
		.peers = daemon->peers,
		.tracers = daemon->tracers,
		.questions = daemon->questions,
		.router = daemon->router,
		.streams = daemon->streams,
		.topics = daemon->topics,
		.relay = daemon->relay,
		.watches = daemon->watches,
		.administrators = daemon->config.administrators,
		.sight = daemon->config.host_sight,
		.reload = reload_ask,
		.reload_forget = reload_forget,
		.renew = renewal_ask,
		.renew_forget = renewal_forget,
		.renewed = renewal_tell,
		.userdata = daemon,
	};
	return 0;
}

/* Writes the line for `systemctl status`. */
static void wiring_describe(void *userdata, char *text, size_t size)
{
	struct daemon *daemon = userdata;
	const char *error = reload_error(daemon);

	snprintf(text, size, "Serving domain %u: programs: %u, endpoints: %u, links: %u%s%s",
		 daemon->self.domid, local_count(daemon->local), router_endpoints(daemon->router),
		 links_count(daemon->links), error ? "; older rules are in force: " : "", error ? error : "");
}

static int start_notify(struct daemon *daemon)
{
	return notify_new(&daemon->notify, daemon->base, daemon->config.ready_fd, wiring_describe, daemon);
}

/* --- all of them ------------------------------------------------------------------------------ */

static int follow_own_domid(struct daemon *daemon)
{
	return store_watch(daemon->store, "domid", restore_on_domid_changed, daemon, NULL, NULL);
}

static int become_user(struct daemon *daemon)
{
	const char *user = daemon->config.user;
	int r = 0;

	/* What outlives it is in the directory that it has locked. */
	if (user && geteuid() == 0 && fchown(daemon->singleton, daemon->config.uid, (gid_t)-1) < 0)
		log_warning("can't give " SINGLETON_DIRECTORY " to %s: %s", user, strerror(errno));
	if (user)
		r = privileges_drop(user);

	if (r == 0)
		return 0;
	log_error("can't become %s: %s", user,
		  r == -ENOENT	 ? "there is no such user"
		  : r == -EAGAIN ? "users can't be looked up now"
				 : strerror(-r));
	/* It takes over, or has. */
	if ((daemon->handover || daemon->renewals) && geteuid() != 0 && r != -EAGAIN) {
		log_warning("so this daemon keeps the user of the one before it, uid %u", geteuid());
		return 0;
	}
	return startup_error(r, -EBADMSG);
}

struct start_step {
	int (*start)(struct daemon *daemon);
	bool reads_files; /* and looks up users */
	bool is_once;	  /* it can't be tried again */
};

struct doing {
	const struct start_step *step;
	struct daemon *daemon;
};

static int do_step(void *userdata)
{
	const struct doing *doing = userdata;

	return doing->step->start(doing->daemon);
}

int wiring_start(struct daemon *daemon)
{
	/* Each step needs those before it. Programs come last: a program that is served finds everything. */
	static const struct start_step steps[] = {
		{.start = take_sockets},
		{.start = startup_xen},
		{.start = start_switch},
		{.start = start_known},
		{.start = start_access, .reads_files = true},
		{.start = wiring_start_names},
		{.start = wiring_start_watches},
		{.start = wiring_start_peers},
		{.start = wiring_start_hosts},
		{.start = wiring_start_relay},
		{.start = wiring_start_links},
		{.start = wiring_start_directory},
		{.start = wiring_start_router},
		{.start = start_activations},
		{.start = startup_await_presence},
		{.start = start_local},
		{.start = start_questions},
		{.start = start_tracers},
		{.start = start_request_context},
		{.start = start_notify},
		{.start = follow_own_domid},
		{.start = read_activations, .reads_files = true},
		{.start = handover_read, .is_once = true},
		{.start = become_user, .reads_files = true},
	};
	bool takes_over = startup_takes_over(&daemon->inherited);
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(steps) / sizeof(*steps); i++) {
		struct doing doing = {&steps[i], daemon};
		bool may_lose = takes_over && !handover_is_bad(daemon);

		if (steps[i].reads_files)
			r = startup_with_good_files(takes_over, do_step, &doing);
		else
			r = startup_despite_lacks(may_lose && !steps[i].is_once, do_step, &doing);
	}
	return r;
}

void wiring_end(struct daemon *daemon)
{
	store_leave_watches(daemon->store);
	activations_stop(daemon->activations); /* whose programs go now */
	handover_free(daemon);
	handed_over_close(&daemon->sockets);
	if (daemon->gateway_socket >= 0)
		close(daemon->gateway_socket);
	notify_free(daemon->notify);
	if (daemon->has_board)
		reload_end(daemon);
	local_free(daemon->local); /* its sessions cancel what they have asked for */
	questions_free(daemon->questions);
	daemon->questions = NULL;
	tracers_free(daemon->tracers);
	router_free(daemon->router);
	topics_free(daemon->topics);
	activations_free(daemon->activations);
	streams_free(daemon->streams);
	relay_free(daemon->relay);
	directory_free(daemon->directory);
	if (daemon->host)
		vchan_host_set_waits(daemon->host, NULL, NULL);
	links_free(daemon->links);
	log_name_hosts(NULL, NULL);
	hosts_free(daemon->hosts);
	peers_free(daemon->peers);
	watches_free(daemon->watches);
	names_free(daemon->names);
	domains_free(daemon->domains);
	access_free(daemon->access);
	registry_free(daemon->registry);
	if (daemon->has_board)
		switch_cleanup(&daemon->board);
	work_pool_free(daemon->work_pool);
	memfd_lifetimes_free(daemon->memfd_lifetimes);
	quota_free(daemon->quota);
	store_free(daemon->store);
	vchan_host_free(daemon->host);
	free_event(daemon->retired_timer);
}
