/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PRIVATE_RING_H
#define XENMSG_DAEMON_PRIVATE_RING_H

/*
 * A ring in the daemon's own memory, between a hop and the part that speaks frames, or only bytes, for a
 * program that shares no memory with the daemon. It begins as zeros (calloc), both ends are ours, and its
 * allocator frees it after the hop was detached.
 */

#include <stdint.h>

#include "wire/ring.h"

#define PRIVATE_RING_SIZE 131072u /* larger than any frame */

struct private_ring {
	struct ring_words words;
	uint8_t data[PRIVATE_RING_SIZE];
};

static inline struct ring_view private_ring_view(struct private_ring *ring)
{
	return ring_words_view(&ring->words, ring->data, PRIVATE_RING_SIZE);
}

#endif
