/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Says which rules are in force, which one decides, and which one would allow what is denied. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/registry/registry.h"
#include "daemon/policy/access_internal.h"
#include "daemon/policy/policy_internal.h"
#include "wire/address.h"
#include "wire/json.h"

/* Adds a list as a rule has it; one that isn't there isn't added. */
static void add_items(struct json *json, const char *key, const struct item *items)
{
	if (!items)
		return;
	json_begin(json, key, '[');
	for (; items; items = items->next)
		json_text(json, NULL, items->text);
	json_end(json, ']');
}

void access_describe_rule(const struct rule *rule, struct json *json)
{
	json_text(json, "file", rule->file->path);
	json_number(json, "line", rule->line);
	json_text(json, "section", rule->section->name);
	add_items(json, "from", rule->from);
	add_items(json, "uid", rule->uid);
	add_items(json, rule->section->to, rule->to);
	add_items(json, "endpoint", rule->endpoint);
	json_text(json, "action", rule->asks ? "ask-guest" : rule->allow ? "allow" : "deny");
}

const struct rule *access_rule_at(const struct access *access, unsigned index)
{
	const struct policy *host = access_host_rules(access);
	unsigned count = host ? policy_rules(host) : 0;

	return index < count ? policy_rule_at(host, index) : policy_rule_at(access->policy, index - count);
}

static void add_files(struct json *json, const char *directory, const struct policy *policy)
{
	const char *path;
	unsigned rules;

	json_text(json, "directory", directory);
	json_number(json, "rules", policy_rules(policy));
	json_begin(json, "files", '[');
	for (unsigned i = 0; (path = policy_file_at(policy, i, &rules)); i++) {
		json_begin(json, NULL, '{');
		json_text(json, "file", path);
		json_number(json, "rules", rules);
		json_end(json, '}');
	}
	json_end(json, ']');
}

struct json access_files(const struct access *access)
{
	struct json json = {0};

	json_begin(&json, NULL, '{');
	add_files(&json, access->directory, access->policy);
	if (access->host_directory) {
		json_begin(&json, "for_host", '{');
		add_files(&json, access->host_directory, access_host_rules(access));
		json_end(&json, '}');
	} else {
		json_null(&json, "for_host");
	}
	json_end(&json, '}');
	return json;
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

static void add_only(struct json *json, const char *key, const char *text)
{
	json_begin(json, key, '[');
	json_text(json, NULL, text);
	json_end(json, ']');
}

/* Adds where a file is that a new rule can go to the end of: the last one, or one that isn't there yet. */
static void find_place(const struct access *access, struct json *cure)
{
	const char *path, *last = NULL;
	char *made = NULL;
	unsigned rules;

	for (unsigned i = 0; (path = policy_file_at(access->policy, i, &rules)); i++)
		last = path;
	if (!last && asprintf(&made, "%s/50-local.conf", access->directory) < 0)
		made = NULL;
	json_text(cure, "file", last ? last : made);
	json_null(cure, "line");
	free(made);
}

/* Adds the rule that would allow what this decision denies: before the one that denies it, or at a file's
 * end. */
static void add_cure(struct json *json, const struct access *access, const struct policy_decision *decision,
		     const struct wanted *wanted)
{
	char uid[16];

	/* Nothing that this domain's own policy says would change what the host's says. */
	if (decision->allow || decision->undecided || decision->by_host || !*wanted->from) {
		json_null(json, "cure");
		return;
	}
	json_begin(json, "cure", '{');
	if (decision->file) {
		json_text(json, "file", decision->file);
		json_number(json, "line", decision->line);
	} else {
		find_place(access, json);
	}
	json_text(json, "section", decision->section);
	add_only(json, "from", wanted->from);
	snprintf(uid, sizeof(uid), "%u", wanted->uid);
	if (wanted->uid)
		add_only(json, "uid", uid);
	add_only(json, "to", wanted->to);
	json_text(json, "action", "allow");
	json_end(json, '}');
}

/* --- decisions -------------------------------------------------------------------------------- */

/* The domain that is asked about. */
struct asked {
	bool is_known; /* else its name alone */
	uint32_t domid;
	uint32_t unknown;	/* whose name a rule needs that can't decide */
	const char *by_default; /* the reason if no rule decides */
};

/* Adds the decision and the rule that made it. */
static void explain(struct json *json, struct access *access, const struct policy_decision *decision,
		    const struct asked *asked, const struct wanted *wanted)
{
	const char *reason = decision->file ? "a rule decides" : asked->by_default;
	char why[256];

	if (decision->untold) {
		reason = "domain 0 hasn't told the host's policy, which host-policy = require waits for";
	} else if (decision->undecided && !asked->is_known) {
		reason = "the rule needs the name of that domain";
	} else if (decision->undecided) {
		snprintf(why, sizeof(why), "the rule needs the name of domain %u, which isn't known: %s",
			 asked->unknown, access_why_unknown(access, asked->unknown));
		reason = why;
	}
	json_flag(json, "allow", decision->allow);
	json_flag(json, "undecided", decision->undecided);
	json_number_if(json, "domid", asked->is_known, asked->domid);
	json_text(json, "file", decision->file);
	json_number_if(json, "line", decision->file, decision->line);
	json_text(json, "reason", reason);
	json_text(json, "policy", decision->by_host ? "host" : "own");
	if (decision->rule) {
		json_begin(json, "rule", '{');
		access_describe_rule(decision->rule, json);
		json_end(json, '}');
	} else {
		json_null(json, "rule");
	}
	add_cure(json, access, decision, wanted);
	json_number(json, "uid", wanted->uid);
}

struct json access_explain(struct access *access, const char *asked, uint32_t domid, uint32_t uid,
			   const char *endpoint)
{
	struct policy_subject subject = access_subject(access, domid, uid);
	struct policy_decision decision = access_decide(access, &subject, endpoint);
	const struct asked about = {true, domid, domid,
				    subject.is_self ? "no rule matches; within the domain that means allow"
						    : "no rule matches; between domains that means deny"};
	struct wanted wanted = {.uid = uid, .to = endpoint};
	struct json json = {0};

	write_domain(wanted.from, sizeof(wanted.from), asked, domid);
	json_begin(&json, NULL, '{');
	explain(&json, access, &decision, &about, &wanted);
	json_text(&json, "endpoint", endpoint);
	json_end(&json, '}');
	return json;
}

struct json access_explain_remote(struct access *access, const char *host, const char *domain, uint32_t uid,
				  const char *endpoint)
{
	uint32_t domid = UINT32_MAX; /* none: only its name is known */
	bool is_number = domid_parse(domain, strlen(domain), &domid);
	struct policy_subject subject = access_remote_subject(host, domid, is_number ? NULL : domain, uid);
	struct policy_decision decision = access_decide(access, &subject, endpoint);
	const struct asked about = {is_number, domid, domid,
				    "no rule matches; between hosts that means deny"};
	struct wanted wanted = {.uid = uid, .to = endpoint};
	struct json json = {0};

	if (is_plain(domain))
		snprintf(wanted.from, sizeof(wanted.from), "%s/%s", host, domain);
	json_begin(&json, NULL, '{');
	explain(&json, access, &decision, &about, &wanted);
	json_text(&json, "host", host);
	json_text(&json, "endpoint", endpoint);
	json_end(&json, '}');
	return json;
}

struct json access_explain_relay(struct access *access, const char *asked, uint32_t domid,
				 const struct address *address, uint32_t to)
{
	struct policy_subject source = access_subject(access, domid, 0);
	const struct registry_domain *from = registry_find(access->registry, domid);
	bool is_unknown = source.names_unknown || (from && from->tags_refused);
	char endpoint[ENDPOINT_NAME_MAX + 2];
	struct policy_decision decision;
	char domain[DOMAIN_NAME_MAX + 1];
	const struct asked about = {
		true, domid, is_unknown ? domid : to,
		"no rule matches; it is relayed if need be, and that domain's own policy decides"};
	struct wanted wanted = {.to = domain};
	struct json json = {0};

	snprintf(endpoint, sizeof(endpoint), ":%s", address->endpoint);
	decision = access_decide_relay(access, &source, to, endpoint);
	write_domain(wanted.from, sizeof(wanted.from), asked, domid);
	write_domain(domain, sizeof(domain), address->domain, to);
	json_begin(&json, NULL, '{');
	explain(&json, access, &decision, &about, &wanted);
	json_number(&json, "to", to);
	json_text(&json, "endpoint", address->endpoint);
	json_end(&json, '}');
	return json;
}

struct json access_explain_out(struct access *access, const char *asked, uint32_t domid,
			       const struct address *address)
{
	struct policy_subject source = access_subject(access, domid, 0);
	struct policy_decision decision = policy_out(access->policy, &source, address->host);
	const struct asked about = {true, domid, domid, "no rule matches; to other hosts that means deny"};
	struct wanted wanted = {.to = address->host};
	struct json json = {0};

	write_domain(wanted.from, sizeof(wanted.from), asked, domid);
	json_begin(&json, NULL, '{');
	explain(&json, access, &decision, &about, &wanted);
	json_text(&json, "to_host", address->host);
	json_text(&json, "endpoint", address->endpoint);
	json_end(&json, '}');
	return json;
}
