/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two daemons that talk through the rings of two gateways, between which the records are cut anywhere, and
 * wait anywhere.
 */
#include "tests/unit/rings_rig.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/random.h"
#include "wire/doorbell.h"

/* A daemon that sleeps when it has nothing to do: only its bell wakes it. */
struct daemon {
	struct end *end;
	unsigned heard; /* of its bell */
	bool is_empty, is_full;
	uint32_t sent, got; /* frames */
};

static void awake(struct daemon *daemon)
{
	if (daemon->end->rung == daemon->heard)
		return;
	daemon->heard = daemon->end->rung;
	daemon->is_empty = daemon->is_full = false;
}

static void write_some(struct daemon *daemon, uint64_t *seed)
{
	static uint8_t frame[FRAME_MAX];
	struct end *end = daemon->end;
	uint32_t length =
		random_below(seed, 8) ? random_below(seed, 300) : random_below(seed, FRAME_PAYLOAD_MAX + 1);

	if (daemon->is_full)
		return;
	if (ring_writer_space(&end->out, FRAME_MAX) < (int)FRAME_MAX) {
		int r = ring_writer_arm(&end->out, FRAME_MAX);

		assert_true(r >= 0);
		daemon->is_full = r == 0;
		return;
	}
	put_frame(end, frame, make_frame(frame, length, daemon->sent++));
}

static uint32_t read_frame(struct daemon *daemon, int size)
{
	static uint8_t frame[FRAME_MAX], expected[FRAME_MAX];
	struct ring_reader *in = &daemon->end->in;
	struct frame_header header;

	assert_true(size >= (int)FRAME_HEADER_SIZE);
	ring_reader_copy(in, 0, frame, FRAME_HEADER_SIZE);
	assert_int_equal(frame_header_decode(frame, &header), 0);
	assert_true(size >= (int)frame_size(header.length));
	ring_reader_copy(in, 0, frame, frame_size(header.length));
	make_frame(expected, header.length, daemon->got++);
	assert_memory_equal(frame, expected, frame_size(header.length));
	return frame_size(header.length);
}

static void read_some(struct daemon *daemon, uint64_t *seed)
{
	struct end *end = daemon->end;

	for (uint32_t most = random_below(seed, 20); most > 0 && !daemon->is_empty; most--) {
		int size = ring_reader_ready(&end->in, FRAME_MAX);

		if (size > 0) {
			ring_reader_consume(&end->in, read_frame(daemon, size));
			continue;
		}
		assert_int_equal(size, 0);
		daemon->is_empty = ring_reader_arm(&end->in, 1) == 0;
	}
	if (ring_reader_release(&end->in))
		doorbell_ring(end->wake_gateway);
}

static void move_some(struct end *from, struct end *to, uint64_t *seed)
{
	size_t size = 1 + random_below(seed, 20000);

	if (size > from->wired)
		size = from->wired;
	assert_int_equal(rings_put(to->rings, from->wire, size), 0);
	from->wired -= size;
	memmove(from->wire, from->wire + size, from->wired);
	from->most = RINGS_TAKE_MIN + random_below(seed, RINGS_RECORD_MAX);
	if (random_below(seed, 3) == 0)
		rings_take_more(from->rings, true);
}

static void play(struct daemon *daemon, const struct daemon *other, bool is_writing, uint64_t *seed)
{
	awake(daemon);
	for (uint32_t frames = is_writing ? random_below(seed, 4) : 0; frames > 0; frames--)
		write_some(daemon, seed);
	if (random_below(seed, 3) == 0)
		read_some(daemon, seed);
	event_base_loop(event_get_base(daemon->end->bell), EVLOOP_NONBLOCK);
	move_some(daemon->end, other->end, seed);
}

/* And whoever waits is woken: else this has no end. */
TEST_AT_END(frames_arrive_as_they_were_sent_however_they_are_moved, setup, teardown)
{
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 1;
	struct end other;
	struct daemon a = {.end = &scene->end}, b = {.end = &other};

	print_message("SEED=%llu\n", (unsigned long long)seed);
	open_end(scene, &other);
	a.end->room = b.end->room = 200000;
	for (int step = 0; step < STEPS || b.got < a.sent || a.got < b.sent; step++) {
		play(&a, &b, step < STEPS, &seed);
		play(&b, &a, step < STEPS && step % 3 == 0, &seed);
	}
	assert_true(a.got > 1000 && b.got > 1000);
	close_end(&other);
}

/* --- at the same time ------------------------------------------------------------------------- */

#define ECHOES	  30000u
#define ECHO_SIZE 64u
#define ASLEEP_MS 10000

/* The other host sends back what it gets, and so its daemon's index is ours. */
static void send_back(struct end *end)
{
	while ((end->last = rings_take(end->rings, end->wire, end->most)) > 0)
		assert_int_equal(rings_put(end->rings, end->wire, (size_t)end->last), 0);
	if (end->last != -EAGAIN)
		event_base_loopbreak(event_get_base(end->bell));
}

/* Writes frames, no more than a few that haven't come back. Returns whether there were any. */
static bool write_ahead(struct end *end, uint32_t *sent, uint32_t got)
{
	uint8_t frame[ECHO_SIZE];
	uint32_t before = *sent;

	while (*sent < ECHOES && *sent - got <= *sent % 50 &&
	       ring_writer_space(&end->out, ECHO_SIZE) >= (int)ECHO_SIZE) {
		make_frame(frame, ECHO_SIZE - FRAME_HEADER_SIZE, *sent);
		ring_writer_put(&end->out, frame, ECHO_SIZE);
		++*sent;
		if (ring_writer_publish(&end->out))
			doorbell_ring(end->wake_gateway);
	}
	return *sent != before;
}

static bool read_back(struct end *end, uint32_t *got)
{
	int size = ring_reader_ready(&end->in, GATEWAY_RING_SIZE);

	if (size <= 0)
		return false;
	*got += (uint32_t)size / ECHO_SIZE;
	ring_reader_consume(&end->in, (uint32_t)size);
	if (ring_reader_release(&end->in))
		doorbell_ring(end->wake_gateway);
	return true;
}

/* A daemon in a thread of its own. Returns NULL if nobody has forgotten to wake it. */
static void *be_daemon(void *userdata)
{
	struct end *end = userdata;
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
	int poll = epoll_create1(EPOLL_CLOEXEC);
	uint32_t sent = 0, got = 0;
	void *fault = NULL;

	epoll_ctl(poll, EPOLL_CTL_ADD, end->wake_daemon, &event);
	while (got < ECHOES && !fault) {
		bool moved = write_ahead(end, &sent, got);

		if (read_back(end, &got) || moved)
			continue;
		if (ring_reader_arm(&end->in, 1) == 0 && ring_writer_arm(&end->out, ECHO_SIZE) >= 0 &&
		    epoll_wait(poll, &event, 1, ASLEEP_MS) == 0)
			fault = end;
	}
	close(poll);
	shutdown(end->life, SHUT_WR);
	return fault;
}

TEST_AT_END(nobody_sleeps_on_when_both_are_busy_at_the_same_time, setup, teardown)
{
	pthread_t thread;
	void *fault;

	end->on_ready = send_back;
	assert_int_equal(pthread_create(&thread, NULL, be_daemon, end), 0);
	event_base_dispatch(scene->base);
	assert_int_equal(pthread_join(thread, &fault), 0);
	assert_null(fault);
	assert_int_equal(end->last, 0);
}
