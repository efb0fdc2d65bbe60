/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_ADDRESS_H
#define XENMSG_WIRE_ADDRESS_H

/*
 * Addresses as people type them: DOMAIN:ENDPOINT, or on another host HOST/DOMAIN:ENDPOINT. DOMAIN is a domid,
 * `self`, or the domain's name or UUID; only the directory of its host knows which domain has that name or
 * UUID.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* [A-Za-z0-9][A-Za-z0-9_-]{0,62}: what XenStore allows in a path, without what is hard to read */
#define ENDPOINT_NAME_MAX 63
/* of the daemon itself, which answers questions there (doc/protocol.md, 3): no program can bind it */
#define DAEMON_ENDPOINT "xenmsg"
#define DOMAIN_NAME_MAX 127
/* bytes: HOST_NAME_SIZE - 1, a slash, DOMAIN_NAME_MAX, a colon, ENDPOINT_NAME_MAX */
#define ADDRESS_MAX    255
#define DOMID_MAX      0x7FEF /* below DOMID_FIRST_RESERVED (0x7FF0), xen/xen.h */
#define HOST_NAME_SIZE 64     /* of a host's name, [a-z0-9][a-z0-9-]{0,62}, and a zero */

/* What stands between an address's separators, in the address's own text. */
struct address_part {
	const char *data; /* NULL: the text has no such part; "" if it is there and empty */
	size_t size;
};

/* The whole text as one part, which lasts as long as the text does. */
static inline struct address_part address_part_of(const char *text)
{
	return (struct address_part){text, strlen(text)};
}

/* The parts of an address, or of a pattern of addresses. Nothing is said about what they consist of. */
struct address_parts {
	struct address_part host, domain, endpoint;
};

/* A sender, as people ask about it: DOMAIN, DOMAIN/UID, and on another host HOST/DOMAIN or
 * HOST/DOMAIN/UID. */
struct sender_parts {
	struct address_part host, domain, uid;
};

struct address {
	char host[HOST_NAME_SIZE]; /* "": none is named */
	char domain[DOMAIN_NAME_MAX + 1];
	char endpoint[ENDPOINT_NAME_MAX + 1];
};

bool endpoint_name_is_valid(const char *name, size_t size);
bool domain_name_is_valid(const char *name, size_t size);
bool host_name_is_valid(const char *name, size_t size);
/* Whether a shell pattern may match an endpoint's name, as far as its characters tell. */
bool endpoint_pattern_is_valid(const char *pattern, size_t size);
/* Whether some endpoint's name matches this shell pattern, as fnmatch() has them. */
bool endpoint_pattern_can_match(const char *pattern);

/* Splits [HOST/]DOMAIN[:ENDPOINT]; a slash behind the colon is part of the endpoint. */
struct address_parts address_split(const char *text, size_t size);

/* Splits [HOST/]DOMAIN, of which a colon is part. */
struct address_parts address_split_domain(const char *text, size_t size);

/* Splits a sender. What stands before a single slash is a host if it can be one, unless one of the two is a
 * number. */
struct sender_parts address_split_sender(const char *text, size_t size);

/* Whether the text is meant as an address, and not as the name of an endpoint, which has no colon. */
bool address_is_meant(const char *text, size_t size);

/* Whether the part is there and reads so. */
bool address_part_is(struct address_part part, const char *text);

/* Copies the part, and a zero; nothing of one that isn't there. Returns false if there is no room for it:
 * then *to is "". */
bool address_part_copy(struct address_part part, char *to, size_t room);

/* Splits an address and checks its parts. Returns 0 or -EINVAL; then *why (may be NULL) says in a few words
 * what is wrong, as a constant string. */
int address_parse(const char *text, size_t size, struct address *address, const char **why);

/* Splits DOMAIN or HOST/DOMAIN, and checks both; the endpoint is "". Returns 0 or -EINVAL. */
int address_parse_domain(const char *text, size_t size, struct address *address);

/* Returns true if `text` is a domid, that is, only digits and at most DOMID_MAX. */
bool domid_parse(const char *text, size_t size, uint32_t *domid);

/* Returns true if `text` is a uid, that is, only digits and below UINT32_MAX, which means that there is
 * none. */
bool uid_parse(const char *text, size_t size, uint32_t *uid);

/* Whether what somebody calls a domain's number can be one. */
static inline bool domid_is_valid(uint32_t untrusted_number)
{
	return untrusted_number <= DOMID_MAX;
}

/* Writes what an error means of something from domain `own` to this address: who may not reach it, or which
 * domain or host isn't there. Returns whether there is more to say than the error itself says. */
bool address_words(int error, uint32_t own, const char *address, char *words, size_t size);

#endif
