/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "daemon/status.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <json-c/json.h>

#include "daemon/access.h"
#include "daemon/channel.h"
#include "daemon/clock.h"
#include "daemon/config.h"
#include "daemon/denied.h"
#include "daemon/directory.h"
#include "daemon/link.h"
#include "daemon/local.h"
#include "daemon/peers.h"
#include "daemon/quota.h"
#include "daemon/router.h"
#include "daemon/store.h"
#include "daemon/turns.h"
#include "daemon/vchan.h"

static void add_number(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

static void add_text(struct json_object *object, const char *key, const char *value)
{
	json_object_object_add(object, key, json_object_new_string(value ? value : ""));
}

static void add_traffic(struct json_object *object, const char *key, const struct hop_stats *stats)
{
	struct json_object *traffic = json_object_new_object();

	add_number(traffic, "messages", stats->messages);
	add_number(traffic, "bytes", stats->bytes);
	add_number(traffic, "frames", stats->frames);
	add_number(traffic, "notifications", stats->notifications);
	json_object_object_add(object, key, traffic);
}

static void add_rtt(struct json_object *object, uint64_t rtt_ns)
{
	char text[32];

	/* As many digits as were measured, and not those of the binary fraction. */
	snprintf(text, sizeof(text), "%llu.%03llu", (unsigned long long)rtt_ns / 1000, (unsigned long long)rtt_ns % 1000);
	json_object_object_add(object, "rtt_us",
			       rtt_ns ? json_object_new_double_s((double)rtt_ns / 1000, text) : NULL);
}

/* Who the domain is, as far as domain 0 has told. */
static void add_domain(struct json_object *object, const struct status_sources *sources, uint32_t domid)
{
	add_number(object, "domid", domid);
	add_text(object, "name", directory_name(sources->directory, domid));
	add_text(object, "uuid", directory_uuid(sources->directory, domid));
}

/* What is listed, and for whom. */
struct listing {
	const struct status_sources *sources;
	struct json_object *array;
	int64_t domid;
};

/* --- links ---------------------------------------------------------------------------------------------------------- */

/* Of the whole uid or peer, not of this program alone. */
static void add_usage(struct json_object *usage, const struct account *account)
{
	uint64_t refused = 0;

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++)
		refused += account_usage(account, i).refused;
	add_number(usage, "channels_charged", account_usage(account, QUOTA_CHANNELS).used);
	add_number(usage, "bytes_charged", account_usage(account, QUOTA_BYTES).used);
	add_number(usage, "refused", refused);
}

static void add_link(void *userdata, const struct link_info *info)
{
	struct json_object *link = json_object_new_object(), *peer = json_object_new_object();
	struct json_object *usage = json_object_new_object();
	struct listing *listing = userdata;

	add_domain(peer, listing->sources, info->domid);
	add_text(peer, "version", info->version);
	json_object_object_add(link, "peer", peer);
	add_text(link, "state", info->state_name);
	add_text(link, "role", !info->has_vchan ? "" : info->granter ? "grants" : "maps");
	add_number(link, "ring_bytes", info->ring_bytes);
	add_number(link, "pages", info->pages);
	add_number(link, "channels", info->channels);
	add_rtt(link, info->rtt_ns);
	add_traffic(link, "tx", &info->tx);
	add_traffic(link, "rx", &info->rx);
	add_number(link, "unacked", info->unacknowledged);
	add_usage(usage, info->account);
	json_object_object_add(link, "usage", usage);
	add_number(link, "resumes", 0);
	add_text(link, "last_error", info->last_error);
	add_number(link, "since", info->since);
	json_object_array_add(listing->array, link);
}

/* --- endpoints and clients ------------------------------------------------------------------------------------------ */

/* Bytes that wait in the daemon for the program behind this hop. */
static uint64_t queued_for(const struct hop *hop)
{
	uint64_t queued = 0;
	struct channel_end *end;
	uint32_t number = 0;

	while ((end = hop_next(hop, &number)))
		queued += end->sent - end->consumed + channel_queued(end);
	return queued;
}

static const char *kind_name(uint32_t kinds)
{
	return kinds == 1 ? "message" : kinds == 2 ? "call" : kinds == 4 ? "stream" : "any";
}

static void add_endpoint(void *userdata, const struct endpoint *endpoint)
{
	struct json_object *object = json_object_new_object();
	struct listing *listing = userdata;

	add_text(object, "name", endpoint->name);
	add_number(object, "uid", endpoint->uid);
	add_number(object, "pid", (uint64_t)endpoint->pid);
	add_text(object, "kind", kind_name(endpoint->kinds));
	add_number(object, "queued", queued_for(endpoint->hop));
	json_object_object_add(object, "visible_to", access_visible_to(listing->sources->access, endpoint->name));
	json_object_array_add(listing->array, object);
}

static void add_client(void *userdata, struct session *session)
{
	struct json_object *object = json_object_new_object(), *usage = json_object_new_object();
	const struct ucred *credentials = session_credentials(session);
	const struct hop *hop = session_hop(session);

	add_number(object, "uid", credentials->uid);
	add_number(object, "pid", (uint64_t)credentials->pid);
	add_text(object, "comm", session_comm(session));
	add_number(object, "channels", hop->channels);
	add_number(object, "bytes_queued", queued_for(hop));
	json_object_object_add(object, "shared_memory", json_object_new_boolean(session_shares_memory(session)));
	add_number(usage, "frames_in", hop->rx.frames);
	add_number(usage, "frames_out", hop->tx.frames);
	add_number(usage, "bytes_in", hop->rx.bytes);
	add_number(usage, "bytes_out", hop->tx.bytes);
	add_usage(usage, hop->account);
	json_object_object_add(object, "usage", usage);
	json_object_array_add(userdata, object);
}

/* --- peers ---------------------------------------------------------------------------------------------------------- */

static struct json_object *names_of(const struct peer_info *info)
{
	struct json_object *names = json_object_new_array();

	for (const char *const *name = info->endpoints; name && *name; name++)
		json_object_array_add(names, json_object_new_string(*name));
	return names;
}

static void add_peer(void *userdata, const struct peer_info *info)
{
	struct json_object *peer = json_object_new_object();
	struct listing *listing = userdata;

	add_domain(peer, listing->sources, info->domid);
	add_text(peer, "instance", info->instance);
	json_object_object_add(peer, "up", json_object_new_boolean(info->up));
	add_text(peer, "state", info->state);
	json_object_object_add(peer, "endpoints", names_of(info));
	json_object_array_add(listing->array, peer);
}

static void list_peer(void *userdata, const struct peer_info *info)
{
	struct listing *listing = userdata;
	struct json_object *peer;
	struct link_info link = {.state_name = "idle", .version = ""};

	links_info(listing->sources->links, info->domid, &link);
	if (!info->up && link.state == LINK_IDLE)
		return;
	peer = json_object_new_object();
	add_domain(peer, listing->sources, info->domid);
	add_text(peer, "version", link.version);
	json_object_object_add(peer, "up", json_object_new_boolean(info->up));
	add_text(peer, "link", link.state_name);
	add_rtt(peer, link.rtt_ns);
	json_object_array_add(listing->array, peer);
}

struct json_object *status_peers(const struct status_sources *sources)
{
	struct listing listing = {.sources = sources, .array = json_object_new_array()};

	peers_each(sources->peers, list_peer, &listing);
	return listing.array;
}

/* `visible_to`: NULL where only the daemon there knows. */
static void list_name(struct listing *listing, uint32_t domid, const char *name, struct json_object *visible_to)
{
	struct json_object *object = json_object_new_object();

	add_number(object, "domid", domid);
	add_text(object, "domain", directory_name(listing->sources->directory, domid));
	add_text(object, "name", name);
	json_object_object_add(object, "visible_to", visible_to);
	json_object_array_add(listing->array, object);
}

static void list_own(void *userdata, const struct endpoint *endpoint)
{
	struct listing *listing = userdata;

	list_name(listing, listing->sources->domid, endpoint->name,
		  access_visible_to(listing->sources->access, endpoint->name));
}

static void list_of_peer(void *userdata, const struct peer_info *info)
{
	struct listing *listing = userdata;

	if (!info->up || (listing->domid >= 0 && listing->domid != info->domid))
		return;
	for (const char *const *name = info->endpoints; name && *name; name++)
		list_name(listing, info->domid, *name, NULL);
}

struct json_object *status_endpoints(const struct status_sources *sources, int64_t domid)
{
	struct listing listing = {.sources = sources, .array = json_object_new_array(), .domid = domid};

	if (domid < 0 || domid == sources->domid)
		router_each(sources->router, list_own, &listing);
	peers_each(sources->peers, list_of_peer, &listing);
	return listing.array;
}

static void add_denied(void *userdata, const struct denied_entry *entry)
{
	struct json_object *object = json_object_new_object();
	char from[16];

	snprintf(from, sizeof(from), "%u", entry->domid);
	add_text(object, "from", from);
	add_text(object, "to", entry->endpoint);
	add_number(object, "count", entry->count);
	add_number(object, "last", entry->last);
	json_object_array_add(userdata, object);
}

/* --- everything ----------------------------------------------------------------------------------------------------- */

static struct json_object *limits_of(const struct config *config)
{
	struct json_object *limits = json_object_new_object();

	add_number(limits, "max_message", config->max_message);
	add_number(limits, "clients_per_uid", config->max_clients_per_uid);
	add_number(limits, "endpoints_per_uid", config->max_endpoints_per_uid);
	add_number(limits, "channels_per_uid", config->max_channels_per_uid);
	add_number(limits, "queued_bytes_per_uid", config->max_queued_bytes_per_uid);
	add_number(limits, "channels_per_peer", config->max_channels_per_peer);
	add_number(limits, "queued_bytes_per_peer", config->max_queued_bytes_per_peer);
	add_number(limits, "descriptors_per_uid", config->max_descriptors_per_uid);
	add_number(limits, "descriptors_per_peer", config->max_descriptors_per_peer);
	return limits;
}

static struct json_object *pools_of(const struct quota *quota)
{
	struct json_object *pools = json_object_new_object();

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct json_object *object = json_object_new_object();
		struct quota_pool pool = quota_pool(quota, i);

		add_number(object, "size", pool.size);
		add_number(object, "used", pool.used);
		add_number(object, "accounts", pool.accounts);
		json_object_object_add(pools, quota_resource_name(i), object);
	}
	return pools;
}

static void add_account(void *userdata, const struct account *account)
{
	struct json_object *object = json_object_new_object(), *time;

	add_text(object, "kind", account_kind(account) == QUOTA_UID ? "uid" : "peer");
	add_number(object, "id", account_id(account));
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct json_object *resource;
		struct quota_usage usage;

		if (!account_may_hold(account, i))
			continue;
		resource = json_object_new_object();
		usage = account_usage(account, i);
		add_number(resource, "used", usage.used);
		add_number(resource, "max", usage.max);
		add_number(resource, "available", usage.available);
		add_number(resource, "refused", usage.refused);
		json_object_object_add(object, quota_resource_name(i), resource);
	}
	json_object_object_add(object, "time", time = json_object_new_object());
	add_number(time, "units", account_time(account)->spent);
	add_number(time, "longest_wait_units", account_time(account)->longest_wait);
	json_object_array_add(userdata, object);
}

static struct json_object *time_of(const struct turns *turns)
{
	struct json_object *time = json_object_new_object();

	add_number(time, "units", turns->spent);
	add_number(time, "passes", turns->passes);
	add_number(time, "longest_pass_units", turns->longest_pass);
	return time;
}

struct json_object *status_all(const struct status_sources *sources)
{
	struct json_object *all = json_object_new_object(), *grants = json_object_new_object(),
			   *store = json_object_new_object(), *list;
	struct listing listing = {.sources = sources};

	add_text(all, "version", PACKAGE_VERSION);
	add_text(all, "instance", sources->instance);
	add_number(all, "domid", sources->domid);
	add_text(all, "name", directory_name(sources->directory, sources->domid));
	add_number(all, "uptime_s", (clock_ms() - sources->started_ms) / 1000);
	add_text(all, "socket", local_path(sources->local));
	json_object_object_add(all, "limits", limits_of(sources->config));
	json_object_object_add(all, "pools", pools_of(sources->quota));
	json_object_object_add(all, "accounts", list = json_object_new_array());
	quota_each(sources->quota, add_account, list);
	json_object_object_add(all, "time", time_of(sources->turns));
	add_number(grants, "limit_pages", vchan_host_pages_limit(sources->host));
	add_number(grants, "used_pages", vchan_host_pages_granted(sources->host));
	add_number(grants, "waiting_links", peers_waiting(sources->peers));
	json_object_object_add(all, "grants", grants);
	json_object_object_add(store, "connected", json_object_new_boolean(store_is_connected(sources->store)));
	json_object_object_add(store, "stalled_s",
			       json_object_new_double((double)store_stalled_ms(sources->store) / 1000));
	add_number(store, "nodes", peers_nodes_written(sources->peers));
	add_number(store, "watches", store_watches(sources->store));
	json_object_object_add(all, "store", store);
	json_object_object_add(all, "links", listing.array = json_object_new_array());
	links_each(sources->links, add_link, &listing);
	json_object_object_add(all, "endpoints", listing.array = json_object_new_array());
	router_each(sources->router, add_endpoint, &listing);
	json_object_object_add(all, "clients", list = json_object_new_array());
	local_each(sources->local, add_client, list);
	json_object_object_add(all, "peers", listing.array = json_object_new_array());
	peers_each(sources->peers, add_peer, &listing);
	json_object_object_add(all, "denied", list = json_object_new_array());
	denied_each(access_denied(sources->access), add_denied, list);
	return all;
}
