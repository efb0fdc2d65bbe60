/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACCESS_INTERNAL_H
#define XENMSG_DAEMON_ACCESS_INTERNAL_H

/* What deciding (access.c) and saying why (access_explain.c) share. */

#include "daemon/policy/access.h"
#include "base/config.h"
#include "daemon/policy/host_policy.h"
#include "daemon/policy/host_told.h"
#include "daemon/policy/policy.h"
#include "wire/json.h"

#define TAGS_PATH_MAX 64u

struct access {
	const struct self *self;
	char *directory;
	struct policy *policy;
	uint64_t since; /* when the policy was read, in seconds since 1970 */
	char *error;	/* what was wrong with the files that were read last; NULL: nothing */
	uint64_t error_since;
	uint64_t undecided; /* how often a sender was told to try again */
	struct denied *denied;
	struct registry *registry;

	/* the host's policy */
	enum config_host_policy mode;
	char *host_directory;	/* in domain 0, else NULL */
	struct policy *host;	/* likewise; NULL before access_set_host() */
	struct host_told *told; /* in a guest, which keeps it there: a descriptor, or -1 */
	int kept_in;
	char refused_path[TAGS_PATH_MAX]; /* of the tags for whose sake somebody was denied last */
	uint64_t host_version;		  /* of what guests are told */
	uint64_t host_since;		  /* when it was told, in seconds since 1970 */
};

/* Returns what a decision about a domain of this host is about. */
struct policy_subject access_subject(struct access *access, uint32_t domid, uint32_t uid);
/* Returns the same of another host, where what we know is what its daemons say. `name`: NULL if it is
 * unknown. */
struct policy_subject access_remote_subject(const char *host, uint32_t domid, const char *name, uint32_t uid);
/* Adds, in domain 0, the tags to a subject of this host, by this host policy. The caller frees them. */
char *access_add_tags(struct access *access, const struct policy *host, struct policy_subject *subject);
/* Adds tags that were worked out before, which the subject doesn't own. */
void access_set_tags(struct access *access, struct policy_subject *subject, const char *tags);
/* Decides whether `from` may reach the endpoint here. */
struct policy_decision access_decide(struct access *access, const struct policy_subject *from,
				     const char *endpoint);
/* Decides whether domain 0 relays what `from` opens to domain `to`. `address` ends with the endpoint; NULL:
 * none is asked about. */
struct policy_decision access_decide_relay(struct access *access, const struct policy_subject *from,
					   uint32_t to, const char *address);
/* Reads the host's policy, and checks that each guest's share fits. *host is NULL where this isn't domain
 * 0. */
int access_load_host(struct access *access, struct policy **host, char **error);
/* Asks the host's policy about what `from` opens to domain `to`, whose own one has decided so. */
struct policy_decision access_ask_host(struct access *access, const struct policy_subject *from, uint32_t to,
				       const char *endpoint, struct policy_decision own);
/* Likewise whether the endpoint here is shown there, and to all. */
bool access_host_shows(struct access *access, const struct policy_subject *from, const char *endpoint,
		       bool own);
bool access_host_shows_all(struct access *access, const char *endpoint, bool own);
/* Adds whom the host's policy shows it to, to the list of status. Returns whether that is all. */
bool access_host_shown_to(struct access *access, const char *endpoint, struct json *list);
/* Returns the rules of the host's policy that are in force here; NULL: there are none. */
const struct policy *access_host_rules(const struct access *access);
/* Returns in words why the domain's name isn't known. */
const char *access_why_unknown(struct access *access, uint32_t domid);

#endif
