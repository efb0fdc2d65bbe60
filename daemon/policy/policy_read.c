/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads policies: files and their lists, and each mistake in them, with file and line. */
#include "daemon/policy/policy.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/conf_dir.h"
#include "base/ini_file.h"
#include "base/users.h"
#include "daemon/policy/policy_internal.h"
#include "wire/address.h"

#define PATTERN_MAX 127

/* --- lists ------------------------------------------------------------------------------------ */

static bool all_digits(const char *text)
{
	size_t size = strspn(text, "0123456789");

	return size > 0 && text[size] == '\0' && size <= 10;
}

static const char no_memory[] = "out of memory";

/* Sets the host of which the first `size` bytes of the text are the name, or any. */
static const char *set_host(struct item *item, size_t size)
{
	if (!host_name_is_valid(item->text, size) && !(size == 1 && *item->text == '*'))
		return "a host is a name of a-z, 0-9 and -, or *";
	item->host = strndup(item->text, size);
	return item->host ? NULL : no_memory;
}

static const char *set_domain(struct item *item)
{
	struct address_parts parts = address_split_domain(item->text, strlen(item->text));
	const char *why = parts.host.data ? set_host(item, parts.host.size) : NULL;

	item->name = parts.domain.data;
	if (why)
		return why;
	if (!strcmp(item->name, "*"))
		item->kind = ITEM_ANY;
	else if (!strcmp(item->name, "self") && !parts.host.data)
		item->kind = ITEM_SELF;
	else if (domid_parse(item->name, strlen(item->name), &item->number))
		item->kind = ITEM_NUMBER;
	else if (all_digits(item->name) || !domain_name_is_valid(item->name, strlen(item->name)))
		return "a domain is a domid from 0 to 32751, a name, a UUID, self or *; or on another host "
		       "HOST/ and one of these, but not self";
	else
		item->kind = ITEM_TEXT;
	return NULL;
}

/* Says why a user or group isn't found: that there is none; or what failed, which is no mistake. */
static const char *say_unknown(int r, const char *none, int *error)
{
	if (r == -ENOENT)
		return none;
	*error = r == -ENOMEM ? r : -EAGAIN;
	return strerror(-r);
}

static const char *set_uid(struct item *item, bool groups, int *error)
{
	const struct passwd *user;
	const struct group *group;
	unsigned long value;
	int r;

	if (!strcmp(item->text, "*")) {
		item->kind = ITEM_ANY;
		return NULL;
	}
	if (item->text[0] == '@' && groups) {
		r = users_find_group(item->text + 1, &group);
		if (r < 0)
			return say_unknown(r, "there is no such group", error);
		item->kind = ITEM_GROUP;
		item->number = group->gr_gid;
		return NULL;
	}
	if (!all_digits(item->text)) {
		if (!groups)
			return "a uid of another domain is a number or *";
		r = users_find(item->text, &user);
		if (r < 0)
			return say_unknown(r, "a user is a uid, a name, @group or *", error);
		item->kind = ITEM_NUMBER;
		item->number = user->pw_uid;
		return NULL;
	}
	value = strtoul(item->text, NULL, 10);
	if (value >= UINT32_MAX)
		return "a uid is below 4294967295";
	item->kind = ITEM_NUMBER;
	item->number = (uint32_t)value;
	return NULL;
}

static const char *set_pattern(struct item *item)
{
	size_t size = strlen(item->text);

	item->kind = ITEM_TEXT;
	if (size > PATTERN_MAX || !endpoint_pattern_is_valid(item->text, size))
		return "an endpoint is a name or shell pattern of letters, digits, _, -, *, ? and [...]";
	return NULL;
}

/* Tags, and what else a host policy's domains can't be. */
static const char *set_domain_of_host(struct item *item, enum list_kind kind)
{
	const char *why = set_domain(item);

	if (item->text[0] == '@' && kind != LIST_MEMBERS) {
		if (!endpoint_name_is_valid(item->text + 1, strlen(item->text + 1)))
			return "a tag is @ and letters, digits, _ and -";
		item->kind = ITEM_TAG;
		item->name = item->text + 1;
		return NULL;
	}
	if (why || item->kind == ITEM_NUMBER || item->kind == ITEM_SELF || item->text[0] == '@' ||
	    (item->host && kind != LIST_SENDERS) || (item->kind == ITEM_ANY && kind == LIST_MEMBERS))
		return kind == LIST_MEMBERS ? "a domain that has a tag is a name or a UUID"
		       : kind == LIST_SENDERS
			       ? "a domain is a name, a UUID, @TAG or *; or on another host HOST/ and a name, or *"
			       : "a domain is a name, a UUID, @TAG or *";
	return NULL;
}

/* Returns what is wrong. *error is set if that is no mistake. */
static const char *set_item(struct item *item, enum list_kind kind, int *error)
{
	switch (kind) {
	case LIST_DOMAINS:
		return set_domain(item);
	case LIST_UIDS:
	case LIST_USERS:
		return set_uid(item, kind == LIST_USERS, error);
	case LIST_HOSTS:
		return set_host(item, strlen(item->text));
	case LIST_SENDERS:
	case LIST_RECEIVERS:
	case LIST_MEMBERS:
		return set_domain_of_host(item, kind);
	default:
		return set_pattern(item);
	}
}

static int add_item(struct ini_file *file, struct item **list, char *text, enum list_kind kind)
{
	struct item *item = calloc(1, sizeof(*item));
	const char *why;
	int error = 0;

	if (!item || !(item->text = strdup(text))) {
		free(item);
		return ini_file_out_of_memory(file);
	}
	LL_APPEND(*list, item);
	why = set_item(item, kind, &error);
	if (why == no_memory)
		return ini_file_out_of_memory(file);
	if (why && error < 0)
		return ini_file_fail(file, error, "'%s' can't be looked up now: %s", text, why);
	return why ? ini_file_complain(file, "'%s': %s", text, why) : 1;
}

int policy_read_list(struct ini_file *file, struct item **list, const char *key, const char *value,
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

bool rule_end(struct rule_reader *reader)
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

void rule_begin(struct rule_reader *reader, const struct section *section)
{
	struct rule *rule = calloc(1, sizeof(*rule));

	if (!rule) {
		ini_file_out_of_memory(&reader->file);
		return;
	}
	rule->file = reader->of;
	reader->of->rules++;
	rule->section = section;
	rule->line = section->of == OF_SHARE ? 0 : reader->section_line;
	LL_APPEND(reader->policy->rules, rule);
	reader->rule = rule;
}

static int set_action(struct rule_reader *reader, struct rule *rule, const char *value)
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
static int set_line(struct rule_reader *reader, struct rule *rule, const char *value)
{
	size_t size = strspn(value, "0123456789");

	rule->line = value[size] || size > 9 ? 0 : (unsigned)strtoul(value, NULL, 10);
	return rule->line ? 1 : ini_file_complain(&reader->file, "line '%s': must be a number", value);
}

int rule_key(struct rule_reader *reader, const char *key, const char *value)
{
	struct rule *rule = reader->rule;
	const struct section *section = rule->section;

	if (!strcmp(key, "action"))
		return set_action(reader, rule, value);
	if (!strcmp(key, "uid") && section->uid_kind)
		return policy_read_list(&reader->file, &rule->uid, key, value, section->uid_kind);
	if (!strcmp(key, "from") && section->from_kind)
		return policy_read_list(&reader->file, &rule->from, key, value, section->from_kind);
	if (!strcmp(key, "endpoint") && section->of != OF_DOMAIN)
		return policy_read_list(&reader->file, &rule->endpoint, key, value, LIST_PATTERNS);
	if (!strcmp(key, "line") && section->of == OF_SHARE)
		return set_line(reader, rule, value);
	if (!strcmp(key, section->to))
		return policy_read_list(&reader->file, &rule->to, key, value, section->to_kind);
	return ini_file_complain(&reader->file, "[%s] has no key '%s'; it has %s", section->name, key,
				 section->keys);
}

/* --- files ------------------------------------------------------------------------------------ */

static void begin_section(struct ini_file *file, const char *name, size_t size)
{
	struct rule_reader *reader = (struct rule_reader *)file;
	const struct section *section = NULL;

	if (!rule_end(reader))
		return;
	reader->section_line = file->line;
	for (int i = 0; i < SECTIONS; i++)
		if (strlen(policy_sections[i].name) == size && !strncmp(name, policy_sections[i].name, size))
			section = &policy_sections[i];
	if (section)
		rule_begin(reader, section);
	else
		ini_file_complain(file,
				  "a policy has only the sections [rule], [bind], [see], [relay] and [out]");
}

static int on_key(void *user, const char *untrusted_section, const char *key, const char *value)
{
	struct rule_reader *reader = user;

	if (reader->file.failed)
		return 0;
	if (!reader->rule)
		return ini_file_complain(
			&reader->file, "%s stands outside of a [rule], [bind], [see], [relay] or [out]", key);
	return rule_key(reader, key, value);
}

struct policy_file *policy_add_file(struct policy *policy, const char *path)
{
	struct policy_file *file = calloc(1, sizeof(*file));

	if (!file || !(file->path = strdup(path))) {
		free(file);
		return NULL;
	}
	LL_APPEND(policy->files, file);
	return file;
}

static int load_stream(void *userdata, FILE *file, const char *path, char **error)
{
	struct policy *policy = userdata;
	struct rule_reader reader = {
		.file = {.stream = file, .path = path, .error = error, .begin_section = begin_section},
		.policy = policy,
		.of = policy_add_file(policy, path),
	};
	int r = reader.of ? ini_file_parse(&reader.file, on_key, &reader) : -ENOMEM;

	if (r == 0)
		rule_end(&reader);
	return reader.file.failed ? reader.file.failed : r;
}

static int give(struct policy **out, struct policy *policy, int r)
{
	if (r < 0) {
		policy_free(policy);
		return r;
	}
	policy_weigh(policy);
	*out = policy;
	return r;
}

int policy_load(struct policy **out, const char *directory, char **error)
{
	struct policy *policy = calloc(1, sizeof(*policy));

	*error = NULL;
	return policy ? give(out, policy, conf_dir_read(directory, load_stream, policy, error)) : -ENOMEM;
}
