/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads policies: a domain's files, the host's files, and the share of the host's policy that a guest is
 * told; and says each mistake in them, with file and line. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf_dir.h"
#include "base/ini_file.h"
#include "daemon/policy/host_policy.h"
#include "daemon/policy/policy_internal.h"
#include "wire/address.h"
#include "wire/ut.h"

#define SECTIONS_OF_DOMAIN(conjunction) "[rule], [bind], [see], [relay] " conjunction " [out]"

/* A [domain] of a share, as far as it was read. */
struct domain_read {
	bool has_domid;
	struct host_domain domain;
};

/* State of reading some files, or a share. */
struct reader {
	struct ini_file file; /* first: begin_section() gets it */
	struct policy *policy;
	enum policy_scope scope;
	struct policy_file *of;	       /* whose rules come next */
	const struct section *section; /* that is being read; NULL: none */
	unsigned section_line;
	struct rule *rule; /* of this section; NULL: it has none */
	struct domain_read domain;
	host_domain_fn each;
	void *userdata;
	int error; /* of `each` */
};

const struct section policy_sections[SECTIONS] = {
	[SECTION_RULE] = {"rule", "to", LIST_DOMAINS, LIST_PATTERNS, LIST_UIDS, OF_DOMAIN,
			  "from, uid, to and action"},
	[SECTION_BIND] = {"bind", "name", LIST_NONE, LIST_PATTERNS, LIST_USERS, OF_DOMAIN,
			  "name, uid and action"},
	[SECTION_SEE] = {"see", "domain", LIST_DOMAINS, LIST_OWN_DOMAINS, LIST_NONE, OF_DOMAIN,
			 "from, domain and action"},
	[SECTION_RELAY] = {"relay", "to", LIST_DOMAINS, LIST_OWN_DOMAINS, LIST_NONE, OF_DOMAIN,
			   "from, to and action"},
	[SECTION_OUT] = {"out", "to", LIST_OWN_DOMAINS, LIST_HOSTS, LIST_NONE, OF_DOMAIN,
			 "from, to and action"},
	[SECTION_HOST_RULE] = {"rule", "to", LIST_SENDERS, LIST_RECEIVERS, LIST_NONE, OF_HOST,
			       "from, to, endpoint and action"},
	[SECTION_TAGS] = {.name = "tags", .of = OF_HOST},
	[SECTION_SHARE_RULE] = {"rule", "endpoint", LIST_SENDERS, LIST_PATTERNS, LIST_NONE, OF_SHARE,
				"line, from, endpoint and action"},
	[SECTION_FILE] = {.name = "file", .of = OF_SHARE},
	[SECTION_DOMAIN] = {.name = "domain", .of = OF_SHARE},
};

/* --- lists ------------------------------------------------------------------------------------ */

static int add_item(struct ini_file *file, struct item **list, char *text, enum list_kind kind)
{
	const struct reader *reader = (struct reader *)file;
	struct item *item = calloc(1, sizeof(*item));
	const char *why;
	int error = 0;

	if (!item || !(item->text = strdup(text))) {
		free(item);
		return ini_file_out_of_memory(file);
	}
	LL_APPEND(*list, item);
	why = policy_set_item(item, kind, &error);
	/* Another version of domain 0's daemon may tell what ours would refuse in a file. */
	if (!why && reader->scope != OF_SHARE)
		why = policy_item_means_nobody(item, kind);
	if (error == -ENOMEM)
		return ini_file_out_of_memory(file);
	if (why && error < 0)
		return ini_file_fail(file, error, "'%s' can't be looked up now: %s", text, why);
	return why ? ini_file_complain(file, "'%s': %s", text, why) : 1;
}

/* Returns 1, or 0 after a complaint. */
static int read_list(struct ini_file *file, struct item **list, const char *key, const char *value,
		     enum list_kind kind)
{
	char *copy, *rest, *part;
	int r = 1;

	if (*list)
		return ini_file_complain(file, "%s comes twice in this section", key);
	copy = rest = strdup(value);
	if (!copy)
		return ini_file_out_of_memory(file);
	while (r && (part = strsep(&rest, ",")) != NULL) {
		size_t size;

		while (isspace((unsigned char)*part))
			part++;
		for (size = strlen(part); size && isspace((unsigned char)part[size - 1]); size--)
			part[size - 1] = '\0';
		r = *part ? add_item(file, list, part, kind)
			  : ini_file_complain(file, "%s: an empty entry in the list", key);
	}
	free(copy);
	return r;
}

/* --- rules ------------------------------------------------------------------------------------ */

static bool end_rule(struct reader *reader)
{
	const struct rule *rule = reader->rule;
	const char *missing = NULL;

	reader->rule = NULL;
	if (!rule)
		return true;
	if (rule->section->from_kind && !rule->from)
		missing = "from";
	else if (rule->section->of != OF_SHARE && !rule->to)
		missing = rule->section->to;
	else if (rule->section->uid_kind == LIST_USERS && !rule->uid)
		missing = "uid";
	else if (!rule->has_action)
		missing = "action";
	else if (!rule->line)
		missing = "line";
	if (missing)
		ini_file_complain_at(&reader->file, reader->section_line, "this [%s] has no %s",
				     rule->section->name, missing);
	return !missing;
}

static void begin_rule(struct reader *reader)
{
	struct rule *rule = calloc(1, sizeof(*rule));

	if (!rule) {
		ini_file_out_of_memory(&reader->file);
		return;
	}
	rule->file = reader->of;
	reader->of->rules++;
	rule->section = reader->section;
	rule->line = reader->scope == OF_SHARE ? 0 : reader->section_line;
	LL_APPEND(reader->policy->rules, rule);
	reader->rule = rule;
}

static int set_action(struct reader *reader, struct rule *rule, const char *value)
{
	bool of_host = rule->section->of != OF_DOMAIN;

	if (rule->has_action)
		return ini_file_complain(&reader->file, "action comes twice in this section");
	rule->allow = !strcmp(value, "allow");
	rule->asks = of_host && !strcmp(value, "ask-guest");
	rule->has_action = rule->allow || rule->asks || !strcmp(value, "deny");
	return rule->has_action ? 1
				: ini_file_complain(&reader->file, "action '%s': must be %s", value,
						    of_host ? "allow, deny or ask-guest" : "allow or deny");
}

/* Of a share: a number without sign of at most nine digits. */
static int set_line(struct reader *reader, struct rule *rule, const char *value)
{
	size_t size = strspn(value, "0123456789");

	rule->line = value[size] || size > 9 ? 0 : (unsigned)strtoul(value, NULL, 10);
	return rule->line ? 1 : ini_file_complain(&reader->file, "line '%s': must be a number", value);
}

static int on_rule_key(struct reader *reader, const char *key, const char *value)
{
	struct rule *rule = reader->rule;
	const struct section *section = rule->section;

	if (!strcmp(key, "action"))
		return set_action(reader, rule, value);
	if (!strcmp(key, "uid") && section->uid_kind)
		return read_list(&reader->file, &rule->uid, key, value, section->uid_kind);
	if (!strcmp(key, "from") && section->from_kind)
		return read_list(&reader->file, &rule->from, key, value, section->from_kind);
	if (!strcmp(key, "endpoint") && section->of != OF_DOMAIN)
		return read_list(&reader->file, &rule->endpoint, key, value, LIST_PATTERNS);
	if (!strcmp(key, "line") && section->of == OF_SHARE)
		return set_line(reader, rule, value);
	if (!strcmp(key, section->to))
		return read_list(&reader->file, &rule->to, key, value, section->to_kind);
	return ini_file_complain(&reader->file, "[%s] has no key '%s'; it has %s", section->name, key,
				 section->keys);
}

/* --- tags, files and domains -------------------------------------------------------------------- */

static struct policy_file *add_file(struct policy *policy, const char *path)
{
	struct policy_file *file = calloc(1, sizeof(*file));

	if (!file || !(file->path = strdup(path))) {
		free(file);
		return NULL;
	}
	LL_APPEND(policy->files, file);
	return file;
}

void host_domain_clear(struct host_domain *domain)
{
	free(domain->name);
	free(domain->uuid);
	free(domain->tags);
	*domain = (struct host_domain){0};
}

static bool end_domain(struct reader *reader)
{
	struct domain_read *read = &reader->domain;

	if (reader->section != &policy_sections[SECTION_DOMAIN])
		return true;
	if (!read->has_domid) {
		ini_file_complain_at(&reader->file, reader->section_line, "this [domain] has no domid");
		return false;
	}
	if (reader->error == 0)
		reader->error = reader->each(reader->userdata, &read->domain);
	host_domain_clear(&read->domain);
	read->has_domid = false;
	return true;
}

static struct tag *find_tag(const struct policy *policy, const char *name)
{
	struct tag *tag;

	LL_FOREACH(policy->tags, tag)
		if (!strcmp(tag->name, name))
			return tag;
	return NULL;
}

static struct tag *tag_new(struct policy *policy, const char *name)
{
	struct tag *tag = calloc(1, sizeof(*tag));

	if (!tag || !(tag->name = strdup(name))) {
		free(tag);
		return NULL;
	}
	LL_APPEND(policy->tags, tag);
	return tag;
}

/* A key of [tags] is a tag, and its value domains that have it: none, if only the toolstack gives it. More
 * have it than fit in a line, so it may come again. */
static int on_tag(struct reader *reader, const char *name, const char *value)
{
	struct tag *tag = find_tag(reader->policy, name);
	struct item *members = NULL;
	int r = 1;

	if (!endpoint_name_is_valid(name, strlen(name)))
		return ini_file_complain(&reader->file,
					 "'%s' can't be a tag, which is made of letters, digits, _ and -",
					 name);
	if (!tag && !(tag = tag_new(reader->policy, name)))
		return ini_file_out_of_memory(&reader->file);
	if (*value)
		r = read_list(&reader->file, &members, name, value, LIST_MEMBERS);
	LL_CONCAT(tag->members, members);
	return r;
}

static int on_file_key(struct reader *reader, const char *key, const char *value)
{
	if (strcmp(key, "path"))
		return ini_file_complain(&reader->file, "[file] has no key '%s'", key);
	reader->of = add_file(reader->policy, value);
	return reader->of ? 1 : ini_file_out_of_memory(&reader->file);
}

static int add_tag(struct reader *reader, const char *tag)
{
	struct domain_read *read = &reader->domain;
	char *text = NULL;

	if (!endpoint_name_is_valid(tag, strlen(tag)))
		return ini_file_complain(&reader->file, "'%s' can't be a tag", tag);
	if (asprintf(&text, "%s%s,", read->domain.tags ? read->domain.tags : ",", tag) < 0)
		return ini_file_out_of_memory(&reader->file);
	free(read->domain.tags);
	read->domain.tags = text;
	return 1;
}

static int set_text(struct reader *reader, char **field, char *text)
{
	free(*field);
	*field = text;
	return text ? 1 : ini_file_out_of_memory(&reader->file);
}

static int on_domain_key(struct reader *reader, const char *key, const char *value)
{
	struct domain_read *read = &reader->domain;

	if (!strcmp(key, "name"))
		return set_text(reader, &read->domain.name, strdup(value));
	if (!strcmp(key, "uuid"))
		return set_text(reader, &read->domain.uuid, strdup(value));
	if (!strcmp(key, "tag"))
		return add_tag(reader, value);
	if (!strcmp(key, "gone")) {
		read->domain.is_gone = true;
		return 1;
	}
	if (strcmp(key, "domid"))
		return ini_file_complain(&reader->file, "[domain] has no key '%s'", key);
	read->has_domid = domid_parse(value, strlen(value), &read->domain.domid);
	return read->has_domid ? 1 : ini_file_complain(&reader->file, "domid '%s': must be one", value);
}

/* --- sections ----------------------------------------------------------------------------------- */

static bool end_section(struct reader *reader)
{
	bool is_whole = end_rule(reader) && end_domain(reader);

	reader->section = NULL;
	return is_whole;
}

static const struct section *find_section(enum policy_scope scope, const char *name, size_t size)
{
	const struct section *section = policy_sections;

	for (; section < policy_sections + SECTIONS; section++)
		if (section->of == scope && strlen(section->name) == size &&
		    !strncmp(name, section->name, size))
			return section;
	return NULL;
}

static void policy_read_begin_section(struct ini_file *file, const char *name, size_t size)
{
	struct reader *reader = (struct reader *)file;

	if (!end_section(reader))
		return;
	reader->section_line = file->line;
	reader->section = find_section(reader->scope, name, size);
	if (!reader->section)
		ini_file_complain(file, reader->scope == OF_DOMAIN
						? "a policy has only the sections " SECTIONS_OF_DOMAIN("and")
						: "a host policy has only the sections [rule] and [tags]");
	else if (reader->section->keys && !reader->of)
		ini_file_complain(file, "a [rule] comes before its [file]");
	else if (reader->section->keys)
		begin_rule(reader);
}

static int policy_read_on_key(void *user, const char *untrusted_section, const char *key, const char *value)
{
	struct reader *reader = user;

	if (reader->file.failed)
		return 0;
	if (!reader->section)
		return ini_file_complain(&reader->file, "%s stands outside of a %s", key,
					 reader->scope == OF_DOMAIN ? SECTIONS_OF_DOMAIN("or")
								    : "[rule] or [tags]");
	switch (reader->section - policy_sections) {
	case SECTION_TAGS:
		return on_tag(reader, key, value);
	case SECTION_FILE:
		return on_file_key(reader, key, value);
	case SECTION_DOMAIN:
		return on_domain_key(reader, key, value);
	default:
		return on_rule_key(reader, key, value);
	}
}

/* --- whole files -------------------------------------------------------------------------------- */

static int read_whole(struct reader *reader, FILE *stream, const char *path, char **error)
{
	int r;

	reader->file = (struct ini_file){
		.stream = stream, .path = path, .error = error, .begin_section = policy_read_begin_section};
	r = ini_file_parse(&reader->file, policy_read_on_key, reader);
	if (r == 0)
		end_section(reader);
	host_domain_clear(&reader->domain.domain);
	return reader->file.failed ? reader->file.failed : r < 0 ? r : reader->error;
}

static int load_file(void *userdata, FILE *stream, const char *path, char **error)
{
	struct reader *reader = userdata;

	reader->of = add_file(reader->policy, path);
	return reader->of ? read_whole(reader, stream, path, error) : -ENOMEM;
}

/* A misspelt tag means nobody, which for a rule that denies would be worst. */
static int check_tags(const struct policy *policy, const struct rule *rule, const struct item *items,
		      char **error)
{
	const struct item *item;

	LL_FOREACH(items, item)
		if (item->kind == ITEM_TAG && !find_tag(policy, item->name)) {
			if (asprintf(
				    error,
				    "%s:%u: no [tags] has '%s'; one that only the toolstack gives is written there "
				    "with nothing behind the =",
				    rule->file->path, rule->line, item->name) < 0)
				*error = NULL;
			return -EINVAL;
		}
	return 0;
}

static int check_all_tags(const struct policy *policy, char **error)
{
	const struct rule *rule;
	int r = 0;

	LL_FOREACH(policy->rules, rule) {
		if (r == 0)
			r = check_tags(policy, rule, rule->from, error);
		if (r == 0)
			r = check_tags(policy, rule, rule->to, error);
	}
	return r;
}

static unsigned policy_read_count_items(const struct item *items)
{
	const struct item *item;
	unsigned count;

	LL_COUNT(items, item, count);
	return count;
}

/* Gives it to the caller unless there is a mistake. */
static int policy_read_give(struct policy **out, struct policy *policy, int r)
{
	const struct rule *rule;

	if (r < 0) {
		policy_free(policy);
		return r;
	}
	LL_FOREACH(policy->rules, rule)
		policy->items += policy_read_count_items(rule->from) + policy_read_count_items(rule->uid) +
				 policy_read_count_items(rule->to) + policy_read_count_items(rule->endpoint);
	*out = policy;
	return 0;
}

static int policy_read_load(struct policy **out, enum policy_scope scope, const char *directory, char **error)
{
	struct reader reader = {.policy = calloc(1, sizeof(struct policy)), .scope = scope};
	int r;

	*error = NULL;
	if (!reader.policy)
		return -ENOMEM;
	r = conf_dir_read(directory, load_file, &reader, error);
	return policy_read_give(out, reader.policy, r == 0 ? check_all_tags(reader.policy, error) : r);
}

int policy_load(struct policy **out, const char *directory, char **error)
{
	return policy_read_load(out, OF_DOMAIN, directory, error);
}

int host_policy_load(struct policy **out, const char *directory, char **error)
{
	return policy_read_load(out, OF_HOST, directory, error);
}

int host_policy_load_share(struct policy **out, FILE *file, host_domain_fn each, void *userdata, char **error)
{
	struct reader reader = {
		.policy = calloc(1, sizeof(struct policy)),
		.scope = OF_SHARE,
		.each = each,
		.userdata = userdata,
	};

	*error = NULL;
	if (!reader.policy)
		return -ENOMEM;
	return policy_read_give(out, reader.policy, read_whole(&reader, file, "domain 0", error));
}
