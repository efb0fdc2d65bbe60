/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Decides by the host's policy. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/policy/policy_internal.h"
#include "wire/ut.h"

struct host_decision host_policy_decide(const struct policy *policy, const struct policy_subject *from,
					const struct policy_subject *to, const char *endpoint)
{
	const struct policy_question question = {.from = from, .to = to, .endpoint = endpoint};
	struct host_decision decision = {0};
	const struct rule *rule;

	LL_FOREACH(policy->rules, rule) {
		enum match match = policy_rule_matches(rule, &question);

		if (match == MATCH_NO)
			continue;
		decision.outcomes |= host_outcome(rule);
		if (match == MATCH_YES) {
			decision.rule = rule;
			return decision;
		}
		if (!decision.unsure)
			decision.unsure = rule;
	}
	decision.outcomes |= HOST_ASKS;
	return decision;
}

static struct policy_decision said_by(const struct rule *rule, bool allow, bool undecided)
{
	return (struct policy_decision){
		.allow = allow,
		.undecided = undecided,
		.by_host = true,
		.section = rule->section->name,
		.rule = rule,
		.file = rule->file->path,
		.line = rule->line,
	};
}

struct policy_decision host_policy_join(const struct host_decision *host, struct policy_decision own)
{
	bool asks = host->outcomes & HOST_ASKS;
	bool may_allow = host->outcomes & HOST_ALLOWS || (asks && (own.allow || own.undecided));
	bool may_deny = host->outcomes & HOST_DENIES || (asks && !own.allow);

	if (host->outcomes == HOST_ASKS)
		return own;
	if (may_allow && may_deny)
		return said_by(host->unsure ? host->unsure : host->rule, false, true);
	if (!host->rule || host->rule->asks)
		return own;
	return said_by(host->rule, may_allow, false);
}

/* --- whom an endpoint is shown to --- */

static bool is_about(const struct rule *rule, const struct policy_subject *to, const char *endpoint)
{
	return host_rule_is_about(rule, to) != MATCH_NO &&
	       (!rule->endpoint || policy_matches_name(rule->endpoint, endpoint));
}

static bool means_all(const struct rule *rule)
{
	const struct item *item;

	LL_FOREACH(rule->from, item)
		if (item->kind == ITEM_ANY && !item->host)
			return true;
	return false;
}

int host_policy_shows_all(const struct policy *policy, const struct policy_subject *to, const char *endpoint)
{
	const struct rule *rule;
	bool some_ask = false;

	LL_FOREACH(policy->rules, rule) {
		if (!is_about(rule, to, endpoint))
			continue;
		if (host_outcome(rule) == HOST_DENIES)
			return 0;
		some_ask = some_ask || rule->asks;
		if (means_all(rule))
			return some_ask ? -1 : 1;
	}
	return -1;
}

bool host_policy_shown_to(const struct policy *policy, const struct policy_subject *to, const char *endpoint,
			  host_shown_fn each, void *userdata)
{
	const struct rule *rule;
	const struct item *item;

	LL_FOREACH(policy->rules, rule) {
		if (!is_about(rule, to, endpoint))
			continue;
		if (means_all(rule)) {
			if (!rule->asks)
				each(userdata, "*", host_outcome(rule));
			return !rule->asks;
		}
		LL_FOREACH(rule->from, item)
			if (!item->host)
				each(userdata, item->text, host_outcome(rule));
	}
	return false;
}

/* --- tags --- */

static bool has_tag(const char *tags, const char *tag)
{
	const struct item item = {.kind = ITEM_TAG, .name = tag};

	return policy_matches_domain(&item, &(struct policy_subject){.tags = tags}) == MATCH_YES;
}

char *host_policy_tags(const struct policy *policy, const char *name, const char *uuid, const char *given)
{
	const struct policy_subject domain = {.name = name, .uuid = uuid};
	const struct tag *tag;
	char *text = NULL;
	size_t size;
	FILE *stream;

	if (!policy->tags)
		return NULL;
	stream = open_memstream(&text, &size);
	if (!stream)
		return NULL;
	LL_FOREACH(policy->tags, tag)
		if (has_tag(given, tag->name) || policy_matches_domain(tag->members, &domain) == MATCH_YES)
			fprintf(stream, ",%s", tag->name);
	fputc(',', stream);
	if (fclose(stream) == 0)
		return text;
	free(text);
	return NULL;
}
