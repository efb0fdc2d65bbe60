/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RELAY_RIG_H
#define XENMSG_TESTS_RELAY_RIG_H

/* A daemon that relays: its relay.h, with the rig's own links and policy; the parties are a program and the
 * daemons of other domains. */

#include "base/self.h"
#include "daemon/hosts/hosts.h"
#include "daemon/link/link.h"
#include "daemon/link/relay.h"
#include "tests/unit/hop_rig.h"

#define LINKS 4
#define GOAL  500000u

struct scene {
	struct rig rig;
	struct self self;
	struct relay *relay;
	struct hosts *hosts;
	struct participant *program;
	struct participant *link[LINKS]; /* by domid; our own is NULL */

	/* what the links say */
	int relays, want_error;
	bool forbidden; /* by Xen, a link with the domain */
	char explained[LINK_REASON_SIZE];
	unsigned awaits;
	await_fn done;
	void *pinger;
	uint32_t request;
	uint32_t moved_to;	    /* the source's domid now; 0: it is as before */
	uint32_t moved_destination; /* its domid now, likewise */

	/* what the policy says */
	int denied, taken_back;

	/* who has come to an endpoint here */
	struct frame_identity came;
	char endpoint[80];
};

extern struct scene *the_scene;

/* In this domain's daemon; relaying is enabled. */
void start_in_domain_0(struct scene *scene);
void start_in_domain_1(struct scene *scene);
/* It isn't. */
void start_in_domain_0_disabled(struct scene *scene);
void start_in_domain_1_disabled(struct scene *scene);
void scene_stop(struct scene *scene);
/* What was awaited of domain 0, or what it was asked to ping, has come to this. */
void tell_asked(struct scene *scene, int result);
/* The policy is another one now. */
void recheck(struct scene *scene);
void open_as(struct participant *participant, uint32_t number, uint32_t domid, const char *name);
/* As domain 0 passes on what a domain of another host has opened. */
void open_from_remote(struct participant *participant, uint32_t number, uint32_t domid, const char *name);
void expect_open(struct participant *participant, const char *name, uint32_t domid);
void expect_refusal(struct participant *participant, uint32_t number, uint32_t error);
void refused_to(struct scene *scene, struct participant *participant, uint32_t domid, const char *name,
		uint32_t error);

#endif
