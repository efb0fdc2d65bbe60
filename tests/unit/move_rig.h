/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_MOVE_RIG_H
#define XENMSG_TESTS_MOVE_RIG_H

/* A link that can go on over another vchan, which the rig makes, with a peer that does as the test says. */

#include "daemon/link/elastic.h"
#include "daemon/link/link_internal.h"
#include "tests/unit/resume_rig.h"

#define RING_REF 11
#define PORT	 12
#define LOOK_MS	 ELASTIC_LOOK_MS

/* The other vchan, which the daemon has granted, or maps. */
struct other {
	struct vchan *vchan;
	unsigned grants, maps;
	uint32_t size;	      /* of its rings, as granted */
	uint32_t free_size;   /* the largest that there are pages for; 0: any */
	uint32_t pages_limit; /* as told */
	int map_error;
	struct ring_writer out;
	struct ring_reader in;
};
extern struct other other;
extern const struct carrier_maker maker; /* of it */

struct link *link_of(struct scene *scene);
void start_to_move(struct scene *scene);
/* The link is up; we have granted its vchan, or mapped it. */
void move_granter(struct scene *scene);
void move_mapper(struct scene *scene);
/* A frame that is no part of the session, in the present ring. */
void say_aside(struct scene *scene, uint8_t type, const void *payload, uint32_t length);
void hear_move(struct scene *scene);
void hear_offer(struct scene *scene);
void say_offer(struct scene *scene);
/* The peer goes on with the other vchan, in one direction or both. */
void peer_writes_other(struct scene *scene);
void peer_reads_other(struct scene *scene);
void peer_has_moved(struct scene *scene);
void notify_other(struct scene *scene);
void offered(struct scene *scene);

#endif
