/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_FRAME_RING_H
#define XENMSG_WIRE_FRAME_RING_H

/* Reads and writes whole frames in a ring: header, payload, padding. */

#include "wire/frame.h"
#include "wire/ring.h"

/* Writes a frame. The caller has checked that frame_size(header->length) bytes are free. */
static inline __attribute__((always_inline)) void
frame_put(struct ring_writer *ring, const struct frame_header *header, const void *payload)
{
	static const uint8_t zeros[8];
	uint8_t encoded[FRAME_HEADER_SIZE];

	frame_header_encode(header, encoded);
	ring_writer_put(ring, encoded, FRAME_HEADER_SIZE);
	ring_writer_put(ring, payload, header->length);
	if (header->length & 7u)
		ring_writer_put(ring, zeros, -header->length & 7u);
}

/* Looks at the frame at the front of a ring without consuming it. Returns 1 if the whole frame has
 * arrived: *header is its header, and its payload is FRAME_HEADER_SIZE bytes behind the front. Returns 0
 * if only `ready` bytes of it have; if `ready` isn't 0, that is a violation where the other end publishes
 * whole frames only. Returns -EPROTO if the index is impossible, or the frame is too long for this ring or
 * for any. */
static inline int frame_next(struct ring_reader *ring, struct frame_header *header, uint32_t *ready)
{
	uint8_t encoded[FRAME_HEADER_SIZE];
	int r = ring_reader_ready(ring, FRAME_HEADER_SIZE);

	*ready = r < 0 ? 0 : (uint32_t)r;
	if (r < (int)FRAME_HEADER_SIZE)
		return r < 0 ? r : 0;
	ring_reader_copy(ring, 0, encoded, FRAME_HEADER_SIZE);
	if (frame_header_decode(encoded, header) < 0 || frame_size(header->length) > ring->ring.size)
		return -EPROTO;
	r = ring_reader_ready(ring, frame_size(header->length));
	*ready = r < 0 ? 0 : (uint32_t)r;
	return r < 0 ? r : *ready >= frame_size(header->length);
}

#endif
