/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_ACCESS_H
#define XENMSG_DAEMON_ACCESS_H

/*
 * The policy in force: loads and reloads it, asks it who may do what, and counts what it refused.
 *
 * While a rule depends on the name of a domain that isn't known, nothing is decided: the answer is -ENODATA,
 * which asks for another try.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "daemon/switch/channel.h"
#include "wire/frame.h"
#include "wire/json.h"

struct access;
struct address;
struct channel;
struct denied;
struct image;
struct policy;
struct registry;
struct rule;
struct self;

/* Loads the policy, whose names of domains `known` has; mistakes in it have been logged. 0 or a negative
 * errno. */
int access_new(struct access **access, const struct self *self, const char *directory,
	       struct registry *registry);
void access_free(struct access *access);
/* From now on the host's policy is obeyed as `mode` says: in domain 0 that of `directory`, which is loaded as
 * by access_reload(), in a guest what domain 0 tells, or has told a daemon that crashed: that is kept in a
 * directory, the descriptor `kept_in` (-1: nowhere), which outlives this. Before, there is none. */
int access_set_host(struct access *access, const char *directory, enum config_host_policy mode, int kept_in);
/* Rules that were read, and aren't in force yet. */
struct access_rules {
	struct policy *own, *host; /* `host` is NULL where this isn't domain 0's daemon */
};
/* Reads the files again. On success the caller passes *rules to access_take(), which can't fail, or frees
 * them. -EINVAL: the files have a mistake; else why they can't be read. An error has been logged, and
 * access_error() has it. */
int access_read(struct access *access, struct access_rules *rules);
void access_take(struct access *access, struct access_rules *rules);
void access_rules_free(struct access_rules *rules);
/* Does both: on error the rules stay as they were. */
int access_reload(struct access *access);
/* Returns what was wrong in the last reload, so that older rules are in force; NULL: nothing. */
const char *access_error(const struct access *access);
/* Returns how many units (turns.h) a decision takes at most, besides COST_OPEN: the opener of a channel
 * pays for them. */
uint64_t access_cost(const struct access *access);
/* Whether some rule names domains. */
bool access_needs_names(const struct access *access);

/* Who wants to reach something, or learn of it. */
struct access_sender {
	const char *host; /* another one, NULL: this one; */
	uint32_t host_number;
	const char *name; /* and the domain's name there, NULL: unknown */
	uint32_t domid, uid;
};
static inline struct access_sender access_sender_here(const struct frame_identity *identity)
{
	return (struct access_sender){.domid = identity->domid, .uid = identity->uid};
}
static inline struct access_sender access_sender_of(const struct channel *channel)
{
	return (struct access_sender){
		.host = channel_from_host(channel),
		.host_number = channel_source(channel).number,
		.name = channel_from_domain(channel),
		.domid = channel->identity.domid,
		.uid = channel->identity.uid,
	};
}
/* Decides whether the sender may reach the endpoint. 0; -EACCES or -ENODATA, which are counted and logged. */
int access_reach(struct access *access, struct access_sender from, const char *endpoint);
/* Decides the same for a sender that was allowed before, or only asks; nothing is counted. */
int access_still_allowed(struct access *access, struct access_sender from, const char *endpoint);
/* Decides whether domain 0 relays what the sender opens to an endpoint of domain `to`; `address` has both. 0;
 * -EACCES or -ENODATA, which are counted and logged. */
int access_relay(struct access *access, struct access_sender from, uint32_t to, const char *address);
/* Decides the same for what is relayed already, a ping or a question (`address` NULL: as far as it doesn't
 * depend on the endpoint); nothing is counted. */
int access_still_relayed(struct access *access, struct access_sender from, uint32_t to, const char *address);
/* Decides whether domain 0 lets what the sender, of this host, opens go to another host. The same. */
int access_out(struct access *access, const struct frame_identity *from, const char *host,
	       const char *address);
int access_still_out(struct access *access, const struct frame_identity *from, const char *host);
/* Decides whether the program at the other end of `socket` may bind the name. 0; -EACCES, which is logged. */
int access_bind(struct access *access, int socket, uid_t uid, gid_t gid, const char *endpoint,
		gid_t socket_group);
/* Whether the sender's domain may learn the other one's name. */
bool access_sees(struct access *access, struct access_sender from, uint32_t other);
/* Likewise of a domain that XenStore has forgotten and that was called so. */
bool access_sees_gone(struct access *access, uint32_t domid, uint32_t other, const char *name,
		      const char *uuid);
/* Whether the endpoint is advertised to the domain. */
bool access_visible(struct access *access, uint32_t domid, const char *endpoint);
/* Whether it is advertised to every other domain, whatever its name. Costs more than access_visible(). */
bool access_visible_to_all(struct access *access, const char *endpoint);
/* Adds the same for all other domains: an array of texts as in status, `visible_to`. */
void access_visible_to(struct access *access, const char *endpoint, struct json *json, const char *key);
/* Adds the rules in force, since when, and what is wrong with newer ones: `policy` in status. Errors may
 * quote the rules, so that they are told only `in_full`. */
void access_status(const struct access *access, bool in_full, struct json *json, const char *key);
/* Returns how many rules of which files are in force, in domain 0 also for the host. The caller frees it. */
struct json access_files(const struct access *access);
/* Returns the rule that is asked as the one with this index; NULL: there are no more. */
const struct rule *access_rule_at(const struct access *access, unsigned index);
/* Describes a rule: its file, line and section, and its keys in the file's order, lists as arrays. */
void access_describe_rule(const struct rule *rule, struct json *json);
/* Returns what would be decided, by which rule, and which one would allow what is denied: for `xenmsg policy
 * check`. `asked` is how the domain was named. The caller frees it. */
struct json access_explain(struct access *access, const char *asked, uint32_t domid, uint32_t uid,
			   const char *endpoint);
/* Returns the same for a sender in domain `domain` (a domid or a name) of another host. */
struct json access_explain_remote(struct access *access, const char *host, const char *domain, uint32_t uid,
				  const char *endpoint);
/* Returns likewise whether domain 0 relays what the domain opens to this address, which is in domain `to`. */
struct json access_explain_relay(struct access *access, const char *asked, uint32_t domid,
				 const struct address *address, uint32_t to);
/* Returns likewise whether domain 0 lets what the domain opens to this address go to its host. */
struct json access_explain_out(struct access *access, const char *asked, uint32_t domid,
			       const struct address *address);

/* Adds what is in force of the host's policy: `policy.of_host` in status. */
void access_host_status(const struct access *access, struct json *json);
/* Whether some rule of it is in force. */
bool access_host_needs_names(const struct access *access);

/* --- in domain 0: what it tells guests of the host's policy (doc/protocol.md, 5.12) */

bool access_tells_host(const struct access *access);
/* Changes whenever guests have to be told anew. */
uint64_t access_host_version(const struct access *access);
/* Return the text of what a guest is told: all of it, and of one domain what may have changed; "" if the
 * guest needs not know. The caller frees it. NULL: out of memory, or nobody knows yet which rules are about
 * it. */
char *access_host_share(struct access *access, uint32_t guest, size_t *size);
char *access_host_domain(struct access *access, uint32_t guest, uint32_t domid, size_t *size);

/* --- in a guest: what it is told */

/* Takes the payload of a POLICY frame from domain 0. 1: other rules are in force; 0; -EPROTO, which was
 * logged; -ENOMEM. */
int access_take_host(struct access *access, const uint8_t *payload, uint32_t length);
/* Another domain may have this number now. */
void access_forget_host_domain(struct access *access, uint32_t domid);
/* This domain was restored, and others may have the numbers of those that were told. */
void access_forget_host_domains(struct access *access);
/* Writes what it was told into the image that the next daemon gets, or reads it. */
void access_image(struct image *image, struct access *access);
/* What was read of it can't be believed. */
void access_drop_image(struct access *access);

/* --- in domain 0: what concerns one domain of this host */

/* Whether there is a host's policy here, and that domain. */
bool access_knows_domain(const struct access *access, uint32_t domid);
/* Returns its tags, for the two functions below: they are worked out once for each question. NULL: none, or
 * out of memory. The caller frees them. */
char *access_tags(struct access *access, uint32_t domid);
/* Describes it: its domid, name, UUID and tags; null: none, or unknown. */
void access_describe_domain(struct access *access, uint32_t domid, const char *tags, struct json *json);
/* A rule of the host's policy (NULL: none), and whether it is about what the domain sends, and what it
 * receives: 1, 0 or -1: that depends on a name that isn't known. */
struct access_about {
	const struct rule *rule;
	int sends, receives;
};
/* Returns the next rule about the domain, from *index on, which is moved behind it. */
struct access_about access_next_about(struct access *access, uint32_t domid, const char *tags,
				      unsigned *index);
void access_describe_about(const struct access_about *about, struct json *json);

struct denied *access_denied(struct access *access);

#endif
