/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_PRIVATE_RING_H
#define XENMSG_TESTS_PRIVATE_RING_H

/* A ring in a test's own memory, with its words. */

#include <stdint.h>

#include "daemon/switch/private_ring.h"
#include "wire/ring.h"

struct private_ring {
	struct ring_words words;
	uint8_t data[PRIVATE_RING_SIZE];
};

static inline struct ring_view private_ring_view(struct private_ring *ring)
{
	return ring_words_view(&ring->words, ring->data, PRIVATE_RING_SIZE);
}

#endif
