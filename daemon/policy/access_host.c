/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The host's policy in force: domain 0 has it, and tells each guest its share; a guest has what it was
 * told. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/image.h"
#include "base/log.h"
#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/policy/access_internal.h"
#include "daemon/policy/denied.h"

/* --- who is who --------------------------------------------------------------------------------- */

static bool in_domain_0(const struct access *access)
{
	return access->host != NULL;
}

void access_set_tags(struct access *access, struct policy_subject *subject, const char *tags)
{
	const struct registry_domain *domain = registry_find(access->registry, subject->domid);

	subject->tags = tags;
	if (domain && domain->tags_refused)
		subject->names_unknown = true;
}

char *access_add_tags(struct access *access, const struct policy *host, struct policy_subject *subject)
{
	const struct registry_domain *domain = registry_find(access->registry, subject->domid);
	char *tags = host_policy_tags(host, subject->name, subject->uuid, domain ? domain->tags : NULL);

	access_set_tags(access, subject, tags);
	return tags;
}

/* A subject as the host's policy sees it: in a guest by what it was told of it. The caller frees *tags. */
static struct policy_subject seen_by_host(struct access *access, const struct policy_subject *subject,
					  char **tags)
{
	struct policy_subject seen = *subject;

	*tags = NULL;
	if (seen.host)
		return seen;
	if (in_domain_0(access))
		*tags = access_add_tags(access, access->host, &seen);
	else
		host_told_name(access->told, &seen);
	return seen;
}

static const struct policy *in_force(const struct access *access)
{
	if (access->mode == CONFIG_HOST_POLICY_IGNORE)
		return NULL;
	return in_domain_0(access) ? access->host : access->told ? host_told_policy(access->told) : NULL;
}

/* Whether nothing may come in, since domain 0 hasn't told anything yet. */
static bool is_awaited(const struct access *access)
{
	return access->mode == CONFIG_HOST_POLICY_REQUIRE && !in_force(access);
}

const struct policy *access_host_rules(const struct access *access)
{
	return in_domain_0(access) ? access->host : in_force(access);
}

uint64_t access_cost(const struct access *access)
{
	const struct policy *host = access_host_rules(access);

	return policy_cost(access->policy) + (host ? policy_cost(host) : 0);
}

bool access_host_needs_names(const struct access *access)
{
	const struct policy *rules = access_host_rules(access);

	return rules && policy_rules(rules) > 0;
}

/* --- decisions ---------------------------------------------------------------------------------- */

/* Whether nobody knows, in domain 0, which rules are about the domain. It was told to let nobody in. */
static bool has_refused_tags(const struct access *access, uint32_t domid)
{
	const struct registry_domain *domain = registry_find(access->registry, domid);

	return domain && domain->tags_refused;
}

static void write_tags_path(char path[TAGS_PATH_MAX], uint32_t domid)
{
	snprintf(path, TAGS_PATH_MAX, "/local/domain/%u/xenmsg/tags", domid);
}

static struct policy_decision deny_by_tags(struct access *access, uint32_t domid)
{
	write_tags_path(access->refused_path, domid);
	return (struct policy_decision){
		.by_host = true, .section = "rule", .file = access->refused_path, .line = 1};
}

struct policy_decision access_ask_host(struct access *access, const struct policy_subject *from, uint32_t to,
				       const char *endpoint, struct policy_decision own)
{
	bool is_here = to == access->self->domid;
	/* What domain 0 passes on isn't its own: its setting is about what comes to it. */
	const struct policy *host = is_here ? in_force(access) : access->host;
	struct policy_subject sender, receiver;
	struct host_decision decision;
	char *sender_tags, *receiver_tags;

	if (from->is_self && is_here)
		return own;
	if (!host && is_here && is_awaited(access))
		return (struct policy_decision){
			.undecided = true, .by_host = true, .untold = true, .section = "rule"};
	if (!host)
		return own;
	if (has_refused_tags(access, to))
		return deny_by_tags(access, to);
	sender = seen_by_host(access, from, &sender_tags);
	receiver = access_subject(access, to, 0);
	receiver_tags = in_domain_0(access) ? access_add_tags(access, host, &receiver) : NULL;
	decision = host_policy_decide(host, &sender, in_domain_0(access) ? &receiver : NULL, endpoint);
	free(sender_tags);
	free(receiver_tags);
	return host_policy_join(&decision, own);
}

bool access_host_shows(struct access *access, const struct policy_subject *from, const char *endpoint,
		       bool own)
{
	const struct policy_decision by_own = {.allow = own};

	return access_ask_host(access, from, access->self->domid, endpoint, by_own).allow;
}

bool access_host_shows_all(struct access *access, const char *endpoint, bool own)
{
	const struct policy *host = in_force(access);
	struct policy_subject self = access_subject(access, access->self->domid, 0);
	char *tags = in_domain_0(access) ? access_add_tags(access, access->host, &self) : NULL;
	int all = host ? host_policy_shows_all(host, in_domain_0(access) ? &self : NULL, endpoint)
		  : is_awaited(access) ? 0
				       : -1;

	free(tags);
	return all < 0 ? own : all > 0;
}

static void access_host_add_shown(void *userdata, const char *domain, unsigned outcome)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%s",
		 outcome == HOST_ALLOWS	  ? ""
		 : outcome == HOST_DENIES ? "!"
					  : "?",
		 domain);
	json_text(userdata, NULL, text);
}

bool access_host_shown_to(struct access *access, const char *endpoint, struct json *list)
{
	const struct policy *host = in_force(access);
	struct policy_subject self = access_subject(access, access->self->domid, 0);
	char *tags;
	bool is_all;

	if (!host)
		return is_awaited(access);
	tags = in_domain_0(access) ? access_add_tags(access, host, &self) : NULL;
	is_all = host_policy_shown_to(host, in_domain_0(access) ? &self : NULL, endpoint,
				      access_host_add_shown, list);
	free(tags);
	return is_all;
}

/* --- domain 0: what guests are told ------------------------------------------------------------- */

/* Writes a guest's share of these rules, and what it says of domains, unless only the rules are wanted. 0,
 * -E2BIG with *why, -ENOMEM. */
static int write_share(struct access *access, const struct policy *host, uint32_t guest, bool only_rules,
		       char **text, size_t *size, char *why, size_t room)
{
	struct policy_subject to = access_subject(access, guest, 0);
	const struct registry_domain *domain = NULL;
	char *tags = access_add_tags(access, host, &to);
	FILE *file;
	int r;

	*text = NULL;
	file = open_memstream(text, size);
	r = file ? host_policy_write_rules(host, &to, file, why, room) : -ENOMEM;
	while (r == 0 && !only_rules && host_policy_needs_domains(host, &to) &&
	       (domain = registry_next(access->registry, domain)) != NULL) {
		struct policy_subject subject = access_subject(access, domain->domid, 0);
		char *its_tags = access_add_tags(access, host, &subject);

		if (!subject.names_unknown && domain->domid != guest)
			host_policy_write_domain(host, &to, &subject, file);
		free(its_tags);
		if (ftell(file) > (long)HOST_TOLD_MAX) {
			snprintf(why, room,
				 "what rules for domain %u say of all domains is more than %u bytes", guest,
				 HOST_TOLD_MAX);
			r = -E2BIG;
		}
	}
	free(tags);
	if (file && fclose(file) != 0 && r == 0)
		r = -ENOMEM;
	return r;
}

/* Whether what any share says of all domains has room in it, whatever its rules name. Otherwise each guest's
 * has to be looked at, which is work for each pair of domains. */
static bool domains_have_room(struct access *access, const struct policy *host)
{
	const struct registry_domain *domain = NULL;
	size_t most = HOST_SHARE_BYTES;

	while (most <= HOST_TOLD_MAX && (domain = registry_next(access->registry, domain)) != NULL) {
		struct policy_subject subject = access_subject(access, domain->domid, 0);
		char *tags = access_add_tags(access, host, &subject);

		most += sizeof("[domain]\ndomid = 32768\nname = \nuuid = \n") + strlen(subject.name) +
			strlen(subject.uuid);
		for (const char *tag = tags; tag && *tag; tag++)
			most += *tag == ',' ? sizeof("tag = \n") : 1;
		free(tags);
	}
	return most <= HOST_TOLD_MAX;
}

int access_load_host(struct access *access, struct policy **host, char **error)
{
	const struct registry_domain *domain = NULL;
	char why[512], *text = NULL;
	bool only_rules;
	size_t size;
	int r = 0;

	*host = NULL;
	if (!access->host_directory)
		return 0;
	r = host_policy_load(host, access->host_directory, error);
	only_rules = r == 0 && domains_have_room(access, *host);
	while (r == 0 && (domain = registry_next(access->registry, domain)) != NULL) {
		r = write_share(access, *host, domain->domid, only_rules, &text, &size, why, sizeof(why));
		free(text);
		text = NULL;
	}
	if (r == -E2BIG) {
		*error = strdup(why);
		r = -EINVAL;
	}
	if (r < 0) {
		policy_free(*host);
		*host = NULL;
	}
	return r;
}

bool access_tells_host(const struct access *access)
{
	return in_domain_0(access);
}

uint64_t access_host_version(const struct access *access)
{
	return access->host_version;
}

/* Returns the share of a guest that lets nobody in. */
static char *denial(const char *why, size_t *size)
{
	char *text = NULL;
	FILE *file = open_memstream(&text, size);

	if (!file)
		return NULL;
	host_policy_write_denial(file, why);
	return fclose(file) == 0 ? text : NULL;
}

char *access_host_share(struct access *access, uint32_t guest, size_t *size)
{
	char why[512], *text = NULL;
	int r;

	if (!registry_is_complete(access->registry, guest))
		return NULL;
	if (has_refused_tags(access, guest)) { /* which has been logged */
		write_tags_path(why, guest);
		return denial(why, size);
	}
	r = write_share(access, access->host, guest, false, &text, size, why, sizeof(why));
	if (r == 0)
		return text;
	free(text);
	if (r != -E2BIG)
		return NULL;
	/* It came after the last reload, which would have been refused. */
	log_error("policy: domain %u is told to let nobody in: %s", guest, why);
	return denial(why, size);
}

char *access_host_domain(struct access *access, uint32_t guest, uint32_t domid, size_t *size)
{
	struct policy_subject to = access_subject(access, guest, 0),
			      subject = access_subject(access, domid, 0);
	char *tags = access_add_tags(access, access->host, &to), *its_tags, *text = NULL;
	FILE *file;

	if (!host_policy_needs_domains(access->host, &to)) {
		free(tags);
		*size = 0;
		return strdup("");
	}
	its_tags = access_add_tags(access, access->host, &subject);
	file = open_memstream(&text, size);
	if (file) {
		host_policy_write_domain(access->host, &to, &subject, file);
		if (fclose(file) != 0)
			text = NULL;
	}
	free(tags);
	free(its_tags);
	return text;
}

/* --- a guest: what it is told ------------------------------------------------------------------- */

static void domain_changed(void *userdata, uint32_t domid)
{
	struct access *access = userdata;

	registry_tell(access->registry, REGISTRY_NAME, domid);
}

int access_take_host(struct access *access, const uint8_t *payload, uint32_t length)
{
	char *error;
	int r = host_told_take(access->told, payload, length, &error);

	if (r < 0)
		log_limited(LOG_LINK, LOG_BY_DOMAIN(0), LOG_LEVEL_ERROR,
			    "policy: what domain 0 tells of the host's policy can't be read: %s",
			    error ? error : strerror(-r));
	free(error);
	if (r == HOST_TOLD_RULES) {
		access->host_version++;
		access->host_since = (uint64_t)time(NULL);
		log_info("policy: domain 0 tells %u rules of the host's policy",
			 policy_rules(host_told_policy(access->told)));
	}
	return r < 0 ? r : r == HOST_TOLD_RULES;
}

void access_forget_host_domain(struct access *access, uint32_t domid)
{
	if (access->told)
		host_told_forget_domain(access->told, domid);
}

void access_forget_host_domains(struct access *access)
{
	if (access->told)
		host_told_forget_domains(access->told);
}

void access_image(struct image *image, struct access *access)
{
	bool is_told = access->told != NULL;

	image_u64(image, &access->undecided);
	denied_image(image, access->denied);
	image_bool(image, &is_told);
	image_expect(image, is_told == (access->told != NULL));
	if (!is_told || image->error)
		return;
	image_u64(image, &access->host_since);
	host_told_image(image, access->told);
}

void access_drop_image(struct access *access)
{
	if (!access->told)
		return;
	host_told_forget(access->told);
	access->host_since = host_told_recall(access->told, access->kept_in);
}

/* --- life --------------------------------------------------------------------------------------- */

int access_set_host(struct access *access, const char *directory, enum config_host_policy mode, int kept_in)
{
	access->mode = mode;
	access->kept_in = kept_in;
	if (access->self->domid != 0) {
		access->told = host_told_new(domain_changed, access);
		if (!access->told)
			return -ENOMEM;
		access->host_since = host_told_recall(access->told, kept_in);
		return 0;
	}
	access->host_directory = strdup(directory);
	return access->host_directory ? access_reload(access) : -ENOMEM;
}

void access_host_status(const struct access *access, struct json *json)
{
	static const char *const modes[] = {"obey", "ignore", "require"};
	const struct policy *rules = access_host_rules(access);

	json_begin(json, "of_host", '{');
	json_text(json, "mode", modes[access->mode]);
	json_text(json, "directory", access->host_directory);
	json_number_if(json, "rules", rules, policy_rules(rules));
	json_number_if(json, "since", rules, access->host_since);
	json_end(json, '}');
}
