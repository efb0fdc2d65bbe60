/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RENDEZVOUS_RIG_H
#define XENMSG_TESTS_RENDEZVOUS_RIG_H

/*
 * The peers of a daemon in domain 1, over a XenStore that answers when the test says so, and with vchans of
 * the rig's own in place of daemon/xen/vchan.c. The peer is domain 2.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/quota.h"
#include "base/self.h"
#include "base/turns.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/peers.h"
#include "tests/unit/fake_store.h"

#define OURS	       "/local/domain/1/data/xenmsg"
#define THEIRS	       "/local/domain/2/data/xenmsg"
#define INSTANCE       "01234567-89ab-cdef-0123-456789abcdef"
#define OTHER_INSTANCE "11111111-89ab-cdef-0123-456789abcdef"
#define PATIENCE_MS    5000

/* What the rig has made of vchans, and not closed. */
struct held {
	int granted, mapped;
	unsigned left;
	bool peer_is_gone; /* when we map, it has given up the vchan already */
	unsigned grants, maps;
	unsigned unmappable; /* so many more attempts to map fail */
	struct vchan *last;  /* granted */
	bool forbidden;	     /* Xen refuses to grant and to map */
	bool client;	     /* has mapped what is granted */
	uint32_t room;	     /* the largest ring that there are pages for; 0: any */
	/* of the last grants, the latest last */
	uint32_t domids[2], size;
};
extern struct held held;
extern struct config rendezvous_config;
extern uint64_t later_ms; /* the clock of ages is ahead by this */
extern unsigned writes;	  /* of our endpoints for domain 2 */

struct scene {
	struct self self;
	struct event_base *base;
	struct turns turns;
	struct store store;
	struct registry *registry;
	struct registry_sink sink;
	struct peers *peers;
	struct vchan *vchan;
	char nonce[9];
	unsigned ups, failures, losses, own_leaf_gone;
	struct quota *quota;
	struct account *user, *other;
};

/* The watch on /local/domain tells of this path. */
void fire(struct scene *scene, const char *path);
/* The watch on what we have written tells of this path. */
void fire_own(struct scene *scene, const char *path);
/* Whoever maps what was granted last has done so; has closed it. */
void client_comes(void);
void close_granted(struct scene *scene);
/* All that can be done now is done. */
void settle(struct scene *scene);
void pass_time(struct scene *scene, unsigned ms);
/* This is written, or removed if it is NULL; the watch tells of it, and all that follows is done. */
void change(struct scene *scene, const char *path, const char *value);
/* Nothing is known of the peer yet, nor wanted; we may map, or grant. */
void begin_as_mapper(struct scene *scene);
/* Its requests have 100 ms each, and the peer is there. */
void begin_impatient(struct scene *scene);
void begin_as_granter(struct scene *scene);
/* Domain 0 is there, and may tell of the others, but XenStore has said nothing yet. */
void begin_slowly(struct scene *scene);
bool is_watched(struct scene *scene, const char *path);
/* The peer has answered our hello. Of two that both may map we do, being the lower one, and it offers nothing
 * yet. */
void scene_start(struct scene *scene);
void start_as_granter(struct scene *scene);
/* All vchans must have been closed by then. What was set for the scene is as it was. */
void scene_stop(struct scene *scene);
/* Somebody here, who pays for it, wants a link. */
void connect_to(struct scene *scene, uint32_t domid, struct account *account);
const char *node_path(struct scene *scene, const char *name);
/* The peer writes where its rings are, and nothing tells of it. */
void write_nodes(struct scene *scene);
void await_vchan(struct scene *scene);
/* What is written there, or NULL. */
const char *value_at(struct scene *scene, const char *path);

#endif
