/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Reads the host's policy: domain 0's files, and the share of it that a guest is told. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/conf_dir.h"
#include "base/ini_file.h"
#include "daemon/policy/host_policy_internal.h"
#include "wire/address.h"

static const struct section rule_of_files = {
	"rule", "to", LIST_SENDERS, LIST_RECEIVERS, LIST_NONE, OF_HOST, "from, to, endpoint and action"};
static const struct section rule_of_share = {"rule",
					     "endpoint",
					     LIST_SENDERS,
					     LIST_PATTERNS,
					     LIST_NONE,
					     OF_SHARE,
					     "line, from, endpoint and action"};

/* A [domain] of a share, as far as it was read. */
struct domain_read {
	bool has_domid;
	struct host_domain domain;
	char *name, *uuid, *tags;
};

/* State of reading one file, or a share. */
struct host_reader {
	struct rule_reader rules; /* first, as the file is in it */
	struct host_policy *policy;
	bool is_share;
	enum { IN_NOTHING, IN_RULE, IN_TAGS, IN_FILE, IN_DOMAIN } in;
	struct domain_read domain;
	host_domain_fn each;
	void *userdata;
	int error; /* of `each` */
};

/* --- sections ----------------------------------------------------------------------------------- */

static void free_domain(struct domain_read *domain)
{
	free(domain->name);
	free(domain->uuid);
	free(domain->tags);
	*domain = (struct domain_read){0};
}

static bool close_domain(struct host_reader *reader)
{
	struct domain_read *read = &reader->domain;

	if (reader->in != IN_DOMAIN)
		return true;
	if (!read->has_domid) {
		ini_file_complain_at(&reader->rules.file, reader->rules.section_line,
				     "this [domain] has no domid");
		return false;
	}
	read->domain.name = read->name ? read->name : "";
	read->domain.uuid = read->uuid ? read->uuid : "";
	read->domain.tags = read->tags;
	if (reader->error == 0)
		reader->error = reader->each(reader->userdata, &read->domain);
	free_domain(read);
	return true;
}

static bool close_section(struct host_reader *reader)
{
	bool is_whole = rule_end(&reader->rules) && close_domain(reader);

	reader->in = IN_NOTHING;
	return is_whole;
}

static bool is_named(const char *name, size_t size, const char *wanted)
{
	return strlen(wanted) == size && !strncmp(name, wanted, size);
}

static void begin_section(struct ini_file *file, const char *name, size_t size)
{
	struct host_reader *reader = (struct host_reader *)file;

	if (!close_section(reader))
		return;
	reader->rules.section_line = file->line;
	if (is_named(name, size, "rule") && !reader->rules.of)
		ini_file_complain(file, "a [rule] comes before its [file]");
	else if (is_named(name, size, "rule")) {
		rule_begin(&reader->rules, reader->is_share ? &rule_of_share : &rule_of_files);
		reader->in = IN_RULE;
	} else if (is_named(name, size, "tags") && !reader->is_share)
		reader->in = IN_TAGS;
	else if (is_named(name, size, "file") && reader->is_share)
		reader->in = IN_FILE;
	else if (is_named(name, size, "domain") && reader->is_share)
		reader->in = IN_DOMAIN;
	else
		ini_file_complain(file, "a host policy has only the sections [rule] and [tags]");
}

/* --- keys --------------------------------------------------------------------------------------- */

static struct tag *find_tag(const struct host_policy *policy, const char *name)
{
	struct tag *tag;

	LL_FOREACH(policy->tags, tag)
		if (!strcmp(tag->name, name))
			return tag;
	return NULL;
}

static struct tag *tag_new(struct host_policy *policy, const char *name)
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
static int on_tag(struct host_reader *reader, const char *name, const char *value)
{
	struct tag *tag = find_tag(reader->policy, name);
	struct item *members = NULL;
	int r = 1;

	if (!endpoint_name_is_valid(name, strlen(name)))
		return ini_file_complain(&reader->rules.file,
					 "'%s' can't be a tag, which is made of letters, digits, _ and -",
					 name);
	if (!tag && !(tag = tag_new(reader->policy, name)))
		return ini_file_out_of_memory(&reader->rules.file);
	if (*value)
		r = policy_read_list(&reader->rules.file, &members, name, value, LIST_MEMBERS);
	LL_CONCAT(tag->members, members);
	return r;
}

static int on_file_key(struct host_reader *reader, const char *key, const char *value)
{
	if (strcmp(key, "path"))
		return ini_file_complain(&reader->rules.file, "[file] has no key '%s'", key);
	reader->rules.of = policy_add_file(reader->policy->rules, value);
	return reader->rules.of ? 1 : ini_file_out_of_memory(&reader->rules.file);
}

static int add_tag(struct host_reader *reader, const char *tag)
{
	struct domain_read *read = &reader->domain;
	char *text = NULL;

	if (!endpoint_name_is_valid(tag, strlen(tag)))
		return ini_file_complain(&reader->rules.file, "'%s' can't be a tag", tag);
	if (asprintf(&text, "%s%s,", read->tags ? read->tags : ",", tag) < 0)
		return ini_file_out_of_memory(&reader->rules.file);
	free(read->tags);
	read->tags = text;
	return 1;
}

static int set_text(struct host_reader *reader, char **field, char *text)
{
	free(*field);
	*field = text;
	return text ? 1 : ini_file_out_of_memory(&reader->rules.file);
}

static int on_domain_key(struct host_reader *reader, const char *key, const char *value)
{
	struct domain_read *read = &reader->domain;

	if (!strcmp(key, "name"))
		return set_text(reader, &read->name, strdup(value));
	if (!strcmp(key, "uuid"))
		return set_text(reader, &read->uuid, strdup(value));
	if (!strcmp(key, "tag"))
		return add_tag(reader, value);
	if (!strcmp(key, "gone")) {
		read->domain.is_gone = true;
		return 1;
	}
	if (strcmp(key, "domid"))
		return ini_file_complain(&reader->rules.file, "[domain] has no key '%s'", key);
	read->has_domid = domid_parse(value, strlen(value), &read->domain.domid);
	return read->has_domid ? 1 : ini_file_complain(&reader->rules.file, "domid '%s': must be one", value);
}

static int on_key(void *user, const char *untrusted_section, const char *key, const char *value)
{
	struct host_reader *reader = user;

	if (reader->rules.file.failed)
		return 0;
	switch (reader->in) {
	case IN_RULE:
		return rule_key(&reader->rules, key, value);
	case IN_TAGS:
		return on_tag(reader, key, value);
	case IN_FILE:
		return on_file_key(reader, key, value);
	case IN_DOMAIN:
		return on_domain_key(reader, key, value);
	default:
		return ini_file_complain(&reader->rules.file, "%s stands outside of a [rule] and of [tags]",
					 key);
	}
}

/* --- whole files -------------------------------------------------------------------------------- */

static struct host_policy *new_policy(void)
{
	struct host_policy *policy = calloc(1, sizeof(*policy));

	if (policy)
		policy->rules = calloc(1, sizeof(*policy->rules));
	if (policy && policy->rules)
		return policy;
	free(policy);
	return NULL;
}

void host_policy_free(struct host_policy *policy)
{
	struct tag *tag, *next;

	if (!policy)
		return;
	policy_free(policy->rules);
	LL_FOREACH_SAFE(policy->tags, tag, next) {
		policy_free_items(tag->members);
		free(tag->name);
		free(tag);
	}
	free(policy);
}

const struct policy *host_policy_rules(const struct host_policy *policy)
{
	return policy->rules;
}

static int read_whole(struct host_reader *reader)
{
	int r = ini_file_parse(&reader->rules.file, on_key, reader);

	if (r == 0)
		close_section(reader);
	free_domain(&reader->domain);
	return reader->rules.file.failed ? reader->rules.file.failed : r < 0 ? r : reader->error;
}

static int load_file(void *userdata, FILE *stream, const char *path, char **error)
{
	struct host_policy *policy = userdata;
	struct host_reader reader = {
		.rules = {.file = {.stream = stream,
				   .path = path,
				   .error = error,
				   .begin_section = begin_section},
			  .policy = policy->rules,
			  .of = policy_add_file(policy->rules, path)},
		.policy = policy,
	};

	return reader.rules.of ? read_whole(&reader) : -ENOMEM;
}

/* A misspelt tag means nobody, which for a rule that denies would be worst. */
static int check_tags(const struct host_policy *policy, const struct rule *rule, const struct item *items,
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

static int check_all_tags(const struct host_policy *policy, char **error)
{
	const struct rule *rule;
	int r = 0;

	LL_FOREACH(policy->rules->rules, rule) {
		if (r == 0)
			r = check_tags(policy, rule, rule->from, error);
		if (r == 0)
			r = check_tags(policy, rule, rule->to, error);
	}
	return r;
}

/* Gives it to the caller unless there is a mistake. */
static int give(struct host_policy **out, struct host_policy *policy, int r)
{
	if (r < 0) {
		host_policy_free(policy);
		return r;
	}
	policy_weigh(policy->rules);
	*out = policy;
	return r;
}

int host_policy_load(struct host_policy **out, const char *directory, char **error)
{
	struct host_policy *policy = new_policy();
	int r;

	*error = NULL;
	if (!policy)
		return -ENOMEM;
	r = conf_dir_read(directory, load_file, policy, error);
	return give(out, policy, r == 0 ? check_all_tags(policy, error) : r);
}

int host_policy_load_share(struct host_policy **out, FILE *file, host_domain_fn each, void *userdata,
			   char **error)
{
	struct host_policy *policy = new_policy();
	struct host_reader reader = {
		.rules.file = {.stream = file,
			       .path = "domain 0",
			       .error = error,
			       .begin_section = begin_section},
		.policy = policy,
		.is_share = true,
		.each = each,
		.userdata = userdata,
	};

	*error = NULL;
	if (!policy)
		return -ENOMEM;
	reader.rules.policy = policy->rules;
	return give(out, policy, read_whole(&reader));
}
