/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Rings while somebody writes over the shared memory at the same time. Nothing is promised about what
 * arrives; only that no byte outside the ring is touched (run it under AddressSanitizer), that nothing
 * crashes, and that each end comes to its end however the indices move.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/ring_ends.h"

#define TURNS	  200000
#define TURNS_MAX (500 * TURNS)

struct attack {
	struct ends_memory *memory;
	uint32_t size;
	uint32_t random;
	atomic_bool stop;
	/* What the victims have seen: the attack was one, and didn't keep them from moving in between. */
	atomic_bool refused, moved;
};

struct victim {
	struct attack *attack;
	struct end end;
	uint32_t random;
};

/* Shared words are written atomically, so that ThreadSanitizer too could look on. */
static void *attack_main(void *argument)
{
	struct attack *attack = argument;

	while (!atomic_load(&attack->stop)) {
		uint32_t random = next_random(&attack->random);
		uint32_t *index = random & 1 ? &attack->memory->rings[random >> 1 & 1].producer
					     : &attack->memory->rings[random >> 1 & 1].consumer;

		switch (random >> 2 & 7) {
		case 0:
			__atomic_store_n(index, next_random(&attack->random), __ATOMIC_RELAXED);
			break;
		case 1:
			__atomic_fetch_add(index, random >> 5 & 15, __ATOMIC_RELAXED);
			break;
		case 2:
			__atomic_fetch_sub(index, 1 + (random >> 5 & 15), __ATOMIC_RELAXED);
			break;
		case 3:
			__atomic_fetch_xor(index, 1u << (random >> 5 & 31), __ATOMIC_RELAXED);
			break;
		case 4:
			__atomic_fetch_xor(&attack->memory->lines[random >> 5 & 3].requests,
					   (uint8_t)(random >> 8), __ATOMIC_RELAXED);
			break;
		default:
			__atomic_fetch_xor(&attack->memory->data[(random >> 5) % (2 * attack->size)],
					   (uint8_t)random, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

/* On a busy machine the victims can be through with their turns before the attacker has had one: then they go
 * on. */
static bool has_met_all(struct attack *attack)
{
	return atomic_load_explicit(&attack->refused, memory_order_relaxed) &&
	       atomic_load_explicit(&attack->moved, memory_order_relaxed);
}

/* A daemon would end the session at the first -EPROTO; this end takes up the ring again where it stands, to
 * be hit more. */
static void *victim_main(void *argument)
{
	struct victim *victim = argument;
	struct end *end = &victim->end;
	uint32_t size = end->out.ring.size;
	uint8_t *bytes = malloc(size);

	if (!bytes)
		abort();
	memset(bytes, 0xa5, size);
	for (int turn = 0; turn < TURNS || (turn < TURNS_MAX && !has_met_all(victim->attack)); turn++) {
		uint32_t want = 1 + next_random(&victim->random) % size;
		int r = ring_writer_space(&end->out, want);

		if (r > (int)size)
			abort();
		if (r > 0) {
			uint32_t n = want < (uint32_t)r ? want : (uint32_t)r;

			ring_writer_put(&end->out, bytes, n);
			if (n >= 4)
				ring_writer_patch(&end->out, end->out.head - n, bytes, 4);
			ring_writer_publish(&end->out);
			atomic_store_explicit(&victim->attack->moved, true, memory_order_relaxed);
		} else {
			r = ring_writer_arm(&end->out, 1);
		}
		if (r >= 0)
			r = ring_writer_unread(&end->out);
		if (r < 0) {
			atomic_store_explicit(&victim->attack->refused, true, memory_order_relaxed);
			if (ring_writer_init(&end->out, &end->out.ring, true) < 0)
				ring_writer_init(&end->out, &end->out.ring, false);
		}
		r = ring_reader_ready(&end->in, want);
		if (r > (int)size)
			abort();
		if (r > 0) {
			uint32_t n = want < (uint32_t)r ? want : (uint32_t)r;

			ring_reader_copy(&end->in, (uint32_t)r - n, bytes, n);
			ring_reader_consume(&end->in, n);
			ring_reader_release(&end->in);
			atomic_store_explicit(&victim->attack->moved, true, memory_order_relaxed);
		} else {
			r = ring_reader_arm(&end->in, 1);
		}
		if (r < 0) {
			atomic_store_explicit(&victim->attack->refused, true, memory_order_relaxed);
			if (ring_reader_init(&end->in, &end->in.ring, true) < 0)
				ring_reader_init(&end->in, &end->in.ring, false);
		}
	}
	free(bytes);
	return NULL;
}

static void under_attack(uint32_t size, bool vchan)
{
	/* Of exactly its size: the sanitizer's red zone begins behind the last byte of the second ring. */
	struct ends_memory *memory = NULL;
	struct attack attack = {.size = size, .random = 4711 + size};
	struct victim victims[2] = {{.attack = &attack, .random = 17}, {.attack = &attack, .random = 23}};
	int wake[2] = {-1, -1};
	pthread_t threads[2], attacker;

	assert_int_equal(posix_memalign((void **)&memory, 64, ends_memory_size(size)), 0);
	memset(memory, 0, ends_memory_size(size));
	attack.memory = memory;
	for (int i = 0; i < 2; i++)
		assert_int_equal(end_start(&victims[i].end, memory, size, i, vchan, wake), 0);
	assert_int_equal(pthread_create(&attacker, NULL, attack_main, &attack), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, victim_main, &victims[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&attack.stop, true);
	pthread_join(attacker, NULL);
	assert_true(atomic_load(&attack.refused));
	assert_true(atomic_load(&attack.moved));
	free(memory);
}

TEST(overwritten_memory_neither_crashes_nor_leads_outside)
{
	under_attack(8, false);
	under_attack(64, true);
	under_attack(4096, false);
	under_attack(65536, true);
}
