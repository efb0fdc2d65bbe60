/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_MIRROR_H
#define XENMSG_LIBCLIENT_MIRROR_H

/*
 * A second mapping of a ring's bytes, twice in a row, in which a part that wraps around the ring's end lies
 * in one piece. What the program is lent of a ring lies there. If the ring must go on while the program still
 * has it, mirror_keep() puts private pages with the same content in its place: the program's pointers stay
 * valid, and the ring has lent nothing any more. Such a mirror isn't lent from again; its owner makes
 * another.
 *
 * The owner and each borrower release a mirror, in any order. A child made by fork() has no mirrors: it
 * releases them without touching what lay there.
 */

#include <stdint.h>
#include <sys/types.h>

#include "wire/ring.h"

#define LEND_MIN      4096u  /* bytes: less is copied faster than it is lent */
#define LEND_RING_MIN 65536u /* of smaller rings nothing is lent */

struct mirror {
	uint8_t *base;
	uint32_t size; /* of the ring; the mirror has twice as much */
	unsigned users;
	pid_t pid; /* in which it lies */
};

/* Returns a mirror with one user, or NULL if there can't be one: the ring is small or isn't made of whole
 * pages, or there is no memory. */
struct mirror *mirror_new(const struct ring_view *ring);
void mirror_use(struct mirror *mirror);
/* NULL is allowed. */
void mirror_release(struct mirror *mirror);
/* Returns where the byte at this position of the ring lies. As many as the ring has follow it. */
static inline uint8_t *mirror_at(const struct mirror *mirror, uint32_t position)
{
	return mirror->base + (position & (mirror->size - 1));
}
/* Puts private pages in place of those that contain these `size` bytes. Returns 0, or -ENOMEM: nothing has
 * changed. */
int mirror_keep(struct mirror *mirror, const uint8_t *at, uint32_t size);

#endif
