/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_HOP_PROGRAMS_H
#define XENMSG_TESTS_HOP_PROGRAMS_H

/*
 * Programs and peers at hops, and where the names of their channels lead.
 */

#include "tests/unit/hop_rig.h"

/* Of the running test: "p3" leads to the fourth of them. */
extern struct participant *programs[8];

/* "p3_7": program 3, for flow 7. */
struct participant *to_program(struct participant *participant, const char *name);

/* Of each of the two daemons. */
extern struct participant *link_of[2];

struct participant *over_link(struct participant *participant, const char *name);
struct participant *program_new(struct rig *rig, uint32_t ring, bool lenient, unsigned daemon);
struct participant *peer_new(struct rig *rig, uint32_t ring);

struct hostile {
	struct rig rig;
	struct participant *bad, *good, *receiver;
};

/* A bad program or peer, and two programs that have nothing to do with it. */
void hostile_start(struct hostile *hostile, enum hop_kind kind);
void only_the_bad_one_is_cut_off(struct hostile *hostile, int error);

#endif
