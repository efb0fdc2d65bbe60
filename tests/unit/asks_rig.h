/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_ASKS_RIG_H
#define XENMSG_TESTS_ASKS_RIG_H

/* A daemon that asks and answers: its asks.h, with real turns and accounts, and the rig's own links, hosts,
 * peers and policy. What it sends over links is kept, and the test plays those at the other ends. */

#include "tests/unit/unit.h"

#include "base/quota.h"
#include "base/self.h"
#include "daemon/hosts/hosts.h"
#include "daemon/registry/registry.h"
#include "daemon/link/asks.h"
#include "daemon/link/link.h"
#include "daemon/switch/hop.h"
#include "wire/frame.h"

#define HOSTB	      HOST_FIRST
#define UID	      1000u
#define ANSWER_MS     50
#define RESUME_FOR_MS 150
#define SENT_MAX      8192u
#define NAMES_MAX     4200u

struct sent {
	uint32_t peer, length;
	uint8_t type;
	uint8_t payload[TOLD_PART_SIZE];
};

struct scene {
	struct self self;
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct account *account; /* of the program that asks */
	struct asks *asks;
	struct registry_sink *sink; /* of what is known */

	/* what the links say, and have been told */
	int takes_asks, send_error;
	bool has_unread;
	struct sent sent[SENT_MAX];
	unsigned sent_count, sent_seen;
	await_fn link_up;
	uint32_t await_request;
	unsigned awaits;

	bool host_is_up;
	unsigned noted; /* hosts that were vouched for, in a guest */
	char own_name[HOST_NAME_SIZE];
	int out; /* what the policy says to all */

	/* what is bound here */
	char names[NAMES_MAX][ENDPOINT_NAME_MAX + 1];
	unsigned name_count, looked_at;

	/* what the program was told last */
	unsigned told_count;
	struct frame_told told;
	uint8_t text[TOLD_MAX];
};

extern struct scene *the_scene;

/* The domain with this number; HOSTB is a host. */
struct peer_id peer_of(uint32_t number);

/* Each account may hold so much. */
void scene_start(struct scene *scene, uint32_t domid, uint64_t bytes_per_account);
void start_in_domain_0(struct scene *scene);
void start_in_guest(struct scene *scene);
/* Ends it and checks that nothing is held any more. */
void scene_stop(struct scene *scene);
/* Runs turns until there is nothing to do. */
void scene_settle(struct scene *scene);
/* Waits until a timer has led to something that was sent. */
void scene_await_sent(struct scene *scene, unsigned count);
/* Likewise to something that a program here was told. */
void scene_await_told(struct scene *scene, unsigned count);
void scene_bind(struct scene *scene, unsigned count, unsigned size);
uint64_t scene_held(const struct scene *scene, enum quota_kind kind, uint32_t id);

/* A program here asks. */
int ask_here(struct scene *scene, enum ask_kind kind, const char *host, const char *domain, uint32_t request);
/* A peer asks; `name`, `domain_name` and `host` as in the frame. */
int ask_by(struct scene *scene, uint32_t peer, uint32_t number, enum ask_kind kind, uint64_t registry,
	   const char *name, const char *host);
/* Likewise, for an answer that it doesn't know: the question is taken, and all is done that can be. */
void ask_once(struct scene *scene, uint32_t peer, uint32_t number, enum ask_kind kind, const char *name,
	      const char *host);
void expect_refusal(struct scene *scene, uint32_t peer, enum ask_kind kind, const char *name,
		    const char *host, uint32_t error);
void unask_by(struct scene *scene, uint32_t peer, uint32_t number);
/* A peer tells `count` entries, whose numbers begin at `first` and whose names are n + the number in four
 * digits. */
void tell_by(struct scene *scene, uint32_t peer, uint32_t number, uint64_t version, uint32_t flags,
	     unsigned first, unsigned count);
void fail_by(struct scene *scene, uint32_t peer, uint32_t number, uint32_t error);
/* Returns the next frame that was sent, which has this type and went to this peer. */
const struct sent *expect_sent(struct scene *scene, uint32_t peer, uint8_t type);
struct frame_told expect_told(struct scene *scene, uint32_t peer);
void expect_no_more(const struct scene *scene);

#endif
