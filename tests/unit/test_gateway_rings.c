/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rings that a gateway shares with its daemon, between another host that says what it likes, cut
 * anywhere, and a daemon that writes, processes, or does neither, goes at any time, or spoils what it shares.
 */
#include "tests/unit/rings_rig.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "wire/ring.h"

#define SOON_MS 15 /* what waits 20 ms hasn't come by then */

/* What the daemon reads on the socket that ends with the conversation: 0 is its end. */
static ssize_t last_words(struct end *end, char *byte)
{
	rings_free(end->rings);
	end->rings = NULL;
	return recv(end->life, byte, 1, MSG_DONTWAIT);
}

static void reopen(struct scene *scene)
{
	close_end(&scene->end);
	open_end(scene, &scene->end);
}

/* --- what comes ------------------------------------------------------------------------------- */

TEST_AT_END(only_whole_frames_are_seen_wherever_they_are_cut, setup, teardown)
{
	uint8_t bytes[4096], wire[8192];
	size_t size = 0, wired = 0, first, whole;

	first = size = make_frame(bytes, 5, 0);
	size += make_frame(bytes + size, 0, 1);
	size += make_frame(bytes + size, 1000, 2);
	/* Records that end within a head, within a payload, and at a frame's end. */
	for (size_t from = 0, to; from < size; from = to) {
		to = from == 0 ? 8 : from == 8 ? first + 16 : from == first + 16 ? first + 30 : size;
		make_head(wire + wired, (uint32_t)(to - from), 0);
		memcpy(wire + wired + RINGS_RECORD_HEAD, bytes + from, to - from);
		wired += RINGS_RECORD_HEAD + to - from;
	}
	for (size_t i = 0; i < wired; i++) {
		assert_int_equal(say(end, wire + i, 1), 0);
		whole = (size_t)there(end);
		assert_true(whole == 0 || whole == first || whole == first + 16 || whole == size);
	}
	assert_int_equal(there(end), size);
	ring_reader_copy(&end->in, 0, wire, (uint32_t)size);
	assert_memory_equal(wire, bytes, size);
}

TEST_AT_END(an_end_at_any_place_leaves_the_whole_frames_before, setup, teardown)
{
	uint8_t wire[200];
	size_t first, size;
	char byte;

	make_head(wire, 48, 0);
	first = make_frame(wire + 8, 3, 0);
	size = 8 + first + make_frame(wire + 8 + first, 1, 1);
	assert_int_equal(size, 8 + 48);
	make_head(wire + size, 0, 0);
	size += 8;
	for (size_t i = 0; i <= size; i++) {
		int whole = i >= 8 + 48 ? 48 : i >= 8 + first ? (int)first : 0;

		assert_int_equal(say(end, wire, i), 0);
		settle(scene);
		assert_int_equal(end->rung, whole ? 1 : 0); /* it asked for the first frame only */
		assert_int_equal(last_words(end, &byte), 0);
		assert_int_equal(there(end), whole);
		/* Nothing of the gateway's is left that could wake us. */
		assert_int_equal(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED), 1);
		reopen(scene);
	}
}

/* What another host may say that can't be: with an honest frame before it, which is seen all the same. */
TEST_AT_END(what_cannot_be_is_the_end, setup, teardown)
{
	static uint8_t bytes[RINGS_RECORD_MAX + 8], wire[200];
	const struct {
		uint32_t length, index;
		uint32_t payload; /* of the frame that the record begins with */
	} cases[] = {
		{RINGS_RECORD_MAX + 1, 0, 0}, /* too long */
		{UINT32_MAX, 0, 0},
		{0, 8, 0}, /* more than was sent */
		{0, (uint32_t)-8, 0},
		{0, 16 + 1, 0},			/* not a multiple */
		{16, 0, FRAME_PAYLOAD_MAX + 1}, /* no frame */
		{16, 0, UINT32_MAX},
	};

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
		bool is_together = i & 1; /* or in a message of its own */
		struct frame_header header = {.type = FRAME_DATA, .length = cases[i / 2].payload};
		uint32_t first = (uint32_t)make_frame(bytes, 3, 0);
		size_t size = 8 + first;
		char byte = 0;

		make_head(wire, first, 0);
		memcpy(wire + 8, bytes, first);
		if (!is_together)
			assert_int_equal(say(end, wire, size), 0);
		make_head(wire + size, cases[i / 2].length, cases[i / 2].index);
		frame_header_encode(&header, wire + size + 8);
		assert_int_equal(say(end, wire + (is_together ? 0 : size), (is_together ? size : 0) + 24),
				 -EPROTO);
		assert_int_equal(there(end), first);
		/* What comes after that isn't believed either. */
		assert_int_equal(say_record(end, bytes, first, 0), -EPROTO);
		assert_int_equal(last_words(end, &byte), 1);
		assert_int_equal(byte, GATEWAY_LIFE_BROKEN);
		assert_int_equal(recv(end->life, &byte, 1, MSG_DONTWAIT), 0);
		assert_int_equal(there(end), first);
		settle(scene);
		assert_int_equal(end->rung, 1);
		reopen(scene);
	}
}

/* A daemon that reads nothing, not even its socket, isn't waited for. */
TEST_AT_END(a_daemon_that_is_gone_is_told_nothing, setup, teardown)
{
	uint8_t head[RINGS_RECORD_HEAD];

	for (int i = 0; i < 2; i++) {
		int flags = fcntl(scene->end.life, F_GETFL);

		make_head(head, UINT32_MAX, 0);
		assert_int_equal(say(&scene->end, head, sizeof(head)), -EPROTO);
		assert_int_equal(fcntl(scene->end.life, F_SETFL, flags & ~O_NONBLOCK), 0);
		if (i)
			close_daemon(&scene->end);
		reopen(scene);
	}
}

TEST_AT_END(more_than_there_is_room_for_is_the_end, setup, teardown)
{
	static uint8_t frame[FRAME_MAX];
	uint32_t size = (uint32_t)make_frame(frame, RINGS_RECORD_MAX - FRAME_HEADER_SIZE, 0);

	assert_int_equal(size, RINGS_RECORD_MAX);
	for (uint32_t sent = 0; sent < GATEWAY_RING_SIZE; sent += size)
		assert_int_equal(say_record(end, frame, size, 0), 0);
	assert_int_equal(there(end), GATEWAY_RING_SIZE);
	process(end, size);
	assert_int_equal(say_record(end, frame, size, 0), 0);
	assert_int_equal(there(end), GATEWAY_RING_SIZE);
	assert_int_equal(say_record(end, frame, 16, 0), -EPROTO);
	assert_int_equal(there(end), GATEWAY_RING_SIZE);
}

/* --- what leaves ------------------------------------------------------------------------------ */

TEST_AT_END(none_is_overwritten_before_the_other_end_has_processed_it, setup, teardown)
{
	static uint8_t frame[FRAME_MAX], got[GATEWAY_RING_SIZE], sent[GATEWAY_RING_SIZE];
	struct listener listener = {.got = got};
	size_t written = 0;

	while (ring_writer_space(&end->out, FRAME_MAX) >= (int)FRAME_MAX) {
		size_t size = make_frame(frame, 3000 + (uint32_t)written % 50000, (uint32_t)written);

		memcpy(sent + written, frame, size);
		put_frame(end, frame, size);
		written += size;
	}
	assert_true(written > GATEWAY_RING_SIZE / 2);
	settle(scene);
	hear(end, &listener);
	assert_int_equal(listener.size, written);
	assert_memory_equal(got, sent, written);
	assert_int_equal(listener.left + listener.head_size, 0);
	assert_int_equal(ring_writer_arm(&end->out, FRAME_MAX), 0);
	assert_int_equal(end->rung, 0);
	/* In two records; the daemon has asked to hear of it. */
	assert_int_equal(say_record(end, NULL, 0, 8), 0);
	settle(scene);
	assert_int_equal(end->rung, 1);
	assert_int_equal(say_record(end, NULL, 0, (uint32_t)written), 0);
	assert_int_equal(ring_writer_space(&end->out, GATEWAY_RING_SIZE), GATEWAY_RING_SIZE);
	settle(scene);
	assert_int_equal(end->rung, 1);
}

TEST_AT_END(a_record_is_as_large_as_may_be, setup, teardown)
{
	static uint8_t frame[FRAME_MAX], record[2 * RINGS_RECORD_MAX];
	const size_t sizes[] = {RINGS_TAKE_MIN, RINGS_TAKE_MIN + 1, 1000,
				RINGS_RECORD_MAX + RINGS_RECORD_HEAD};

	end->is_slow = true;
	for (int i = 0; i < 8; i++)
		put_frame(end, frame, make_frame(frame, 30000, 0));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		assert_int_equal(rings_take(end->rings, record, sizes[i]), sizes[i]);
	assert_int_equal(rings_take(end->rings, record, sizeof(record)),
			 RINGS_RECORD_MAX + RINGS_RECORD_HEAD);
}

TEST_AT_END(what_is_written_in_a_turn_goes_together, setup, teardown)
{
	uint8_t frame[200], sent[600], got[600];
	struct listener listener = {.got = got};
	uint32_t size = 0;

	for (uint32_t i = 0; i < 3; i++) {
		uint32_t length = (uint32_t)make_frame(frame, 40 + 8 * i, i);

		assert_int_equal(put_frame(end, frame, length), i == 0); /* one call of the kernel for all */
		memcpy(sent + size, frame, length);
		size += length;
	}
	settle(scene);
	assert_int_equal(end->ready, 1);
	hear(end, &listener);
	assert_int_equal(listener.records, 1);
	assert_int_equal(listener.size, size);
	assert_memory_equal(got, sent, size);
	/* And the next one wakes it again. */
	assert_true(put_frame(end, frame, make_frame(frame, 1, 0)));
	settle(scene);
	assert_int_equal(end->ready, 2);
}

TEST_AT_END(nothing_is_lost_while_no_more_is_wanted, setup, teardown)
{
	uint8_t frame[200];
	struct listener listener = {0};
	uint32_t size = (uint32_t)make_frame(frame, 40, 0);

	/* A frame, an end, what is told of late, and what is told of at once. */
	for (int i = 0; i < 3; i++) {
		rings_take_more(end->rings, false);
		put_frame(end, frame, size);
		assert_int_equal(say_record(end, frame, size, 0), 0);
		process(end, size);
		if (i == 2)
			assert_int_equal(shutdown(end->life, SHUT_WR), 0);
		wait_ms(scene, i == 1 ? 50 : 1);
		assert_int_equal(end->ready, i);
		rings_take_more(end->rings, true);
		rings_take_more(end->rings, true);
		assert_int_equal(end->ready, i); /* not from within */
		settle(scene);
		assert_int_equal(end->ready, i + 1);
		hear(end, &listener);
		assert_int_equal(listener.size, size * (i + 1));
		assert_int_equal(listener.index, size * (i + 1));
	}
	assert_int_equal(end->last, 0);
}

/* --- what was processed ----------------------------------------------------------------------- */

TEST_AT_END(what_was_processed_is_told_of_late_or_along, setup, teardown)
{
	uint8_t frame[200];
	struct listener listener = {0};
	uint32_t size = (uint32_t)make_frame(frame, 40, 0);
	uint64_t before = clock_ms();

	assert_int_equal(say_record(end, frame, size, 0), 0);
	assert_int_equal(there(end), size);
	process(end, size);
	settle(scene);
	if (clock_ms() - before < SOON_MS)
		assert_int_equal(end->wired, 0);
	while (end->wired == 0)
		event_base_loop(scene->base, EVLOOP_ONCE);
	assert_true(clock_ms() - before >= SOON_MS);
	hear(end, &listener);
	assert_int_equal(listener.index, size);
	/* Along with what goes that way, at once. */
	assert_int_equal(say_record(end, frame, size, 0), 0);
	process(end, size);
	put_frame(end, frame, make_frame(frame, 8, 0));
	settle(scene);
	hear(end, &listener);
	assert_int_equal(listener.records, 2);
	assert_int_equal(listener.index, 2 * size);
	/* And then not once more. */
	wait_ms(scene, 50);
	assert_int_equal(end->wired, 0);
}

TEST_AT_END(much_that_was_processed_is_told_of_at_once, setup, teardown)
{
	static uint8_t frame[FRAME_MAX];
	uint32_t size = (uint32_t)make_frame(frame, RINGS_RECORD_MAX - FRAME_HEADER_SIZE, 0), frames;

	frames = RINGS_TELL_AT / size;
	assert_int_equal(frames * size, RINGS_TELL_AT);
	for (uint32_t i = 0; i < 10; i++) {
		struct listener listener = {0};
		uint64_t before = clock_ms();

		for (uint32_t k = 0; k < frames; k++)
			assert_int_equal(say_record(end, frame, size, 0), 0);
		settle(scene);
		process(end, (frames - 1) * size);
		settle(scene);
		if (clock_ms() - before < SOON_MS)
			assert_int_equal(end->wired, 0);
		process(end, size);
		settle(scene);
		hear(end, &listener);
		if (clock_ms() - before < SOON_MS)
			assert_int_equal(listener.records, 1);
		/* A slow machine was told of some before, and of the rest it is told late. */
		while (listener.index < RINGS_TELL_AT) {
			assert_true(clock_ms() - before >= SOON_MS);
			event_base_loop(scene->base, EVLOOP_ONCE);
			hear(end, &listener);
		}
		assert_int_equal(listener.index, RINGS_TELL_AT);
		reopen(scene);
	}
}

/* As the timer for telling late would, if it were set again whenever there is nothing to tell of yet. */
TEST_AT_END(a_daemon_that_processes_nothing_is_not_asked_again_and_again, setup, teardown)
{
	static uint8_t frame[FRAME_MAX];
	struct listener listener = {0};

	for (int i = 0; i < 3; i++) {
		uint32_t size = (uint32_t)make_frame(frame, i == 0 ? 1 : 60000, 0);
		uint32_t frames = i < 2 ? 1 : 10, index = listener.index;

		end->ready = 0;
		for (uint32_t k = 0; k < frames; k++)
			assert_int_equal(say_record(end, frame, size, 0), 0);
		wait_ms(scene, 300);
		assert_in_range(end->ready, 1, 3);
		assert_int_equal(end->wired, 0);
		/* the daemon's bell, the gateway's, and the socket */
		assert_int_equal(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED), 3);
		/* When it does process, that is told of without a wait: it has waited long enough. */
		assert_true(process(end, size));
		settle(scene);
		hear(end, &listener);
		assert_int_equal(listener.index - index, size);
		if (frames > 1) {
			end->ready = 0;
			wait_ms(scene, 300);
			assert_in_range(end->ready, 1, 3);
			process(end, (frames - 1) * size);
			settle(scene);
			hear(end, &listener);
			assert_int_equal(listener.index - index, frames * size);
		}
	}
	end->ready = 0;
	wait_ms(scene, 100);
	assert_int_equal(end->ready, 0);
}

/* --- the daemon ------------------------------------------------------------------------------- */

TEST_AT_END(a_daemon_that_has_ended_is_heard_to_the_end, setup, teardown)
{
	static uint8_t frame[FRAME_MAX], record[4096];
	struct listener listener = {0};
	size_t size = make_frame(frame, 50000, 0);
	ssize_t got;

	end->is_slow = true;
	for (int i = 0; i < 5; i++)
		put_frame(end, frame, size);
	close_daemon(end);
	settle(scene);
	assert_true(end->ready > 0);
	while ((got = rings_take(end->rings, record, sizeof(record))) > 0)
		listen_to(&listener, record, (size_t)got);
	assert_int_equal(got, 0);
	assert_int_equal(listener.size, 5 * size);
	assert_int_equal(listener.head_size + listener.left, 0);
	assert_int_equal(rings_take(end->rings, record, sizeof(record)), 0);
	/* What comes for it is nobody's concern any more, but does no harm. */
	assert_int_equal(say_record(end, frame, 60, 8 * 16), 0);
	end->ready = 0;
	wait_ms(scene, 100);
	assert_in_range(end->ready, 0, 1);
}

TEST_AT_END(a_daemon_that_ends_wakes_the_gateway_once, setup, teardown)
{
	assert_int_equal(send(end->life, "x", 1, 0), 1); /* it has nothing to say there: the same */
	wait_ms(scene, 50);
	assert_int_equal(end->ready, 1);
	assert_int_equal(end->last, 0);
	reopen(scene);
	assert_int_equal(shutdown(end->life, SHUT_RDWR), 0);
	wait_ms(scene, 50);
	assert_int_equal(end->ready, 1);
	assert_int_equal(end->last, 0);
}

TEST_AT_END(a_daemon_whose_indices_cannot_be_is_not_believed, setup, teardown)
{
	uint8_t frame[200], record[RINGS_TAKE_MIN];
	uint32_t size = (uint32_t)make_frame(frame, 100, 0);

	for (int i = 0; i < 6; i++) {
		end->is_slow = true;
		put_frame(end, frame, size);
		assert_int_equal(say_record(end, frame, size, 0), 0);
		assert_true(rings_take(end->rings, record, sizeof(record)) > 0);
		if (i == 0) /* more than the ring holds */
			ring_store(end->out.ring.producer, GATEWAY_RING_SIZE + 8);
		else if (i == 1) /* behind what was taken */
			ring_store(end->out.ring.producer, 8);
		else if (i == 2)
			ring_store(end->out.ring.producer, (uint32_t)-8);
		else if (i == 3) /* more than it was sent */
			ring_store(end->in.ring.consumer, size + 8);
		else if (i == 4)
			ring_store(end->in.ring.consumer, 12);
		else
			ring_store(end->in.ring.consumer, (uint32_t)-8);
		if (i < 3) /* what was seen before may still go */
			while (rings_take(end->rings, record, sizeof(record)) > 0)
				;
		assert_int_equal(rings_take(end->rings, record, sizeof(record)), -EPROTO);
		reopen(scene);
	}
}

/* All of them are closed: see teardown(). */
TEST_AT_END(wrong_descriptors_are_refused, setup, teardown)
{
	struct rings *rings = NULL;

	for (int i = 0; i < 5; i++) {
		struct end other = {0};
		int fds[GATEWAY_FDS], r;

		make_descriptors(&other, fds);
		if (i == 0)
			assert_int_equal(ftruncate(fds[GATEWAY_FD_MEMORY], GATEWAY_MEMORY_SIZE - 1), 0);
		else if (i == 1)
			assert_int_equal(ftruncate(fds[GATEWAY_FD_MEMORY], GATEWAY_MEMORY_SIZE + 1), 0);
		else if (i == 2)
			assert_int_equal(dup2(other.life, fds[GATEWAY_FD_MEMORY]), fds[GATEWAY_FD_MEMORY]);
		else if (i == 3) /* what can't be waited for */
			assert_int_equal(dup2(fds[GATEWAY_FD_MEMORY], fds[GATEWAY_FD_WAKE_GATEWAY]),
					 fds[GATEWAY_FD_WAKE_GATEWAY]);
		else
			assert_int_equal(dup2(fds[GATEWAY_FD_MEMORY], fds[GATEWAY_FD_LIFE]),
					 fds[GATEWAY_FD_LIFE]);
		r = rings_new(&rings, scene->base, fds, NULL, NULL);
		assert_true(r == -EPROTO || (i > 2 && r == -ENOMEM));
		assert_null(rings);
		close_daemon(&other);
	}
}
