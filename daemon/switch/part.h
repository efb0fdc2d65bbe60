/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PART_H
#define XENMSG_DAEMON_PART_H

/*
 * A part of the daemon that has hops, and what is done to all parts alike: each room says for itself what
 * the next daemon gets of it, and daemon/main/handover.c has their order. `self` is the part's object. A
 * method that is NULL has nothing to do.
 *
 *   the daemon that hands over   leave ──▶ number ──▶ write, write_channels, write_rest: each of all parts
 *                                  └─there can be no image──▶ stay
 *   the next one                 read, section by section ──▶ lose, hop by hop ──▶ go_on
 *                                  └─the image can't be taken──▶ drop
 */

#include <stdbool.h>
#include <stdint.h>

struct hop;
struct image;
struct image_hops;

#define PART_SECTIONS 2

struct part {
	/* Calls `each` with the hops where programs of this domain are, or would be. */
	void (*each_hop)(void *self, void (*each)(void *userdata, struct hop *hop), void *userdata);
	/* Returns how many bytes an image has of it besides what waits at those hops. */
	uint64_t (*queued)(const void *self);

	/* Ends what can't be handed over, and begins nothing any more. */
	void (*leave)(void *self);
	/* Gives its hops numbers in the image, from `first` on. Returns the next one. */
	uint32_t (*number)(void *self, uint32_t first);
	/* Write the sections of its hops, of their channels, and of what names both. */
	void (*write)(void *self, struct image *image);
	void (*write_channels)(void *self, struct image *image);
	void (*write_rest)(void *self, struct image *image);
	/* Goes on here, as it would with the next daemon. */
	void (*stay)(void *self);

	/* Read a section of this type each. */
	struct {
		uint32_t type;
		void (*read)(void *self, struct image *image, struct image_hops *hops);
	} sections[PART_SECTIONS];
	/* Ends the owner of a hop that couldn't be taken. False: it is another part's. */
	bool (*lose)(void *self, struct hop *hop);
	/* All was read. */
	void (*go_on)(void *self);
	/* Ends what was read. */
	void (*drop)(void *self);
};

/* Has the part read a section. False: those of this type are another part's. */
static inline bool part_read(const struct part *part, void *self, struct image *image, uint32_t type,
			     struct image_hops *hops)
{
	for (unsigned i = 0; i < PART_SECTIONS; i++) {
		if (part->sections[i].type != type)
			continue;
		part->sections[i].read(self, image, hops);
		return true;
	}
	return false;
}

#endif
