/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_STATUS_JSON_H
#define XENMSG_DAEMON_STATUS_JSON_H

/* Adds members to the objects of a status. */

#include <stdio.h>

#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/serve/status.h"
#include "wire/json.h"

/* Adds a text; null if there is none. Null is what isn't known, what there is none of, and what only others
 * have. */
static inline void add_text(struct json *json, const char *key, const char *value)
{
	json_text(json, key, value && *value ? value : NULL);
}

/* Adds the round trip time; null if it wasn't measured. */
static inline void add_rtt(struct json *json, uint64_t rtt_ns)
{
	char text[32];

	/* Print as many digits as were measured, and not those of the binary fraction. */
	snprintf(text, sizeof(text), "%llu.%03llu", (unsigned long long)rtt_ns / 1000,
		 (unsigned long long)rtt_ns % 1000);
	json_digits(json, "rtt_us", rtt_ns ? text : "null");
}

/* Returns what may come to an endpoint, by the kinds of BIND. */
static inline const char *kind_name(uint32_t kinds)
{
	kinds &= ~BIND_FLAGS;
	return kinds == 1	     ? "message"
	       : kinds == 2	     ? "call"
	       : kinds == 4	     ? "stream"
	       : kinds == BIND_TOPIC ? "topic"
				     : "any";
}

/* Adds the domain's name and UUID, as far as domain 0 has told them. */
static inline void add_domain(struct json *json, const struct status_sources *sources, uint32_t domid)
{
	json_number(json, "domid", domid);
	add_text(json, "host", NULL);
	add_text(json, "name", registry_name(sources->registry, domid));
	add_text(json, "uuid", registry_uuid(sources->registry, domid));
}

/* Does the same where it may be another host, whose number no domain has. */
static inline void add_peer(struct json *json, const struct status_sources *sources, struct peer_id peer)
{
	if (!peer_is_host(peer)) {
		add_domain(json, sources, peer.number);
		return;
	}
	json_number(json, "domid", peer.number);
	add_text(json, "host", hosts_name(sources->hosts, peer.number));
	add_text(json, "name", "");
	add_text(json, "uuid", "");
}

/* Adds what the gateway to other hosts is doing. */
static inline const char *gateway_state(const struct gateway_info *gateway)
{
	return !gateway->there ? "missing" : gateway->up ? "connected" : "waiting";
}

static inline void add_gateway(struct json *json, const struct gateway_info *gateway)
{
	add_text(json, "gateway", gateway_state(gateway));
	add_text(json, "server", gateway->server);
	add_text(json, "last_error", gateway->why);
	json_number(json, "since", gateway->since);
}

/* Adds what is known of another host. */
static inline void add_host(struct json *json, const struct host_info *info)
{
	add_text(json, "host", info->name);
	json_flag(json, "up", info->up);
	add_text(json, "instance", info->instance);
	add_text(json, "last_error", info->why);
	json_number(json, "since", info->since);
}

/* Adds what was published on a topic that a program has bound, and what became of it; null for an endpoint
 * that is none. */
void status_add_topic(struct status_walk *walk, struct json *json, const struct endpoint *endpoint);
#define POLICY_UNITS 100u /* to ask policy once, with few rules */

/* Gets the next endpoint here (status.c). */
bool status_next_endpoint(struct status_walk *walk);
/* The list of what the programs here subscribe to (status_topics.c). */
bool status_next_subscription(struct status_walk *walk);
bool status_subscription_is_visible(struct status_walk *walk);
unsigned status_rank_of_subscription(struct status_walk *walk);
void status_describe_subscription(struct status_walk *walk, struct json *json);

/* The list of byte streams (status_streams.c). */
bool status_next_stream(struct status_walk *walk);
bool status_stream_is_visible(struct status_walk *walk);
unsigned status_rank_of_stream(struct status_walk *walk);
void status_describe_stream(struct status_walk *walk, struct json *json);
/* Returns the number of bytes that wait in the daemon for the program behind this hop. */
uint64_t status_queued_for(struct status_walk *walk, struct hop *hop);
/* Looks up the link with the peer, for walk->link: an idle one where there is none. */
void status_find_link(struct status_walk *walk, struct peer_id peer);
/* The list of accounts (status_accounts.c). */
bool status_next_account(struct status_walk *walk);
bool status_account_is_visible(struct status_walk *walk);
unsigned status_rank_of_account(struct status_walk *walk);
void status_describe_account(struct status_walk *walk, struct json *json);

/* Whether the viewer may know all about what belongs to this user. */
static inline bool is_own(const struct status_walk *walk, uid_t uid)
{
	return walk->viewer.sees_all || (!walk->viewer.is_host && walk->viewer.uid == uid);
}

/* Returns an entry's rank: live ones first, then those with more traffic, by powers of two. */
static inline unsigned rank_of(bool lives, uint64_t traffic)
{
	return (lives ? STATUS_RANKS / 2 : 0) + (traffic ? 63u - (unsigned)__builtin_clzll(traffic) : 0);
}

/* The list of what policy has refused, which more than one question has (status_policy.c). */
bool status_next_denied(struct status_walk *walk);
unsigned status_rank_of_denied(struct status_walk *walk);
void status_describe_denied(struct status_walk *walk, struct json *json);

#endif
