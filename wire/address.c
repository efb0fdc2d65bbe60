/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/address.h"

#include <errno.h>
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

int address_parse(const char *text, size_t size, struct address *address, const char **why)
{
	const char *colon = memchr(text, ':', size);
	const char *slash = colon ? memchr(text, '/', (size_t)(colon - text)) : NULL;
	const char *reason = NULL;
	size_t host = slash ? (size_t)(slash - text) : 0, domain, endpoint;

	if (!colon) {
		reason = "it has no colon; write DOMAIN:ENDPOINT";
		goto bad;
	}
	if (slash && !host_name_is_valid(text, host)) {
		reason = "the part before the slash can't be a host's name: a-z, 0-9 and -";
		goto bad;
	}
	memcpy(address->host, text, host);
	address->host[host] = '\0';
	if (slash) {
		size -= host + 1;
		text = slash + 1;
	}
	domain = (size_t)(colon - text);
	endpoint = size - domain - 1;
	if (domain == 0) {
		reason = "the domain before the colon is missing; write a domid, a name or self";
		goto bad;
	}
	if (!domain_name_is_valid(text, domain)) {
		reason = "the part before the colon can't be a domain's name";
		goto bad;
	}
	if (!endpoint_name_is_valid(colon + 1, endpoint)) {
		if (endpoint == 0)
			reason = "the endpoint after the colon is missing";
		else if (endpoint > ENDPOINT_NAME_MAX)
			reason = "the endpoint is longer than 63 characters";
		else
			reason = "an endpoint is letters, digits, _ and -, and begins with a letter or digit";
		goto bad;
	}
	memcpy(address->domain, text, domain);
	address->domain[domain] = '\0';
	memcpy(address->endpoint, colon + 1, endpoint);
	address->endpoint[endpoint] = '\0';
	return 0;
bad:
	if (why)
		*why = reason;
	return -EINVAL;
}

int address_parse_domain(const char *text, size_t size, struct address *address)
{
	const char *slash = memchr(text, '/', size);
	size_t host = slash ? (size_t)(slash - text) : 0, domain = slash ? size - host - 1 : size;

	*address = (struct address){.host = ""};
	if ((slash && !host_name_is_valid(text, host)) || !domain_name_is_valid(text + size - domain, domain))
		return -EINVAL;
	memcpy(address->host, text, host);
	memcpy(address->domain, text + size - domain, domain);
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
