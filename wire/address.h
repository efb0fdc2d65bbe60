/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_ADDRESS_H
#define XENMSG_WIRE_ADDRESS_H

/*
 * Addresses as people type them: DOMAIN:ENDPOINT, or on another host HOST/DOMAIN:ENDPOINT. DOMAIN is a domid, `self`, or
 * the domain's name or UUID; only the directory of its host knows which domain has that name or UUID.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* [A-Za-z0-9][A-Za-z0-9_-]{0,62}: what XenStore allows in a path, without what is hard to read */
#define ENDPOINT_NAME_MAX 63
#define DOMAIN_NAME_MAX	  127
#define ADDRESS_MAX	  255 /* bytes: HOST_NAME_SIZE - 1, a slash, DOMAIN_NAME_MAX, a colon, ENDPOINT_NAME_MAX */
#define DOMID_MAX	  0x7FEF /* below DOMID_FIRST_RESERVED (0x7FF0), xen/xen.h */
#define HOST_NAME_SIZE	  64	 /* of a host's name, [a-z0-9][a-z0-9-]{0,62}, and a zero */

struct address {
	char host[HOST_NAME_SIZE]; /* "": none is named */
	char domain[DOMAIN_NAME_MAX + 1];
	char endpoint[ENDPOINT_NAME_MAX + 1];
};

bool endpoint_name_is_valid(const char *name, size_t size);
bool domain_name_is_valid(const char *name, size_t size);
bool host_name_is_valid(const char *name, size_t size);

/* Splits an address and checks its parts. Returns 0 or -EINVAL; then *why (may be NULL) says in a few words
 * what is wrong, as a constant string. */
int address_parse(const char *text, size_t size, struct address *address, const char **why);

/* Splits DOMAIN or HOST/DOMAIN, and checks both; the endpoint is "". Returns 0 or -EINVAL. */
int address_parse_domain(const char *text, size_t size, struct address *address);

/* Returns true if `text` is a domid, that is, only digits and at most DOMID_MAX. */
bool domid_parse(const char *text, size_t size, uint32_t *domid);

#endif
