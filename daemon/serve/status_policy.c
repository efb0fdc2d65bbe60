/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The policy's rules in a status, and the refusals by them. */

#include <stdio.h>
#include <stdlib.h>

#include "daemon/policy/access.h"
#include "daemon/serve/status_json.h"

/* --- refusals --------------------------------------------------------------------------------- */

struct search {
	const struct denied_entry *found;
	unsigned left;
};

static void find_denied(void *userdata, const struct denied_entry *entry)
{
	struct search *search = userdata;

	if (search->left-- == 0)
		search->found = entry;
}

bool status_next_denied(struct status_walk *walk)
{
	struct search search = {.left = walk->index++};

	walk->units += walk->index;
	denied_each(access_denied(walk->sources->access), find_denied, &search);
	walk->denied = search.found;
	return search.found != NULL;
}

/* Gives all refusals one rank: the walk has the latest first. */
unsigned status_rank_of_denied(struct status_walk *walk)
{
	return 0;
}

void status_describe_denied(struct status_walk *walk, struct json *json)
{
	const struct denied_entry *entry = walk->denied;
	const char *name = *entry->host ? "" : registry_name(walk->sources->registry, entry->domid);
	const char *file = *entry->file ? entry->file : NULL;
	char from[HOST_NAME_SIZE + 16];

	snprintf(from, sizeof(from), "%s%s%u", entry->host, *entry->host ? "/" : "", entry->domid);
	add_text(json, "from", from);
	add_text(json, "domain", name);
	json_number(json, "uid", entry->uid);
	add_text(json, "to", entry->endpoint);
	json_number(json, "count", entry->count);
	json_number(json, "last", entry->last);
	add_text(json, "section", entry->section);
	add_text(json, "file", file);
	json_number_if(json, "line", file, entry->line);
}

const struct status_list status_denied_lists[] = {
	{.name = "denied", .of_others = true, .next = status_next_denied, .describe = status_describe_denied},
	{.name = NULL},
};

/* --- rules ------------------------------------------------------------------------------------ */

static bool next_rule(struct status_walk *walk)
{
	walk->rule = access_rule_at(walk->sources->access, walk->index++);
	walk->units += walk->index / 4;
	return walk->rule != NULL;
}

static void describe_rule(struct status_walk *walk, struct json *json)
{
	access_describe_rule(walk->rule, json);
}

const struct status_list status_rules_lists[] = {
	{.name = "rules", .of_others = true, .next = next_rule, .describe = describe_rule},
	{.name = NULL},
};

/* --- what concerns one domain ----------------------------------------------------------------- */

static bool status_policy_next_domain(struct status_walk *walk)
{
	if (walk->index++ > 0)
		return false;
	walk->tags = access_tags(walk->sources->access, (uint32_t)walk->only);
	return true;
}

static void describe_domain(struct status_walk *walk, struct json *json)
{
	access_describe_domain(walk->sources->access, (uint32_t)walk->only, walk->tags, json);
}

static bool next_about(struct status_walk *walk)
{
	walk->about =
		access_next_about(walk->sources->access, (uint32_t)walk->only, walk->tags, &walk->index);
	walk->units += walk->index / 4;
	return walk->about.rule != NULL;
}

static void describe_about(struct status_walk *walk, struct json *json)
{
	access_describe_about(&walk->about, json);
}

const struct status_list status_rules_of_lists[] = {
	{.name = "domain", .of_others = true, .next = status_policy_next_domain, .describe = describe_domain},
	{.name = "rules", .of_others = true, .next = next_about, .describe = describe_about},
	{.name = NULL},
};
