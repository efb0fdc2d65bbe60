/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/policy/access_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/policy/denied.h"
#include "base/log.h"
#include "base/users.h"
#include "base/self.h"
#include "daemon/registry/registry.h"
#include "wire/address.h"
#include "wire/text.h"

/* Keeps the error, and the time of the first failure. The text may quote what a file holds, and goes into
 * JSON and to systemd, so only printable ASCII is kept. */
static void access_keep_error(struct access *access, char *error)
{
	if (error)
		text_make_ascii(error, strlen(error), ' ');
	if (!access->error)
		access->error_since = (uint64_t)time(NULL);
	free(access->error);
	access->error = error;
}

int access_read(struct access *access, struct access_rules *rules)
{
	char *error = NULL;
	int r;

	*rules = (struct access_rules){.own = NULL};
	r = policy_load(&rules->own, access->directory, &error);
	if (r == 0)
		r = access_load_host(access, &rules->host, &error);
	if (r == 0) {
		free(access->error);
		access->error = NULL;
		return 0;
	}
	access_rules_free(rules);
	if (!error)
		error = strdup(strerror(-r));
	log_error("policy: %s%s", error ? error : strerror(-r), access->policy ? "; the old rules stay" : "");
	access_keep_error(access, error);
	return r;
}

void access_rules_free(struct access_rules *rules)
{
	policy_free(rules->own);
	policy_free(rules->host);
	*rules = (struct access_rules){.own = NULL};
}

void access_take(struct access *access, struct access_rules *rules)
{
	policy_free(access->policy);
	access->policy = rules->own;
	access->since = (uint64_t)time(NULL);
	if (rules->host) {
		policy_free(access->host);
		access->host = rules->host;
		access->host_version++;
		access->host_since = access->since;
		log_info("policy: %u rules for the host from %s", policy_rules(access->host),
			 access->host_directory);
	}
	log_info("policy: %u rules from %s", policy_rules(access->policy), access->directory);
}

int access_reload(struct access *access)
{
	struct access_rules rules;
	int r = access_read(access, &rules);

	if (r == 0)
		access_take(access, &rules);
	return r;
}

const char *access_error(const struct access *access)
{
	return access->error;
}

bool access_needs_names(const struct access *access)
{
	return policy_needs_names(access->policy) || access_host_needs_names(access);
}

int access_new(struct access **out, const struct self *self, const char *directory, struct registry *registry)
{
	struct access *access = calloc(1, sizeof(*access));
	int r = -ENOMEM;

	if (!access)
		return -ENOMEM;
	access->self = self;
	access->registry = registry;
	access->directory = strdup(directory);
	access->denied = denied_new();
	if (access->directory && access->denied)
		r = access_reload(access);
	if (r < 0) {
		access_free(access);
		return r;
	}
	*out = access;
	return 0;
}

void access_free(struct access *access)
{
	if (!access)
		return;
	policy_free(access->policy);
	policy_free(access->host);
	host_told_free(access->told);
	free(access->host_directory);
	denied_free(access->denied);
	free(access->error);
	free(access->directory);
	free(access);
}

struct policy_subject access_subject(struct access *access, uint32_t domid, uint32_t uid)
{
	const struct registry_domain *domain = registry_find(access->registry, domid);
	struct policy_subject subject = {
		.domid = domid,
		.is_self = domid == access->self->domid,
		.name = domain ? domain->name : "",
		.uuid = domain ? domain->uuid_text : "",
		.uid = uid,
	};

	/* The number of a host: one that asks like that doesn't know what it means. */
	if (!domid_is_valid(domid))
		subject.host = "";
	else
		subject.names_unknown = !domain || !domain->is_complete;
	return subject;
}

struct policy_subject access_remote_subject(const char *host, uint32_t domid, const char *name, uint32_t uid)
{
	return (struct policy_subject){
		.host = host,
		.domid = domid,
		.name = name ? name : "",
		.names_unknown = !name,
		.uuid = "",
		.uid = uid,
	};
}

static struct policy_subject subject_of(struct access *access, const struct access_sender *from)
{
	return from->host ? access_remote_subject(from->host, from->domid, from->name, from->uid)
			  : access_subject(access, from->domid, from->uid);
}

struct policy_decision access_decide(struct access *access, const struct policy_subject *from,
				     const char *endpoint)
{
	struct policy_decision own = policy_reach(access->policy, from, endpoint);

	return access_ask_host(access, from, access->self->domid, endpoint, own);
}

static struct policy_decision decide(struct access *access, const struct access_sender *from,
				     const char *endpoint)
{
	struct policy_subject subject = subject_of(access, from);

	return access_decide(access, &subject, endpoint);
}

static int result_of(const struct policy_decision *decision)
{
	return decision->allow ? 0 : decision->undecided ? -ENODATA : -EACCES;
}

const char *access_why_unknown(struct access *access, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(access->registry, domid);

	return domain && domain->is_complete && !domain->tags_refused
		       ? "domain 0 hasn't told it for the host's policy"
		       : registry_why_not(access->registry, domid);
}

/* Returns who is told in the log, and counted. */
static struct log_source source_of(const struct access *access, const struct access_sender *from)
{
	if (from->host)
		return LOG_BY_HOST(from->host_number);
	return from->domid == access->self->domid ? LOG_BY_UID(from->uid) : LOG_BY_DOMAIN(from->domid);
}

static void count_undecided(struct access *access, const struct access_sender *from, const char *to,
			    const struct policy_decision *decision)
{
	const char *host = from->host ? from->host : "", *slash = from->host ? "/" : "";

	access->undecided++;
	if (decision->untold)
		log_limited(
			LOG_UNDECIDED, source_of(access, from), LOG_LEVEL_WARNING,
			"not decided yet: domain %s%s%u, uid %u to %s: domain 0 hasn't told the host's policy, which "
			"host-policy = require waits for",
			host, slash, from->domid, from->uid, to);
	else
		log_limited(LOG_UNDECIDED, source_of(access, from), LOG_LEVEL_WARNING,
			    "not decided yet: domain %s%s%u, uid %u to %s: %s:%u needs %s%s", host, slash,
			    from->domid, from->uid, to, decision->file, decision->line,
			    from->host ? "its name, which its host doesn't know"
				       : "a domain's name, which isn't known: ",
			    from->host ? "" : access_why_unknown(access, from->domid));
}

/* Counts what was decided. */
static int access_conclude(struct access *access, const struct access_sender *from, const char *to,
			   const struct policy_decision *decision)
{
	if (decision->undecided)
		count_undecided(access, from, to, decision);
	else if (!decision->allow)
		denied_add(access->denied, from, source_of(access, from), to, decision);
	return result_of(decision);
}

int access_reach(struct access *access, struct access_sender from, const char *endpoint)
{
	struct policy_decision decision = decide(access, &from, endpoint);

	return access_conclude(access, &from, endpoint, &decision);
}

int access_still_allowed(struct access *access, struct access_sender from, const char *endpoint)
{
	struct policy_decision decision = decide(access, &from, endpoint);

	return result_of(&decision);
}

struct policy_decision access_decide_relay(struct access *access, const struct policy_subject *from,
					   uint32_t to, const char *address)
{
	struct address_part endpoint =
		address ? address_split(address, strlen(address)).endpoint : (struct address_part){0};
	struct policy_subject destination = access_subject(access, to, 0);
	struct policy_decision relay = policy_relay(access->policy, from, &destination),
			       decision = {.allow = true};

	/* What the host's policy allows is still relayed only if the [relay] rules allow it. */
	if (endpoint.data)
		decision = access_ask_host(access, from, to, endpoint.data, decision);
	return decision.by_host && (!decision.allow || relay.allow) ? decision : relay;
}

static struct policy_decision decide_relay(struct access *access, const struct access_sender *from,
					   uint32_t to, const char *address)
{
	struct policy_subject source = subject_of(access, from);

	return access_decide_relay(access, &source, to, address);
}

int access_relay(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	struct policy_decision decision = decide_relay(access, &from, to, address);

	return access_conclude(access, &from, address, &decision);
}

int access_still_relayed(struct access *access, struct access_sender from, uint32_t to, const char *address)
{
	struct policy_decision decision = decide_relay(access, &from, to, address);

	return result_of(&decision);
}

static struct policy_decision decide_out(struct access *access, const struct access_sender *from,
					 const char *host)
{
	struct policy_subject source = subject_of(access, from);

	return policy_out(access->policy, &source, host);
}

int access_out(struct access *access, const struct frame_identity *identity, const char *host,
	       const char *address)
{
	struct access_sender from = access_sender_here(identity);
	struct policy_decision decision = decide_out(access, &from, host);

	return access_conclude(access, &from, address, &decision);
}

int access_still_out(struct access *access, const struct frame_identity *identity, const char *host)
{
	struct access_sender from = access_sender_here(identity);
	struct policy_decision decision = decide_out(access, &from, host);

	return result_of(&decision);
}

int access_bind(struct access *access, int fd, uid_t uid, gid_t gid, const char *endpoint, gid_t socket_group)
{
	struct policy_subject who = {.domid = access->self->domid, .is_self = true, .uid = uid, .gid = gid};
	struct policy_decision decision;
	gid_t *groups;
	int r = peer_groups(fd, &groups, &who.group_count);

	if (r < 0) {
		log_limited(LOG_BINDING, LOG_BY_UID(uid), LOG_LEVEL_WARNING,
			    "denied: uid %u may not bind %s: its groups aren't known: %s", uid, endpoint,
			    strerror(-r));
		return -EACCES;
	}
	who.groups = groups;
	decision = policy_bind(access->policy, &who, endpoint, socket_group);
	free(groups);
	if (decision.allow)
		return 0;
	if (decision.file)
		log_limited(LOG_BINDING, LOG_BY_UID(uid), LOG_LEVEL_WARNING,
			    "denied: uid %u may not bind %s, by %s:%u", uid, endpoint, decision.file,
			    decision.line);
	else
		log_limited(
			LOG_BINDING, LOG_BY_UID(uid), LOG_LEVEL_WARNING,
			"denied: uid %u may not bind %s: no rule allows it, and it is neither root nor in the "
			"socket's group",
			uid, endpoint);
	return -EACCES;
}

bool access_sees(struct access *access, struct access_sender from, uint32_t other)
{
	struct policy_subject asker = subject_of(access, &from), subject = access_subject(access, other, 0);

	return policy_sees(access->policy, &asker, &subject);
}

bool access_sees_gone(struct access *access, uint32_t domid, uint32_t other, const char *name,
		      const char *uuid)
{
	struct policy_subject from = access_subject(access, domid, 0);
	const struct policy_subject gone = {.domid = other, .name = name, .uuid = uuid};

	return policy_sees(access->policy, &from, &gone);
}

bool access_visible(struct access *access, uint32_t domid, const char *endpoint)
{
	struct policy_subject subject = access_subject(access, domid, 0);

	return access_host_shows(access, &subject, endpoint,
				 policy_shows(access->policy, &subject, endpoint));
}

static void count_shown(void *userdata, const char *domain, bool allow)
{
	*(int *)userdata += allow && !strcmp(domain, "*") ? 1 : 2;
}

bool access_visible_to_all(struct access *access, const char *endpoint)
{
	struct policy_subject self = access_subject(access, access->self->domid, 0);
	int shown = 0;

	policy_shown_to(access->policy, &self, endpoint, count_shown, &shown);
	return access_host_shows_all(access, endpoint, shown == 1); /* "*" comes alone */
}

static void access_add_shown(void *userdata, const char *domain, bool allow)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%s", allow ? "" : "!", domain);
	json_text(userdata, NULL, text);
}

void access_visible_to(struct access *access, const char *endpoint, struct json *json, const char *key)
{
	struct policy_subject self = access_subject(access, access->self->domid, 0);

	json_begin(json, key, '[');
	if (!access_host_shown_to(access, endpoint, json))
		policy_shown_to(access->policy, &self, endpoint, access_add_shown, json);
	json_end(json, ']');
}

void access_status(const struct access *access, bool in_full, struct json *json, const char *key)
{
	const char *error = access->error && *access->error ? access->error : NULL;

	if (error && !in_full)
		error = "the rules that were read last have a mistake; an administrator sees which";
	json_begin(json, key, '{');
	json_text(json, "directory", access->directory);
	json_number(json, "rules", policy_rules(access->policy));
	json_number(json, "since", access->since);
	json_text(json, "error", error);
	json_number_if(json, "error_since", access->error, access->error_since);
	json_flag(json, "needs_names", access_needs_names(access));
	json_number(json, "undecided", access->undecided);
	access_host_status(access, json);
	json_flag(json, "names_known", registry_is_told(access->registry));
	json_end(json, '}');
}

struct denied *access_denied(struct access *access)
{
	return access->denied;
}
