/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads policies: files and their lists, and each mistake in them, with file and line. */
#include "daemon/policy/policy.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "daemon/base/conf_dir.h"
#include "daemon/base/ini_line.h"
#include "daemon/policy/policy_internal.h"
#include "wire/address.h"

#define PATTERN_MAX 127

const struct section policy_sections[SECTIONS] = {
	[SECTION_RULE] = {"rule", "to", LIST_PATTERNS, LIST_UIDS, true, false, "from, uid, to and action"},
	[SECTION_BIND] = {"bind", "name", LIST_PATTERNS, LIST_USERS, false, true, "name, uid and action"},
	[SECTION_SEE] = {"see", "domain", LIST_DOMAINS, LIST_NONE, true, false, "from, domain and action"},
};

/* State of reading one file. inih doesn't tell where a section begins, and [rule] comes many times, so the
 * lines are looked at as inih fetches them. */
struct reader {
	struct policy *policy;
	FILE *file;
	const char *path;
	unsigned line;
	unsigned section_line;
	struct rule *rule; /* the rule of the section that is being read */
	int read_error;	   /* a negative errno, or 0 */
	char **error;
	bool failed;
	unsigned noticed; /* the line that had been read when it failed */
};

static int __attribute__((format(printf, 3, 4)))
complain(struct reader *reader, unsigned line, const char *format, ...)
{
	char *what = NULL;
	va_list args;

	if (reader->failed)
		return 0;
	reader->failed = true;
	reader->noticed = reader->line;
	va_start(args, format);
	if (vasprintf(&what, format, args) < 0)
		what = NULL;
	va_end(args);
	if (asprintf(reader->error, "%s:%u: %s", reader->path, line, what ? what : "bad line") < 0)
		*reader->error = NULL;
	free(what);
	return 0; /* inih's handlers return 0 for an error */
}

/* --- lists ------------------------------------------------------------------------------------ */

static bool all_digits(const char *text)
{
	size_t size = strspn(text, "0123456789");

	return size > 0 && text[size] == '\0' && size <= 10;
}

static const char *set_domain(struct item *item)
{
	if (!strcmp(item->text, "*"))
		item->kind = ITEM_ANY;
	else if (!strcmp(item->text, "self"))
		item->kind = ITEM_SELF;
	else if (domid_parse(item->text, strlen(item->text), &item->number))
		item->kind = ITEM_NUMBER;
	else if (all_digits(item->text) || !domain_name_is_valid(item->text, strlen(item->text)))
		return "a domain is a domid from 0 to 32751, a name, a UUID, self or *";
	else
		item->kind = ITEM_TEXT;
	return NULL;
}

static const char *set_uid(struct item *item, bool groups)
{
	unsigned long value;

	if (!strcmp(item->text, "*")) {
		item->kind = ITEM_ANY;
		return NULL;
	}
	if (item->text[0] == '@' && groups) {
		const struct group *group = getgrnam(item->text + 1);

		if (!group)
			return "there is no such group";
		item->kind = ITEM_GROUP;
		item->number = group->gr_gid;
		return NULL;
	}
	if (!all_digits(item->text)) {
		const struct passwd *user = groups ? getpwnam(item->text) : NULL;

		if (!user)
			return groups ? "a user is a uid, a name, @group or *"
				      : "a uid of another domain is a number or *";
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
	size_t size =
		strspn(item->text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-*?[]!^");

	item->kind = ITEM_TEXT;
	if (item->text[size] || size > PATTERN_MAX)
		return "an endpoint is a name or shell pattern of letters, digits, _, -, *, ? and [...]";
	return NULL;
}

static int add_item(struct reader *reader, struct item **list, char *text, enum list_kind kind)
{
	struct item *item = calloc(1, sizeof(*item));
	const char *why;

	if (!item || !(item->text = strdup(text))) {
		free(item);
		return complain(reader, reader->line, "out of memory");
	}
	LL_APPEND(*list, item);
	why = kind == LIST_DOMAINS ? set_domain(item)
	      : kind == LIST_UIDS  ? set_uid(item, false)
	      : kind == LIST_USERS ? set_uid(item, true)
				   : set_pattern(item);
	if (why)
		return complain(reader, reader->line, "'%s': %s", text, why);
	return 1;
}

static int add_list(struct reader *reader, struct item **list, const char *key, const char *value,
		    enum list_kind kind)
{
	char *copy, *rest, *part;
	int r = 1;

	if (*list)
		return complain(reader, reader->line, "%s comes twice in this section", key);
	copy = rest = strdup(value);
	if (!copy)
		return complain(reader, reader->line, "out of memory");
	while (r && (part = strsep(&rest, ",")) != NULL) {
		size_t size;

		while (isspace((unsigned char)*part))
			part++;
		for (size = strlen(part); size && isspace((unsigned char)part[size - 1]); size--)
			part[size - 1] = '\0';
		r = *part ? add_item(reader, list, part, kind)
			  : complain(reader, reader->line, "%s: an empty entry in the list", key);
	}
	free(copy);
	return r;
}

/* --- files ------------------------------------------------------------------------------------ */

/* Checks and adds the rule of the section that was read last, which is complete. */
static bool close_rule(struct reader *reader)
{
	struct rule *rule = reader->rule;
	const char *missing = NULL;

	reader->rule = NULL;
	if (!rule)
		return true;
	if (rule->section->has_from && !rule->from)
		missing = "from";
	else if (!rule->to)
		missing = rule->section->to;
	else if (rule->section->needs_uid && !rule->uid)
		missing = "uid";
	else if (!rule->has_action)
		missing = "action";
	if (missing)
		complain(reader, rule->line, "this [%s] has no %s", rule->section->name, missing);
	return !missing;
}

static struct rule *new_rule(struct reader *reader, const struct section *section)
{
	struct rule *rule = calloc(1, sizeof(*rule));

	if (rule)
		rule->file = strdup(reader->path);
	if (!rule || !rule->file) {
		free(rule);
		return NULL;
	}
	rule->section = section;
	rule->line = reader->section_line;
	LL_APPEND(reader->policy->rules, rule);
	reader->rule = rule;
	return rule;
}

static void open_section(struct reader *reader, const char *text)
{
	const struct section *section = NULL;
	const char *name;
	size_t size;

	reader->section_line = reader->line;
	close_rule(reader);
	name = ini_line_section(text, &size);
	for (int i = 0; name && i < SECTIONS; i++)
		if (strlen(policy_sections[i].name) == size && !strncmp(name, policy_sections[i].name, size))
			section = &policy_sections[i];
	if (!section)
		complain(reader, reader->line, "a policy has only the sections [rule], [bind] and [see]");
	else if (!ini_line_section_ends(text))
		complain(reader, reader->line, "behind [%s] there may only be a comment", section->name);
	else if (!new_rule(reader, section))
		complain(reader, reader->line, "out of memory");
}

static char *read_line(char *buffer, int size, void *stream)
{
	struct reader *reader = stream;
	char why[INI_LINE_WHY];
	int r = reader->failed ? 0 : ini_line_read(reader->file, buffer, size, &reader->line, why);

	if (r == -EINVAL)
		complain(reader, reader->line, "%s", why);
	else if (r < 0)
		reader->read_error = r;
	if (r <= 0)
		return NULL;
	if (*buffer == '[')
		open_section(reader, buffer);
	return buffer;
}

static int set_action(struct reader *reader, struct rule *rule, const char *value)
{
	if (rule->has_action)
		return complain(reader, reader->line, "action comes twice in this section");
	if (strcmp(value, "allow") && strcmp(value, "deny"))
		return complain(reader, reader->line, "action '%s': must be allow or deny", value);
	rule->has_action = true;
	rule->allow = !strcmp(value, "allow");
	return 1;
}

static int on_key(void *user, const char *untrusted_section, const char *key, const char *value)
{
	struct reader *reader = user;
	struct rule *rule = reader->rule;
	const struct section *section;

	if (reader->failed)
		return 0;
	if (!rule)
		return complain(reader, reader->line, "%s stands outside of a [rule], [bind] or [see]", key);
	section = rule->section;
	if (!strcmp(key, "action"))
		return set_action(reader, rule, value);
	if (!strcmp(key, "uid") && section->uid_kind != LIST_NONE)
		return add_list(reader, &rule->uid, key, value, section->uid_kind);
	if (!strcmp(key, "from") && section->has_from)
		return add_list(reader, &rule->from, key, value, LIST_DOMAINS);
	if (!strcmp(key, section->to))
		return add_list(reader, &rule->to, key, value, section->to_kind);
	return complain(reader, reader->line, "[%s] has no key '%s'; it has %s", section->name, key,
			section->keys);
}

/* Reports an error that no line of the file is to blame for. */
static int unreadable(const char *path, int r, char **error)
{
	free(*error);
	if (asprintf(error, "%s: can't be read: %s", path, strerror(-r)) < 0)
		*error = NULL;
	return r;
}

static int load_stream(struct policy *policy, FILE *file, const char *path, char **error)
{
	struct reader reader = {.policy = policy, .path = path, .error = error, .file = file};
	int r = ini_parse_stream(read_line, &reader, on_key, &reader);

	if (!reader.failed && reader.read_error)
		return unreadable(path, reader.read_error, error);
	if (r < 0)
		return unreadable(path, -ENOMEM, error);
	/* libinih continues after a line that it can't parse; what is found further down may only be its
	 * consequence. */
	if (r > 0 && (!reader.failed || (unsigned)r < reader.noticed)) {
		free(*error);
		*error = NULL;
		reader.failed = false;
		complain(&reader, (unsigned)r, "this is neither a [section] nor KEY = VALUE");
	}
	if (!reader.failed)
		close_rule(&reader);
	return reader.failed ? -EINVAL : 0;
}

static int load_file(struct policy *policy, const char *path, char **error)
{
	FILE *file = fopen(path, "re");
	int r;

	if (!file)
		return unreadable(path, -errno, error);
	r = load_stream(policy, file, path, error);
	fclose(file);
	return r;
}

int policy_load(struct policy **out, const char *directory, char **error)
{
	struct policy *policy = calloc(1, sizeof(*policy));
	char **names = NULL;
	unsigned count = 0;
	int r;

	*error = NULL;
	if (!policy)
		return -ENOMEM;
	r = conf_dir_list(directory, &names, &count);
	if (r < 0) {
		free(policy);
		return unreadable(directory, r, error);
	}
	for (unsigned i = 0; i < count && r == 0; i++)
		r = load_file(policy, names[i], error);
	conf_dir_free(names, count);
	if (r < 0) {
		policy_free(policy);
		return r;
	}
	*out = policy;
	return 0;
}

int policy_load_stream(struct policy **out, FILE *file, const char *path, char **error)
{
	struct policy *policy = calloc(1, sizeof(*policy));
	int r;

	*error = NULL;
	if (!policy)
		return -ENOMEM;
	r = load_stream(policy, file, path, error);
	if (r < 0)
		policy_free(policy);
	else
		*out = policy;
	return r;
}
