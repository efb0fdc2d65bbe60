/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The lists of other hosts, and of what they tell of their domains and endpoints; and what another domain
 * tells of its daemon. */

#include "daemon/serve/status.h"

#include "base/self.h"
#include "daemon/serve/status_json.h"

static bool next_own_host(struct status_walk *walk)
{
	bool is_first = !walk->begun;

	walk->begun = true;
	return is_first;
}

static void describe_own_host(struct status_walk *walk, struct json *json)
{
	struct gateway_info gateway;

	hosts_gateway(walk->sources->hosts, &gateway);
	add_text(json, "host", gateway.name);
	json_flag(json, "own", true);
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
	walk->link = (struct link_info){.state_name = "idle", .version = "", .last_error = ""};
	links_info(walk->sources->links, peer_host(walk->host.number), &walk->link);
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

/* --- on another host -------------------------------------------------------------------------- */

static bool next_remote(struct status_walk *walk)
{
	return frame_told_next(&walk->left, &walk->entry);
}

static void add_name(struct json *json, const char *key, struct frame_text name)
{
	if (name.size)
		json_text_part(json, key, name.data, name.size);
	else
		json_null(json, key);
}

/* Says in each entry of a list that it isn't all that there is. */
static void add_whole(const struct status_walk *walk, struct json *json)
{
	if (walk->remote->told.flags & TOLD_CUT)
		json_flag(json, "whole", false);
}

static void describe_remote_domain(struct status_walk *walk, struct json *json)
{
	add_text(json, "host", walk->remote->host);
	json_number(json, "domid", walk->entry.number);
	add_name(json, "name", walk->entry.name);
	add_whole(walk, json);
}

static void describe_remote_endpoint(struct status_walk *walk, struct json *json)
{
	add_text(json, "host", walk->remote->host);
	json_number(json, "domid", walk->remote->told.domid);
	add_text(json, "domain", walk->remote->domain);
	add_name(json, "name", walk->entry.name);
	add_text(json, "kind", kind_name(walk->entry.number));
	add_whole(walk, json);
}

static void describe_remote_host(struct status_walk *walk, struct json *json)
{
	static const char *const gateway[] = {
		[TOLD_GATEWAY_MISSING] = "missing",
		[TOLD_GATEWAY_WAITING] = "waiting",
		[TOLD_GATEWAY_CONNECTED] = "connected",
	};
	uint32_t state = walk->entry.number;
	bool is_own = state >= TOLD_GATEWAY_MISSING && state <= TOLD_GATEWAY_CONNECTED;

	add_name(json, "host", walk->entry.name);
	json_flag(json, "own", is_own);
	if (is_own)
		add_text(json, "gateway", gateway[state]);
	else
		json_flag(json, "up", state == TOLD_HOST_UP || state == TOLD_HOST_AWAY);
	if (state == TOLD_HOST_AWAY) {
		json_begin(json, "link", '{');
		add_text(json, "state", "away");
		json_end(json, '}');
	}
}

const struct status_list status_remote_domains_lists[] = {
	{.name = "far", .next = next_remote, .describe = describe_remote_domain},
	{.name = NULL},
};

const struct status_list status_remote_endpoints_lists[] = {
	{.name = "far", .next = next_remote, .describe = describe_remote_endpoint},
	{.name = NULL},
};

const struct status_list status_remote_hosts_lists[] = {
	{.name = "far", .next = next_remote, .describe = describe_remote_host},
	{.name = NULL},
};
