/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Says which rules are in force, which one decides, and which one would allow what is denied. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "daemon/registry/registry.h"
#include "daemon/policy/access_internal.h"
#include "daemon/policy/policy_internal.h"
#include "wire/address.h"

static void access_explain_add_text(struct json_object *object, const char *key, const char *text)
{
	json_object_object_add(object, key, text ? json_object_new_string(text) : NULL);
}

/* Adds a list as a rule has it; one that isn't there isn't added. */
static void add_items(struct json_object *object, const char *key, const struct item *items)
{
	struct json_object *list;

	if (!items)
		return;
	list = json_object_new_array();
	for (; items; items = items->next)
		json_object_array_add(list, json_object_new_string(items->text));
	json_object_object_add(object, key, list);
}

void access_describe_rule(const struct rule *rule, struct json_object *object)
{
	access_explain_add_text(object, "file", rule->file->path);
	json_object_object_add(object, "line", json_object_new_uint64(rule->line));
	access_explain_add_text(object, "section", rule->section->name);
	add_items(object, "from", rule->from);
	add_items(object, "uid", rule->uid);
	add_items(object, rule->section->to, rule->to);
	add_items(object, "endpoint", rule->endpoint);
	access_explain_add_text(object, "action", rule->asks ? "ask-guest" : rule->allow ? "allow" : "deny");
}

const struct rule *access_rule_at(const struct access *access, unsigned index)
{
	const struct policy *host = access_host_rules(access);
	unsigned count = host ? policy_rules(host) : 0;

	return index < count ? policy_rule_at(host, index) : policy_rule_at(access->policy, index - count);
}

static struct json_object *files_of(const char *directory, const struct policy *policy)
{
	struct json_object *object = json_object_new_object(), *files = json_object_new_array();
	const char *path;
	unsigned rules;

	access_explain_add_text(object, "directory", directory);
	json_object_object_add(object, "rules", json_object_new_uint64(policy_rules(policy)));
	for (unsigned i = 0; (path = policy_file_at(policy, i, &rules)); i++) {
		struct json_object *file = json_object_new_object();

		access_explain_add_text(file, "file", path);
		json_object_object_add(file, "rules", json_object_new_uint64(rules));
		json_object_array_add(files, file);
	}
	json_object_object_add(object, "files", files);
	return object;
}

struct json_object *access_files(const struct access *access)
{
	struct json_object *object = files_of(access->directory, access->policy);

	json_object_object_add(
		object, "for_host",
		access->host_directory ? files_of(access->host_directory, access_host_rules(access)) : NULL);
	return object;
}

/* --- what would allow it ---------------------------------------------------------------------- */

/* What is asked about, in the words of a rule. */
struct wanted {
	char from[HOST_NAME_SIZE + 1 + DOMAIN_NAME_MAX + 1]; /* "": no rule can name it alone */
	uint32_t uid;					     /* 0: any */
	const char *to;
};

/* Returns whether a rule can have the name as it is: names may have commas, or mean any domain. */
static bool is_plain(const char *name)
{
	return name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-")] ==
	       '\0';
}

/* Writes the domain as it was asked about, which is a name that lasts longer than a number if people have it,
 * or by its number. */
static void write_domain(char *text, size_t size, const char *asked, uint32_t domid)
{
	if (is_plain(asked))
		snprintf(text, size, "%s", asked);
	else
		snprintf(text, size, "%u", domid);
}

static void add_only(struct json_object *object, const char *key, const char *text)
{
	struct json_object *list = json_object_new_array();

	json_object_array_add(list, json_object_new_string(text));
	json_object_object_add(object, key, list);
}

/* Returns where a file is that a new rule can go to the end of: the last one, or one that isn't there yet. */
static void find_place(const struct access *access, struct json_object *cure)
{
	const char *path, *last = NULL;
	char *made = NULL;
	unsigned rules;

	for (unsigned i = 0; (path = policy_file_at(access->policy, i, &rules)); i++)
		last = path;
	if (!last && asprintf(&made, "%s/50-local.conf", access->directory) < 0)
		made = NULL;
	access_explain_add_text(cure, "file", last ? last : made);
	json_object_object_add(cure, "line", NULL);
	free(made);
}

/* Returns the rule that would allow what this decision denies: before the one that denies it, or at a file's
 * end. */
static struct json_object *cure_of(const struct access *access, const struct policy_decision *decision,
				   const struct wanted *wanted)
{
	struct json_object *cure;
	char uid[16];

	/* Nothing that this domain's own policy says would change what the host's says. */
	if (decision->allow || decision->undecided || decision->by_host || !*wanted->from)
		return NULL;
	cure = json_object_new_object();
	if (decision->file) {
		access_explain_add_text(cure, "file", decision->file);
		json_object_object_add(cure, "line", json_object_new_uint64(decision->line));
	} else {
		find_place(access, cure);
	}
	access_explain_add_text(cure, "section", decision->section);
	add_only(cure, "from", wanted->from);
	snprintf(uid, sizeof(uid), "%u", wanted->uid);
	if (wanted->uid)
		add_only(cure, "uid", uid);
	add_only(cure, "to", wanted->to);
	access_explain_add_text(cure, "action", "allow");
	return cure;
}

/* --- decisions -------------------------------------------------------------------------------- */

/* Returns the decision and the rule that made it, or `by_default` where none did. */
static struct json_object *explain(struct access *access, const struct policy_decision *decision,
				   uint32_t domid, uint32_t unknown, const char *by_default,
				   const struct wanted *wanted)
{
	struct json_object *object = json_object_new_object(), *rule = NULL;
	const char *reason = decision->file ? "a rule decides" : by_default;
	char why[256];

	if (decision->untold) {
		reason = "domain 0 hasn't told the host's policy, which host-policy = require waits for";
	} else if (decision->undecided) {
		snprintf(why, sizeof(why), "the rule needs the name of domain %u, which isn't known: %s",
			 unknown, access_why_unknown(access, unknown));
		reason = why;
	}
	if (decision->rule) {
		rule = json_object_new_object();
		access_describe_rule(decision->rule, rule);
	}
	json_object_object_add(object, "allow", json_object_new_boolean(decision->allow));
	json_object_object_add(object, "undecided", json_object_new_boolean(decision->undecided));
	json_object_object_add(object, "domid", json_object_new_uint64(domid));
	access_explain_add_text(object, "file", decision->file);
	json_object_object_add(object, "line",
			       decision->file ? json_object_new_uint64(decision->line) : NULL);
	access_explain_add_text(object, "reason", reason);
	access_explain_add_text(object, "policy", decision->by_host ? "host" : "own");
	json_object_object_add(object, "rule", rule);
	json_object_object_add(object, "cure", cure_of(access, decision, wanted));
	json_object_object_add(object, "uid", json_object_new_uint64(wanted->uid));
	return object;
}

struct json_object *access_explain(struct access *access, const char *asked, uint32_t domid, uint32_t uid,
				   const char *endpoint)
{
	struct policy_subject subject = access_subject(access, domid, uid);
	struct policy_decision decision = access_decide(access, &subject, endpoint);
	struct wanted wanted = {.uid = uid, .to = endpoint};
	struct json_object *object;

	write_domain(wanted.from, sizeof(wanted.from), asked, domid);
	object = explain(access, &decision, domid, domid,
			 subject.is_self ? "no rule matches; within the domain that means allow"
					 : "no rule matches; between domains that means deny",
			 &wanted);
	access_explain_add_text(object, "endpoint", endpoint);
	return object;
}

struct json_object *access_explain_remote(struct access *access, const char *host, const char *domain,
					  uint32_t uid, const char *endpoint)
{
	uint32_t domid = UINT32_MAX; /* none: only its name is known */
	bool is_number = domid_parse(domain, strlen(domain), &domid);
	struct policy_subject subject = access_remote_subject(host, domid, is_number ? NULL : domain, uid);
	struct policy_decision decision = access_decide(access, &subject, endpoint);
	struct wanted wanted = {.uid = uid, .to = endpoint};
	struct json_object *object;

	if (is_plain(domain))
		snprintf(wanted.from, sizeof(wanted.from), "%s/%s", host, domain);
	object = explain(access, &decision, domid, domid, "no rule matches; between hosts that means deny",
			 &wanted);
	if (!is_number)
		json_object_object_add(object, "domid", NULL);
	if (decision.undecided)
		access_explain_add_text(object, "reason", "the rule needs the name of that domain");
	access_explain_add_text(object, "host", host);
	access_explain_add_text(object, "endpoint", endpoint);
	return object;
}

struct json_object *access_explain_relay(struct access *access, const char *asked, uint32_t domid,
					 const struct address *address, uint32_t to)
{
	struct policy_subject source = access_subject(access, domid, 0);
	const struct registry_domain *from = registry_find(access->registry, domid);
	bool is_unknown = source.names_unknown || (from && from->tags_refused);
	char endpoint[ENDPOINT_NAME_MAX + 2];
	struct policy_decision decision;
	char domain[DOMAIN_NAME_MAX + 1];
	struct wanted wanted = {.to = domain};
	struct json_object *object;

	snprintf(endpoint, sizeof(endpoint), ":%s", address->endpoint);
	decision = access_decide_relay(access, &source, to, endpoint);
	write_domain(wanted.from, sizeof(wanted.from), asked, domid);
	write_domain(domain, sizeof(domain), address->domain, to);
	object = explain(access, &decision, domid, is_unknown ? domid : to,
			 "no rule matches; it is relayed if need be, and that domain's own policy decides",
			 &wanted);
	json_object_object_add(object, "to", json_object_new_uint64(to));
	access_explain_add_text(object, "endpoint", address->endpoint);
	return object;
}

struct json_object *access_explain_out(struct access *access, const char *asked, uint32_t domid,
				       const struct address *address)
{
	struct policy_subject source = access_subject(access, domid, 0);
	struct policy_decision decision = policy_out(access->policy, &source, address->host);
	struct wanted wanted = {.to = address->host};
	struct json_object *object;

	write_domain(wanted.from, sizeof(wanted.from), asked, domid);
	object = explain(access, &decision, domid, domid, "no rule matches; to other hosts that means deny",
			 &wanted);
	access_explain_add_text(object, "to_host", address->host);
	access_explain_add_text(object, "endpoint", address->endpoint);
	return object;
}
