/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Rings between two honest ends that move in turn: what goes in comes out, at every offset and index. */

#include "tests/unit/ring_fixture.h"

#define SIZE 16u

/* Where the interesting indices begin: at zero, before the wrap of the data, and before the wrap of the index
 * itself. */
static const uint32_t starts[] = {0, SIZE - 3, 0x7fffffff, 0xffffffff - 2 * SIZE, 0xfffffff0, 0xffffffff};

static void put(struct ring_fixture *ring, uint64_t position, uint32_t size)
{
	uint8_t bytes[256];

	assert_true(size <= sizeof(bytes));
	pattern_fill(bytes, position, size);
	ring_writer_put(&ring->writer, bytes, size);
}

static void get(struct ring_fixture *ring, uint64_t position, uint32_t size)
{
	uint8_t *bytes = malloc(size ? size : 1);

	ring_reader_copy(&ring->reader, 0, bytes, size);
	assert_true(pattern_is(bytes, position, size));
	ring_reader_consume(&ring->reader, size);
	free(bytes);
}

TEST(every_size_at_every_offset_arrives_unchanged)
{
	for (size_t s = 0; s < sizeof(starts) / sizeof(*starts); s++)
		for (uint32_t offset = 0; offset <= SIZE; offset++)
			for (uint32_t size = 0; size <= SIZE; size++) {
				struct ring_fixture ring;

				ring_fixture_start(&ring, SIZE, starts[s] + offset);
				assert_int_equal(ring_writer_space(&ring.writer, SIZE), SIZE);
				put(&ring, offset, size);
				assert_int_equal(ring_reader_ready(&ring.reader, 1), 0);
				ring_writer_publish(&ring.writer);
				assert_int_equal(ring_reader_ready(&ring.reader, 1), size);
				get(&ring, offset, size);
				assert_int_equal(ring_reader_ready(&ring.reader, 1), 0);
				assert_int_equal(ring_writer_space(&ring.writer, SIZE), SIZE - size);
				ring_reader_release(&ring.reader);
				assert_int_equal(ring_writer_space(&ring.writer, SIZE), SIZE);
				assert_int_equal(ring.producer, starts[s] + offset + size);
				assert_int_equal(ring.consumer, starts[s] + offset + size);
				ring_fixture_stop(&ring);
			}
}

RING_TEST(a_full_ring_has_no_space_and_an_empty_one_no_data, SIZE, 0xfffffff8)
{
	assert_int_equal(ring_reader_ready(&ring->reader, 1), 0);
	assert_int_equal(ring_writer_unread(&ring->writer), 0);
	put(ring, 0, SIZE);
	assert_int_equal(ring_writer_space(&ring->writer, 1), 0);
	ring_writer_publish(&ring->writer);
	assert_int_equal(ring_writer_space(&ring->writer, 1), 0);
	assert_int_equal(ring_writer_unread(&ring->writer), SIZE);
	assert_int_equal(ring_reader_ready(&ring->reader, 1), SIZE);
	get(ring, 0, 1);
	assert_int_equal(ring_writer_space(&ring->writer, 1), 0);
	ring_reader_release_quietly(&ring->reader);
	assert_int_equal(ring_writer_space(&ring->writer, 1), 1);
	assert_int_equal(ring_writer_unread(&ring->writer), SIZE - 1);
}

TEST(what_is_written_in_place_arrives_also_over_the_wrap)
{
	for (uint32_t offset = 0; offset < SIZE; offset++)
		for (uint32_t size = 0; size <= SIZE; size++) {
			struct ring_fixture ring;
			struct iovec pieces[2];
			uint64_t position = 0;
			int n;

			ring_fixture_start(&ring, SIZE, offset);
			n = ring_writer_reserve(&ring.writer, size, pieces);
			assert_int_equal(n, offset + size > SIZE ? 2 : 1);
			assert_int_equal(pieces[0].iov_len + pieces[1].iov_len, size);
			for (int i = 0; i < n; i++) {
				pattern_fill(pieces[i].iov_base, position, (uint32_t)pieces[i].iov_len);
				position += pieces[i].iov_len;
			}
			ring_writer_advance(&ring.writer, size);
			ring_writer_publish(&ring.writer);
			assert_int_equal(ring_reader_ready(&ring.reader, 1), size);
			n = ring_reader_peek(&ring.reader, 0, size, pieces);
			assert_int_equal(n, offset + size > SIZE ? 2 : 1);
			position = 0;
			for (int i = 0; i < n; i++) {
				assert_true(pattern_is(pieces[i].iov_base, position,
						       (uint32_t)pieces[i].iov_len));
				position += pieces[i].iov_len;
			}
			assert_int_equal(position, size);
			get(&ring, 0, size);
			ring_fixture_stop(&ring);
		}
}

TEST(part_of_what_is_there_can_be_read_at_any_offset)
{
	for (uint32_t start = 0; start < SIZE; start++) {
		struct ring_fixture ring;

		ring_fixture_start(&ring, SIZE, start);
		put(&ring, 0, SIZE);
		ring_writer_publish(&ring.writer);
		assert_int_equal(ring_reader_ready(&ring.reader, SIZE), SIZE);
		for (uint32_t offset = 0; offset < SIZE; offset++)
			for (uint32_t size = 0; offset + size <= SIZE; size++) {
				uint8_t *bytes = malloc(size ? size : 1);
				struct iovec pieces[2];
				int n = ring_reader_peek(&ring.reader, offset, size, pieces);

				ring_reader_copy(&ring.reader, offset, bytes, size);
				assert_true(pattern_is(bytes, offset, size));
				assert_true(
					pattern_is(pieces[0].iov_base, offset, (uint32_t)pieces[0].iov_len));
				if (n == 2)
					assert_true(pattern_is(pieces[1].iov_base, offset + pieces[0].iov_len,
							       (uint32_t)pieces[1].iov_len));
				free(bytes);
			}
		ring_fixture_stop(&ring);
	}
}

TEST(a_patch_changes_its_bytes_and_no_other)
{
	for (uint32_t start = 0; start < SIZE; start++)
		for (uint32_t at = 0; at + 4 <= SIZE; at++) {
			static const uint8_t mark[4] = {0xde, 0xad, 0xbe, 0xef};
			struct ring_fixture ring;
			uint8_t bytes[SIZE];
			uint32_t position;

			ring_fixture_start(&ring, SIZE, 0xfffffff0 + start);
			put(&ring, 0, at);
			position = ring.writer.head;
			put(&ring, at, SIZE - at);
			ring_writer_patch(&ring.writer, position, mark, sizeof(mark));
			assert_int_equal(ring.producer, 0xfffffff0 + start);
			ring_writer_publish(&ring.writer);
			assert_int_equal(ring_reader_ready(&ring.reader, SIZE), SIZE);
			ring_reader_copy(&ring.reader, 0, bytes, SIZE);
			assert_true(pattern_is(bytes, 0, at));
			assert_memory_equal(bytes + at, mark, sizeof(mark));
			assert_true(pattern_is(bytes + at + 4, at + 4, SIZE - at - 4));
			ring_fixture_stop(&ring);
		}
}

RING_TEST(a_batch_is_seen_at_once_and_costs_one_notification, SIZE, 0)
{
	assert_int_equal(ring_reader_arm(&ring->reader, 1), 0);
	for (uint32_t i = 0; i < 4; i++)
		put(ring, 3 * i, 3);
	assert_int_equal(ring_reader_ready(&ring->reader, 1), 0);
	assert_true(ring_writer_publish(&ring->writer));
	assert_false(ring_writer_publish(&ring->writer));
	put(ring, 12, 1);
	assert_false(ring_writer_publish(&ring->writer));
	assert_int_equal(ring_reader_ready(&ring->reader, 13), 13);

	assert_int_equal(ring_writer_arm(&ring->writer, SIZE), 0);
	get(ring, 0, 5);
	get(ring, 5, 5);
	ring_reader_release_quietly(&ring->reader);
	assert_true(ring_reader_release(&ring->reader));
	get(ring, 10, 3);
	assert_false(ring_reader_release(&ring->reader));
	assert_int_equal(ring_writer_space(&ring->writer, SIZE), SIZE);
}

RING_TEST(who_isnt_asked_doesnt_notify, SIZE, 0)
{
	for (uint32_t i = 0; i < 100; i++) {
		put(ring, i, 1);
		assert_false(ring_writer_publish(&ring->writer));
		assert_int_equal(ring_reader_ready(&ring->reader, 1), 1);
		get(ring, i, 1);
		assert_false(ring_reader_release(&ring->reader));
		assert_int_equal(ring_writer_space(&ring->writer, SIZE), SIZE);
	}
}

RING_TEST(arming_says_what_is_there_and_leaves_foreign_bits_alone, SIZE, 0)
{
	ring->wants_data = ring->wants_space = 0xf0;
	assert_int_equal(ring_writer_arm(&ring->writer, SIZE), 1);
	assert_int_equal(ring->wants_space, 0xf2);
	put(ring, 0, 8);
	assert_false(ring_writer_publish(&ring->writer));
	assert_int_equal(ring_reader_arm(&ring->reader, 8), 1);
	assert_int_equal(ring_reader_arm(&ring->reader, 9), 0);
	assert_int_equal(ring->wants_data, 0xf1);
	assert_int_equal(ring_writer_arm(&ring->writer, 8), 1);
	assert_int_equal(ring_writer_arm(&ring->writer, 9), 0);
	put(ring, 8, 8);
	assert_true(ring_writer_publish(&ring->writer));
	assert_int_equal(ring->wants_data, 0xf0);
	assert_true(ring_reader_release(&ring->reader));
	assert_int_equal(ring->wants_space, 0xf0);
}

RING_TEST(a_used_ring_is_adopted_where_it_stands, SIZE, 0xfffffffa)
{
	uint8_t bytes[10];

	put(ring, 0, 10);
	ring_writer_publish(&ring->writer);
	assert_int_equal(ring_reader_init(&ring->reader, &ring->view, true), 0);
	assert_int_equal(ring_reader_ready(&ring->reader, 1), 10);
	ring_reader_copy(&ring->reader, 0, bytes, 10);
	assert_true(pattern_is(bytes, 0, 10));
	assert_int_equal(ring_writer_init(&ring->writer, &ring->view, true), 0);
	assert_int_equal(ring_writer_space(&ring->writer, 1), SIZE - 10);
	assert_int_equal(ring_writer_unread(&ring->writer), 10);
	get(ring, 0, 10);
	ring_reader_release(&ring->reader);
	assert_int_equal(ring_writer_space(&ring->writer, SIZE), SIZE);
}

RING_TEST(a_new_ring_starts_at_zero_whatever_the_memory_says, SIZE, 0)
{
	ring->producer = 77;
	ring->consumer = 5;
	assert_int_equal(ring_writer_init(&ring->writer, &ring->view, false), 0);
	put(ring, 0, 3);
	ring_writer_publish(&ring->writer);
	assert_int_equal(ring->producer, 3);
	assert_int_equal(ring_reader_init(&ring->reader, &ring->view, false), 0);
	assert_int_equal(ring_reader_ready(&ring->reader, 1), 3);
}

RING_TEST(an_impossible_ring_isnt_adopted, SIZE, 0)
{
	static const uint32_t ahead[] = {SIZE + 1, 2 * SIZE, 0x80000000, 0xffffffff};

	for (size_t i = 0; i < sizeof(ahead) / sizeof(*ahead); i++) {
		ring->consumer = 0xfffffffd;
		ring->producer = ring->consumer + ahead[i];
		assert_int_equal(ring_writer_init(&ring->writer, &ring->view, true), -EPROTO);
		assert_int_equal(ring_reader_init(&ring->reader, &ring->view, true), -EPROTO);
	}
}

RING_TEST(a_size_that_is_no_power_of_two_is_refused, SIZE, 0)
{
	static const uint32_t sizes[] = {0, 1, 4, 7, 12, 1000, 65535, (1u << 30) + 1, 1u << 31, 0xffffffff};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		ring->view.size = sizes[i];
		assert_int_equal(ring_writer_init(&ring->writer, &ring->view, false), -EINVAL);
		assert_int_equal(ring_reader_init(&ring->reader, &ring->view, false), -EINVAL);
	}
}

TEST(both_ends_name_the_same_word)
{
	for (uint32_t start = 0; start < 4 * SIZE; start += 4) {
		struct ring_fixture ring;
		uint32_t position, value = 0x01020304, expected = 0, out;

		ring_fixture_start(&ring, SIZE, 0xffffffe0 + start);
		put(&ring, 0, 4);
		position = ring.writer.head;
		ring_writer_put(&ring.writer, &expected, 4);
		ring_writer_publish(&ring.writer);
		assert_int_equal(ring_reader_ready(&ring.reader, 8), 8);
		assert_ptr_equal(ring_writer_word(&ring.writer, position), ring_reader_word(&ring.reader, 4));
		assert_true(__atomic_compare_exchange_n(ring_writer_word(&ring.writer, position), &expected,
							value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
		ring_reader_copy(&ring.reader, 4, &out, 4);
		assert_int_equal(out, value);
		ring_fixture_stop(&ring);
	}
}
