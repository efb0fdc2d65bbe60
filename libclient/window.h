/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_WINDOW_H
#define XENMSG_LIBCLIENT_WINDOW_H

/*
 * A second mapping of a ring's bytes, twice in a row, in which a part that wraps around the ring's end lies in
 * one piece. What the program is lent of a ring lies there. If the ring must go on while the program still has
 * it, window_keep() puts private pages with the same content in its place: the program's pointers stay valid,
 * and the ring has lent nothing any more. Such a window isn't lent from again; its owner makes another.
 *
 * The owner and each borrower release a window, in any order.
 */

#include <stdint.h>

#include "wire/ring.h"

#define LEND_MIN      4096u  /* bytes: less is copied faster than it is lent */
#define LEND_RING_MIN 65536u /* of smaller rings nothing is lent */

struct window {
	uint8_t *base;
	uint32_t size; /* of the ring; the window has twice as much */
	unsigned users;
};

/* Returns a window with one user, or NULL if there can't be one: the ring is small or isn't made of whole pages, or
 * there is no memory. */
struct window *window_new(const struct ring_view *ring);
void window_use(struct window *window);
/* NULL is allowed. */
void window_release(struct window *window);
/* Returns where the byte at this position of the ring lies. As many as the ring has follow it. */
static inline uint8_t *window_at(const struct window *window, uint32_t position)
{
	return window->base + (position & (window->size - 1));
}
/* Puts private pages in place of those that contain these `size` bytes. Returns 0, or -ENOMEM: nothing has
 * changed. */
int window_keep(struct window *window, const uint8_t *at, uint32_t size);

#endif
