/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The lists of other hosts, and of what they tell of their domains and endpoints; and what another domain
 * tells of its daemon. */

#include "daemon/serve/status.h"

#include <json-c/json.h>

#include "base/self.h"
#include "daemon/serve/status_json.h"

static bool next_own_host(struct status_walk *walk)
{
	bool is_first = !walk->begun;

	walk->begun = true;
	return is_first;
}

static void describe_own_host(struct status_walk *walk, struct json_object *object)
{
	struct gateway_info gateway;

	hosts_gateway(walk->sources->hosts, &gateway);
	add_text(object, "host", gateway.name);
	add_flag(object, "own", true);
	add_text(object, "instance", walk->sources->self->instance_text);
	add_gateway(object, &gateway);
}

static bool next_other_host(struct status_walk *walk)
{
	if (!hosts_next(walk->sources->hosts, walk->domid < 0 ? 0 : (uint32_t)walk->domid, &walk->host))
		return false;
	walk->domid = walk->host.number;
	return true;
}

static void describe_other_host(struct status_walk *walk, struct json_object *object)
{
	struct json_object *link;

	walk->link = (struct link_info){.state_name = "idle", .version = "", .last_error = ""};
	links_info(walk->sources->links, peer_host(walk->host.number), &walk->link);
	add_host(object, &walk->host);
	add_flag(object, "own", false);
	link = add_object(object, "link");
	add_text(link, "state", walk->link.state_name);
	add_text(link, "version", walk->link.version);
	add_rtt(link, walk->link.rtt_ns);
	add_number(link, "resumes", walk->link.resumes);
	add_text(link, "last_error", walk->link.last_error);
	add_number(link, "since", walk->link.since);
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

static void add_name(struct json_object *object, const char *key, struct frame_text name)
{
	json_object_object_add(object, key,
			       name.size ? json_object_new_string_len(name.data, (int)name.size) : NULL);
}

static void describe_remote_domain(struct status_walk *walk, struct json_object *object)
{
	add_text(object, "host", walk->remote->host);
	add_number(object, "domid", walk->entry.number);
	add_name(object, "name", walk->entry.name);
}

static void describe_remote_endpoint(struct status_walk *walk, struct json_object *object)
{
	add_text(object, "host", walk->remote->host);
	add_number(object, "domid", walk->remote->told.domid);
	add_text(object, "domain", walk->remote->domain);
	add_name(object, "name", walk->entry.name);
	add_text(object, "kind", kind_name(walk->entry.number));
}

static void describe_remote_host(struct status_walk *walk, struct json_object *object)
{
	static const char *const gateway[] = {
		[TOLD_GATEWAY_MISSING] = "missing",
		[TOLD_GATEWAY_WAITING] = "waiting",
		[TOLD_GATEWAY_CONNECTED] = "connected",
	};
	uint32_t state = walk->entry.number;
	bool is_own = state >= TOLD_GATEWAY_MISSING && state <= TOLD_GATEWAY_CONNECTED;

	add_name(object, "host", walk->entry.name);
	add_flag(object, "own", is_own);
	if (is_own)
		add_text(object, "gateway", gateway[state]);
	else
		add_flag(object, "up", state == TOLD_HOST_UP || state == TOLD_HOST_AWAY);
	if (state == TOLD_HOST_AWAY)
		add_text(add_object(object, "link"), "state", "away");
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

/* --- of another domain's daemon ----------------------------------------------------------------- */

#define TEXT_PIECE 4096

static bool next_piece(struct status_walk *walk)
{
	struct frame_told *left = &walk->left;
	size_t size = (size_t)(left->end - left->at);

	if (size > TEXT_PIECE)
		size = TEXT_PIECE;
	walk->entry.name = (struct frame_text){(const char *)left->at, size};
	left->at += size;
	return size > 0;
}

/* Describes a piece of what that daemon says as a text and nothing else: it may be anything. */
static void describe_piece(struct status_walk *walk, struct json_object *object)
{
	struct frame_text piece = walk->entry.name;

	add_domain(object, walk->sources, walk->remote->told.domid);
	json_object_object_add(object, "text", json_object_new_string_len(piece.data, (int)piece.size));
}

const struct status_list status_remote_status_lists[] = {
	{.name = "far", .next = next_piece, .describe = describe_piece},
	{.name = NULL},
};
