/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_RING_ENDS_H
#define XENMSG_TESTS_RING_ENDS_H

/*
 * The two ends of a hop for tests with threads or processes: rings both ways in one piece of memory, and for
 * each end an eventfd on which it sleeps. In the layout of a vchan all that one end asks for shares a byte,
 * else each request has its own cache line.
 */

#include "wire/ring.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define LOST_AFTER_MS 60000 /* who sleeps so long was forgotten */

struct ends_memory {
	/* clang-format off */
	struct { _Alignas(64) uint32_t producer; _Alignas(64) uint32_t consumer; } rings[2];
	struct { _Alignas(64) uint8_t requests; } lines[4];
	/* clang-format on */
	_Alignas(64) uint8_t data[];
};

struct end {
	struct ring_writer out;
	struct ring_reader in;
	int wake, wake_other;
	unsigned long sleeps, notifications;
};

static inline size_t ends_memory_size(uint32_t size)
{
	return sizeof(struct ends_memory) + 2 * (size_t)size;
}

/* The view of the ring that end 0 writes (`which` 0) or that end 1 writes. */
static inline struct ring_view ends_view(struct ends_memory *memory, uint32_t size, int which, bool vchan)
{
	return (struct ring_view){
		.data = memory->data + (size_t)which * size,
		.size = size,
		.producer = &memory->rings[which].producer,
		.consumer = &memory->rings[which].consumer,
		.wants_data = &memory->lines[vchan ? !which : 2 * which].requests,
		.wants_space = &memory->lines[vchan ? which : 2 * which + 1].requests,
		.wants_data_bit = 1,
		.wants_space_bit = 2,
	};
}

static inline int end_start(struct end *end, struct ends_memory *memory, uint32_t size, int which, bool vchan,
			    const int wake[2])
{
	struct ring_view out = ends_view(memory, size, which, vchan);
	struct ring_view in = ends_view(memory, size, !which, vchan);
	int r;

	*end = (struct end){.wake = wake[which], .wake_other = wake[!which]};
	r = ring_writer_init(&end->out, &out, true);
	return r < 0 ? r : ring_reader_init(&end->in, &in, true);
}

static inline void end_notify(struct end *end)
{
	uint64_t one = 1;

	if (write(end->wake_other, &one, sizeof(one)) != sizeof(one))
		abort();
	end->notifications++;
}

/* 0 when woken, -ETIMEDOUT when forgotten. */
static inline int end_sleep(struct end *end, int timeout_ms)
{
	struct pollfd fd = {.fd = end->wake, .events = POLLIN};
	uint64_t count;

	end->sleeps++;
	if (poll(&fd, 1, timeout_ms) != 1)
		return -ETIMEDOUT;
	if (read(end->wake, &count, sizeof(count)) != sizeof(count))
		abort();
	return 0;
}

/* xorshift: for sizes and offsets that differ from run to run only by their seed. */
static inline uint32_t next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

#endif
