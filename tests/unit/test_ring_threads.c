/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Rings under real concurrency: two threads, or two processes over a memfd, that send as much as they can in
 * batches of random size, sleep when there is nothing to do, and check every byte. A lost wake-up shows as a
 * time-out. Also built with ThreadSanitizer (scripts/check): the ends are honest, so there is no race to be
 * excused.
 */

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/unit/ring_ends.h"

struct run {
	struct end end;
	uint64_t send, receive; /* bytes to send and to expect */
	uint32_t random;
	int result;
};

static uint8_t pattern(uint64_t position)
{
	return (uint8_t)(position * 131 + (position >> 8) * 7 + 1);
}

/* Writes what fits of a random batch. Returns bytes written, 0 if there was no space, or -EPROTO. */
static int write_some(struct run *run, uint64_t position)
{
	uint32_t size = 1 + next_random(&run->random) % run->end.out.ring.size;
	struct iovec pieces[2];
	int space, n;

	if (size > run->send - position)
		size = (uint32_t)(run->send - position);
	space = ring_writer_space(&run->end.out, size);
	if (space <= 0)
		return space;
	if (size > (uint32_t)space)
		size = (uint32_t)space;
	n = ring_writer_reserve(&run->end.out, size, pieces);
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < pieces[i].iov_len; k++)
			((uint8_t *)pieces[i].iov_base)[k] = pattern(position++);
	ring_writer_advance(&run->end.out, size);
	if (next_random(&run->random) % 4 && ring_writer_publish(&run->end.out))
		end_notify(&run->end);
	return (int)size;
}

static int read_some(struct run *run, uint64_t position)
{
	uint32_t size = 1 + next_random(&run->random) % run->end.in.ring.size;
	uint8_t bytes[512];
	int ready = ring_reader_ready(&run->end.in, size);

	if (ready <= 0)
		return ready;
	if (size > (uint32_t)ready)
		size = (uint32_t)ready;
	if (size > sizeof(bytes))
		size = sizeof(bytes);
	ring_reader_copy(&run->end.in, 0, bytes, size);
	for (uint32_t i = 0; i < size; i++)
		if (bytes[i] != pattern(position + i))
			return -EBADMSG;
	ring_reader_consume(&run->end.in, size);
	if (next_random(&run->random) % 4 && ring_reader_release(&run->end.in))
		end_notify(&run->end);
	return (int)size;
}

/* Sends and receives until all was sent, received, and seen to be taken by the other end. */
static int run_end(struct run *run)
{
	uint64_t sent = 0, received = 0;

	for (;;) {
		int wrote = sent < run->send ? write_some(run, sent) : 0;
		int got = received < run->receive ? read_some(run, received) : 0;
		int idle = 1, r;

		if (wrote < 0 || got < 0)
			return wrote < 0 ? wrote : got;
		sent += (uint64_t)wrote;
		received += (uint64_t)got;
		if (wrote || got)
			continue;
		/* Nothing moved: show what was held back, then ask for what would let us go on. */
		if (ring_writer_publish(&run->end.out))
			end_notify(&run->end);
		if (ring_reader_release(&run->end.in))
			end_notify(&run->end);
		if (sent == run->send && received == run->receive) {
			r = ring_writer_unread(&run->end.out);
			if (r <= 0)
				return r;
			r = ring_writer_arm(&run->end.out, run->end.out.ring.size);
			if (r < 0)
				return r;
			idle = !r;
		} else {
			if (sent < run->send) {
				r = ring_writer_arm(&run->end.out, 1);
				if (r < 0)
					return r;
				idle = idle && !r;
			}
			if (received < run->receive) {
				r = ring_reader_arm(&run->end.in, 1);
				if (r < 0)
					return r;
				idle = idle && !r;
			}
		}
		if (idle) {
			r = end_sleep(&run->end, LOST_AFTER_MS);
			if (r < 0)
				return r;
		}
	}
}

static void *thread_main(void *argument)
{
	struct run *run = argument;

	run->result = run_end(run);
	return NULL;
}

static void exchange(uint32_t size, uint64_t there, uint64_t back, bool vchan, uint32_t start)
{
	struct ends_memory *memory = aligned_alloc(64, (ends_memory_size(size) + 63) & ~(size_t)63);
	int wake[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	struct run runs[2] = {
		{.send = there, .receive = back, .random = size + start + 1},
		{.send = back, .receive = there, .random = 7 * size + start + 3},
	};
	pthread_t threads[2];

	assert_non_null(memory);
	memset(memory, 0, ends_memory_size(size));
	for (int i = 0; i < 2; i++)
		memory->rings[i].producer = memory->rings[i].consumer = start;
	for (int i = 0; i < 2; i++) {
		assert_true(wake[i] >= 0);
		assert_int_equal(end_start(&runs[i].end, memory, size, i, vchan, wake), 0);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, thread_main, &runs[i]), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++)
		assert_int_equal(runs[i].result, 0);
	assert_int_equal(memory->rings[0].producer, start + (uint32_t)there);
	assert_int_equal(memory->rings[0].consumer, start + (uint32_t)there);
	assert_int_equal(memory->rings[1].producer, start + (uint32_t)back);
	assert_int_equal(memory->rings[1].consumer, start + (uint32_t)back);
	for (int i = 0; i < 2; i++)
		close(wake[i]);
	free(memory);
}

/* Less where each byte costs more: under a sanitizer, and on a machine that is emulated (tests/xen/run
 * --unit). */
static uint32_t all_bytes(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return 1u << 20;
#else
	return getenv("XENMSG_TEST_EMULATED") ? 1u << 18 : 8u << 20;
#endif
}

#define BYTES all_bytes()

TEST(one_way_every_byte_arrives)
{
	exchange(8, BYTES / 128, 0, false, 0xfffffff0);
	exchange(64, BYTES / 8, 0, false, 0);
	exchange(4096, BYTES, 0, false, 0xffff0000);
	exchange(65536, BYTES, 0, false, 0);
}

TEST(both_ways_every_byte_arrives)
{
	exchange(8, BYTES / 128, BYTES / 128, false, 0x7ffffff9);
	exchange(64, BYTES / 8, BYTES / 8, false, 1);
	exchange(4096, BYTES, BYTES / 2, false, 3);
	exchange(65536, BYTES, BYTES, false, 0xfffffff9);
}

TEST(both_ways_with_the_requests_of_a_vchan)
{
	exchange(8, BYTES / 128, BYTES / 128, true, 0xfffffff9);
	exchange(64, BYTES / 8, BYTES / 8, true, 5);
	exchange(1024, BYTES, BYTES, true, 0xfffff000);
	exchange(65536, BYTES, BYTES, true, 0);
}

/* Requests and replies of a few bytes: each side sleeps for each, so each wake-up counts. */
struct game {
	struct end end;
	uint32_t rounds;
	bool serves;
	int result;
};

static int play(struct game *game)
{
	for (uint32_t i = 0; i < game->rounds; i++) {
		uint32_t number = i;

		for (int turn = 0; turn < 2; turn++) {
			if ((turn == 0) == game->serves) {
				if (ring_writer_space(&game->end.out, sizeof(number)) < (int)sizeof(number))
					return -ENOSPC;
				ring_writer_put(&game->end.out, &number, sizeof(number));
				if (ring_writer_publish(&game->end.out))
					end_notify(&game->end);
				continue;
			}
			while (ring_reader_ready(&game->end.in, sizeof(number)) < (int)sizeof(number)) {
				int r = ring_reader_arm(&game->end.in, sizeof(number));

				if (r < 0)
					return r;
				if (r == 0 && end_sleep(&game->end, LOST_AFTER_MS) < 0)
					return -ETIMEDOUT;
			}
			ring_reader_copy(&game->end.in, 0, &number, sizeof(number));
			if (number != i)
				return -EBADMSG;
			ring_reader_consume(&game->end.in, sizeof(number));
			ring_reader_release_quietly(&game->end.in);
		}
	}
	return 0;
}

static void *play_main(void *argument)
{
	struct game *game = argument;

	game->result = play(game);
	return NULL;
}

TEST(each_of_many_round_trips_is_woken)
{
	const uint32_t size = 64, rounds = BYTES / 1024;

	for (int vchan = 0; vchan < 2; vchan++) {
		struct ends_memory *memory = aligned_alloc(64, (ends_memory_size(size) + 63) & ~(size_t)63);
		int wake[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
		struct game games[2] = {{.rounds = rounds, .serves = true}, {.rounds = rounds}};
		pthread_t threads[2];

		assert_non_null(memory);
		memset(memory, 0, ends_memory_size(size));
		for (int i = 0; i < 2; i++)
			assert_int_equal(end_start(&games[i].end, memory, size, i, vchan, wake), 0);
		for (int i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, play_main, &games[i]), 0);
		for (int i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(games[i].result, 0);
			/* Only who asked is notified: at most once for each message. */
			assert_true(games[i].end.notifications <= rounds);
			close(wake[i]);
		}
		free(memory);
	}
}

TEST(two_processes_share_a_ring_in_a_memfd)
{
	const uint32_t size = 4096;
	int wake[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	int fd = memfd_create("ring", MFD_CLOEXEC), status;
	struct run run = {.send = BYTES, .receive = BYTES / 2, .random = 99};
	struct ends_memory *memory;
	pid_t child;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)ends_memory_size(size)), 0);
	child = fork();
	assert_true(child >= 0);
	memory = mmap(NULL, ends_memory_size(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (child == 0) {
		struct run mine = {.send = BYTES / 2, .receive = BYTES, .random = 77};

		if (memory == MAP_FAILED || end_start(&mine.end, memory, size, 1, false, wake) < 0)
			_exit(2);
		_exit(run_end(&mine) == 0 ? 0 : 1);
	}
	assert_true(memory != MAP_FAILED);
	assert_int_equal(end_start(&run.end, memory, size, 0, false, wake), 0);
	assert_int_equal(run_end(&run), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(memory->rings[0].consumer, BYTES);
	assert_int_equal(memory->rings[1].consumer, BYTES / 2);
	munmap(memory, ends_memory_size(size));
	close(fd);
	close(wake[0]);
	close(wake[1]);
}
