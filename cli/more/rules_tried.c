/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/more/rules_tried.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/json.h"
#include "daemon/policy/host_policy.h"
#include "daemon/policy/policy.h"
#include "wire/address.h"

struct rules_tried {
	struct policy *own, *host; /* `host` is NULL: there is none; `own` is `host`: there is no other */
};

/* ---- reading --------------------------------------------------------------------------------- */

static int read_rules(struct policy **policy, const char *path, bool of_host)
{
	char *error = NULL;
	int r = of_host ? host_policy_load(policy, path, &error) : policy_load(policy, path, &error);

	if (r < 0)
		cli_complain("policy test: %s", error ? error : strerror(-r));
	free(error);
	return r < 0 ? EXIT_USAGE : 0;
}

int rules_tried_read(struct rules_tried **tried, const char *own, const char *host)
{
	struct rules_tried *new = calloc(1, sizeof(*new));
	int code = new ? 0 : EXIT_OTHER;

	if (new &&own)
		code = read_rules(&new->own, own, false);
	if (new &&code == 0 && host)
		code = read_rules(&new->host, host, true);
	if (new && !own)
		new->own = new->host; /* it has none of its sections */
	*tried = new;
	if (code) {
		rules_tried_free(new);
		*tried = NULL;
	}
	return code;
}

void rules_tried_free(struct rules_tried *tried)
{
	if (!tried)
		return;
	if (tried->own != tried->host)
		policy_free(tried->own);
	policy_free(tried->host);
	free(tried);
}

/* ---- who is asked about ---------------------------------------------------------------------- */

/* A domain of this host, or one of another host by its name. */
struct tried_domain {
	char host[HOST_NAME_SIZE], name[DOMAIN_NAME_MAX + 1];
	struct json_object *entry; /* what the daemon says of it; NULL: it is another host's */
	char *given, *tags;	   /* those of XenStore, and those that the rules tried know of it */
	struct policy_subject subject;
};

static void tried_domain_free(struct tried_domain *domain)
{
	json_object_put(domain->entry);
	free(domain->given);
	free(domain->tags);
}

/* Adds its tags, by the rules that are tried. Administrators alone are told those that XenStore gives it. */
static void add_tags(struct tried_domain *domain, struct xenmsg *conn, const struct policy *host)
{
	char question[sizeof("rules of 4294967295")], *joined;
	struct json_object *about;

	snprintf(question, sizeof(question), "rules of %u", domain->subject.domid);
	about = cli_query(conn, question, NULL, NULL);
	joined = fields_joined(at(json_object_array_get_idx(about, 0), "tags"), ",");
	if (joined && *joined && asprintf(&domain->given, ",%s,", joined) < 0)
		domain->given = NULL;
	free(joined);
	json_object_put(about);
	domain->tags = host_policy_tags(host, domain->subject.name, domain->subject.uuid, domain->given);
	domain->subject.tags = domain->tags;
}

/* Finds the domain that was typed. 0 or -EHOSTDOWN. */
static int find_domain(struct tried_domain *domain, struct xenmsg *conn, const struct rules_tried *tried)
{
	struct policy_subject *subject = &domain->subject;

	if (*domain->host) {
		*subject = (struct policy_subject){.host = domain->host, .domid = UINT32_MAX, .uuid = ""};
		subject->names_unknown = domid_parse(domain->name, strlen(domain->name), &subject->domid);
		subject->name = subject->names_unknown ? "" : domain->name;
		return 0;
	}
	domain->entry = cli_find_domain(conn, domain->name);
	if (!domain->entry)
		return -EHOSTDOWN;
	subject->domid = (uint32_t)number_at(domain->entry, "domid");
	subject->is_self = subject->domid == xenmsg_domid(conn);
	subject->name = text_or(domain->entry, "name", "");
	subject->uuid = text_or(domain->entry, "uuid", "");
	subject->names_unknown = !*subject->name && !*subject->uuid;
	if (tried->host)
		add_tags(domain, conn, tried->host);
	return 0;
}

static int find_sender(struct tried_domain *domain, struct xenmsg *conn, const struct rules_tried *tried,
		       const char *from)
{
	struct sender_parts parts = address_split_sender(from, strlen(from));
	uint32_t uid = 0;
	int r;

	if ((parts.uid.data && !uid_parse(parts.uid.data, parts.uid.size, &uid)) ||
	    (parts.host.data && !address_part_copy(parts.host, domain->host, sizeof(domain->host))) ||
	    !address_part_copy(parts.domain, domain->name, sizeof(domain->name)))
		return -EINVAL;
	r = find_domain(domain, conn, tried);
	domain->subject.uid = uid;
	return r;
}

/* ---- what is decided -------------------------------------------------------------------------- */

/* Decides about an endpoint of this domain. */
static struct policy_decision decide_here(const struct rules_tried *tried, struct xenmsg *conn,
					  const struct tried_domain *from, const char *endpoint)
{
	struct policy_decision own = policy_reach(tried->own, &from->subject, endpoint);
	struct tried_domain self = {.name = "self"};
	struct host_decision host;

	if (!tried->host || from->subject.is_self || find_domain(&self, conn, tried) < 0)
		return own;
	host = host_policy_decide(tried->host, &from->subject, &self.subject, endpoint);
	tried_domain_free(&self);
	return host_policy_join(&host, own);
}

/* Decides what domain 0 relays. The host's policy lets through only what its own [relay] rules do. */
static struct policy_decision decide_relay(const struct rules_tried *tried, const struct tried_domain *from,
					   const struct tried_domain *to, const char *endpoint)
{
	struct policy_decision relay = policy_relay(tried->own, &from->subject, &to->subject),
			       decision = {.allow = true};
	struct host_decision host;

	if (!tried->host)
		return relay;
	host = host_policy_decide(tried->host, &from->subject, &to->subject, endpoint);
	decision = host_policy_join(&host, decision);
	return decision.by_host && (!decision.allow || relay.allow) ? decision : relay;
}

static int decide_address(const struct rules_tried *tried, struct xenmsg *conn,
			  const struct tried_domain *from, const char *to, struct policy_decision *decision)
{
	struct tried_domain receiver = {.entry = NULL};
	struct address address;
	int r = xenmsg_domid(conn) == 0 ? address_parse(to, strlen(to), &address, NULL) : -EINVAL;

	if (r < 0)
		return r;
	if (*address.host) {
		*decision = policy_out(tried->own, &from->subject, address.host);
		return 0;
	}
	strcpy(receiver.name, address.domain);
	r = find_domain(&receiver, conn, tried);
	if (r == 0)
		*decision = decide_relay(tried, from, &receiver, address.endpoint);
	tried_domain_free(&receiver);
	return r;
}

static struct json_object *describe(const struct policy_decision *decision)
{
	struct json_object *answer = json_object_new_object();

	json_object_object_add(answer, "allow", json_object_new_boolean(decision->allow));
	json_object_object_add(answer, "undecided", json_object_new_boolean(decision->undecided));
	json_object_object_add(answer, "policy", json_object_new_string(decision->by_host ? "host" : "own"));
	fields_add(answer, "reason", "%s", decision->undecided ? "a rule needs a name" : "no rule matches");
	if (decision->file) {
		json_object_object_add(answer, "file", json_object_new_string(decision->file));
		json_object_object_add(answer, "line", json_object_new_int64(decision->line));
	}
	return answer;
}

struct json_object *rules_tried_ask(const struct rules_tried *tried, struct xenmsg *conn, const char *from,
				    const char *to, int *error, const char **why)
{
	struct tried_domain sender = {.entry = NULL};
	struct policy_decision decision;
	struct json_object *answer = NULL;

	*error = find_sender(&sender, conn, tried, from);
	if (*error == 0 && address_is_meant(to, strlen(to)))
		*error = decide_address(tried, conn, &sender, to, &decision);
	else if (*error == 0 && !endpoint_name_is_valid(to, strlen(to)))
		*error = -EINVAL;
	else if (*error == 0)
		decision = decide_here(tried, conn, &sender, to);
	if (*error == 0)
		answer = describe(&decision);
	*why = *error == -EHOSTDOWN
		       ? "no domain of that name is known here"
		       : "FROM is DOMAIN or DOMAIN/UID, or HOST/DOMAIN of another host, and TO an "
			 "endpoint, or in domain 0 an address";
	tried_domain_free(&sender);
	return answer;
}
