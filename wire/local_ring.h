/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_LOCAL_RING_H
#define XENMSG_WIRE_LOCAL_RING_H

/* Layout of a ring of the local hop in the memory that a program shares with its daemon: doc/protocol.md,
 * section 4. Each field of its control block has a cache line of its own. */

#include "wire/frame.h"
#include "wire/ring.h"

#define LOCAL_RING_CONTROL 256u /* size of a control block in bytes */

/* Returns the view of a ring. The caller has checked that the place is inside the memory and aligned. */
static inline struct ring_view local_ring_view(uint8_t *memory, const struct frame_ring_place *place)
{
	uint8_t *control = memory + place->control;

	return (struct ring_view){
		.data = memory + place->data,
		.size = place->size,
		.producer = (uint32_t *)(void *)control,
		.consumer = (uint32_t *)(void *)(control + 64),
		.wants_data = control + 128,
		.wants_space = control + 192,
		.wants_data_bit = 1,
		.wants_space_bit = 1,
	};
}

#endif
