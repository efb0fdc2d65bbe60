/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The lists of other hosts; and those of what other hosts, and the programs of other domains, may see. */

#include "daemon/serve/status.h"

#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/switch/channel.h"
#include "daemon/serve/router.h"
#include "daemon/serve/status_json.h"

static bool next_own_host(struct status_walk *walk)
{
	bool is_first = !walk->begun;

	walk->begun = true;
	return is_first;
}

static struct gateway_info begin_own_host(struct status_walk *walk, struct json *json)
{
	struct gateway_info gateway;

	hosts_gateway(walk->sources->hosts, &gateway);
	add_text(json, "host", gateway.name);
	json_flag(json, "own", true);
	return gateway;
}

static void describe_own_host(struct status_walk *walk, struct json *json)
{
	struct gateway_info gateway = begin_own_host(walk, json);

	add_text(json, "instance", walk->sources->self->instance_text);
	add_gateway(json, &gateway);
}

static bool next_other_host(struct status_walk *walk)
{
	if (!hosts_next(walk->sources->hosts, walk->domid < 0 ? 0 : (uint32_t)walk->domid, &walk->host))
		return false;
	walk->domid = walk->host.number;
	return true;
}

static void describe_other_host(struct status_walk *walk, struct json *json)
{
	status_find_link(walk, peer_host(walk->host.number));
	add_host(json, &walk->host);
	json_flag(json, "own", false);
	json_begin(json, "link", '{');
	add_text(json, "state", walk->link.state_name);
	add_text(json, "version", walk->link.version);
	add_rtt(json, walk->link.rtt_ns);
	json_number(json, "resumes", walk->link.resumes);
	add_text(json, "last_error", walk->link.last_error);
	json_number(json, "since", walk->link.since);
	json_end(json, '}');
}

const struct status_list status_hosts_lists[] = {
	{.name = "own", .next = next_own_host, .describe = describe_own_host},
	{.name = "others", .next = next_other_host, .describe = describe_other_host},
	{.name = NULL},
};

/* --- what a stranger sees --------------------------------------------------------------------- */

static struct access_sender stranger_of(struct status_walk *walk)
{
	walk->units += POLICY_UNITS;
	return access_sender_of(walk->viewer.stranger);
}

/* This domain, which needs not be a peer, and behind it its peers. */
static bool next_seen_domain(struct status_walk *walk)
{
	if (next_own_host(walk)) {
		walk->peer = (struct peer_info){.domid = walk->sources->self->domid, .up = true};
		return true;
	}
	if (!peers_next(walk->sources->peers, walk->domid, &walk->peer))
		return false;
	walk->domid = walk->peer.domid;
	return true;
}

static bool domain_is_seen(struct status_walk *walk)
{
	uint32_t domid = walk->peer.domid;

	if (domid == walk->sources->self->domid)
		return walk->domid < 0; /* once */
	return walk->peer.up && access_sees(walk->sources->access, stranger_of(walk), domid);
}

static void describe_seen_domain(struct status_walk *walk, struct json *json)
{
	add_text(json, "host", walk->sources->self->host);
	json_number(json, "domid", walk->peer.domid);
	add_text(json, "name", registry_name(walk->sources->registry, walk->peer.domid));
}

static bool endpoint_is_seen(struct status_walk *walk)
{
	return access_still_allowed(walk->sources->access, stranger_of(walk), walk->name) == 0;
}

static void describe_seen_endpoint(struct status_walk *walk, struct json *json)
{
	uint32_t domid = walk->sources->self->domid;

	add_text(json, "host", walk->sources->self->host);
	json_number(json, "domid", domid);
	add_text(json, "domain", registry_name(walk->sources->registry, domid));
	add_text(json, "name", walk->name);
	add_text(json, "kind", kind_name(walk->endpoint->kinds));
}

static bool host_is_seen(struct status_walk *walk)
{
	walk->units += POLICY_UNITS;
	return access_still_out(walk->sources->access, &walk->viewer.stranger->identity, walk->host.name) ==
	       0;
}

static void describe_seen_own_host(struct status_walk *walk, struct json *json)
{
	struct gateway_info gateway = begin_own_host(walk, json);

	add_text(json, "gateway", gateway_state(&gateway));
}

static void describe_seen_host(struct status_walk *walk, struct json *json)
{
	status_find_link(walk, peer_host(walk->host.number));
	add_text(json, "host", walk->host.name);
	json_flag(json, "own", false);
	json_flag(json, "up", walk->host.up);
	if (!walk->host.up || walk->link.state != LINK_AWAY)
		return;
	json_begin(json, "link", '{');
	add_text(json, "state", "away");
	json_end(json, '}');
}

const struct status_list status_seen_domains_lists[] = {
	{.name = "seen",
	 .next = next_seen_domain,
	 .is_visible = domain_is_seen,
	 .describe = describe_seen_domain},
	{.name = NULL},
};

const struct status_list status_seen_endpoints_lists[] = {
	{.name = "seen",
	 .next = status_next_endpoint,
	 .is_visible = endpoint_is_seen,
	 .describe = describe_seen_endpoint},
	{.name = NULL},
};

const struct status_list status_seen_hosts_lists[] = {
	{.name = "own", .next = next_own_host, .describe = describe_seen_own_host},
	{.name = "others",
	 .next = next_other_host,
	 .is_visible = host_is_seen,
	 .describe = describe_seen_host},
	{.name = NULL},
};
