/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/status.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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

static void add_traffic(struct json *json, const char *key, const struct hop_stats *stats)
{
	json_begin(json, key, '{');
	json_number(json, "messages", stats->messages);
	json_number(json, "bytes", stats->bytes);
	json_number(json, "frames", stats->frames);
	json_number(json, "notifications", stats->notifications);
	json_end(json, '}');
}

/* Adds how many took how long; each bucket has those of the ones before it, too. */
static void add_durations(struct json *json, const char *key, const struct durations *durations)
{
	uint64_t up_to = 0;

	json_begin(json, key, '{');
	json_begin(json, "buckets", '[');
	for (unsigned i = 0; i < DURATION_BOUNDS; i++) {
		up_to += durations->buckets[i];
		json_begin(json, NULL, '{');
		json_number(json, "up_to_us", duration_bounds[i] / 1000);
		json_number(json, "count", up_to);
		json_end(json, '}');
	}
	json_end(json, ']');
	json_number(json, "count", durations->count);
	json_number(json, "sum_us", durations->sum_ns / 1000);
	json_end(json, '}');
}

/* --- ranks ------------------------------------------------------------------------------------ */

static uint64_t traffic_of(const struct hop_stats *tx, const struct hop_stats *rx)
{
	return tx->bytes + rx->bytes;
}

/* --- links ------------------------------------------------------------------------------------ */

/* Adds the usage of the whole uid or peer, not of this program alone. */
static void add_usage(struct json *json, const struct account *account)
{
	uint64_t refused = 0;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		refused += account_usage(account, i).refused;
	json_number(json, "channels_charged", account_usage(account, QUOTA_CHANNELS).used);
	json_number(json, "bytes_charged", account_usage(account, QUOTA_BYTES).used);
	json_number(json, "refused", refused);
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
static void add_link_use(struct json *link, const struct link_info *info)
{
	json_number(link, "channels", info->channels);
	add_traffic(link, "tx", &info->tx);
	add_traffic(link, "rx", &info->rx);
	json_number(link, "unacked", info->unacknowledged);
	add_durations(link, "round_trips", &info->round_trips);
	json_begin(link, "usage", '{');
	add_usage(link, info->account);
	json_end(link, '}');
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
static void add_state(struct json *json, const char *key, const struct status_walk *walk, struct peer_id peer)
{
	bool relayed = walk->link.state == LINK_IDLE && is_relayed(walk->sources, peer);

	add_text(json, key, relayed ? "relayed" : walk->link.state_name);
	json_number_if(json, "via", relayed, 0);
	add_text(json, "why", relayed ? why_relayed(walk->sources, peer.number) : NULL);
}

/* Returns what a guest does with the host's policy, in domain 0; NULL: nobody is told here. */
static const char *host_policy_of(const struct status_walk *walk, const struct link_info *info)
{
	if (walk->sources->self->domid != 0 || info->peer.kind != PEER_DOMAIN || info->state != LINK_UP)
		return NULL;
	return info->flags & HELLO_OBEYS ? "obeys" : "ignores";
}

static void describe_link(struct status_walk *walk, struct json *link)
{
	const struct link_info *info = &walk->link;

	json_begin(link, "peer", '{');
	add_peer(link, walk->sources, info->peer);
	add_text(link, "version", info->version);
	json_end(link, '}');
	add_text(link, "host_policy", host_policy_of(walk, info));
	add_state(link, "state", walk, info->peer);
	add_text(link, "role", !info->has_vchan ? NULL : info->granter ? "grants" : "maps");
	json_number(link, "ring_bytes", info->ring_bytes);
	json_number(link, "pages", info->pages);
	add_rtt(link, info->rtt_ns);
	if (sees_links(&walk->viewer))
		add_link_use(link, info);
	json_number(link, "resumes", info->resumes);
	json_number(link, "moves", info->moves);
	add_text(link, "last_error", info->last_error);
	json_number(link, "since", info->since);
}

/* --- endpoints and clients -------------------------------------------------------------------- */

/* Whether the viewer may know all about the endpoint: its program's user may, or whose program would be
 * started. */
static bool is_owner(const struct status_walk *walk, const struct endpoint *endpoint)
{
	if (endpoint->hop)
		return is_own(walk, hop_program(endpoint->hop)->identity.uid);
	return walk->viewer.sees_all ||
	       (!walk->viewer.is_host && activation_may_bind(endpoint->activation, walk->viewer.uid));
}

bool status_next_endpoint(struct status_walk *walk)
{
	walk->endpoint = router_next(walk->sources->router, walk->name);
	if (!walk->endpoint)
		return false;
	snprintf(walk->name, sizeof(walk->name), "%s", walk->endpoint->name);
	return true;
}

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

	if (!is_owner(walk, walk->endpoint) || !walk->endpoint->hop)
		return 0;
	hop = walk->endpoint->hop;
	return rank_of(hop_channel_count(hop), traffic_of(hop_tx(hop), hop_rx(hop)));
}

/* Describes how the endpoint is started on demand. */
static void describe_activation(const struct activation *activation, struct json *json)
{
	const struct activation_info info = activation_info(activation);

	json_begin(json, "activation", '{');
	add_text(json, "state", info.state);
	add_text(json, "user", info.user);
	add_text(json, "unit", info.unit);
	add_text(json, "exec", info.unit ? NULL : info.command);
	json_number(json, "waiting", info.waiting);
	json_number(json, "starts", info.starts);
	add_text(json, "reason", info.why);
	json_number(json, "pause_ms", info.pause_ms);
	json_end(json, '}');
}

/* Tells who has bound it; `program`: NULL for viewers who may not know, and where nobody has. */
static void describe_binder(struct json *json, struct hop *program)
{
	const struct frame_identity *who = program ? &hop_program(program)->identity : NULL;

	json_number_if(json, "uid", who, who->uid);
	json_number_if(json, "pid", who, who->pid);
	json_text(json, "comm", who ? hop_program(program)->comm : NULL);
}

/* Adds the programs that share it. A user may have no more of them than endpoints. */
static void add_programs(struct json *json, const struct endpoint *endpoint)
{
	const struct binder *binder;

	json_begin(json, "programs", '[');
	DL_FOREACH(endpoint->binders, binder) {
		json_begin(json, NULL, '{');
		json_number(json, "pid", hop_program(binder->hop)->identity.pid);
		add_text(json, "comm", hop_program(binder->hop)->comm);
		json_number(json, "channels", binder->worker->channels);
		json_end(json, '}');
	}
	json_end(json, ']');
}

static bool status_is_shared(const struct endpoint *endpoint)
{
	return endpoint->hop && endpoint->binders->worker;
}

/* A status has many endpoints, and most take no calls, or are topics. */
static void add_measured(struct json *json, const char *key, const struct durations *durations)
{
	if (durations->count)
		add_durations(json, key, durations);
	else
		json_null(json, key);
}

static void describe_endpoint(struct status_walk *walk, struct json *json)
{
	const struct endpoint *endpoint = walk->endpoint;

	add_text(json, "name", endpoint->name);
	add_text(json, "kind", kind_name(endpoint->kinds));
	if (!is_owner(walk, endpoint))
		return;
	describe_binder(json, endpoint->hop);
	if (endpoint->hop)
		json_number(json, "queued", status_queued_for(walk, endpoint->hop));
	else
		json_null(json, "queued");
	if (status_is_shared(endpoint))
		add_programs(json, endpoint);
	if (endpoint->activation)
		describe_activation(endpoint->activation, json);
	else
		json_null(json, "activation");
	status_add_topic(walk, json, endpoint);
	if (walk->viewer.sees_all) { /* as for the list of refusals */
		json_number(json, "opened", endpoint->tally->opened);
		json_number(json, "refused", endpoint->tally->refused);
		json_number(json, "messages", endpoint->tally->messages);
		json_number(json, "bytes_to", endpoint->tally->bytes_to);
		json_number(json, "bytes_from", endpoint->tally->bytes_from);
		add_measured(json, "taken", &endpoint->tally->taken);
		add_measured(json, "answered", &endpoint->tally->answered);
	}
	access_visible_to(walk->sources->access, endpoint->name, json, "visible_to");
}

static bool next_client(struct status_walk *walk)
{
	walk->hop = local_next(walk->sources->local, &walk->place);
	return walk->hop != NULL;
}

static bool client_is_visible(struct status_walk *walk)
{
	return is_own(walk, hop_program(walk->hop)->identity.uid);
}

static unsigned rank_of_client(struct status_walk *walk)
{
	const struct hop *hop = walk->hop;

	return rank_of(hop_channel_count(hop), traffic_of(hop_tx(hop), hop_rx(hop)));
}

static void describe_client(struct status_walk *walk, struct json *json)
{
	struct hop *hop = walk->hop;
	const struct frame_identity *who = &hop_program(hop)->identity;

	json_number(json, "uid", who->uid);
	json_number(json, "pid", who->pid);
	add_text(json, "comm", hop_program(hop)->comm);
	json_number(json, "channels", hop_channel_count(hop));
	json_number(json, "bytes_queued", status_queued_for(walk, hop));
	json_flag(json, "shared_memory", session_shares_memory(hop));
	json_flag(json, "carries_streams", hop_program(hop)->carries_streams);
	json_begin(json, "usage", '{');
	json_number(json, "frames_in", hop_rx(hop)->frames);
	json_number(json, "frames_out", hop_tx(hop)->frames);
	json_number(json, "bytes_in", hop_rx(hop)->bytes);
	json_number(json, "bytes_out", hop_tx(hop)->bytes);
	add_usage(json, hop_account(hop));
	json_end(json, '}');
}

/* --- peers ------------------------------------------------------------------------------------ */

static void add_names(const struct status_walk *walk, struct json *json)
{
	const struct record *endpoint = NULL;

	json_begin(json, "endpoints", '[');
	while ((endpoint = registry_offered(walk->sources->registry, walk->peer.domid, endpoint)) != NULL)
		json_text(json, NULL, endpoint->text);
	json_end(json, ']');
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

static void describe_peer(struct status_walk *walk, struct json *peer)
{
	const struct peer_info *info = &walk->peer;

	add_domain(peer, walk->sources, info->domid);
	add_text(peer, "instance", info->instance);
	json_flag(peer, "up", info->up);
	add_text(peer, "state", info->state);
	add_names(walk, peer);
	if (registry_is_cut(walk->sources->registry, info->domid))
		json_flag(peer, "whole", false);
}

void status_find_link(struct status_walk *walk, struct peer_id peer)
{
	walk->link =
		(struct link_info){.state = LINK_IDLE, .state_name = "idle", .version = "", .last_error = ""};
	links_info(walk->sources->links, peer, &walk->link);
}

/* Returns whether `xenmsg peers` lists the peer. */
static bool peer_is_listed(struct status_walk *walk)
{
	status_find_link(walk, peer_domain(walk->peer.domid));
	return walk->peer.up || walk->link.state != LINK_IDLE;
}

static void describe_listed_peer(struct status_walk *walk, struct json *peer)
{
	add_domain(peer, walk->sources, walk->peer.domid);
	add_text(peer, "version", walk->link.version);
	json_flag(peer, "up", walk->peer.up);
	add_state(peer, "link", walk, peer_domain(walk->peer.domid));
	json_number(peer, "since", walk->link.since);
	json_number(peer, "resumes", walk->link.resumes);
	add_rtt(peer, walk->link.rtt_ns);
}

const struct status_list status_peers_lists[] = {
	{.name = "peers", .next = next_peer, .is_visible = peer_is_listed, .describe = describe_listed_peer},
	{.name = NULL},
};

/* --- endpoints, here and there ---------------------------------------------------------------- */

/* Describes an endpoint by its name. `kind`: NULL for viewers who may not know, and where only the daemon
 * there knows. */
static void describe_name(const struct status_walk *walk, struct json *json, uint32_t domid, const char *name,
			  const char *kind)
{
	json_number(json, "domid", domid);
	add_text(json, "domain", registry_name(walk->sources->registry, domid));
	add_text(json, "name", name);
	json_text(json, "kind", kind);
}

static bool next_name_here(struct status_walk *walk)
{
	return (walk->only < 0 || walk->only == walk->sources->self->domid) && status_next_endpoint(walk);
}

static void describe_name_here(struct status_walk *walk, struct json *json)
{
	const struct endpoint *endpoint = walk->endpoint;
	bool may_know = is_owner(walk, endpoint);

	describe_name(walk, json, walk->sources->self->domid, endpoint->name, kind_name(endpoint->kinds));
	if (may_know)
		access_visible_to(walk->sources->access, endpoint->name, json, "visible_to");
	else
		json_null(json, "visible_to");
	describe_binder(json, may_know ? endpoint->hop : NULL);
	if (may_know && status_is_shared(endpoint))
		add_programs(json, endpoint);
	if (endpoint->activation)
		add_text(json, "started", activation_info(endpoint->activation).state);
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

static void describe_name_there(struct status_walk *walk, struct json *json)
{
	describe_name(walk, json, walk->peer.domid, walk->name,
		      walk->name_kinds ? kind_name(walk->name_kinds) : NULL);
	json_null(json, "visible_to");
	describe_binder(json, NULL);
	if (registry_is_cut(walk->sources->registry, walk->peer.domid))
		json_flag(json, "whole", false);
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
