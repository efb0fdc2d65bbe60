/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACCESS_INTERNAL_H
#define XENMSG_DAEMON_ACCESS_INTERNAL_H

/* What deciding (access.c) and saying why (access_explain.c) share. */

#include "daemon/policy/access.h"
#include "daemon/policy/policy.h"

struct access {
	const struct self *self;
	char *directory;
	struct policy *policy;
	uint64_t since; /* when the policy was read, in seconds since 1970 */
	char *error;	/* what was wrong with the files that were read last; NULL: nothing */
	uint64_t error_since;
	uint64_t undecided; /* how often a sender was told to try again */
	struct denied *denied;
	access_names_fn names;
	void *userdata;
};

/* Returns what a decision about a domain of this host is about. */
struct policy_subject access_subject(struct access *access, uint32_t domid, uint32_t uid);
/* Returns the same of another host, where what we know is what its daemons say. `name`: NULL if it is unknown. */
struct policy_subject access_far_subject(const char *host, uint32_t domid, const char *name, uint32_t uid);
/* Decides whether domain 0 relays what `from` opens to domain `to`. */
struct policy_decision access_decide_relay(struct access *access, const struct frame_identity *from,
					   uint32_t to);
/* Returns in words why the domain's name isn't known, or "". */
const char *access_why_unknown(struct access *access, uint32_t domid);

#endif
