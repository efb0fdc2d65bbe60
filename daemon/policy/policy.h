/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_POLICY_H
#define XENMSG_DAEMON_POLICY_H

/*
 * Decides who may reach which endpoint here, and who may bind which name, by the files `*.conf` of the policy
 * directory: files in lexical order, rules in order, the first that matches decides (xenmsg-policy(5)). With
 * no matching rule, senders in the same domain are allowed and those in others denied; binding is allowed to
 * root and to the members of the socket's group. In domain 0 rules also decide who learns which name, between
 * whom it relays, and what may go to other hosts.
 *
 * A policy is read whole or not at all, and never changes: a reload makes a new one, and on any mistake the
 * old one stays. It owns its strings. A decision names the rule that made it, by the file and line of its
 * [section].
 *
 * Rules may name domains, and names may be unknown for a while. Whether a name or UUID in a rule means such a
 * domain is then unknown, too: what depends on that isn't decided, and functions that must return yes or no
 * return the answer that gives away less.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct policy;
struct rule;

/* Reads a policy; an empty or missing directory is one without rules. -EINVAL: a file has a mistake; else why
 * it can't be read. *error is a sentence for people with file and line, which the caller frees. */
int policy_load(struct policy **policy, const char *directory, char **error);
void policy_free(struct policy *policy);
unsigned policy_rules(const struct policy *policy);
/* Returns how many units (turns.h) a decision by it takes at most. */
uint64_t policy_cost(const struct policy *policy);
/* Returns the rule that is asked as the one with this index; NULL: there are no more. */
const struct rule *policy_rule_at(const struct policy *policy, unsigned index);
/* Returns the path of the file that was read as the one with this index, and how many rules it has; NULL:
 * there are no more. */
const char *policy_file_at(const struct policy *policy, unsigned index, unsigned *rules);
/* Whether some rules name domains, by name or UUID. */
bool policy_needs_names(const struct policy *policy);

/* The program or domain that a decision is about. */
struct policy_subject {
	const char *host;   /* NULL: this one. "": another one whose name isn't known, which no rule means */
	uint32_t domid;	    /* on its host */
	bool is_self;	    /* a program of this domain */
	const char *name;   /* the domain's, "" if unknown */
	const char *uuid;   /* likewise */
	const char *tags;   /* for a host policy only: ",a,b,", or NULL: none */
	bool names_unknown; /* it may have any name: `name` and `uuid` mean nothing */
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
	bool by_host;	     /* it is the host's policy that says so (host_policy.h) */
	bool untold;	     /* by_host, and undecided since domain 0 hasn't told it yet; no rule is named */
	const char *section; /* the name of those that decide about this: "rule", "relay" */
	const struct rule *rule; /* lives as long as the policy; NULL: none matched */
	const char *file;	 /* of the rule, likewise */
	unsigned line;
};

/* Decides whether `from` may reach the endpoint. */
struct policy_decision policy_reach(const struct policy *policy, const struct policy_subject *from,
				    const char *endpoint);
/* Whether some user of that domain may reach the endpoint, so that it is advertised there. from->uid is
 * ignored. */
bool policy_shows(const struct policy *policy, const struct policy_subject *from, const char *endpoint);
/* Calls `each` for the other domains to which policy_shows() would show the endpoint, as the rules name them:
 * domids, names, UUIDs and "*", of which the first that means a domain decides; a domain that none means is
 * denied. No more are passed than are needed, so "*" comes alone unless some domains are excluded. `self` is
 * this domain. */
typedef void (*policy_shown_fn)(void *userdata, const char *domain, bool allow);
void policy_shown_to(const struct policy *policy, const struct policy_subject *self, const char *endpoint,
		     policy_shown_fn each, void *userdata);
/* Whether domain 0's daemon tells `from` the name of `other`. With no matching [see] it does, unless `from`
 * is on another host. */
bool policy_sees(const struct policy *policy, const struct policy_subject *from,
		 const struct policy_subject *other);
/* Decides whether domain 0's daemon relays what `from` opens to `to`. With no matching [relay] it does. */
struct policy_decision policy_relay(const struct policy *policy, const struct policy_subject *from,
				    const struct policy_subject *to);
/* Decides whether domain 0's daemon lets what `from`, of this host, opens go to another host. With no
 * matching [out] it doesn't. */
struct policy_decision policy_out(const struct policy *policy, const struct policy_subject *from,
				  const char *host);
/* Decides whether `who` may bind the endpoint. Members of `socket_group` may bind what no rule covers. */
struct policy_decision policy_bind(const struct policy *policy, const struct policy_subject *who,
				   const char *endpoint, gid_t socket_group);

#endif
