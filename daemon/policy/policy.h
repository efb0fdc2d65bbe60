/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_POLICY_H
#define XENMSG_DAEMON_POLICY_H

/*
 * Who may reach which endpoint here, and who may bind which name: the files `*.conf` of the policy directory,
 * in lexical order, rules in order, the first that matches decides (xenmsg-policy(5)). With no matching rule:
 * within the domain allow, between domains deny; binding is allowed to root and to the members of the
 * socket's group.
 *
 * A policy is read whole or not at all, and never changes: a reload makes a new one, and on any mistake the
 * old one stays. It owns its strings. A decision names the rule that made it, by file and line of its
 * [section].
 *
 * Rules may name domains, and names may be unknown for a while. Of such a domain nobody knows whether a name
 * or a UUID in a rule means it: what then depends on that isn't decided, and whatever asks for a yes or no
 * gets the answer that gives away less.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct policy;

/* An empty or missing directory is a policy without rules. -EINVAL: a file has a mistake; else why it can't
 * be read. *error is a sentence for people with file and line, to be freed by the caller. */
int policy_load(struct policy **policy, const char *directory, char **error);
/* The same for a policy of one file; `path` is what to call it. */
int policy_load_stream(struct policy **policy, FILE *file, const char *path, char **error);
void policy_free(struct policy *policy);
unsigned policy_rules(const struct policy *policy);
/* Whether some of them name domains, by name or UUID. */
bool policy_needs_names(const struct policy *policy);

/* Who wants something. */
struct policy_subject {
	uint32_t domid;
	bool is_self;	    /* a program of this domain */
	const char *name;   /* the domain's, "" if unknown */
	const char *uuid;   /* likewise */
	bool names_unknown; /* it may have any: `name` and `uuid` say nothing */
	uid_t uid;
	/* for binding only */
	gid_t gid;
	const gid_t *groups;
	unsigned group_count;
};

struct policy_decision {
	bool allow;
	/* a rule may match, by a name that isn't known; then `allow` is false, and this is the rule */
	bool undecided;
	const char *file; /* of the rule, lives as long as the policy; NULL: no rule matched */
	unsigned line;
};

struct policy_decision policy_reach(const struct policy *policy, const struct policy_subject *from,
				    const char *endpoint);
/* Whether some user of that domain may reach it: then it is advertised there. from->uid doesn't matter. */
bool policy_shows(const struct policy *policy, const struct policy_subject *from, const char *endpoint);
/* To which other domains policy_shows() would show it, as the rules call them: `each` is told domids, names,
 * UUIDs and "*", of which the first that means a domain decides; what comes last and isn't mentioned is
 * denied. No more than are needed for this, so "*" comes alone unless some are left out. `self` is this
 * domain. */
typedef void (*policy_shown_fn)(void *userdata, const char *domain, bool allow);
void policy_shown_to(const struct policy *policy, const struct policy_subject *self, const char *endpoint,
		     policy_shown_fn each, void *userdata);
/* Whether domain 0's daemon tells `from` the name of `other`. With no matching [see]: yes. */
bool policy_sees(const struct policy *policy, const struct policy_subject *from,
		 const struct policy_subject *other);
/* `socket_group`: whose members may bind what no rule speaks of. */
struct policy_decision policy_bind(const struct policy *policy, const struct policy_subject *who,
				   const char *endpoint, gid_t socket_group);

#endif
