/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_CHANNEL_RIG_H
#define XENMSG_TESTS_CHANNEL_RIG_H

/*
 * A channel from one program to another, or over a link.
 */

#include "tests/unit/hop_rig.h"

#define RING 65536u

/* Two programs and a peer's daemon. */
struct scene {
	struct rig rig;
	struct participant *a, *b, *link;
};

struct participant *to_b(struct participant *participant, const char *name);
void scene_with(struct scene *scene, uint32_t link_ring, bool detached);
void scene_start(struct scene *scene);
/* The link's ring towards the peer takes little. */
void start_with_small_link(struct scene *scene);
/* Everybody reads all there is, until nothing moves. */
void read_all(struct scene *scene);
/* Everybody reads all there is, and then no channel is left. */
void nothing_is_left(struct scene *scene);
/* Nothing may be left. */
void scene_stop(struct scene *scene);
void send_bytes(struct participant *participant, uint32_t number, uint32_t size);
const struct participant_channel *expect_reset(struct participant *participant, uint32_t number,
					       uint32_t error, uint64_t consumed, uint64_t unsure);

#endif
