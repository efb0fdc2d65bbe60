/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_ROUTER_RIG_H
#define XENMSG_TESTS_ROUTER_RIG_H

/*
 * A router between programs and a peer, with sessions, streams, links, peers, a directory, policy and
 * watches that are the rig's own.
 */

#include "tests/unit/hop_rig.h"

#include <sys/socket.h>

#include "base/self.h"

#define ANY_KIND 7u

struct scene {
	struct rig rig;
	struct self self;
	struct router *router;
	struct participant *a, *b, *link; /* two programs and a peer's daemon */
	int link_error, relay_error, stream_error;
	const char *denied;	/* endpoint that nobody may reach */
	const char *undecided;	/* endpoint of which nobody can tell yet who may reach it */
	const char *taken_back; /* endpoint that was allowed and isn't any more */
	int why_taken_back;
	uint64_t cost;	      /* units of a decision */
	uint32_t asked_about; /* the domid of what was allowed before */
	unsigned asked, links, relayed, streams, bound, unbound, resolved;
	char last[64]; /* name that changed last */
	unsigned advertised;
	char names[256]; /* that were advertised last */
};

void scene_start(struct scene *scene);
void scene_stop(struct scene *scene);
int bind_name(struct scene *scene, struct participant *participant, const char *name, uint32_t kinds);
int unbind_name(struct scene *scene, struct participant *participant, const char *name);
void open_kind(struct participant *participant, uint32_t number, enum channel_kind kind, const char *name,
	       size_t size);
void refused(struct scene *scene, const char *address, uint32_t error);
/* The participant gets an OPEN for this endpoint. */
uint32_t expect_open(struct participant *participant, const char *name);

#endif
