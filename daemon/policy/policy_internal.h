/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_POLICY_INTERNAL_H
#define XENMSG_DAEMON_POLICY_INTERNAL_H

/* What reading rules (policy_read.c) and deciding by them (policy.c) share. */

#include <stdbool.h>
#include <stdint.h>

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
};

/* A kind of section: its name and its keys. */
struct section {
	const char *name;
	const char *to; /* the key that names its objects */
	enum list_kind to_kind, uid_kind;
	bool has_from, needs_uid;
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
	bool has_action, allow;
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
	struct policy_file *files; /* all that were read, in this order */
};

#endif
