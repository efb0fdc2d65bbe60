/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Says, in domain 0, which rules of the host's policy are about a domain, and which tags it has. */

#include <string.h>

#include <json-c/json.h>

#include "daemon/registry/registry.h"
#include "daemon/policy/access_internal.h"
#include "daemon/policy/policy_internal.h"

/* Returns the tags, which are ",a,b,", as an array. */
static struct json_object *list_of(const char *tags)
{
	struct json_object *list = json_object_new_array();

	for (size_t size; tags && *tags == ',' && tags[1]; tags += size + 1) {
		size = strcspn(tags + 1, ",");
		json_object_array_add(list, json_object_new_string_len(tags + 1, (int)size));
	}
	return list;
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

void access_describe_domain(struct access *access, uint32_t domid, const char *tags,
			    struct json_object *object)
{
	struct policy_subject subject = with_tags(access, domid, tags);

	json_object_object_add(object, "domid", json_object_new_uint64(domid));
	json_object_object_add(object, "name", access_text_or_null(subject.name));
	json_object_object_add(object, "uuid", access_text_or_null(subject.uuid));
	json_object_object_add(object, "tags", subject.names_unknown ? NULL : list_of(tags));
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

static struct json_object *access_about_word_for(int answer)
{
	return answer < 0 ? NULL : json_object_new_boolean(answer);
}

void access_describe_about(const struct access_about *about, struct json_object *object)
{
	json_object_object_add(object, "sends", access_about_word_for(about->sends));
	json_object_object_add(object, "receives", access_about_word_for(about->receives));
	access_describe_rule(about->rule, object);
}
