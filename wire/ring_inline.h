/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_RING_INLINE_H
#define XENMSG_WIRE_RING_INLINE_H

/*
 * Memory order, of all rings: the link's, the local hop's, the gateway's. Each rule has a program of its name
 * in tests/model/order, in which all executions that C11 allows were searched, also those in which the rule
 * is left out and something goes wrong; so it holds on Arm as on x86.
 * - `bytes`: the writer's store of `producer` is a release, the reader's load an acquire: a reader that sees
 *   the index sees the bytes. The same holds for `consumer` and the space: the reader's loads are over before
 *   the writer stores there again. So bytes need no atomic operations, as long as the other end is honest;
 *   for one that isn't, see untrusted_copy.h.
 * - `asleep`: "store my index, then load your request" on one side and "store my request, then load your
 *   index" on the other must not both see the old value, hence a full fence between the two on each side.
 *   Neither the release and the acquire nor the sequentially consistent OR do that: what follows such an
 *   operation may still come before it.
 * - `bits`: the request is set and cleared by an atomic OR and AND, as libxenvchan does, because on a vchan
 *   both requests of one side share a byte. A plain load comes first, since a locked operation for each
 *   message costs as much as a small message; it may be late, since who asks then sees the index.
 * - `again`: to withdraw one's own request, relaxed is enough. A side that sleeps empties its bell
 *   (eventfd, event channel) before it asks, not after it has looked: the bell might be for what it didn't
 *   see. The kernel's bells are not weaker than a release and an acquire, but the rings don't depend on it.
 *
 * The functions are inline because a small message passes a dozen of them.
 */

#include <errno.h>
#include <string.h>

#include "wire/ring.h"
#include "wire/untrusted_copy.h"

static inline uint32_t ring_load(const uint32_t *shared)
{
	return __atomic_load_n(shared, __ATOMIC_ACQUIRE);
}

static inline void ring_store(uint32_t *shared, uint32_t value)
{
	__atomic_store_n(shared, value, __ATOMIC_RELEASE);
}

static inline void ring_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void ring_request(uint8_t *shared, uint8_t bit)
{
	__atomic_fetch_or(shared, bit, __ATOMIC_SEQ_CST);
	ring_fence();
}

static inline void ring_withdraw_request(uint8_t *shared, uint8_t bit)
{
	if (__atomic_load_n(shared, __ATOMIC_RELAXED) & bit)
		__atomic_fetch_and(shared, (uint8_t)~bit, __ATOMIC_RELAXED);
}

/* Takes the other end's request. Returns whether there was one. */
static inline bool ring_take_request(uint8_t *shared, uint8_t bit)
{
	ring_fence();
	if (!(__atomic_load_n(shared, __ATOMIC_RELAXED) & bit))
		return false;
	return __atomic_fetch_and(shared, (uint8_t)~bit, __ATOMIC_SEQ_CST) & bit;
}

static inline int ring_pieces_of(const struct ring_view *ring, uint32_t position, uint32_t size,
				 struct iovec pieces[2])
{
	uint32_t start = position & (ring->size - 1);
	uint32_t first = ring->size - start;

	if (first >= size) {
		pieces[0] = (struct iovec){.iov_base = ring->data + start, .iov_len = size};
		pieces[1] = (struct iovec){.iov_base = ring->data, .iov_len = 0};
		return 1;
	}
	pieces[0] = (struct iovec){.iov_base = ring->data + start, .iov_len = first};
	pieces[1] = (struct iovec){.iov_base = ring->data, .iov_len = size - first};
	return 2;
}

static inline void ring_copy_in(const struct ring_view *ring, uint32_t position, const void *data,
				uint32_t size)
{
	uint32_t start = position & (ring->size - 1);
	uint32_t first = ring->size - start;

	if (first >= size) {
		memcpy(ring->data + start, data, size);
		return;
	}
	memcpy(ring->data + start, data, first);
	memcpy(ring->data, (const uint8_t *)data + first, size - first);
}

/* Adopts the reader's index if an honest reader could have it: it lies between what was last seen and what
 * was published. */
static inline int ring_see_tail(struct ring_writer *writer)
{
	uint32_t untrusted_tail = ring_load(writer->ring.consumer);

	if (untrusted_tail - writer->tail > writer->published - writer->tail ||
	    (untrusted_tail & writer->ring.unaligned))
		return -EPROTO;
	writer->tail = untrusted_tail;
	return 0;
}

/* Does the same for the writer's index: it isn't behind what was last seen, and at most the ring's size ahead
 * of what was released. */
static inline int ring_see_head(struct ring_reader *reader)
{
	uint32_t untrusted_head = ring_load(reader->ring.producer);

	if (untrusted_head - reader->released > reader->ring.size ||
	    untrusted_head - reader->released < reader->head - reader->released)
		return -EPROTO;
	reader->head = untrusted_head;
	return 0;
}

static inline uint32_t ring_space_of(const struct ring_writer *writer)
{
	return writer->ring.size - (writer->head - writer->tail);
}

static inline int ring_writer_space(struct ring_writer *writer, uint32_t want)
{
	if (ring_space_of(writer) < want) {
		int r = ring_see_tail(writer);

		if (r < 0)
			return r;
	}
	return (int)ring_space_of(writer);
}

static inline void ring_writer_put(struct ring_writer *writer, const void *data, uint32_t size)
{
	ring_copy_in(&writer->ring, writer->head, data, size);
	writer->head += size;
}

static inline int ring_writer_reserve(const struct ring_writer *writer, uint32_t size, struct iovec pieces[2])
{
	return ring_pieces_of(&writer->ring, writer->head, size, pieces);
}

static inline uint8_t *ring_writer_room(const struct ring_writer *writer, uint32_t size)
{
	uint32_t start = writer->head & (writer->ring.size - 1);

	return writer->ring.size - start >= size ? writer->ring.data + start : NULL;
}

static inline void ring_writer_advance(struct ring_writer *writer, uint32_t size)
{
	writer->head += size;
}

static inline void ring_writer_patch(struct ring_writer *writer, uint32_t position, const void *data,
				     uint32_t size)
{
	ring_copy_in(&writer->ring, position, data, size);
}

static inline bool ring_writer_is_ahead(const struct ring_writer *writer)
{
	return writer->published != writer->head;
}

static inline bool ring_writer_is_awaited(const struct ring_writer *writer)
{
	return __atomic_load_n(writer->ring.wants_data, __ATOMIC_RELAXED) & writer->ring.wants_data_bit;
}

static inline bool ring_writer_publish(struct ring_writer *writer)
{
	if (!ring_writer_is_ahead(writer))
		return false;
	writer->published = writer->head;
	ring_store(writer->ring.producer, writer->head);
	return ring_take_request(writer->ring.wants_data, writer->ring.wants_data_bit);
}

static inline int ring_writer_arm(struct ring_writer *writer, uint32_t want)
{
	int r;

	ring_request(writer->ring.wants_space, writer->ring.wants_space_bit);
	r = ring_see_tail(writer);
	if (r < 0)
		return r;
	return ring_space_of(writer) >= want;
}

static inline void ring_writer_disarm(struct ring_writer *writer)
{
	ring_withdraw_request(writer->ring.wants_space, writer->ring.wants_space_bit);
}

static inline int ring_writer_unread(struct ring_writer *writer)
{
	int r = ring_see_tail(writer);

	return r < 0 ? r : (int)(writer->published - writer->tail);
}

static inline uint32_t *ring_writer_word(const struct ring_writer *writer, uint32_t position)
{
	return (uint32_t *)(void *)(writer->ring.data + (position & (writer->ring.size - 1) & ~3u));
}

static inline int ring_reader_ready(struct ring_reader *reader, uint32_t want)
{
	if (reader->head - reader->tail < want) {
		int r = ring_see_head(reader);

		if (r < 0)
			return r;
	}
	return (int)(reader->head - reader->tail);
}

static inline void ring_reader_copy(const struct ring_reader *reader, uint32_t offset, void *data,
				    uint32_t size)
{
	uint32_t start = (reader->tail + offset) & (reader->ring.size - 1);
	uint32_t first = reader->ring.size - start;

	if (first >= size) {
		untrusted_copy(data, reader->ring.data + start, size);
		return;
	}
	untrusted_copy(data, reader->ring.data + start, first);
	untrusted_copy((uint8_t *)data + first, reader->ring.data, size - first);
}

static inline int ring_reader_peek(const struct ring_reader *reader, uint32_t offset, uint32_t size,
				   struct iovec pieces[2])
{
	return ring_pieces_of(&reader->ring, reader->tail + offset, size, pieces);
}

static inline const uint8_t *ring_reader_piece(const struct ring_reader *reader, uint32_t size)
{
	uint32_t start = reader->tail & (reader->ring.size - 1);

	return reader->ring.size - start >= size ? reader->ring.data + start : NULL;
}

static inline uint32_t *ring_reader_word(const struct ring_reader *reader, uint32_t offset)
{
	return (uint32_t *)(void *)(reader->ring.data +
				    ((reader->tail + offset) & (reader->ring.size - 1) & ~3u));
}

static inline void ring_reader_consume(struct ring_reader *reader, uint32_t size)
{
	reader->tail += size;
}

static inline void ring_reader_release_up_to(struct ring_reader *reader, uint32_t position)
{
	if (reader->released == position)
		return;
	reader->released = position;
	ring_store(reader->ring.consumer, position);
}

static inline void ring_reader_release_quietly(struct ring_reader *reader)
{
	ring_reader_release_up_to(reader, reader->tail);
}

static inline bool ring_reader_release(struct ring_reader *reader)
{
	ring_reader_release_quietly(reader);
	return ring_reader_take_request(reader);
}

static inline bool ring_reader_take_request(struct ring_reader *reader)
{
	return ring_take_request(reader->ring.wants_space, reader->ring.wants_space_bit);
}

static inline int ring_reader_arm(struct ring_reader *reader, uint32_t want)
{
	int r;

	ring_request(reader->ring.wants_data, reader->ring.wants_data_bit);
	r = ring_see_head(reader);
	if (r < 0)
		return r;
	return reader->head - reader->tail >= want;
}

/* Returns whether that request still stands: nothing has come since. */
static inline bool ring_reader_is_armed(const struct ring_reader *reader)
{
	return __atomic_load_n(reader->ring.wants_data, __ATOMIC_RELAXED) & reader->ring.wants_data_bit;
}

static inline void ring_reader_disarm(struct ring_reader *reader)
{
	ring_withdraw_request(reader->ring.wants_data, reader->ring.wants_data_bit);
}

#endif
