/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Rings whose other end writes what it likes, when it likes. For each index it can leave there, a small model
 * says whether an honest end could have; if not the answer is -EPROTO, and in no case more bytes are promised
 * than are there.
 */

#include "tests/unit/ring_fixture.h"
#include "wire/frame_ring.h"

#define SIZE 16u

static const uint32_t starts[] = {0, 9, 0x7ffffffc, 0xfffffff4, 0xffffffff};

/* All that can be told apart around an index: each near one, and some from the rest of the circle. */
static uint32_t candidate(uint32_t centre, int i)
{
	static const uint32_t remote[] = {0x1000, 0x7ffffff0, 0x80000000, 0x80000010, 0xfffff000};

	if (i < 101)
		return centre + (uint32_t)(i - 50);
	return centre + remote[i - 101];
}
#define CANDIDATES 106

/* A ring where `written` bytes were published, the reader has seen them all, consumed `consumed` and released
 * `released` of them, and the writer has seen that. */
static void used_ring(struct ring_fixture *ring, uint32_t start, uint32_t written, uint32_t consumed,
		      uint32_t released)
{
	uint8_t bytes[SIZE] = {0};

	ring_fixture_start(ring, SIZE, start);
	ring_writer_put(&ring->writer, bytes, written);
	ring_writer_publish(&ring->writer);
	assert_int_equal(ring_reader_ready(&ring->reader, 1), written);
	ring_reader_consume(&ring->reader, released);
	ring_reader_release(&ring->reader);
	ring_reader_consume(&ring->reader, consumed - released);
	assert_int_equal(ring_writer_space(&ring->writer, SIZE), SIZE - written + released);
}

TEST(each_impossible_producer_index_is_found)
{
	unsigned refused = 0;

	for (size_t s = 0; s < sizeof(starts) / sizeof(*starts); s++)
		for (uint32_t written = 0; written <= SIZE; written += 4)
			for (uint32_t consumed = 0; consumed <= written; consumed += 2)
				for (uint32_t released = 0; released <= consumed; released += 2)
					for (int i = 0; i < CANDIDATES; i++) {
						struct ring_fixture ring;
						uint32_t index, ahead;
						bool possible;
						int r;

						used_ring(&ring, starts[s], written, consumed, released);
						index = candidate(starts[s] + written, i);
						ring.producer = index;
						ahead = index - (starts[s] + released);
						possible = ahead >= written - released && ahead <= SIZE;
						r = ring_reader_ready(&ring.reader, SIZE + 1);
						assert_int_equal(
							r, possible ? (int)(index - starts[s] - consumed)
								    : -EPROTO);
						r = ring_reader_arm(&ring.reader, SIZE + 1);
						assert_int_equal(r, possible ? 0 : -EPROTO);
						refused += !possible;
						/* What was seen before stays what it was. */
						if (!possible)
							assert_int_equal(ring_reader_ready(&ring.reader, 0),
									 written - consumed);
						ring_fixture_stop(&ring);
					}
	assert_true(refused > 1000);
}

TEST(each_impossible_consumer_index_is_found)
{
	unsigned refused = 0;

	for (size_t s = 0; s < sizeof(starts) / sizeof(*starts); s++)
		for (uint32_t written = 0; written <= SIZE; written += 4)
			for (uint32_t released = 0; released <= written; released += 2)
				for (uint32_t unpublished = 0; written - released + unpublished <= SIZE;
				     unpublished += 5)
					for (int i = 0; i < CANDIDATES; i++) {
						struct ring_fixture ring;
						uint8_t bytes[SIZE] = {0};
						uint32_t index;
						bool possible;
						int r, used;

						used_ring(&ring, starts[s], written, released, released);
						ring_writer_put(&ring.writer, bytes, unpublished);
						index = candidate(starts[s] + released, i);
						ring.consumer = index;
						possible = index - starts[s] - released <= written - released;
						used = (int)(starts[s] + written + unpublished - index);
						r = ring_writer_space(&ring.writer, SIZE + 1);
						assert_int_equal(r, possible ? (int)SIZE - used : -EPROTO);
						r = ring_writer_arm(&ring.writer, SIZE + 1);
						assert_int_equal(r, possible ? 0 : -EPROTO);
						r = ring_writer_unread(&ring.writer);
						assert_int_equal(r,
								 possible ? (int)(starts[s] + written - index)
									  : -EPROTO);
						refused += !possible;
						if (!possible)
							assert_int_equal(ring_writer_space(&ring.writer, 0),
									 SIZE - written + released -
										 unpublished);
						ring_fixture_stop(&ring);
					}
	assert_true(refused > 1000);
}

TEST(an_index_that_goes_back_between_two_looks_is_found)
{
	struct ring_fixture ring;

	used_ring(&ring, 0xfffffffc, 8, 0, 0);
	ring.producer = 0xfffffffc + 12;
	assert_int_equal(ring_reader_ready(&ring.reader, 12), 12);
	ring.producer = 0xfffffffc + 11;
	assert_int_equal(ring_reader_ready(&ring.reader, 12), 12); /* cached: nobody looks */
	assert_int_equal(ring_reader_ready(&ring.reader, 13), -EPROTO);
	ring_fixture_stop(&ring);

	used_ring(&ring, 0xfffffffc, 8, 0, 0);
	ring.consumer = 0xfffffffc + 6;
	assert_int_equal(ring_writer_space(&ring.writer, SIZE), SIZE - 2);
	ring.consumer = 0xfffffffc + 5;
	assert_int_equal(ring_writer_space(&ring.writer, SIZE - 2), SIZE - 2);
	assert_int_equal(ring_writer_space(&ring.writer, SIZE - 1), -EPROTO);
	ring_fixture_stop(&ring);
}

TEST(an_index_moved_between_look_and_arm_is_found)
{
	struct ring_fixture ring;

	used_ring(&ring, 5, 8, 0, 0);
	assert_int_equal(ring_reader_ready(&ring.reader, 9), 8);
	ring.producer = 5 + SIZE + 1;
	assert_int_equal(ring_reader_arm(&ring.reader, 9), -EPROTO);
	ring_fixture_stop(&ring);

	used_ring(&ring, 5, 8, 0, 0);
	assert_int_equal(ring_writer_space(&ring.writer, 9), 8);
	ring.consumer = 5 + 9;
	assert_int_equal(ring_writer_arm(&ring.writer, 9), -EPROTO);
	ring_fixture_stop(&ring);
}

RING_TEST(an_index_that_jumps_by_ringfuls_is_found_once_it_overruns, SIZE, 0)
{
	uint8_t bytes[SIZE];

	/* A ringful is possible, so the content is whatever lies there; a second one before anything was
	 * released isn't. */
	ring->producer = SIZE;
	assert_int_equal(ring_reader_ready(&ring->reader, 1), SIZE);
	ring_reader_copy(&ring->reader, 0, bytes, SIZE);
	ring_reader_consume(&ring->reader, SIZE);
	ring->producer = 2 * SIZE;
	assert_int_equal(ring_reader_ready(&ring->reader, 1), -EPROTO);
	ring_reader_release(&ring->reader);
	assert_int_equal(ring_reader_ready(&ring->reader, 1), SIZE);
}

TEST(the_own_index_in_shared_memory_doesnt_matter)
{
	static const uint32_t values[] = {0, 1, SIZE, SIZE + 1, 0x80000000, 0xffffffff};

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		struct ring_fixture ring;
		uint8_t bytes[SIZE];

		used_ring(&ring, 3, 8, 4, 4);
		/* The reader writes over the writer's index: the writer goes on from its own. */
		ring.producer = values[i];
		assert_int_equal(ring_writer_space(&ring.writer, SIZE), SIZE - 4);
		assert_int_equal(ring_writer_unread(&ring.writer), 4);
		pattern_fill(bytes, 0, 5);
		ring_writer_put(&ring.writer, bytes, 5);
		ring_writer_publish(&ring.writer);
		assert_int_equal(ring.producer, 3 + 13);
		/* And the writer over the reader's. */
		ring.consumer = values[i];
		assert_int_equal(ring_reader_ready(&ring.reader, SIZE), 9);
		ring_reader_copy(&ring.reader, 4, bytes, 5);
		assert_true(pattern_is(bytes, 0, 5));
		ring_reader_consume(&ring.reader, 9);
		ring_reader_release(&ring.reader);
		assert_int_equal(ring.consumer, 3 + 13);
		assert_int_equal(ring_writer_space(&ring.writer, SIZE), SIZE);
		ring_fixture_stop(&ring);
	}
}

TEST(any_request_byte_is_harmless)
{
	for (unsigned value = 0; value < 256; value++) {
		struct ring_fixture ring;
		uint8_t byte = 0;

		ring_fixture_start(&ring, SIZE, 0);
		ring.wants_data = ring.wants_space = (uint8_t)value;
		ring_writer_put(&ring.writer, &byte, 1);
		assert_int_equal(ring_writer_publish(&ring.writer), value & 1);
		assert_int_equal(ring.wants_data, value & ~1u);
		assert_int_equal(ring_reader_ready(&ring.reader, 1), 1);
		ring_reader_consume(&ring.reader, 1);
		assert_int_equal(ring_reader_release(&ring.reader), !!(value & 2));
		assert_int_equal(ring.wants_space, value & ~2u);
		ring_fixture_stop(&ring);
	}
}

RING_TEST(any_position_names_a_word_inside_the_ring, SIZE, 0xfffffff1)
{
	for (uint64_t i = 0; i < CANDIDATES; i++) {
		uint32_t *word = ring_writer_word(&ring->writer, candidate(0, (int)i));

		assert_true((uint8_t *)word >= ring->data && (uint8_t *)word + 4 <= ring->data + SIZE);
		assert_int_equal((uintptr_t)word % 4, 0);
		word = ring_reader_word(&ring->reader, candidate(0, (int)i));
		assert_true((uint8_t *)word >= ring->data && (uint8_t *)word + 4 <= ring->data + SIZE);
		assert_int_equal((uintptr_t)word % 4, 0);
	}
}

/* Nobody waits for what can't come. */
TEST(a_frame_that_is_longer_than_its_ring_is_a_violation)
{
	for (uint32_t length = 48; length < 50; length++) {
		const struct frame_header sent = {.type = FRAME_DATA, .length = length};
		uint8_t encoded[FRAME_HEADER_SIZE];
		struct frame_header header;
		struct ring_fixture ring;
		uint32_t ready;

		ring_fixture_start(&ring, 64, 0);
		frame_header_encode(&sent, encoded);
		ring_writer_put(&ring.writer, encoded, sizeof(encoded));
		ring_writer_publish(&ring.writer);
		assert_int_equal(frame_next(&ring.reader, &header, &ready), length == 48 ? 0 : -EPROTO);
		ring_fixture_stop(&ring);
	}
}
