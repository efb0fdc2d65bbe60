/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a status says of the policy's rules, and of what they have refused. */

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

void status_describe_denied(struct status_walk *walk, struct json_object *object)
{
	const struct denied_entry *entry = walk->denied;
	const char *name = *entry->host ? "" : registry_name(walk->sources->registry, entry->domid);
	const char *file = *entry->file ? entry->file : NULL;
	char from[HOST_NAME_SIZE + 16];

	snprintf(from, sizeof(from), "%s%s%u", entry->host, *entry->host ? "/" : "", entry->domid);
	add_text(object, "from", from);
	json_object_object_add(object, "domain", name && *name ? json_object_new_string(name) : NULL);
	add_number(object, "uid", entry->uid);
	add_text(object, "to", entry->endpoint);
	add_number(object, "count", entry->count);
	add_number(object, "last", entry->last);
	add_text(object, "section", entry->section);
	add_text(object, "file", file);
	json_object_object_add(object, "line", file ? json_object_new_uint64(entry->line) : NULL);
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

static void describe_rule(struct status_walk *walk, struct json_object *object)
{
	access_describe_rule(walk->rule, object);
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

static void describe_domain(struct status_walk *walk, struct json_object *object)
{
	access_describe_domain(walk->sources->access, (uint32_t)walk->only, walk->tags, object);
}

static bool next_about(struct status_walk *walk)
{
	walk->about =
		access_next_about(walk->sources->access, (uint32_t)walk->only, walk->tags, &walk->index);
	walk->units += walk->index / 4;
	return walk->about.rule != NULL;
}

static void describe_about(struct status_walk *walk, struct json_object *object)
{
	access_describe_about(&walk->about, object);
}

const struct status_list status_rules_of_lists[] = {
	{.name = "domain", .of_others = true, .next = status_policy_next_domain, .describe = describe_domain},
	{.name = "rules", .of_others = true, .next = next_about, .describe = describe_about},
	{.name = NULL},
};
