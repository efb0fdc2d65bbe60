/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What an item of a rule's lists may be, and which ones can mean nobody. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/self.h"
#include "base/users.h"
#include "daemon/policy/policy_internal.h"
#include "wire/address.h"

#define PATTERN_MAX 127

static bool all_digits(const char *text)
{
	size_t size = strspn(text, "0123456789");

	return size > 0 && text[size] == '\0' && size <= 10;
}

/* Sets the host of which the first `size` bytes of the text are the name, or any. */
static const char *set_host(struct item *item, size_t size, int *error)
{
	if (!host_name_is_valid(item->text, size) && !(size == 1 && *item->text == '*'))
		return "a host is a name of a-z, 0-9 and -, or *";
	item->host = strndup(item->text, size);
	*error = item->host ? 0 : -ENOMEM;
	return item->host ? NULL : strerror(ENOMEM);
}

static const char *set_domain(struct item *item, int *error)
{
	struct address_parts parts = address_split_domain(item->text, strlen(item->text));
	const char *why = parts.host.data ? set_host(item, parts.host.size, error) : NULL;

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
			return say_unknown(r, "there is no such user; a user is a uid, a name, @group or *",
					   error);
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
static const char *set_domain_of_host(struct item *item, enum list_kind kind, int *error)
{
	const char *why = set_domain(item, error);

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

/* No entry has a space in it: says what was meant by the one that has. NULL: none has. */
static const char *why_spaced(const char *text)
{
	size_t word = strcspn(text, " \t");

	if (!text[word])
		return NULL;
	return strchr(text + word, '#')
		       ? "a comment behind a value begins with ';', and with '#' on a line of its own"
		       : "several entries are separated by commas";
}

const char *policy_set_item(struct item *item, enum list_kind kind, int *error)
{
	const char *why = why_spaced(item->text);

	if (why)
		return why;
	switch (kind) {
	case LIST_DOMAINS:
	case LIST_OWN_DOMAINS:
		return set_domain(item, error);
	case LIST_UIDS:
	case LIST_USERS:
		return set_uid(item, kind == LIST_USERS, error);
	case LIST_HOSTS:
		return set_host(item, strlen(item->text), error);
	case LIST_SENDERS:
	case LIST_RECEIVERS:
	case LIST_MEMBERS:
		return set_domain_of_host(item, kind, error);
	default:
		return set_pattern(item);
	}
}

/* --- items that can mean nobody --- */

/* Whether the name was meant to be a UUID: hardly anything else has so many hexadecimal digits. */
static bool resembles_uuid(const char *name)
{
	unsigned digits = 0, others = 0;

	for (; *name; name++) {
		digits += isxdigit((unsigned char)*name) != 0;
		others += !isxdigit((unsigned char)*name) && !strchr("-{}", *name);
	}
	return digits >= 24 && others <= 4;
}

/* No toolstack has to keep a domain from being called like that, but who writes it means something else. */
static const char *name_means_nobody(const char *name)
{
	uint8_t uuid[16];

	if (*name == '!')
		return "a rule has no exceptions: write one for them before it, with the other action";
	if (*name == '@')
		return "only the host's policy, in domain 0, has tags: name the domains";
	if (strpbrk(name, "*?[]"))
		return "a domain has no pattern: name each one, or * means all; patterns are for endpoints";
	if (strpbrk(name, "\"'"))
		return "a name stands without quotes";
	if (resembles_uuid(name) && !uuid_parse(name, strlen(name), uuid))
		return "a UUID is 32 hexadecimal digits, like 0f0e0d0c-0b0a-4908-8706-050403020100";
	return NULL;
}

const char *policy_item_means_nobody(const struct item *item, enum list_kind kind)
{
	if (kind == LIST_OWN_DOMAINS && item->host)
		return "only domains of this host can be meant here";
	if (kind == LIST_PATTERNS)
		return endpoint_pattern_can_match(item->text)
			       ? NULL
			       : "no endpoint can match this: names are letters, digits, _ and -, [...] is one of "
				 "these, and ! is for brackets";
	return item->kind == ITEM_TEXT ? name_means_nobody(item->name) : NULL;
}
