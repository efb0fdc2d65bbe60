/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_PRIVATE_RING_H
#define XENMSG_DAEMON_PRIVATE_RING_H

/*
 * Rings in the daemon's own memory, between a hop and the part that speaks frames, or only bytes, for a
 * program that shares no memory with the daemon. Both ends are ours. The bytes lie in a piece of the
 * switchboard's `rings` (base/carried_memory.h), whose holder gives it back after the hop was detached. The
 * rings' words lie with the holder, begin as zeros and go over with it, so that a ring in which nothing lies
 * needs no page.
 */

#include <stdint.h>

#include "wire/ring.h"

#define PRIVATE_RING_SIZE 131072u /* larger than any frame */

/* From the hop of a stream, without DATA: a few small frames. */
#define CONTROL_RING_SIZE 8192u

struct private_rings {
	uint8_t to_hop[PRIVATE_RING_SIZE], from_hop[PRIVATE_RING_SIZE];
	uint8_t control[CONTROL_RING_SIZE];
};

#endif
