/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PEERS_PARSE_H
#define XENMSG_DAEMON_PEERS_PARSE_H

/*
 * Parses what other domains write into XenStore for us, none of which is trusted: paths of watch events and
 * the values of doc/protocol.md section 5.1. Each decoder takes (pointer, length), reads nothing else and can
 * be fuzzed alone. Values are ASCII fields separated by one space; unknown fields at the end are skipped,
 * anything else that isn't exactly right is -EINVAL.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/registry/registry.h"

#define PEERS_MAJOR	    1
#define PEERS_INSTANCE_SIZE 37 /* a UUID as text and its NUL */
#define PEERS_NONCE_SIZE    9  /* 8 hexadecimal digits and the NUL */
#define PEERS_VALUE_MAX	    2048

/* Returns 0, -EINVAL, or -EPROTONOSUPPORT: it is of another major version, which is in *major. */
int presence_parse(const char *untrusted_value, size_t size, unsigned *major,
		   char instance[PEERS_INSTANCE_SIZE]);
/* Finds the keeper's token in a presence of this domain: the keeper has what that daemon left. False: it
 * isn't there. */
bool presence_token_parse(const char *untrusted_value, size_t size, uint8_t token[16]);

struct rendezvous_hello {
	char instance[PEERS_INSTANCE_SIZE];
	char nonce[PEERS_NONCE_SIZE];
	bool map;	/* that domain is willing to map our pages */
	bool forbidden; /* it has found that Xen lets the two share no memory */
};
int hello_parse(const char *untrusted_value, size_t size, unsigned *major, struct rendezvous_hello *hello);

/* The list is the caller's to free. */
int endpoints_parse(const char *untrusted_value, size_t size, struct offered *offered);
/* Writes the value for these names: those that fit into `size` bytes, then "+N", for the N that don't, and
 * ":" and their kinds; without kinds (NULL) the latter not, and "+N" only if there are any. */
void endpoints_format(const char *const *names, const uint8_t *kinds, unsigned count, char *value,
		      size_t size);

/* Parses a grant reference or a port: decimal, not 0. */
int node_number_parse(const char *untrusted_value, size_t size, uint32_t *number);

enum peers_path {
	PEERS_PATH_OTHER,  /* none of our business */
	PEERS_PATH_ALL,	   /* /local/domain: anything may have changed */
	PEERS_PATH_DOMAIN, /* a directory of domain *domid above its leaves: they may have gone */
	PEERS_PATH_PRESENCE,
	PEERS_PATH_ASKS,
	PEERS_PATH_PUBLIC, /* the endpoints that everyone may see */
	PEERS_PATH_HELLO,  /* for `me`, as all that follow */
	PEERS_PATH_ENDPOINTS,
	PEERS_PATH_NODES, /* under `nonce` */
};
/* Returns whether the path is one that a domain writes for another, whose domid is then in *reader. */
bool peers_path_reader(const char *untrusted_path, uint32_t *reader);
enum peers_path peers_path_parse(const char *untrusted_path, uint32_t me, uint32_t *domid,
				 char nonce[PEERS_NONCE_SIZE]);

/*
 * The tags that the toolstack gives a domain, in /local/domain/N/xenmsg/tags: `web, db`, separated by commas,
 * blanks and ends of lines. For the host's policy (xenmsg-policy(5), HOST POLICY).
 */
#define GIVEN_TAGS_MAX	 32u
#define GIVEN_TAGS_BYTES (REGISTRY_TAGS_MAX - 2)

/* Reads them. 0 and *tags, which the caller frees: as struct policy_subject has them, NULL: none; -EINVAL:
 * and why, a part of a sentence; -ENOMEM. */
int given_tags_read(const char *untrusted_value, size_t size, char **tags, const char **why);

#endif
