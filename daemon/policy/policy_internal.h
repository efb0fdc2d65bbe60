/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_POLICY_INTERNAL_H
#define XENMSG_DAEMON_POLICY_INTERNAL_H

/* What reading rules (policy_read.c, policy_items.c), deciding by them (policy.c, host_policy.c) and telling
 * them (host_policy_share.c) share. */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/policy/host_policy.h"

struct item {
	char *text;
	char *host;	  /* NULL: it is about this host; "*": about any other */
	const char *name; /* of a domain: the part of `text` behind the host */
	uint32_t number;  /* a domid, uid or gid */
	enum {
		ITEM_ANY,
		ITEM_NUMBER,
		ITEM_GROUP,
		ITEM_SELF,
		ITEM_TEXT,
		ITEM_TAG, /* of a host policy; `name` has no @ */
	} kind;
	struct item *next;
};

enum list_kind {
	LIST_NONE,
	LIST_DOMAINS,
	LIST_OWN_DOMAINS, /* of this host alone */
	LIST_UIDS,	  /* of any domain */
	LIST_USERS,	  /* of this domain */
	LIST_PATTERNS,
	LIST_HOSTS,
	LIST_SENDERS,	/* of a host policy: domains by name, UUID or tag, and those of other hosts */
	LIST_RECEIVERS, /* the same, of this host alone */
	LIST_MEMBERS,	/* domains by name or UUID */
};

/* Whose policy it is: a share is the host's, as it is told. */
enum policy_scope {
	OF_DOMAIN,
	OF_HOST,
	OF_SHARE,
};

/* A kind of section: its name and its keys. */
struct section {
	const char *name;
	const char *to; /* the key that names its objects */
	enum list_kind from_kind, to_kind, uid_kind;
	enum policy_scope of;
	const char *keys; /* of a rule; NULL: it has none */
};

enum policy_section {
	SECTION_RULE,
	SECTION_BIND,
	SECTION_SEE,
	SECTION_RELAY,
	SECTION_OUT,
	SECTION_HOST_RULE,
	SECTION_TAGS,
	SECTION_SHARE_RULE,
	SECTION_FILE,
	SECTION_DOMAIN,
	SECTIONS,
};

extern const struct section policy_sections[SECTIONS];

struct rule {
	const struct section *section;
	/* `to` has the names of a [bind], the domains of a [see] or [relay]; no uid: any */
	struct item *from, *uid, *to;
	struct item *endpoint; /* of a host policy */
	bool has_action, allow;
	bool asks; /* of a host policy: the domain's own one decides */
	const struct policy_file *file;
	unsigned line;
	struct rule *next;
};

struct policy_file {
	char *path;
	unsigned rules;
	struct policy_file *next;
};

struct tag {
	char *name;
	struct item *members;
	struct tag *next;
};

struct policy {
	struct rule *rules;
	uint64_t items;		   /* of all rules: what a decision may have to look at */
	struct policy_file *files; /* all that were read, in this order */
	struct tag *tags;	   /* of a host policy */
};

/* Sets what an item of such a list means, by its text. Returns what is wrong, or NULL. *error is set if that
 * is no mistake: -EAGAIN or -ENOMEM. */
const char *policy_set_item(struct item *item, enum list_kind kind, int *error);
/* Returns why it can mean nobody, and what was meant; NULL: it may mean somebody. */
const char *policy_item_means_nobody(const struct item *item, enum list_kind kind);

enum match {
	MATCH_NO,
	MATCH_MAYBE, /* it depends on a name that isn't known */
	MATCH_YES,
};
/* What is asked: may `from`, by the rules of this section? A host policy has them about an endpoint of a
 * domain; NULL: of a guest, to whom its share is told. */
struct policy_question {
	enum policy_section section;
	const struct policy_subject *from, *to;
	const char *endpoint, *host;
};
/* Whether a rule, of whatever section, is about that. */
enum match policy_rule_matches(const struct rule *rule, const struct policy_question *question);
/* Whether one of these items means the domain. */
enum match policy_matches_domain(const struct item *items, const struct policy_subject *domain);
bool policy_matches_name(const struct item *patterns, const char *endpoint);

/* Whether the host's rule is about this domain (NULL: all are). */
static inline enum match host_rule_is_about(const struct rule *rule, const struct policy_subject *to)
{
	return to ? policy_matches_domain(rule->to, to) : MATCH_YES;
}

static inline unsigned host_outcome(const struct rule *rule)
{
	return rule->asks ? HOST_ASKS : rule->allow ? HOST_ALLOWS : HOST_DENIES;
}

#endif
