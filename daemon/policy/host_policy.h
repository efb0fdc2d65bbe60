/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_HOST_POLICY_H
#define XENMSG_DAEMON_HOST_POLICY_H

/*
 * The host's policy: what domain 0 says about which domain may reach which endpoint (xenmsg-policy(5),
 * HOST POLICY). It is asked before a domain's own policy, of what comes from other domains. The first rule
 * that matches decides: allow, deny, or ask-guest, which means the domain's own policy, as does no rule at
 * all.
 *
 *   domain 0   reads host-policy.d ──▶ decides about what it relays and about its own endpoints
 *                                  └─▶ writes for each guest its share: the rules whose `to` means that guest
 *   a guest    takes the share (host_told.h), which is a host policy whose rules are all about this domain
 *
 * A share is text like the files, so one reader reads both. Beside rules it says what domains there are and
 * what they are called, but only by what the share's rules name: so a guest needs no names of its own to
 * obey, and learns none that no rule for it has. As long as nothing was said of a domain, rules by name, UUID
 * or tag may mean it or not.
 *
 * A host policy is a policy (policy.h) whose sections are others; what decides by those of a domain's own one
 * finds none in it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/policy/policy.h"

#define HOST_SHARE_RULES 1024u	 /* a guest's */
#define HOST_SHARE_BYTES 65536u	 /* of them as text */
#define HOST_TOLD_MAX	 262144u /* of a share, with its domains */

/* Reads the files *.conf of the directory; none: no rules. As policy_load(). */
int host_policy_load(struct policy **policy, const char *directory, char **error);

/* What may be decided, a bit each: more than one where it depends on a name that isn't known. */
#define HOST_DENIES 1u
#define HOST_ALLOWS 2u
#define HOST_ASKS   4u /* the domain's own policy */
struct host_decision {
	unsigned outcomes;
	const struct rule *rule;   /* the first that matches for certain; NULL: none, so HOST_ASKS */
	const struct rule *unsure; /* the first that may match; NULL: all names are known that matter */
};
/* Decides whether `from` may reach the endpoint of domain `to`; NULL: a guest, to whom its share is told. */
struct host_decision host_policy_decide(const struct policy *policy, const struct policy_subject *from,
					const struct policy_subject *to, const char *endpoint);
/* Joins that with what the domain's own policy decides. */
struct policy_decision host_policy_join(const struct host_decision *host, struct policy_decision own);

/* Whether all other domains of this host may reach the endpoint: 1, 0, or -1: it is up to its own policy. */
int host_policy_shows_all(const struct policy *policy, const struct policy_subject *to, const char *endpoint);
/* Calls `each` for the domains that rules about the endpoint name, in their order, as policy_shown_to() does.
 * Returns true if they say it of all. */
typedef void (*host_shown_fn)(void *userdata, const char *domain, unsigned outcome);
bool host_policy_shown_to(const struct policy *policy, const struct policy_subject *to, const char *endpoint,
			  host_shown_fn each, void *userdata);

/* Returns the tags of a domain as struct policy_subject has them, which the caller frees: those that the
 * files give it, and those that are `given` in XenStore (the same form; NULL: none) and that the files know.
 * NULL: none, or out of memory. */
char *host_policy_tags(const struct policy *policy, const char *name, const char *uuid, const char *given);

/* --- a guest's share */

/* Writes its rules. 0; -E2BIG: there are more than a guest is told, and *why says so. */
int host_policy_write_rules(const struct policy *policy, const struct policy_subject *to, FILE *file,
			    char *why, size_t room);
/* Writes what the guest is told instead: it denies everything. */
void host_policy_write_denial(FILE *file, const char *why);
/* Whether the share's rules name domains, so that these have to be told. */
bool host_policy_needs_domains(const struct policy *policy, const struct policy_subject *to);
/* Writes what of a domain's names and tags the share's rules name; of one that has gone, or isn't known yet,
 * that. */
void host_policy_write_domain(const struct policy *policy, const struct policy_subject *to,
			      const struct policy_subject *domain, FILE *file);

/* A domain of which a share tells. */
struct host_domain {
	uint32_t domid;
	bool is_gone;
	char *name, *uuid, *tags; /* as in struct policy_subject; NULL: none is told */
};
/* Frees the texts. */
void host_domain_clear(struct host_domain *domain);
/* Reads a share's text, or what is added to one. `each` is called for its domains, in their order, and may
 * take the texts over, of which it leaves NULL. */
typedef int (*host_domain_fn)(void *userdata, struct host_domain *domain);
int host_policy_load_share(struct policy **policy, FILE *file, host_domain_fn each, void *userdata,
			   char **error);

#endif
