/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STATUS_H
#define XENMSG_DAEMON_STATUS_H

/*
 * The daemon's status as JSON (doc/status.schema.json), and the shorter lists for `xenmsg peers`, `xenmsg
 * endpoints`, `xenmsg hosts` and `xenmsg policy`: describes each entry, and decides who may see it. Report.h
 * makes one text of them. This reads the other modules and changes nothing.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "daemon/hosts/hosts.h"
#include "daemon/policy/access.h"
#include "daemon/policy/denied.h"
#include "daemon/link/link.h"
#include "daemon/local/local.h"
#include "daemon/local/streams.h"
#include "daemon/peers/peers.h"
#include "base/quota.h"
#include "daemon/serve/viewer.h"
#include "daemon/topic/topics.h"
#include "wire/address.h"
#include "wire/frame.h"

struct config;
struct registry;
struct json;
struct links;
struct local;
struct peers;
struct quota;
struct router;
struct rule;
struct self;
struct store;
struct streams;
struct turns;
struct vchan_host;

#define STATUS_VERSION_SIZE 32

struct status_sources {
	const struct config *config;
	const struct self *self;
	struct registry *registry;
	uint64_t started_ms; /* as of clock_ms() */
	/* So many daemons before this one have handed over, each to the next; and the version of the last of
	 * them. */
	uint64_t renewals;
	char renewed_from[STATUS_VERSION_SIZE];
	struct access *access;
	const struct activations *activations;
	struct hosts *hosts;
	struct links *links;
	struct local *local;
	struct peers *peers;
	struct quota *quota;
	struct router *router;
	struct store *store;
	struct streams *streams;
	struct topics *topics;
	const struct turns *turns;
	struct vchan_host *host;
};

/* A walk over a list: how far it is, which outlives the entries, and its current entry. Zeroed, but for
 * `domid`: before the first one. */
struct status_walk {
	const struct status_sources *sources;
	struct viewer viewer;
	int64_t only;	/* endpoints, or rules, of this domain; below zero: of all */
	uint64_t units; /* what it costs, as in turns.h; the caller counts steps and texts */
	char *tags; /* of the domain that rules are asked of, for all lists of the question; its owner frees them */

	bool begun;
	struct account_key account_key;
	int64_t domid; /* below zero: none yet */
	unsigned index;
	char name[ENDPOINT_NAME_MAX + 1];
	uint8_t name_kinds; /* of an endpoint of that name elsewhere; 0: unknown */
	struct local_place place;
	uint32_t channel; /* the number from which on the session's channels are still to be listed */

	/* of the list's kind; valid until the event loop goes on */
	const struct account *account;
	const struct endpoint *endpoint;
	const struct denied_entry *denied;
	const struct rule *rule;
	struct access_about about;
	struct hop *hop;
	const struct topic *replica;
	struct topic_view subscription; /* of it */
	struct topics_place replica_place;
	struct stream_info stream;
	/* of a stream that a session carries; NULL: the entry is no stream */
	const struct channel_end *carried;
	struct link_info link;
	struct peer_info peer;
	struct host_info host;
};

/* An entry has a rank below this; the higher, the more it matters. */
#define STATUS_RANKS 128u

struct status_list {
	const char *name;			      /* NULL: behind the last one */
	bool of_others;				      /* only for viewers that see all */
	bool of_users;				      /* not for domain 0, unless it sees all */
	bool (*next)(struct status_walk *walk);	      /* false: there is no more */
	bool (*is_visible)(struct status_walk *walk); /* NULL: every entry */
	unsigned (*rank)(struct status_walk *walk);   /* NULL: every entry is listed */
	void (*describe)(struct status_walk *walk, struct json *entry);
};

/* Each array ends with a list without a name. Those of `status` are members of its object; the others'
 * entries form one array. */
extern const struct status_list status_lists[], status_peers_lists[], status_endpoints_lists[],
	status_hosts_lists[], status_rules_lists[], status_rules_of_lists[], status_denied_lists[],
	status_seen_domains_lists[], status_seen_endpoints_lists[], status_seen_hosts_lists[];

/* Adds what isn't a list. */
void status_head(const struct status_sources *sources, const struct viewer *viewer, struct json *head);

#endif
