/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_POLICY_INTERNAL_H
#define XENMSG_DAEMON_POLICY_INTERNAL_H

/* What reading rules (policy_read.c, host_policy_read.c) and deciding by them (policy.c, host_policy.c)
 * share. */

#include <stdbool.h>
#include <stdint.h>

#include "base/ini_file.h"

struct policy_subject;

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
	LIST_UIDS,  /* of any domain */
	LIST_USERS, /* of this domain */
	LIST_PATTERNS,
	LIST_HOSTS,
	LIST_SENDERS,	/* of a host policy: domains by name, UUID or tag, and those of other hosts */
	LIST_RECEIVERS, /* the same, of this host alone */
	LIST_MEMBERS,	/* domains by name or UUID */
};

/* A kind of section with rules: its name and its keys. */
struct section {
	const char *name;
	const char *to; /* the key that names its objects */
	enum list_kind from_kind, to_kind, uid_kind;
	enum {
		OF_DOMAIN,
		OF_HOST,
		OF_SHARE
	} of; /* whose policy it is: a share is the host's, as it is told */
	const char *keys;
};

enum {
	SECTION_RULE,
	SECTION_BIND,
	SECTION_SEE,
	SECTION_RELAY,
	SECTION_OUT,
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

struct policy {
	struct rule *rules;
	uint64_t items;		   /* of all rules: policy_weigh() */
	struct policy_file *files; /* all that were read, in this order */
};

/* State of reading the rules of one file, or of a share. */
struct rule_reader {
	struct ini_file file; /* first: begin_section() gets it */
	struct policy *policy;
	struct policy_file *of; /* whose rules come next */
	unsigned section_line;
	struct rule *rule; /* of the section that is being read; NULL: it has none */
};

/* Begins a section with a rule. Complains without memory. */
void rule_begin(struct rule_reader *reader, const struct section *section);
/* Takes a key of it. Returns as policy_read_list(). */
int rule_key(struct rule_reader *reader, const char *key, const char *value);
/* Ends it, if there is one. False: it isn't whole, after a complaint. */
bool rule_end(struct rule_reader *reader);
/* Reads a list of this kind. Returns 1, or 0 after a complaint. */
int policy_read_list(struct ini_file *file, struct item **list, const char *key, const char *value,
		     enum list_kind kind);
/* Counts what a decision may have to look at, once all is read. */
void policy_weigh(struct policy *policy);
struct policy_file *policy_add_file(struct policy *policy, const char *path);
void policy_free_items(struct item *items);

enum match {
	MATCH_NO,
	MATCH_MAYBE, /* it depends on a name that isn't known */
	MATCH_YES,
};
/* Whether one of these items means the domain. */
enum match policy_matches_domain(const struct item *items, const struct policy_subject *domain);
bool policy_matches_name(const struct item *patterns, const char *endpoint);

#endif
