/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/policy.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "daemon/policy_internal.h"

static void free_items(struct item *items)
{
	struct item *item, *next;

	LL_FOREACH_SAFE(items, item, next) {
		free(item->text);
		free(item);
	}
}

static void free_rule(struct rule *rule)
{
	free_items(rule->from);
	free_items(rule->uid);
	free_items(rule->to);
	free(rule->file);
	free(rule);
}

void policy_free(struct policy *policy)
{
	struct rule *rule, *next;

	if (!policy)
		return;
	LL_FOREACH_SAFE(policy->rules, rule, next)
		free_rule(rule);
	free(policy);
}

unsigned policy_rules(const struct policy *policy)
{
	struct rule *rule;
	unsigned count;

	LL_COUNT(policy->rules, rule, count);
	return count;
}

/* --- decisions ------------------------------------------------------------------------------------------------------ */

static bool domain_matches(const struct item *items, const struct policy_subject *from)
{
	const struct item *item;

	LL_FOREACH(items, item) {
		switch (item->kind) {
		case ITEM_ANY:
			return true;
		case ITEM_SELF:
			if (from->is_self)
				return true;
			break;
		case ITEM_NUMBER:
			if (item->number == from->domid)
				return true;
			break;
		default:
			if ((from->name && from->name[0] && !strcmp(item->text, from->name)) ||
			    (from->uuid && from->uuid[0] && !strcasecmp(item->text, from->uuid)))
				return true;
		}
	}
	return false;
}

static bool in_group(const struct policy_subject *who, gid_t group)
{
	if (who->gid == group)
		return true;
	for (unsigned i = 0; i < who->group_count; i++)
		if (who->groups[i] == group)
			return true;
	return false;
}

static bool uid_matches(const struct item *items, const struct policy_subject *who)
{
	const struct item *item;

	if (!items)
		return true;
	LL_FOREACH(items, item) {
		if (item->kind == ITEM_ANY || (item->kind == ITEM_NUMBER && item->number == who->uid) ||
		    (item->kind == ITEM_GROUP && in_group(who, item->number)))
			return true;
	}
	return false;
}

static bool is_for_all_users(const struct rule *rule)
{
	const struct item *item;

	LL_FOREACH(rule->uid, item)
		if (item->kind == ITEM_ANY)
			return true;
	return !rule->uid;
}

static bool name_matches(const struct item *items, const char *endpoint)
{
	const struct item *item;

	LL_FOREACH(items, item)
		if (fnmatch(item->text, endpoint, 0) == 0)
			return true;
	return false;
}

static struct policy_decision decided_by(const struct rule *rule)
{
	return (struct policy_decision){.allow = rule->allow, .file = rule->file, .line = rule->line};
}

struct policy_decision policy_reach(const struct policy *policy, const struct policy_subject *from,
				    const char *endpoint)
{
	const struct rule *rule;

	LL_FOREACH(policy->rules, rule) {
		if (rule->section == &policy_sections[SECTION_RULE] && domain_matches(rule->from, from) && uid_matches(rule->uid, from) &&
		    name_matches(rule->to, endpoint))
			return decided_by(rule);
	}
	return (struct policy_decision){.allow = from->is_self};
}

bool policy_shows(const struct policy *policy, const struct policy_subject *from, const char *endpoint)
{
	const struct rule *rule;

	LL_FOREACH(policy->rules, rule) {
		if (rule->section != &policy_sections[SECTION_RULE] || !domain_matches(rule->from, from) || !name_matches(rule->to, endpoint))
			continue;
		if (rule->allow)
			return true;
		if (is_for_all_users(rule))
			return false;
	}
	return from->is_self;
}

bool policy_sees(const struct policy *policy, const struct policy_subject *from, const struct policy_subject *other)
{
	const struct rule *rule;

	LL_FOREACH(policy->rules, rule) {
		if (rule->section == &policy_sections[SECTION_SEE] && domain_matches(rule->from, from) &&
		    domain_matches(rule->to, other))
			return rule->allow;
	}
	return true;
}

struct policy_decision policy_bind(const struct policy *policy, const struct policy_subject *who, const char *endpoint,
				   gid_t socket_group)
{
	const struct rule *rule;

	LL_FOREACH(policy->rules, rule) {
		if (rule->section == &policy_sections[SECTION_BIND] && uid_matches(rule->uid, who) && name_matches(rule->to, endpoint))
			return decided_by(rule);
	}
	return (struct policy_decision){.allow = who->uid == 0 || in_group(who, socket_group)};
}
