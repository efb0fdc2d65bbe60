/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RING_FIXTURE_H
#define XENMSG_TESTS_RING_FIXTURE_H

/*
 * A ring on the heap with both of its ends. The data is an allocation of exactly its size, so that
 * AddressSanitizer sees the first byte that is touched outside of it.
 */

#include "wire/ring.h"

#include "tests/unit/unit.h"

struct ring_fixture {
	uint32_t producer, consumer;
	uint8_t wants_data, wants_space;
	uint8_t *data;
	struct ring_view view;
	struct ring_writer writer;
	struct ring_reader reader;
};

static inline void ring_fixture_start(struct ring_fixture *ring, uint32_t size, uint32_t index)
{
	*ring = (struct ring_fixture){.producer = index, .consumer = index, .data = calloc(1, size)};
	assert_non_null(ring->data);
	ring->view = (struct ring_view){
		.data = ring->data,
		.size = size,
		.producer = &ring->producer,
		.consumer = &ring->consumer,
		.wants_data = &ring->wants_data,
		.wants_space = &ring->wants_space,
		.wants_data_bit = 1,
		.wants_space_bit = 2,
	};
	assert_int_equal(ring_writer_init(&ring->writer, &ring->view, true), 0);
	assert_int_equal(ring_reader_init(&ring->reader, &ring->view, true), 0);
}

static inline void ring_fixture_stop(struct ring_fixture *ring)
{
	free(ring->data);
}

/* The head of a test with a ring whose indices begin here; its parameter is `ring`. */
#define RING_TEST(name, size, index)                                                                         \
	static void name##_in(struct ring_fixture *ring);                                                    \
	TEST(name)                                                                                           \
	{                                                                                                    \
		struct ring_fixture unit_ring;                                                               \
                                                                                                             \
		ring_fixture_start(&unit_ring, size, index);                                                 \
		name##_in(&unit_ring);                                                                       \
		ring_fixture_stop(&unit_ring);                                                               \
	}                                                                                                    \
	static void name##_in(struct ring_fixture *ring)

/* The byte that stands at a position of a test's stream. */
static inline uint8_t pattern(uint64_t position)
{
	return (uint8_t)(position * 131 + (position >> 8) * 7 + 1);
}

static inline void pattern_fill(uint8_t *out, uint64_t position, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		out[i] = pattern(position + i);
}

static inline bool pattern_is(const uint8_t *in, uint64_t position, uint32_t size)
{
	for (uint32_t i = 0; i < size; i++)
		if (in[i] != pattern(position + i))
			return false;
	return true;
}

#endif
