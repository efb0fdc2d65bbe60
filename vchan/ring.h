/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_VCHAN_RING_H
#define XENMSG_VCHAN_RING_H

/* Bytes in the order in which they came, at most as many as it was made for, which is a power of two. Its
 * memory is touched as far as it is used. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct ring {
	unsigned char *data;
	size_t size, head, tail; /* bytes that were taken, and put, so far */
};

static inline size_t ring_filled(const struct ring *ring)
{
	return ring->tail - ring->head;
}

static inline size_t ring_space(const struct ring *ring)
{
	return ring->size - ring_filled(ring);
}

/* The bytes from the front on that lie in one piece. */
static inline size_t ring_front(const struct ring *ring, const unsigned char **data)
{
	size_t at = ring->head & (ring->size - 1), piece = ring->size - at;

	*data = ring->data + at;
	return piece < ring_filled(ring) ? piece : ring_filled(ring);
}

static inline void ring_drop(struct ring *ring, size_t size)
{
	ring->head += size;
	if (ring->head == ring->tail) /* so that little traffic touches little memory */
		ring->head = ring->tail = 0;
}

/* Puts as much as there is room for. Returns how much that is. */
static inline size_t ring_put(struct ring *ring, const void *data, size_t size)
{
	size_t at = ring->tail & (ring->size - 1), piece = ring->size - at;

	if (size > ring_space(ring))
		size = ring_space(ring);
	if (piece > size)
		piece = size;
	memcpy(ring->data + at, data, piece);
	memcpy(ring->data, (const unsigned char *)data + piece, size - piece);
	ring->tail += size;
	return size;
}

/* Takes as much as there is. Returns how much that is. */
static inline size_t ring_take(struct ring *ring, void *data, size_t size)
{
	size_t taken = 0;

	while (taken < size && ring_filled(ring) > 0) {
		const unsigned char *front;
		size_t piece = ring_front(ring, &front);

		if (piece > size - taken)
			piece = size - taken;
		memcpy((unsigned char *)data + taken, front, piece);
		ring_drop(ring, piece);
		taken += piece;
	}
	return taken;
}

#endif
