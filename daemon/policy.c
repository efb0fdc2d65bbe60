/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/policy.h"

#include <fnmatch.h>
#include <stdio.h>
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

/* What the rules say of some domains, while it is gathered. */
struct shown {
	const struct item *item;
	bool allow;
};

/* Its own domain isn't spoken of. */
static bool is_said_of_others(const struct item *item, const struct policy_subject *self)
{
	const struct item alone = {.text = item->text, .number = item->number, .kind = item->kind};

	return item->kind == ITEM_ANY || !domain_matches(&alone, self);
}

static bool is_among(const struct shown *shown, size_t count, const struct item *item)
{
	for (size_t i = 0; i < count; i++)
		if (item->kind == ITEM_NUMBER ? shown[i].item->kind == ITEM_NUMBER && shown[i].item->number == item->number
					      : !strcmp(shown[i].item->text, item->text))
			return true;
	return false;
}

/* Would another entry behind this one say something else of the same domain? A name and a number may mean the same one. */
static bool is_needed(const struct shown *shown, size_t at, size_t count)
{
	for (size_t i = at + 1; i < count; i++)
		if (shown[i].allow != shown[at].allow &&
		    (shown[i].item->kind != ITEM_NUMBER || shown[at].item->kind != ITEM_NUMBER))
			return true;
	/* An allowed one is said by a "*" at the end if nothing between them denies. */
	return shown[at].allow && (at + 1 == count || shown[count - 1].item->kind != ITEM_ANY);
}

static size_t count_items(const struct policy *policy)
{
	const struct rule *rule;
	const struct item *item;
	size_t count = 0;

	LL_FOREACH(policy->rules, rule)
		LL_FOREACH(rule->from, item)
			count++;
	return count;
}

static size_t gather_shown(const struct policy *policy, const struct policy_subject *self, const char *endpoint,
			   struct shown *shown)
{
	const struct rule *rule;
	const struct item *item;
	size_t count = 0;

	LL_FOREACH(policy->rules, rule) {
		if (rule->section != &policy_sections[SECTION_RULE] || !name_matches(rule->to, endpoint) ||
		    (!rule->allow && !is_for_all_users(rule)))
			continue;
		LL_FOREACH(rule->from, item) {
			if (!is_said_of_others(item, self) || is_among(shown, count, item))
				continue;
			shown[count++] = (struct shown){item, rule->allow};
			if (item->kind == ITEM_ANY)
				return count;
		}
	}
	return count;
}

static void tell_shown(const struct shown *shown, policy_shown_fn each, void *userdata)
{
	char domid[16]; /* without zeros that a rule may have before it */

	snprintf(domid, sizeof(domid), "%u", shown->item->number);
	each(userdata, shown->item->kind == ITEM_NUMBER ? domid : shown->item->text, shown->allow);
}

void policy_shown_to(const struct policy *policy, const struct policy_subject *self, const char *endpoint,
		     policy_shown_fn each, void *userdata)
{
	struct shown *shown = calloc(count_items(policy) + 1, sizeof(*shown));
	size_t count;

	if (!shown)
		return;
	count = gather_shown(policy, self, endpoint, shown);
	for (size_t i = 0; i < count; i++)
		if (is_needed(shown, i, count))
			tell_shown(&shown[i], each, userdata);
	free(shown);
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
