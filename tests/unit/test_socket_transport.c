/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stream socket as a session's transport, whose other end is a gateway that does what it likes: it cuts bytes anywhere,
 * reads or doesn't, says what can't be, sends descriptors, and goes at any time.
 */
#include "tests/unit/socket_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/descriptors.h"
#include "tests/unit/random.h"
#include "wire/bytes.h"

static void only_whole_frames_are_seen_wherever_they_are_cut(void **state)
{
	struct scene *scene = *state;
	uint8_t bytes[4096], wire[8192];
	size_t size = 0, wired = 0, first, whole;

	first = size = make_frame(bytes, 5, 0);
	size += make_frame(bytes + size, 0, 1);
	size += make_frame(bytes + size, 1000, 2);
	/* Records that end within a head, within a payload, and at a frame's end. */
	for (size_t from = 0, to; from < size; from = to) {
		to = from == 0 ? 8 : from == 8 ? first + 16 : from == first + 16 ? first + 30 : size;
		make_head(wire + wired, (uint32_t)(to - from), 0);
		memcpy(wire + wired + SOCKET_RECORD_HEAD, bytes + from, to - from);
		wired += SOCKET_RECORD_HEAD + to - from;
	}
	for (size_t i = 0; i < wired; i++) {
		say(scene, wire + i, 1);
		whole = (size_t)ready(scene);
		assert_true(whole == 0 || whole == first || whole == first + 16 || whole == size);
	}
	assert_int_equal(ready(scene), size);
	ring_reader_copy(&scene->end.in, 0, wire, (uint32_t)size);
	assert_memory_equal(wire, bytes, size);
	assert_int_equal(state_of(scene), TRANSPORT_OPEN);
	assert_idle(scene);
}

static void an_end_at_any_place_leaves_the_whole_frames_before(void **state)
{
	struct scene *scene = *state;
	uint8_t wire[200];
	size_t first, size;

	make_head(wire, 48, 0);
	first = make_frame(wire + 8, 3, 0);
	size = 8 + first + make_frame(wire + 8 + first, 1, 1);
	assert_int_equal(size, 8 + 48);
	make_head(wire + size, 0, 0);
	size += 8;
	for (size_t i = 0; i <= size; i++) {
		int whole = i >= 8 + 48 ? 48 : i >= 8 + first ? (int)first : 0;

		say(scene, wire, i);
		close(scene->end.gateway);
		settle(scene);
		assert_int_equal(state_of(scene), TRANSPORT_LEFT);
		assert_true(scene->end.events > 0);
		assert_int_equal(ready(scene), whole);
		/* Nothing is left that could wake us. */
		assert_true(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED) <
			    scene->idle_events);
		transport_close(&scene->end.transport);
		open_end(scene, &scene->end);
	}
}

/* What a gateway may say that can't be: with an honest frame before it, which is read all the same. */
static void what_cannot_be_is_the_end(void **state)
{
	struct scene *scene = *state;
	static uint8_t bytes[RECORD_MAX + 8];
	const struct {
		uint32_t length, index;
		uint32_t payload; /* of the frame that the record begins with */
	} cases[] = {
		{RECORD_MAX + 1, 0, 0}, /* too long */
		{UINT32_MAX, 0, 0},
		{0, 8, 0}, /* more than was sent */
		{0, (uint32_t)-8, 0},
		{0, 16 + 1, 0},			/* not a multiple */
		{16, 0, FRAME_PAYLOAD_MAX + 1}, /* no frame */
		{16, 0, UINT32_MAX},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct frame_header header = {.type = FRAME_DATA, .length = cases[i].payload};
		size_t first = make_frame(bytes, 3, 0);

		say_record(scene, bytes, (uint32_t)first, 0);
		frame_header_encode(&header, bytes);
		say_record(scene, bytes, cases[i].length > RECORD_MAX ? 0 : cases[i].length, cases[i].index);
		if (cases[i].length > RECORD_MAX) {
			make_head(bytes, cases[i].length, 0);
			say(scene, bytes, SOCKET_RECORD_HEAD);
		}
		assert_int_equal(state_of(scene), TRANSPORT_BROKEN);
		assert_int_equal(ready(scene), first);
		close_end(&scene->end);
		open_end(scene, &scene->end);
	}
}

static void more_than_there_is_room_for_is_the_end(void **state)
{
	struct scene *scene = *state;
	static uint8_t frame[FRAME_MAX];
	uint32_t size = (uint32_t)make_frame(frame, RECORD_MAX - FRAME_HEADER_SIZE, 0);

	assert_int_equal(size, RECORD_MAX);
	for (uint32_t sent = 0; sent < SOCKET_RING_SIZE; sent += size)
		say_record(scene, frame, size, 0);
	assert_int_equal(state_of(scene), TRANSPORT_OPEN);
	assert_int_equal(ready(scene), SOCKET_RING_SIZE);
	process(&scene->end, size);
	say_record(scene, frame, size, 0);
	assert_int_equal(state_of(scene), TRANSPORT_OPEN);
	say_record(scene, frame, 16, 0);
	assert_int_equal(state_of(scene), TRANSPORT_BROKEN);
}

/* Reads all that the transport has sent. Returns how many bytes; the bytes of records are added to `got`. */
struct listener {
	uint8_t head[SOCKET_RECORD_HEAD];
	uint32_t head_size, left, index;
	uint8_t *got;
	size_t size;
};

static size_t hear(int fd, struct listener *listener, size_t most)
{
	uint8_t byte;
	size_t total = 0;

	while (total < most) {
		if (listener->left) {
			ssize_t size = recv(fd, listener->got + listener->size,
					    listener->left < most - total ? listener->left : most - total,
					    MSG_DONTWAIT);

			if (size <= 0)
				break;
			listener->left -= (uint32_t)size;
			listener->size += (size_t)size;
			total += (size_t)size;
			continue;
		}
		if (recv(fd, &byte, 1, MSG_DONTWAIT) != 1)
			break;
		total++;
		listener->head[listener->head_size++] = byte;
		if (listener->head_size == SOCKET_RECORD_HEAD) {
			listener->head_size = 0;
			listener->left = get_u32(listener->head);
			listener->index = get_u32(listener->head + 4);
			assert_true(listener->left <= RECORD_MAX);
		}
	}
	return total;
}

static void a_full_socket_is_waited_for_and_no_longer(void **state)
{
	struct scene *scene = *state;
	static uint8_t frame[FRAME_MAX], got[SOCKET_RING_SIZE], sent[SOCKET_RING_SIZE];
	struct listener listener = {.got = got};
	size_t written = 0;

	while (ring_writer_space(&scene->end.out, FRAME_MAX) >= (int)FRAME_MAX) {
		size_t size = make_frame(frame, 3000 + (uint32_t)written % 50000, (uint32_t)written);

		memcpy(sent + written, frame, size);
		put_frame(&scene->end, frame, size);
		written += size;
	}
	assert_true(written > SOCKET_RING_SIZE / 2);
	settle(scene);
	assert_true(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED) > scene->idle_events);
	/* By a few bytes, or by many. */
	for (size_t most = 1; hear(scene->end.gateway, &listener, most) > 0; most = most * 3 % 100003)
		settle(scene);
	assert_int_equal(listener.size, written);
	assert_memory_equal(got, sent, written);
	assert_int_equal(listener.left + listener.head_size, 0);
	assert_idle(scene);
	/* And none of it was overwritten before its end said that it had processed it. */
	assert_true(ring_writer_space(&scene->end.out, FRAME_MAX) < (int)FRAME_MAX);
	say_record(scene, NULL, 0, (uint32_t)written);
	assert_int_equal(ring_writer_space(&scene->end.out, SOCKET_RING_SIZE), SOCKET_RING_SIZE);
}

static void a_gateway_that_reads_no_more_has_left(void **state)
{
	struct scene *scene = *state;
	uint8_t frame[100];
	size_t size = make_frame(frame, 40, 0);

	say_record(scene, frame, (uint32_t)size, 0);
	assert_int_equal(shutdown(scene->end.gateway, SHUT_RD), 0);
	make_head(frame, 8, 0);
	assert_int_equal(send(scene->end.gateway, frame, 8, 0), 8);
	put_frame(&scene->end, frame, make_frame(frame, 40, 0));
	settle(scene);
	assert_int_equal(state_of(scene), TRANSPORT_LEFT);
	assert_int_equal(ready(scene), size);
	assert_true(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED) < scene->idle_events);
}

static void what_was_processed_is_told_of_late_or_along(void **state)
{
	struct scene *scene = *state;
	uint8_t frame[200], got[200];
	struct listener listener = {.got = got};
	uint32_t size = (uint32_t)make_frame(frame, 40, 0);

	say_record(scene, frame, size, 0);
	assert_int_equal(ready(scene), size);
	process(&scene->end, size);
	settle(scene);
	assert_int_equal(hear(scene->end.gateway, &listener, 100), 0);
	while (hear(scene->end.gateway, &listener, 100) == 0)
		event_base_loop(scene->base, EVLOOP_ONCE);
	assert_int_equal(listener.index, size);
	/* Along with what goes that way, at once. */
	say_record(scene, frame, size, 0);
	assert_int_equal(ready(scene), size);
	process(&scene->end, size);
	put_frame(&scene->end, frame, make_frame(frame, 8, 0));
	settle(scene);
	assert_true(hear(scene->end.gateway, &listener, 100) > 0);
	assert_int_equal(listener.index, 2 * size);
}

static void what_is_written_in_a_turn_goes_together(void **state)
{
	struct scene *scene = *state;
	uint8_t frame[200], sent[600], got[600];
	struct listener listener = {.got = got};
	uint32_t size = 0;

	for (uint32_t i = 0; i < 3; i++) {
		uint32_t length = (uint32_t)make_frame(frame, 40 + 8 * i, i);

		put_frame(&scene->end, frame, length);
		memcpy(sent + size, frame, length);
		size += length;
	}
	settle(scene);
	assert_int_equal(hear(scene->end.gateway, &listener, SOCKET_RECORD_HEAD), SOCKET_RECORD_HEAD);
	assert_int_equal(listener.left, size);
	assert_int_equal(hear(scene->end.gateway, &listener, size), size);
	assert_memory_equal(got, sent, size);
	assert_int_equal(hear(scene->end.gateway, &listener, 1), 0);
}

static void descriptors_are_the_end_and_closed_by_others(void **state)
{
	struct scene *scene = *state;
	static uint8_t frame[FRAME_MAX];
	size_t size = make_frame(frame, 40, 0);
	int peer, fd;

	/* In front of a record, within one, and behind it, unread. */
	for (int i = 0; i < 3; i++) {
		fd = lingering_socket(&peer);
		assert_true(fd >= 0);
		if (i == 1) {
			say_record(scene, frame, (uint32_t)size, 0);
			assert_int_equal(ready(scene), size);
		}
		if (i == 2)
			assert_int_equal(shutdown(scene->end.gateway, SHUT_RD), 0);
		assert_int_equal(send_descriptor(scene->end.gateway, frame, 24, fd, 0), 24);
		close(fd);
		if (i < 2) {
			settle(scene);
			assert_int_equal(state_of(scene), TRANSPORT_BROKEN);
		}
		close_end(&scene->end);
		while (account_usage(scene->account, QUOTA_DESCRIPTORS).used > 0)
			event_base_loop(scene->base, EVLOOP_ONCE);
		close(peer);
		open_end(scene, &scene->end);
	}
}

static void a_turn_is_bounded_and_paid_for(void **state)
{
	struct scene *scene = *state;
	static uint8_t bytes[RECORD_MAX + SOCKET_RECORD_HEAD];
	uint64_t before = account_time(scene->account)->spent;
	size_t sent = 0;
	int size = 2 << 20;

	/* The most frames that so many bytes can have. */
	make_head(bytes, RECORD_MAX, 0);
	for (uint32_t at = 0; at < RECORD_MAX; at += FRAME_HEADER_SIZE)
		make_frame(bytes + SOCKET_RECORD_HEAD + at, 0, 0);
	assert_int_equal(setsockopt(scene->end.gateway, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)), 0);
	while (sent < 4 * sizeof(bytes)) {
		ssize_t part = send(scene->end.gateway, bytes, sizeof(bytes), MSG_DONTWAIT);

		assert_int_equal(part, sizeof(bytes));
		sent += (size_t)part;
	}
	for (int turns = 1; turns <= 4; turns++) {
		uint64_t spent = account_time(scene->account)->spent;

		while (account_time(scene->account)->spent == spent)
			event_base_loop(scene->base, EVLOOP_ONCE);
		assert_true(account_time(scene->account)->spent - spent <= TURNS_PIECE);
		assert_true(ready(scene) <= turns * (int)(2 * RECORD_MAX));
	}
	settle(scene);
	assert_int_equal(ready(scene), 4 * RECORD_MAX);
	assert_true(account_time(scene->account)->spent - before >=
		    4 * RECORD_MAX / FRAME_HEADER_SIZE + 4 * RECORD_MAX / 128);
}

/* Two daemons, between which the gateways move some bytes at a time. */
static void move_some(struct end *from, struct end *to, uint64_t *seed)
{
	uint8_t bytes[20000];
	ssize_t size = recv(from->gateway, bytes, 1 + random_below(seed, sizeof(bytes)), MSG_DONTWAIT);

	for (ssize_t at = 0; at < size;) {
		ssize_t sent = send(to->gateway, bytes + at, (size_t)(size - at), 0);

		assert_true(sent > 0);
		at += sent;
	}
}

struct traffic {
	uint32_t sent, got; /* frames */
};

static void write_some(struct end *end, struct traffic *traffic, uint64_t *seed)
{
	static uint8_t frame[FRAME_MAX];
	uint32_t length =
		random_below(seed, 8) ? random_below(seed, 300) : random_below(seed, FRAME_PAYLOAD_MAX + 1);

	if (ring_writer_space(&end->out, frame_size(length)) >= (int)frame_size(length))
		put_frame(end, frame, make_frame(frame, length, traffic->sent++));
}

static void read_some(struct end *end, struct traffic *traffic, uint64_t *seed)
{
	static uint8_t frame[FRAME_MAX], expected[FRAME_MAX];
	struct frame_header header;

	for (uint32_t most = random_below(seed, 20); most > 0; most--) {
		int there = ring_reader_ready(&end->in, FRAME_MAX);
		uint32_t size;

		if (there < (int)FRAME_HEADER_SIZE) {
			assert_int_equal(there, 0);
			return;
		}
		ring_reader_copy(&end->in, 0, frame, FRAME_HEADER_SIZE);
		assert_int_equal(frame_header_decode(frame, &header), 0);
		size = frame_size(header.length);
		assert_true(there >= (int)size);
		ring_reader_copy(&end->in, 0, frame, size);
		make_frame(expected, header.length, traffic->got++);
		assert_memory_equal(frame, expected, size);
		process(end, size);
	}
}

static void frames_arrive_as_they_were_sent_however_they_are_moved(void **state)
{
	struct scene *scene = *state;
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
	struct end *a = &scene->end, b;
	struct traffic there = {0}, back = {0};

	print_message("SEED=%llu\n", (unsigned long long)seed);
	open_end(scene, &b);
	for (int step = 0; step < STEPS || there.got < there.sent || back.got < back.sent; step++) {
		if (step < STEPS && random_below(&seed, 2))
			write_some(a, &there, &seed);
		if (step < STEPS && random_below(&seed, 3) == 0)
			write_some(&b, &back, &seed);
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		move_some(a, &b, &seed);
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		move_some(&b, a, &seed);
		read_some(a, &back, &seed);
		read_some(&b, &there, &seed);
		assert_int_equal(transport_state(&a->transport), TRANSPORT_OPEN);
		assert_int_equal(transport_state(&b.transport), TRANSPORT_OPEN);
	}
	assert_true(there.got > 1000 && back.got > 1000);
	close_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_whole_frames_are_seen_wherever_they_are_cut, setup,
						teardown),
		cmocka_unit_test_setup_teardown(an_end_at_any_place_leaves_the_whole_frames_before, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_is_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(more_than_there_is_room_for_is_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_socket_is_waited_for_and_no_longer, setup, teardown),
		cmocka_unit_test_setup_teardown(a_gateway_that_reads_no_more_has_left, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_processed_is_told_of_late_or_along, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_written_in_a_turn_goes_together, setup, teardown),
		cmocka_unit_test_setup_teardown(descriptors_are_the_end_and_closed_by_others, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_turn_is_bounded_and_paid_for, setup, teardown),
		cmocka_unit_test_setup_teardown(frames_arrive_as_they_were_sent_however_they_are_moved, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
