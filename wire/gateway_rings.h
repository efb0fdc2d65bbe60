/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_GATEWAY_RINGS_H
#define XENMSG_WIRE_GATEWAY_RINGS_H

/*
 * The memory that a daemon shares with its gateway for a conversation: two rings, in which its bytes go
 * (wire/gateway.h, doc/protocol.md, section 7).
 */

#include "wire/local_ring.h"

#define GATEWAY_RING_SIZE                                                                                    \
	1048576u /* fixed, so that what fits into one host's ring fits into the other one's */
#define GATEWAY_RINGS_HEAD  4096u /* the control blocks' page */
#define GATEWAY_MEMORY_SIZE (GATEWAY_RINGS_HEAD + 2 * GATEWAY_RING_SIZE)

enum gateway_ring {
	GATEWAY_RING_OUT, /* the daemon writes, the gateway reads */
	GATEWAY_RING_IN,
};

static inline struct ring_view gateway_ring_view(uint8_t *memory, enum gateway_ring which)
{
	const struct frame_ring_place place = {
		.control = which * LOCAL_RING_CONTROL,
		.data = GATEWAY_RINGS_HEAD + which * GATEWAY_RING_SIZE,
		.size = GATEWAY_RING_SIZE,
	};

	return local_ring_view(memory, &place);
}

#endif
