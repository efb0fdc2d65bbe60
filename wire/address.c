/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/address.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool endpoint_name_is_valid(const char *name, size_t size)
{
	if (size == 0 || size > ENDPOINT_NAME_MAX || !is_alnum(name[0]))
		return false;
	for (size_t i = 1; i < size; i++)
		if (!is_alnum(name[i]) && name[i] != '_' && name[i] != '-')
			return false;
	return true;
}

bool endpoint_pattern_is_valid(const char *pattern, size_t size)
{
	if (size == 0 || pattern[0] == '_' || pattern[0] == '-')
		return false;
	for (size_t i = 0; i < size; i++)
		if (!pattern[i] || (!is_alnum(pattern[i]) && !strchr("_-*?[]!^", pattern[i])))
			return false;
	return true;
}

/* Returns what is behind the pattern's first element: a character, or a bracket with what it holds. */
static const char *behind_element(const char *at)
{
	const char *end = at + 1;

	if (*at != '[')
		return end;
	if (*end == '!' || *end == '^')
		end++;
	end = *end ? strchr(end + 1, ']') : NULL; /* one that comes first is among what it holds */
	return end ? end + 1 : at + 1;		  /* without an end it is a character like others */
}

/* Whether one of these characters matches the element. */
static bool element_can_match(const char *element, size_t size, const char *characters)
{
	char pattern[256];

	if (size >= sizeof(pattern))
		return true;
	memcpy(pattern, element, size);
	pattern[size] = '\0';
	for (; *characters; characters++)
		if (fnmatch(pattern, (const char[]){*characters, '\0'}, 0) == 0)
			return true;
	return false;
}

bool endpoint_pattern_can_match(const char *pattern)
{
	static const char all[] = "_-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	const char *characters = all + 2, *end; /* it begins with a letter or digit */
	size_t least = 0;			/* characters */

	for (; *pattern; pattern = end) {
		end = behind_element(pattern);
		if (*pattern != '*' && !element_can_match(pattern, (size_t)(end - pattern), characters))
			return false;
		least += *pattern != '*';
		characters = all;
	}
	return least <= ENDPOINT_NAME_MAX;
}

/* Accepts what xl accepts as a name, as far as it can stand before a colon on a command line. */
bool domain_name_is_valid(const char *name, size_t size)
{
	if (size == 0 || size > DOMAIN_NAME_MAX)
		return false;
	for (size_t i = 0; i < size; i++)
		if (name[i] <= ' ' || name[i] >= 0x7f || name[i] == ':' || name[i] == '/')
			return false;
	return true;
}

/* Allows what can be a token of a NATS subject, and a host's name in DNS. */
bool host_name_is_valid(const char *name, size_t size)
{
	if (size == 0 || size >= HOST_NAME_SIZE || name[0] == '-')
		return false;
	for (size_t i = 0; i < size; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') &&
		    name[i] != '-')
			return false;
	return true;
}

static const char *address_find(const char *text, size_t size, char separator)
{
	return size ? memchr(text, separator, size) : NULL;
}

/* Takes what is before the separator, and the separator, from the text. */
static struct address_part address_take(const char **text, size_t *size, const char *separator)
{
	struct address_part part = {*text, (size_t)(separator - *text)};

	*text = separator + 1;
	*size -= part.size + 1;
	return part;
}

struct address_parts address_split_domain(const char *text, size_t size)
{
	const char *slash = address_find(text, size, '/');
	struct address_parts parts = {.host = {NULL, 0}};

	if (slash)
		parts.host = address_take(&text, &size, slash);
	parts.domain = (struct address_part){text, size};
	return parts;
}

struct address_parts address_split(const char *text, size_t size)
{
	const char *colon = address_find(text, size, ':');
	struct address_parts parts = address_split_domain(text, colon ? (size_t)(colon - text) : size);

	if (colon)
		parts.endpoint = (struct address_part){colon + 1, size - (size_t)(colon - text) - 1};
	return parts;
}

static bool is_number(struct address_part part)
{
	for (size_t i = 0; i < part.size; i++)
		if (part.data[i] < '0' || part.data[i] > '9')
			return false;
	return true;
}

struct sender_parts address_split_sender(const char *text, size_t size)
{
	struct address_parts first = address_split_domain(text, size);
	struct address_parts second = address_split_domain(first.domain.data, first.domain.size);
	bool is_remote = first.host.data && host_name_is_valid(first.host.data, first.host.size) &&
			 (second.host.data || (!is_number(first.host) && !is_number(first.domain)));

	if (!first.host.data)
		return (struct sender_parts){.domain = first.domain};
	if (!is_remote)
		return (struct sender_parts){.domain = first.host, .uid = first.domain};
	if (!second.host.data)
		return (struct sender_parts){.host = first.host, .domain = first.domain};
	return (struct sender_parts){.host = first.host, .domain = second.host, .uid = second.domain};
}

bool address_is_meant(const char *text, size_t size)
{
	return address_find(text, size, ':') != NULL;
}

bool address_part_is(struct address_part part, const char *text)
{
	return part.data && part.size == strlen(text) && memcmp(part.data, text, part.size) == 0;
}

bool address_part_copy(struct address_part part, char *to, size_t room)
{
	size_t size = part.size < room ? part.size : 0;

	if (size)
		memcpy(to, part.data, size);
	to[size] = '\0';
	return size == part.size;
}

/* Returns why it is no address, or NULL. */
static const char *mistake_in(const struct address_parts *parts)
{
	if (!parts->endpoint.data)
		return "there is no colon; write DOMAIN:ENDPOINT";
	if (parts->host.data && !host_name_is_valid(parts->host.data, parts->host.size))
		return "the part before the slash can't be a host's name: a-z, 0-9 and -";
	if (parts->domain.size == 0)
		return "the domain before the colon is missing; write a domid, a name or self";
	if (!domain_name_is_valid(parts->domain.data, parts->domain.size))
		return "the part before the colon can't be a domain's name";
	if (endpoint_name_is_valid(parts->endpoint.data, parts->endpoint.size))
		return NULL;
	if (parts->endpoint.size == 0)
		return "the endpoint after the colon is missing";
	if (parts->endpoint.size > ENDPOINT_NAME_MAX)
		return "the endpoint is longer than 63 characters";
	return "an endpoint is letters, digits, _ and -, and begins with a letter or digit";
}

int address_parse(const char *text, size_t size, struct address *address, const char **why)
{
	struct address_parts parts = address_split(text, size);
	const char *mistake = mistake_in(&parts);

	if (mistake && why)
		*why = mistake;
	if (mistake)
		return -EINVAL;
	address_part_copy(parts.host, address->host, sizeof(address->host));
	address_part_copy(parts.domain, address->domain, sizeof(address->domain));
	address_part_copy(parts.endpoint, address->endpoint, sizeof(address->endpoint));
	return 0;
}

int address_parse_domain(const char *text, size_t size, struct address *address)
{
	struct address_parts parts = address_split_domain(text, size);

	*address = (struct address){.host = ""};
	if ((parts.host.data && !host_name_is_valid(parts.host.data, parts.host.size)) ||
	    !domain_name_is_valid(parts.domain.data, parts.domain.size))
		return -EINVAL;
	address_part_copy(parts.host, address->host, sizeof(address->host));
	address_part_copy(parts.domain, address->domain, sizeof(address->domain));
	return 0;
}

bool domid_parse(const char *text, size_t size, uint32_t *domid)
{
	uint32_t value = 0;

	if (size == 0 || size > 5)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (uint32_t)(text[i] - '0');
	}
	if (value > DOMID_MAX)
		return false;
	*domid = value;
	return true;
}

bool uid_parse(const char *text, size_t size, uint32_t *uid)
{
	uint64_t value = 0;

	if (size == 0)
		return false;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(text[i] - '0');
		if (value >= UINT32_MAX)
			return false;
	}
	*uid = (uint32_t)value;
	return true;
}

/* ---- errors in words --------------------------------------------------------------------------- */

static void address_denial(uint32_t own, const struct address *to, char *words, size_t size)
{
	bool is_here = strcmp(to->domain, "self") == 0;

	if (*to->host)
		snprintf(
			words, size,
			"denied by policy: domain %u may not go to host %s (an [out] in domain 0 lets it), or "
			"may not reach '%s' there",
			own, to->host, to->endpoint);
	else
		snprintf(
			words, size,
			"denied by policy: domain %u may not reach '%s'; %s%s 'xenmsg policy check %u %s' says "
			"which rule decides, or which one is missing",
			own, to->endpoint, is_here ? "here" : "in domain ", is_here ? "" : to->domain, own,
			to->endpoint);
}

static void address_absence(const struct address *to, char *words, size_t size)
{
	if (*to->host)
		snprintf(
			words, size,
			"no host '%s' is known here, or no xenmsgd runs in a domain '%s' there; 'xenmsg hosts' "
			"lists them",
			to->host, to->domain);
	else if (strspn(to->domain, "0123456789") == strlen(to->domain))
		snprintf(words, size,
			 "domain %s isn't there, or no xenmsgd runs in it; 'xenmsg peers' lists who is there",
			 to->domain);
	else
		snprintf(
			words, size,
			"no domain '%s' is known here, or no xenmsgd runs in it; names need xenmsgd in domain 0, "
			"and 'xenmsg peers' lists who is there",
			to->domain);
}

bool address_words(int error, uint32_t own, const char *address, char *words, size_t size)
{
	struct address to;

	if ((error != -EACCES && error != -EHOSTDOWN) ||
	    address_parse(address, strlen(address), &to, NULL) < 0)
		return false;
	if (error == -EACCES)
		address_denial(own, &to, words, size);
	else
		address_absence(&to, words, size);
	return true;
}
