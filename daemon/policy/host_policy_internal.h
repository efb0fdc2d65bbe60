/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_POLICY_INTERNAL_H
#define XENMSG_DAEMON_HOST_POLICY_INTERNAL_H

/* What reading a host's policy (host_policy_read.c), deciding by it (host_policy.c) and telling it
 * (host_policy_share.c) share. */

#include "daemon/policy/host_policy.h"
#include "daemon/policy/policy_internal.h"

struct tag {
	char *name;
	struct item *members;
	struct tag *next;
};

struct host_policy {
	struct policy *rules;
	struct tag *tags;
};

/* Whether the rule is about this domain (NULL: all are). */
static inline enum match host_rule_is_about(const struct rule *rule, const struct policy_subject *to)
{
	return to ? policy_matches_domain(rule->to, to) : MATCH_YES;
}

static inline unsigned host_outcome(const struct rule *rule)
{
	return rule->asks ? HOST_ASKS : rule->allow ? HOST_ALLOWS : HOST_DENIES;
}

#endif
