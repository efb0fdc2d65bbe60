/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Writes what a guest is told of the host's policy. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/policy/policy_internal.h"
#include "wire/address.h"
#include "wire/ut.h"

#define PATH_SHOWN 150u /* bytes: a line isn't longer than those that are read */

/* A path may have any bytes, of which a reader of files takes not all, nor at a value's ends. */
static void write_path(FILE *file, const char *path)
{
	size_t size = strlen(path);

	path += size > PATH_SHOWN ? size - PATH_SHOWN : 0;
	fputs("[file]\npath = ", file);
	for (; *path; path++)
		fputc(*path > ' ' && *path <= '~' && *path != ';' && *path != '#' ? *path : '?', file);
	fputc('\n', file);
}

/* The line is no longer than the one that it was read from. */
static void write_list(FILE *file, const char *key, const struct item *items)
{
	const struct item *item;

	LL_FOREACH(items, item)
		fprintf(file, "%s%s", item == items ? key : ",", item->text);
	if (items)
		fputc('\n', file);
}

static void write_rule(FILE *file, const struct rule *rule)
{
	fprintf(file, "[rule]\nline = %u\n", rule->line);
	write_list(file, "from=", rule->from);
	write_list(file, "endpoint=", rule->endpoint);
	fprintf(file, "action = %s\n", rule->asks ? "ask-guest" : rule->allow ? "allow" : "deny");
}

/* Returns the share's next rule. */
static const struct rule *next_of(const struct rule *rule, const struct policy_subject *to)
{
	while (rule && host_rule_is_about(rule, to) != MATCH_YES)
		rule = rule->next;
	return rule;
}

int host_policy_write_rules(const struct policy *policy, const struct policy_subject *to, FILE *file,
			    char *why, size_t room)
{
	const struct rule *rule = policy->rules;
	const struct policy_file *of = NULL;
	unsigned count = 0;
	long begin = ftell(file);

	for (; (rule = next_of(rule, to)) != NULL; rule = rule->next) {
		if (rule->file != of)
			write_path(file, rule->file->path);
		of = rule->file;
		write_rule(file, rule);
		if (++count > HOST_SHARE_RULES || ftell(file) - begin > (long)HOST_SHARE_BYTES) {
			snprintf(
				why, room,
				"%s:%u: with this rule domain %u%s%s%s would have more than %u rules or %u bytes, which is all "
				"that a domain is told",
				rule->file->path, rule->line, to->domid, *to->name ? " (" : "", to->name,
				*to->name ? ")" : "", HOST_SHARE_RULES, HOST_SHARE_BYTES);
			return -E2BIG;
		}
	}
	return 0;
}

void host_policy_write_denial(FILE *file, const char *why)
{
	write_path(file, why);
	fputs("[rule]\nline = 1\nfrom = *, */*\naction = deny\n", file);
}

static bool is_label(const struct item *item)
{
	return !item->host && item->kind != ITEM_ANY;
}

bool host_policy_needs_domains(const struct policy *policy, const struct policy_subject *to)
{
	const struct rule *rule = policy->rules;
	const struct item *item;

	for (; (rule = next_of(rule, to)) != NULL; rule = rule->next)
		LL_FOREACH(rule->from, item)
			if (is_label(item))
				return true;
	return false;
}

/* Whether an item of the share's rules means this domain. */
static bool host_policy_share_is_meant(const struct policy *policy, const struct policy_subject *to,
				       struct policy_subject domain)
{
	const struct rule *rule = policy->rules;
	const struct item *item;

	for (; (rule = next_of(rule, to)) != NULL; rule = rule->next)
		LL_FOREACH(rule->from, item) {
			const struct item alone = {.kind = item->kind, .name = item->name};

			if (is_label(item) && policy_matches_domain(&alone, &domain) == MATCH_YES)
				return true;
		}
	return false;
}

static void write_tags(const struct policy *policy, const struct policy_subject *to, const char *tags,
		       FILE *file)
{
	for (size_t size; *tags == ',' && tags[1]; tags += size + 1) {
		char tag[ENDPOINT_NAME_MAX + 3];

		size = strcspn(tags + 1, ",");
		snprintf(tag, sizeof(tag), ",%.*s,", (int)size, tags + 1);
		if (host_policy_share_is_meant(policy, to, (struct policy_subject){.tags = tag}))
			fprintf(file, "tag = %.*s\n", (int)size, tags + 1);
	}
}

void host_policy_write_domain(const struct policy *policy, const struct policy_subject *to,
			      const struct policy_subject *domain, FILE *file)
{
	fprintf(file, "[domain]\ndomid = %u\n", domain->domid);
	if (domain->names_unknown) {
		fputs("gone = yes\n", file);
		return;
	}
	/* What a rule has can stand in a file. */
	if (host_policy_share_is_meant(policy, to, (struct policy_subject){.name = domain->name}))
		fprintf(file, "name = %s\n", domain->name);
	if (host_policy_share_is_meant(policy, to, (struct policy_subject){.uuid = domain->uuid}))
		fprintf(file, "uuid = %s\n", domain->uuid);
	if (domain->tags)
		write_tags(policy, to, domain->tags, file);
}
