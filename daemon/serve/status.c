/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/status.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <json-c/json.h>

#include "daemon/activation/activation.h"
#include "daemon/registry/changes.h"
#include "daemon/registry/registry.h"
#include "base/config.h"
#include "base/self.h"
#include "daemon/policy/access.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/sharing.h"
#include "daemon/serve/router.h"
#include "daemon/serve/status_json.h"
#include "daemon/topic/topics.h"
#include "wire/ut.h"

static void add_traffic(struct json_object *object, const char *key, const struct hop_stats *stats)
{
	struct json_object *traffic = add_object(object, key);

	add_number(traffic, "messages", stats->messages);
	add_number(traffic, "bytes", stats->bytes);
	add_number(traffic, "frames", stats->frames);
	add_number(traffic, "notifications", stats->notifications);
}

/* Adds how many took how long; each bucket has those of the ones before it, too. */
static void add_durations(struct json_object *object, const char *key, const struct durations *durations)
{
	struct json_object *histogram = add_object(object, key), *buckets = json_object_new_array();
	uint64_t up_to = 0;

	for (unsigned i = 0; i < DURATION_BOUNDS; i++) {
		struct json_object *bucket = json_object_new_object();

		up_to += durations->buckets[i];
		add_number(bucket, "up_to_us", duration_bounds[i] / 1000);
		add_number(bucket, "count", up_to);
		json_object_array_add(buckets, bucket);
	}
	json_object_object_add(histogram, "buckets", buckets);
	add_number(histogram, "count", durations->count);
	add_number(histogram, "sum_us", durations->sum_ns / 1000);
}

/* --- ranks ------------------------------------------------------------------------------------ */

static uint64_t traffic_of(const struct hop_stats *tx, const struct hop_stats *rx)
{
	return tx->bytes + rx->bytes;
}

/* --- links ------------------------------------------------------------------------------------ */

/* Adds the usage of the whole uid or peer, not of this program alone. */
static void add_usage(struct json_object *usage, const struct account *account)
{
	uint64_t refused = 0;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		refused += account_usage(account, i).refused;
	add_number(usage, "channels_charged", account_usage(account, QUOTA_CHANNELS).used);
	add_number(usage, "bytes_charged", account_usage(account, QUOTA_BYTES).used);
	add_number(usage, "refused", refused);
}

static bool next_link(struct status_walk *walk)
{
	const struct peer_id last = walk->link.peer;
	bool is_first = walk->domid < 0;

	walk->domid = 0;
	return links_next(walk->sources->links, is_first ? NULL : &last, &walk->link);
}

/* Domain 0 has the other end of some, and can look into all. */
static bool sees_links(const struct viewer *viewer)
{
	return viewer->sees_all || viewer->is_host;
}

static unsigned rank_of_link(struct status_walk *walk)
{
	const struct link_info *info = &walk->link;

	/* What isn't shown must not affect the order, either. */
	if (!sees_links(&walk->viewer))
		return rank_of(info->state == LINK_UP, 0);
	return rank_of(info->state == LINK_UP || info->channels, traffic_of(&info->tx, &info->rx));
}

/* Adds what shows who uses the link, and how much. */
static void add_link_use(struct json_object *link, const struct link_info *info)
{
	add_number(link, "channels", info->channels);
	add_traffic(link, "tx", &info->tx);
	add_traffic(link, "rx", &info->rx);
	add_number(link, "unacked", info->unacknowledged);
	add_durations(link, "round_trips", &info->round_trips);
	add_usage(add_object(link, "usage"), info->account);
}

/* Whether what is for this domain goes through domain 0, since there can be no link. */
static bool is_relayed(const struct status_sources *sources, struct peer_id peer)
{
	return sources->config->relay && sources->self->domid != 0 && peer.kind == PEER_DOMAIN &&
	       peer.number != 0 && peers_is_unlinkable(sources->peers, peer.number);
}

static const char *why_relayed(const struct status_sources *sources, uint32_t domid)
{
	return peers_is_forbidden(sources->peers, domid) ? "Xen lets the two share no memory (XSM)"
							 : "neither may map the other's pages";
}

/* Adds the state of the link, and the way that takes its place, and why. */
static void add_state(struct json_object *object, const char *key, const struct status_walk *walk,
		      struct peer_id peer)
{
	bool relayed = walk->link.state == LINK_IDLE && is_relayed(walk->sources, peer);

	add_text(object, key, relayed ? "relayed" : walk->link.state_name);
	json_object_object_add(object, "via", relayed ? json_object_new_uint64(0) : NULL);
	add_text(object, "why", relayed ? why_relayed(walk->sources, peer.number) : NULL);
}

/* Returns what a guest does with the host's policy, in domain 0; NULL: nobody is told here. */
static const char *host_policy_of(const struct status_walk *walk, const struct link_info *info)
{
	if (walk->sources->self->domid != 0 || info->peer.kind != PEER_DOMAIN || info->state != LINK_UP)
		return NULL;
	return info->flags & HELLO_OBEYS ? "obeys" : "ignores";
}

static void describe_link(struct status_walk *walk, struct json_object *link)
{
	struct json_object *peer = add_object(link, "peer");
	const struct link_info *info = &walk->link;

	add_peer(peer, walk->sources, info->peer);
	add_text(peer, "version", info->version);
	add_text(link, "host_policy", host_policy_of(walk, info));
	add_state(link, "state", walk, info->peer);
	add_text(link, "role", !info->has_vchan ? NULL : info->granter ? "grants" : "maps");
	add_number(link, "ring_bytes", info->ring_bytes);
	add_number(link, "pages", info->pages);
	add_rtt(link, info->rtt_ns);
	if (sees_links(&walk->viewer))
		add_link_use(link, info);
	add_number(link, "resumes", info->resumes);
	add_number(link, "moves", info->moves);
	add_text(link, "last_error", info->last_error);
	add_number(link, "since", info->since);
}

/* --- endpoints and clients -------------------------------------------------------------------- */

/* Whether the viewer may know all about the endpoint: its program's user may, or whose program would be
 * started. */
static bool is_owner(const struct status_walk *walk, const struct endpoint *endpoint)
{
	if (endpoint->session)
		return is_own(walk, session_credentials(endpoint->session)->uid);
	return walk->viewer.sees_all ||
	       (!walk->viewer.is_host && activation_may_bind(endpoint->activation, walk->viewer.uid));
}

static bool status_next_endpoint(struct status_walk *walk)
{
	walk->endpoint = router_next(walk->sources->router, walk->name);
	if (!walk->endpoint)
		return false;
	snprintf(walk->name, sizeof(walk->name), "%s", walk->endpoint->name);
	return true;
}

#define POLICY_UNITS 100u /* to ask policy once, with few rules */

/* Hides an endpoint from a program that may not reach it, as OPEN does. */
static bool endpoint_is_visible(struct status_walk *walk)
{
	const struct access_sender viewer = {
		.domid = walk->viewer.is_host ? 0 : walk->sources->self->domid,
		.uid = walk->viewer.uid,
	};

	if (is_owner(walk, walk->endpoint))
		return true;
	walk->units += POLICY_UNITS;
	return access_still_allowed(walk->sources->access, viewer, walk->endpoint->name) == 0;
}

static unsigned rank_of_endpoint(struct status_walk *walk)
{
	const struct hop *hop;

	if (!is_owner(walk, walk->endpoint) || !walk->endpoint->session)
		return 0;
	hop = session_hop(walk->endpoint->session);
	return rank_of(hop_channel_count(hop), traffic_of(hop_tx(hop), hop_rx(hop)));
}

/* Describes how the endpoint is started on demand. */
static void describe_activation(const struct activation *activation, struct json_object *object)
{
	const struct activation_info info = activation_info(activation);

	add_text(object, "state", info.state);
	add_text(object, "user", info.user);
	add_text(object, "unit", info.unit);
	add_text(object, "exec", info.unit ? NULL : info.command);
	add_number(object, "waiting", info.waiting);
	add_number(object, "starts", info.starts);
	add_text(object, "reason", info.why);
	add_number(object, "pause_ms", info.pause_ms);
}

/* Tells who has bound it; `session`: NULL for viewers who may not know, and where nobody has. */
static void describe_binder(struct json_object *object, struct session *session)
{
	const struct ucred *credentials = session ? session_credentials(session) : NULL;

	json_object_object_add(object, "uid", credentials ? json_object_new_uint64(credentials->uid) : NULL);
	json_object_object_add(object, "pid", credentials ? json_object_new_int64(credentials->pid) : NULL);
	json_object_object_add(object, "comm",
			       credentials ? json_object_new_string(session_comm(session)) : NULL);
}

/* Adds the programs that share it. A user may have no more of them than endpoints. */
static void add_programs(struct json_object *object, const struct endpoint *endpoint)
{
	struct json_object *programs = json_object_new_array();
	const struct binder *binder;

	DL_FOREACH(endpoint->binders, binder) {
		struct json_object *program = json_object_new_object();

		add_number(program, "pid", (uint64_t)session_credentials(binder->session)->pid);
		add_text(program, "comm", session_comm(binder->session));
		add_number(program, "channels", binder->worker->channels);
		json_object_array_add(programs, program);
	}
	json_object_object_add(object, "programs", programs);
}

static bool status_is_shared(const struct endpoint *endpoint)
{
	return endpoint->session && endpoint->binders->worker;
}

/* A status has many endpoints, and most take no calls, or are topics. */
static void add_measured(struct json_object *object, const char *key, const struct durations *durations)
{
	if (durations->count)
		add_durations(object, key, durations);
	else
		add_null(object, key);
}

static void describe_endpoint(struct status_walk *walk, struct json_object *object)
{
	const struct endpoint *endpoint = walk->endpoint;

	add_text(object, "name", endpoint->name);
	add_text(object, "kind", kind_name(endpoint->kinds));
	if (!is_owner(walk, endpoint))
		return;
	describe_binder(object, endpoint->session);
	if (endpoint->session)
		add_number(object, "queued", status_queued_for(walk, session_hop(endpoint->session)));
	else
		add_null(object, "queued");
	if (status_is_shared(endpoint))
		add_programs(object, endpoint);
	if (endpoint->activation)
		describe_activation(endpoint->activation, add_object(object, "activation"));
	else
		add_null(object, "activation");
	status_add_topic(walk, object, endpoint->topic);
	if (walk->viewer.sees_all) { /* as for the list of refusals */
		add_number(object, "opened", endpoint->opened);
		add_number(object, "refused", endpoint->refused);
		add_number(object, "messages", endpoint->tally->messages);
		add_number(object, "bytes_to", endpoint->tally->bytes_to);
		add_number(object, "bytes_from", endpoint->tally->bytes_from);
		add_measured(object, "taken", &endpoint->tally->taken);
		add_measured(object, "answered", &endpoint->tally->answered);
	}
	json_object_object_add(object, "visible_to",
			       access_visible_to(walk->sources->access, endpoint->name));
}

static bool next_client(struct status_walk *walk)
{
	walk->session = local_next(walk->sources->local, &walk->place);
	return walk->session != NULL;
}

static bool client_is_visible(struct status_walk *walk)
{
	return is_own(walk, session_credentials(walk->session)->uid);
}

static unsigned rank_of_client(struct status_walk *walk)
{
	const struct hop *hop = session_hop(walk->session);

	return rank_of(hop_channel_count(hop), traffic_of(hop_tx(hop), hop_rx(hop)));
}

static void describe_client(struct status_walk *walk, struct json_object *object)
{
	const struct ucred *credentials = session_credentials(walk->session);
	struct hop *hop = session_hop(walk->session);
	struct json_object *usage;

	add_number(object, "uid", credentials->uid);
	add_number(object, "pid", (uint64_t)credentials->pid);
	add_text(object, "comm", session_comm(walk->session));
	add_number(object, "channels", hop_channel_count(hop));
	add_number(object, "bytes_queued", status_queued_for(walk, hop));
	add_flag(object, "shared_memory", session_shares_memory(walk->session));
	add_flag(object, "carries_streams", session_is_mux(walk->session));
	usage = add_object(object, "usage");
	add_number(usage, "frames_in", hop_rx(hop)->frames);
	add_number(usage, "frames_out", hop_tx(hop)->frames);
	add_number(usage, "bytes_in", hop_rx(hop)->bytes);
	add_number(usage, "bytes_out", hop_tx(hop)->bytes);
	add_usage(usage, hop_account(hop));
}

/* --- peers ------------------------------------------------------------------------------------ */

static struct json_object *status_names_of(const struct status_walk *walk)
{
	struct json_object *names = json_object_new_array();
	const struct record *endpoint = NULL;

	while ((endpoint = registry_offered(walk->sources->registry, walk->peer.domid, endpoint)) != NULL)
		json_object_array_add(names, json_object_new_string(endpoint->text));
	return names;
}

static bool next_peer(struct status_walk *walk)
{
	if (!peers_next(walk->sources->peers, walk->domid, &walk->peer))
		return false;
	walk->domid = walk->peer.domid;
	return true;
}

static unsigned rank_of_peer(struct status_walk *walk)
{
	return rank_of(walk->peer.up, 0);
}

static void describe_peer(struct status_walk *walk, struct json_object *peer)
{
	const struct peer_info *info = &walk->peer;

	add_domain(peer, walk->sources, info->domid);
	add_text(peer, "instance", info->instance);
	add_flag(peer, "up", info->up);
	add_text(peer, "state", info->state);
	json_object_object_add(peer, "endpoints", status_names_of(walk));
}

/* Returns whether `xenmsg peers` lists the peer. */
static bool peer_is_listed(struct status_walk *walk)
{
	walk->link = (struct link_info){.state_name = "idle", .version = ""};
	links_info(walk->sources->links, peer_domain(walk->peer.domid), &walk->link);
	return walk->peer.up || walk->link.state != LINK_IDLE;
}

static void describe_listed_peer(struct status_walk *walk, struct json_object *peer)
{
	add_domain(peer, walk->sources, walk->peer.domid);
	add_text(peer, "version", walk->link.version);
	add_flag(peer, "up", walk->peer.up);
	add_state(peer, "link", walk, peer_domain(walk->peer.domid));
	add_number(peer, "since", walk->link.since);
	add_number(peer, "resumes", walk->link.resumes);
	add_rtt(peer, walk->link.rtt_ns);
}

const struct status_list status_peers_lists[] = {
	{.name = "peers", .next = next_peer, .is_visible = peer_is_listed, .describe = describe_listed_peer},
	{.name = NULL},
};

/* --- endpoints, here and there ---------------------------------------------------------------- */

/* Describes an endpoint by its name. `kind`, `visible_to`: NULL for viewers who may not know, and where only
 * the daemon there knows. */
static void describe_name(const struct status_walk *walk, struct json_object *object, uint32_t domid,
			  const char *name, const char *kind, struct json_object *visible_to)
{
	add_number(object, "domid", domid);
	add_text(object, "domain", registry_name(walk->sources->registry, domid));
	add_text(object, "name", name);
	json_object_object_add(object, "kind", kind ? json_object_new_string(kind) : NULL);
	json_object_object_add(object, "visible_to", visible_to);
}

static bool next_name_here(struct status_walk *walk)
{
	return (walk->only < 0 || walk->only == walk->sources->self->domid) && status_next_endpoint(walk);
}

static void describe_name_here(struct status_walk *walk, struct json_object *object)
{
	const struct endpoint *endpoint = walk->endpoint;
	struct json_object *visible_to = NULL;
	bool may_know = is_owner(walk, endpoint);

	if (may_know)
		visible_to = access_visible_to(walk->sources->access, endpoint->name);
	describe_name(walk, object, walk->sources->self->domid, endpoint->name, kind_name(endpoint->kinds),
		      visible_to);
	describe_binder(object, may_know ? endpoint->session : NULL);
	if (may_know && status_is_shared(endpoint))
		add_programs(object, endpoint);
	if (endpoint->activation)
		add_text(object, "started", activation_info(endpoint->activation).state);
}

/* Returns the peer's endpoint at the walk's index. NULL: it has no more. */
static const struct record *offered_by_peer(const struct status_walk *walk)
{
	const struct record *endpoint = NULL;

	for (unsigned i = 0; walk->peer.up && (i == 0 || endpoint) && i <= walk->index; i++)
		endpoint = registry_offered(walk->sources->registry, walk->peer.domid, endpoint);
	return endpoint;
}

/* Goes on with the last peer, which may have other names by now, then with those behind it. */
static bool next_name_there(struct status_walk *walk)
{
	int64_t after = walk->domid - 1;

	if (walk->domid < 0) {
		if (walk->begun)
			return false;
		walk->begun = true;
		after = walk->only < 0 ? -1 : walk->only - 1;
	} else {
		walk->index++;
	}
	while (peers_next(walk->sources->peers, after, &walk->peer) &&
	       (walk->only < 0 || walk->peer.domid == walk->only)) {
		const struct record *endpoint;

		after = walk->peer.domid;
		if (after != walk->domid)
			walk->index = 0;
		walk->domid = after;
		walk->units += 1 + walk->index / 4;
		endpoint = offered_by_peer(walk);
		if (endpoint) {
			walk->name_kinds = endpoint->kinds;
			snprintf(walk->name, sizeof(walk->name), "%s", endpoint->text);
			return true;
		}
	}
	return false;
}

static void describe_name_there(struct status_walk *walk, struct json_object *object)
{
	describe_name(walk, object, walk->peer.domid, walk->name,
		      walk->name_kinds ? kind_name(walk->name_kinds) : NULL, NULL);
	describe_binder(object, NULL);
}

const struct status_list status_endpoints_lists[] = {
	{.name = "here",
	 .next = next_name_here,
	 .is_visible = endpoint_is_visible,
	 .describe = describe_name_here},
	{.name = "there", .next = next_name_there, .describe = describe_name_there},
	{.name = NULL},
};

const struct status_list status_lists[] = {
	{.name = "accounts",
	 .of_users = true,
	 .next = status_next_account,
	 .is_visible = status_account_is_visible,
	 .rank = status_rank_of_account,
	 .describe = status_describe_account},
	{.name = "links", .next = next_link, .rank = rank_of_link, .describe = describe_link},
	{.name = "endpoints",
	 .next = status_next_endpoint,
	 .is_visible = endpoint_is_visible,
	 .rank = rank_of_endpoint,
	 .describe = describe_endpoint},
	{.name = "clients",
	 .of_users = true,
	 .next = next_client,
	 .is_visible = client_is_visible,
	 .rank = rank_of_client,
	 .describe = describe_client},
	{.name = "streams",
	 .of_users = true,
	 .next = status_next_stream,
	 .is_visible = status_stream_is_visible,
	 .rank = status_rank_of_stream,
	 .describe = status_describe_stream},
	{.name = "subscriptions",
	 .of_users = true,
	 .next = status_next_subscription,
	 .is_visible = status_subscription_is_visible,
	 .rank = status_rank_of_subscription,
	 .describe = status_describe_subscription},
	{.name = "peers", .next = next_peer, .rank = rank_of_peer, .describe = describe_peer},
	{.name = "denied",
	 .of_others = true,
	 .next = status_next_denied,
	 .rank = status_rank_of_denied,
	 .describe = status_describe_denied},
	{.name = NULL},
};
