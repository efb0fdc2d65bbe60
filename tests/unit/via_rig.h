/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_VIA_RIG_H
#define XENMSG_TESTS_VIA_RIG_H

/* A daemon that relays: its via.h, with the rig's own links and policy; the parties are a program and the
 * daemons of other domains. */

#include "base/self.h"
#include "daemon/link/link.h"
#include "daemon/link/via.h"
#include "tests/unit/hop_rig.h"

#define LINKS 4
#define GOAL  500000u

struct scene {
	struct rig rig;
	struct self self;
	struct via *via;
	struct party *program;
	struct party *link[LINKS]; /* by domid; our own is NULL */

	/* what the links say */
	int relays, want_error;
	bool forbidden; /* by Xen, a link with the domain */
	bool is_old;	/* who takes no SOURCE */
	char explained[LINK_REASON_SIZE];
	unsigned pings, awaits;
	ping_fn done;
	void *pinger;
	uint32_t request, pong;
	unsigned pongs;
	uint32_t moved_destination; /* its domid now, likewise */
	uint32_t moved_to;	    /* the source's domid now; 0: it is as before */

	/* what the policy says */
	int denied, taken_back;

	/* who has come to an endpoint here */
	struct frame_identity came;
	char endpoint[80];
};

extern struct scene *the_scene;

void scene_start(struct scene *scene, uint32_t domid, bool enabled);
void scene_stop(struct scene *scene);
void open_as(struct party *party, uint32_t number, uint32_t domid, const char *name);
void expect_open(struct party *party, const char *name, uint32_t domid);
void expect_refusal(struct party *party, uint32_t number, uint32_t error);
void refused_to(struct scene *scene, struct party *party, uint32_t domid, const char *name, uint32_t error);

#endif
