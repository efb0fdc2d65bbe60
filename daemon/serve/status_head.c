/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The daemon as a whole in a status. */

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

static void add_limits(struct json *head, const struct config *config)
{
	json_begin(head, "limits", '{');
	json_number(head, "max_message", config->max_message);
	json_end(head, '}');
}

static void add_pools(struct json *head, const struct quota *quota, const struct viewer *viewer)
{
	json_begin(head, "pools", '{');
	for (unsigned i = 0; i < QUOTA_RESOURCES; i++) {
		struct quota_pool pool = quota_pool(quota, i);

		json_begin(head, quota_resource_name(i), '{');
		json_number(head, "size", pool.size);
		if (viewer->sees_all) {
			json_number(head, "used", pool.used);
			json_number(head, "accounts", pool.accounts);
		}
		json_end(head, '}');
	}
	json_end(head, '}');
}

static void status_head_add_time(struct json *head, const struct turns *turns)
{
	json_begin(head, "time", '{');
	json_number(head, "units", turns->spent);
	json_number(head, "passes", turns->passes);
	json_number(head, "longest_pass_units", turns->longest_pass);
	json_end(head, '}');
}

static void add_grants(struct json *head, const struct status_sources *sources)
{
	uint64_t limit = vchan_host_pages_limit(sources->host);

	json_begin(head, "grants", '{');
	json_number_if(head, "limit_pages", limit, limit);
	json_number(head, "used_pages", vchan_host_pages_granted(sources->host));
	json_number(head, "waiting_links", peers_waiting(sources->peers));
	json_end(head, '}');
}

static void add_store(struct json *head, const struct status_sources *sources)
{
	char seconds[32];

	snprintf(seconds, sizeof(seconds), "%.3f", (double)store_stalled_ms(sources->store) / 1000);
	json_begin(head, "store", '{');
	json_flag(head, "connected", store_is_connected(sources->store));
	json_digits(head, "stalled_s", seconds);
	json_number(head, "nodes", peers_nodes_written(sources->peers));
	json_number(head, "watches", store_watches(sources->store));
	json_number(head, "lookups", peers_lookups(sources->peers));
	json_end(head, '}');
}

/* Describes the files of what is started on demand. Errors may quote them, so not every viewer gets them. */
static void add_activation(struct json *head, const struct status_sources *sources,
			   const struct viewer *viewer)
{
	const char *error = activations_error(sources->activations);

	if (error && !viewer->sees_all)
		error = "the files that were read last have a mistake; an administrator sees which";
	json_begin(head, "activation", '{');
	json_text(head, "error", error);
	json_end(head, '}');
}

#define HOSTS_SHOWN 100u

struct failures {
	const struct status_sources *sources;
	struct json *json;
};

static void add_failure(void *userdata, const struct link_failure *failure)
{
	struct failures *failures = userdata;
	struct json *json = failures->json;

	json_begin(json, NULL, '{');
	json_begin(json, "peer", '{');
	add_peer(json, failures->sources, failure->peer);
	json_end(json, '}');
	add_text(json, "last_error", failure->reason);
	json_number(json, "since", failure->since);
	json_end(json, '}');
}

/* Describes the other hosts, where a gateway to them is served. */
static void add_hosts(struct json *head, const struct hosts *hosts)
{
	struct gateway_info gateway;
	struct host_info info = {0};

	hosts_gateway(hosts, &gateway);
	if (!gateway.served) {
		json_null(head, "hosts");
		return;
	}
	json_begin(head, "hosts", '{');
	add_text(head, "name", gateway.name);
	add_gateway(head, &gateway);
	json_begin(head, "others", '[');
	for (unsigned i = 0; i < HOSTS_SHOWN && hosts_next(hosts, info.number, &info); i++) {
		json_begin(head, NULL, '{');
		add_host(head, &info);
		json_end(head, '}');
	}
	json_end(head, ']');
	json_end(head, '}');
}

/* Tells from whom this program took over when it was started. */
static void add_renewed(struct json *head, const struct status_sources *sources)
{
	if (!sources->renewals) {
		json_null(head, "renewed");
		return;
	}
	json_begin(head, "renewed", '{');
	json_number(head, "times", sources->renewals);
	add_text(head, "from", sources->renewed_from);
	json_end(head, '}');
}

void status_head(const struct status_sources *sources, const struct viewer *viewer, struct json *head)
{
	struct failures failures = {.sources = sources, .json = head};

	add_text(head, "version", PACKAGE_VERSION);
	add_text(head, "instance", sources->self->instance_text);
	json_number(head, "domid", sources->self->domid);
	add_text(head, "name", registry_name(sources->registry, sources->self->domid));
	add_text(head, "uuid", registry_uuid(sources->registry, sources->self->domid));
	json_number(head, "uptime_s", clock_ms_since(sources->started_ms) / 1000);
	add_renewed(head, sources);
	add_text(head, "socket", local_path(sources->local));
	json_flag(head, "partial", !viewer->sees_all);
	if (viewer->is_host)
		add_text(head, "host_sight", viewer->sees_all ? "full" : "links");
	access_status(sources->access, viewer->sees_all, head, "policy");
	add_activation(head, sources, viewer);
	add_limits(head, sources->config);
	add_pools(head, sources->quota, viewer);
	json_number(head, "cut_off", quota_cut_off(sources->quota));
	if (viewer->sees_all)
		status_head_add_time(head, sources->turns);
	add_grants(head, sources);
	add_store(head, sources);
	add_hosts(head, sources->hosts);
	json_begin(head, "failures", '[');
	links_each_failure(sources->links, add_failure, &failures);
	json_end(head, ']');
}
