/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Says, in domain 0, which rules of the host's policy are about a domain, and which tags it has. */

#include <string.h>

#include "daemon/registry/registry.h"
#include "daemon/policy/access_internal.h"
#include "daemon/policy/policy_internal.h"

/* Adds the tags, which are ",a,b,", as an array. */
static void add_tags(struct json *json, const char *tags)
{
	json_begin(json, "tags", '[');
	for (size_t size; tags && *tags == ',' && tags[1]; tags += size + 1) {
		size = strcspn(tags + 1, ",");
		json_text_part(json, NULL, tags + 1, size);
	}
	json_end(json, ']');
}

bool access_knows_domain(const struct access *access, uint32_t domid)
{
	return access->host && (domid == access->self->domid || registry_find(access->registry, domid));
}

char *access_tags(struct access *access, uint32_t domid)
{
	struct policy_subject subject = access_subject(access, domid, 0);

	return access_add_tags(access, access->host, &subject);
}

static struct policy_subject with_tags(struct access *access, uint32_t domid, const char *tags)
{
	struct policy_subject subject = access_subject(access, domid, 0);

	access_set_tags(access, &subject, tags);
	return subject;
}

void access_describe_domain(struct access *access, uint32_t domid, const char *tags, struct json *json)
{
	struct policy_subject subject = with_tags(access, domid, tags);

	json_number(json, "domid", domid);
	json_text(json, "name", *subject.name ? subject.name : NULL);
	json_text(json, "uuid", *subject.uuid ? subject.uuid : NULL);
	if (subject.names_unknown)
		json_null(json, "tags");
	else
		add_tags(json, tags);
}

static int answer_of(enum match match)
{
	return match == MATCH_MAYBE ? -1 : match == MATCH_YES;
}

struct access_about access_next_about(struct access *access, uint32_t domid, const char *tags,
				      unsigned *index)
{
	struct policy_subject subject = with_tags(access, domid, tags);
	const struct rule *rule = policy_rule_at(access->host, *index);
	struct access_about about = {0};

	for (; rule && !about.rule; rule = rule->next, ++*index) {
		about.sends = answer_of(policy_matches_domain(rule->from, &subject));
		about.receives = answer_of(host_rule_is_about(rule, &subject));
		if (about.sends || about.receives)
			about.rule = rule;
	}
	return about;
}

static void add_answer(struct json *json, const char *key, int answer)
{
	if (answer < 0)
		json_null(json, key);
	else
		json_flag(json, key, answer);
}

void access_describe_about(const struct access_about *about, struct json *json)
{
	add_answer(json, "sends", about->sends);
	add_answer(json, "receives", about->receives);
	access_describe_rule(about->rule, json);
}
