/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a status says of the daemon as a whole. */

#include <config.h>

#include "daemon/activation/activation.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/policy/access.h"
#include "daemon/serve/status_json.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"

static void add_limits(struct json_object *head, const struct config *config)
{
	add_number(add_object(head, "limits"), "max_message", config->max_message);
}

static void add_pools(struct json_object *head, const struct quota *quota, const struct viewer *viewer)
{
	struct json_object *pools = add_object(head, "pools");

	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct json_object *object = add_object(pools, quota_resource_name(i));
		struct quota_pool pool = quota_pool(quota, i);

		add_number(object, "size", pool.size);
		if (viewer->sees_all) {
			add_number(object, "used", pool.used);
			add_number(object, "accounts", pool.accounts);
		}
	}
}

static void status_head_add_time(struct json_object *head, const struct turns *turns)
{
	struct json_object *time = add_object(head, "time");

	add_number(time, "units", turns->spent);
	add_number(time, "passes", turns->passes);
	add_number(time, "longest_pass_units", turns->longest_pass);
}

static void add_grants(struct json_object *head, const struct status_sources *sources)
{
	struct json_object *grants = add_object(head, "grants");
	uint64_t limit = vchan_host_pages_limit(sources->host);

	json_object_object_add(grants, "limit_pages", limit ? json_object_new_uint64(limit) : NULL);
	add_number(grants, "used_pages", vchan_host_pages_granted(sources->host));
	add_number(grants, "waiting_links", peers_waiting(sources->peers));
}

static void add_store(struct json_object *head, const struct status_sources *sources)
{
	struct json_object *store = add_object(head, "store");

	add_flag(store, "connected", store_is_connected(sources->store));
	json_object_object_add(store, "stalled_s",
			       json_object_new_double((double)store_stalled_ms(sources->store) / 1000));
	add_number(store, "nodes", peers_nodes_written(sources->peers));
	add_number(store, "watches", store_watches(sources->store));
	add_number(store, "lookups", peers_lookups(sources->peers));
}

/* Describes the policy. Errors may quote the rules, so not every viewer gets them. */
static void add_policy(struct json_object *head, const struct status_sources *sources,
		       const struct viewer *viewer)
{
	struct json_object *policy = access_status(sources->access);

	json_object_object_add(head, "policy", policy);
	add_flag(policy, "names_known", registry_is_told(sources->registry));
	if (!viewer->sees_all && json_object_object_get(policy, "error"))
		add_text(policy, "error",
			 "the rules that were read last have a mistake; an administrator sees which");
}

/* Describes the files of what is started on demand; likewise. */
static void add_activation(struct json_object *head, const struct status_sources *sources,
			   const struct viewer *viewer)
{
	const char *error = activations_error(sources->activations);

	if (error && !viewer->sees_all)
		error = "the files that were read last have a mistake; an administrator sees which";
	json_object_object_add(add_object(head, "activation"), "error",
			       error ? json_object_new_string(error) : NULL);
}

#define HOSTS_SHOWN 100u

struct failures {
	const struct status_sources *sources;
	struct json_object *array;
};

static void add_failure(void *userdata, const struct link_failure *failure)
{
	struct json_object *object = json_object_new_object();
	struct failures *failures = userdata;

	add_peer(add_object(object, "peer"), failures->sources, failure->peer);
	add_text(object, "last_error", failure->reason);
	add_number(object, "since", failure->since);
	json_object_array_add(failures->array, object);
}

/* Describes the other hosts, where a gateway to them is served. */
static void add_hosts(struct json_object *head, const struct hosts *hosts)
{
	struct json_object *object, *list;
	struct gateway_info gateway;
	struct host_info info = {0};

	hosts_gateway(hosts, &gateway);
	if (!gateway.served) {
		add_null(head, "hosts");
		return;
	}
	object = add_object(head, "hosts");
	add_text(object, "name", gateway.name);
	add_gateway(object, &gateway);
	list = json_object_new_array();
	json_object_object_add(object, "others", list);
	for (unsigned i = 0; i < HOSTS_SHOWN && hosts_next(hosts, info.number, &info); i++) {
		struct json_object *other = json_object_new_object();

		add_host(other, &info);
		json_object_array_add(list, other);
	}
}

/* Tells from whom this program took over when it was started. */
static void add_renewed(struct json_object *head, const struct status_sources *sources)
{
	struct json_object *renewed;

	if (!sources->renewals) {
		add_null(head, "renewed");
		return;
	}
	renewed = add_object(head, "renewed");
	add_number(renewed, "times", sources->renewals);
	add_text(renewed, "from", sources->renewed_from);
}

struct json_object *status_head(const struct status_sources *sources, const struct viewer *viewer)
{
	struct json_object *head = json_object_new_object();
	struct failures failures = {.sources = sources, .array = json_object_new_array()};

	add_text(head, "version", PACKAGE_VERSION);
	add_text(head, "instance", sources->self->instance_text);
	add_number(head, "domid", sources->self->domid);
	add_text(head, "name", registry_name(sources->registry, sources->self->domid));
	add_number(head, "uptime_s", clock_ms_since(sources->started_ms) / 1000);
	add_renewed(head, sources);
	add_text(head, "socket", local_path(sources->local));
	add_flag(head, "partial", !viewer->sees_all);
	if (viewer->is_host)
		add_text(head, "host_sight", viewer->sees_all ? "full" : "links");
	add_policy(head, sources, viewer);
	add_activation(head, sources, viewer);
	add_limits(head, sources->config);
	add_pools(head, sources->quota, viewer);
	add_number(head, "cut_off", quota_cut_off(sources->quota));
	if (viewer->sees_all)
		status_head_add_time(head, sources->turns);
	add_grants(head, sources);
	add_store(head, sources);
	add_hosts(head, sources->hosts);
	json_object_object_add(head, "failures", failures.array);
	links_each_failure(sources->links, add_failure, &failures);
	return head;
}
