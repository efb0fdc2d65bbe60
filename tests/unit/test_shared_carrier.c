/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory as a session's carrier, whose other end is a gateway that does what it likes: it writes or
 * doesn't, says what it has no business to say, sends descriptors, spoils what it shares, and goes at any
 * time.
 */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/quota.h"
#include "daemon/hosts/conversation_memory.h"
#include "daemon/link/carrier.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/hop.h"
#include "tests/descriptors.h"
#include "tests/unit/own_process.h"
#include "wire/doorbell.h"
#include "wire/frame.h"

#define ALARM_S 60

/* A carrier, with a hop and a gateway that are played here. */
struct end {
	struct carrier carrier;
	struct ring_reader in;
	struct ring_writer out;
	unsigned events;
	/* the gateway */
	int fds[GATEWAY_FDS];
	uint8_t *memory;
	struct ring_reader leaving;
	struct ring_writer arrived;
	struct event *bell;
	unsigned rung;
};

struct scene {
	struct event_base *base;
	struct switchboard board;
	struct quota *quota;
	struct account *account;
	struct end end;
	unsigned descriptors;
};

static void on_event(void *userdata)
{
	struct end *end = userdata;

	end->events++;
	if (carrier_state(&end->carrier) == CARRIER_OPEN)
		ring_reader_arm(&end->in, 1);
}

static void on_bell(evutil_socket_t fd, short what, void *userdata)
{
	((struct end *)userdata)->rung++;
}

static void settle(struct scene *scene)
{
	uint64_t before;

	do {
		before = scene->board.turns.spent;
		for (int i = 0; i < 4; i++)
			event_base_loop(scene->base, EVLOOP_NONBLOCK);
	} while (scene->board.turns.spent != before);
}

/* What the gateway does with what it was sent. */
static void open_gateway(struct scene *scene, struct end *end)
{
	struct ring_view view;

	end->memory = mmap(NULL, GATEWAY_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			   end->fds[GATEWAY_FD_MEMORY], 0);
	assert_ptr_not_equal(end->memory, MAP_FAILED);
	view = gateway_ring_view(end->memory, GATEWAY_RING_OUT);
	ring_reader_init(&end->leaving, &view, false);
	view = gateway_ring_view(end->memory, GATEWAY_RING_IN);
	ring_writer_init(&end->arrived, &view, false);
	end->bell = event_new(scene->base, end->fds[GATEWAY_FD_WAKE_GATEWAY], EV_WRITE | EV_PERSIST | EV_ET,
			      on_bell, end);
	event_add(end->bell, NULL);
}

static void open_end(struct scene *scene, struct end *end)
{
	const uint64_t amounts[QUOTA_RESOURCES] = {
		[QUOTA_DESCRIPTORS] = CONVERSATION_DESCRIPTORS, [QUOTA_MEMORY] = GATEWAY_MEMORY_SIZE};
	struct conversation_memory memory;
	struct ring_view in, out;
	struct charge charge;

	*end = (struct end){0};
	charge_init(&charge, scene->account);
	assert_int_equal(charge_all(&charge, amounts), 0);
	assert_int_equal(conversation_memory_make(&memory, &scene->board, &charge, end->fds), 0);
	for (unsigned i = GATEWAY_FD_MEMORY; i < GATEWAY_FDS; i++)
		end->fds[i] = fcntl(end->fds[i], F_DUPFD_CLOEXEC, 0);
	assert_int_equal(shared_carrier_new(&end->carrier, &scene->board, &memory, &charge, true), 0);
	assert_null(memory.memory);
	assert_int_equal(carrier_state(&end->carrier), CARRIER_OPEN);
	carrier_rings(&end->carrier, &in, &out);
	ring_reader_init(&end->in, &in, false);
	ring_writer_init(&end->out, &out, false);
	carrier_hear(&end->carrier, on_event, end);
	open_gateway(scene, end);
	settle(scene);
	end->events = end->rung = 0;
	assert_int_equal(ring_reader_arm(&end->in, 1), 0);
	assert_int_equal(ring_reader_arm(&end->leaving, 1), 0);
}

/* The gateway lets its end go. */
static void close_life(struct end *end)
{
	close(end->fds[GATEWAY_FD_LIFE]);
	end->fds[GATEWAY_FD_LIFE] = -1;
}

static void close_gateway(struct end *end)
{
	if (!end->memory)
		return;
	event_free(end->bell);
	munmap(end->memory, GATEWAY_MEMORY_SIZE);
	end->memory = NULL;
	for (unsigned i = 0; i < GATEWAY_FDS; i++)
		if (end->fds[i] >= 0)
			close(end->fds[i]);
}

static void close_end(struct end *end)
{
	carrier_end(&end->carrier, false);
	close_gateway(end);
}

static void reopen(struct scene *scene)
{
	close_end(&scene->end);
	open_end(scene, &scene->end);
}

static int setup(void **state)
{
	const struct quota_limits limits = {
		.pool = {[QUOTA_DESCRIPTORS] = 1000, [QUOTA_MEMORY] = 1u << 30},
		.max = {[QUOTA_UID] = {[QUOTA_DESCRIPTORS] = 100, [QUOTA_MEMORY] = 1u << 28}},
	};
	struct scene *scene = calloc(1, sizeof(*scene));

	alarm(patience(ALARM_S));
	scene->descriptors = open_descriptors();
	scene->base = event_base_new();
	scene->quota = quota_new(&limits);
	scene->account = quota_account(scene->quota, QUOTA_UID, 1000);
	assert_int_equal(switch_init(&scene->board, scene->base, 1u << 20), 0);
	scene->board.quota = scene->quota;
	assert_int_equal(work_pool_new(&scene->board.work_pool, &scene->board), 0);
	open_end(scene, &scene->end);
	*state = scene;
	return 0;
}

static int teardown(void **state)
{
	struct scene *scene = *state;

	close_end(&scene->end);
	switch_cleanup(&scene->board);
	work_pool_free(scene->board.work_pool);
	for (int i = 0; i < QUOTA_RESOURCES; i++)
		assert_int_equal(account_usage(scene->account, i).used, 0);
	account_unref(scene->account);
	quota_free(scene->quota);
	event_base_free(scene->base);
	assert_int_equal(open_descriptors(), scene->descriptors);
	free(scene);
	alarm(0);
	return 0;
}

/* --- what the two say ------------------------------------------------------------------------- */

static uint32_t make_frame(uint8_t *out, uint32_t length, uint32_t sequence)
{
	const struct frame_header header = {.type = FRAME_DATA, .length = length, .sequence = sequence};

	for (uint32_t i = 0; i < length; i++)
		out[FRAME_HEADER_SIZE + i] = (uint8_t)(sequence + i);
	return (uint32_t)frame_wrap(out, &header);
}

/* The gateway publishes a frame, and rings if that was asked for. Returns its size. */
static uint32_t bring_frame(struct end *end, uint32_t length)
{
	uint8_t frame[1024];
	uint32_t size = make_frame(frame, length, 0);

	ring_writer_put(&end->arrived, frame, size);
	if (ring_writer_publish(&end->arrived))
		assert_int_equal(doorbell_ring(end->fds[GATEWAY_FD_WAKE_DAEMON]), 0);
	return size;
}

static uint32_t put_frame(struct end *end, uint32_t length)
{
	uint8_t frame[1024];
	uint32_t size = make_frame(frame, length, 0);

	ring_writer_put(&end->out, frame, size);
	if (ring_writer_publish(&end->out))
		assert_int_equal(carrier_notify(&end->carrier), 0);
	return size;
}

static int there(struct end *end)
{
	return ring_reader_ready(&end->in, GATEWAY_RING_SIZE);
}

static void assert_state(struct scene *scene, enum carrier_state state)
{
	settle(scene);
	assert_int_equal(carrier_state(&scene->end.carrier), state);
}

/* It has ended, and its hop has heard of that; whatever the gateway still does, nobody here is woken. */
static void assert_over(struct scene *scene, enum carrier_state state)
{
	struct end *end = &scene->end;
	unsigned events;

	assert_state(scene, state);
	events = end->events;
	assert_true(events > 0);
	doorbell_ring(end->fds[GATEWAY_FD_WAKE_DAEMON]);
	if (end->fds[GATEWAY_FD_LIFE] >= 0)
		(void)!send(end->fds[GATEWAY_FD_LIFE], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	settle(scene);
	assert_int_equal(end->events, events);
	assert_int_equal(carrier_state(&end->carrier), state);
	assert_int_equal(carrier_notify(&end->carrier), 0);
}

/* --- the tests -------------------------------------------------------------------------------- */

TEST_AT_END(what_is_written_wakes_the_gateway_if_it_asks_for_that, setup, teardown)
{
	uint32_t size = put_frame(end, 40);

	size += put_frame(end, 4);
	settle(scene);
	assert_int_equal(end->rung, 1);
	assert_int_equal(ring_reader_ready(&end->leaving, size), size);
	ring_reader_consume(&end->leaving, size);
	assert_int_equal(ring_reader_arm(&end->leaving, 1), 0);
	put_frame(end, 1);
	settle(scene);
	assert_int_equal(end->rung, 2);
}

TEST_AT_END(an_end_leaves_what_was_published, setup, teardown)
{
	for (int i = 0; i < 3; i++) {
		uint32_t size = bring_frame(end, 100);
		int idle = event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED);

		if (i == 1)
			assert_int_equal(shutdown(end->fds[GATEWAY_FD_LIFE], SHUT_WR), 0);
		else if (i == 2)
			assert_int_equal(shutdown(end->fds[GATEWAY_FD_LIFE], SHUT_RDWR), 0);
		else
			close_life(end);
		assert_over(scene, CARRIER_LEFT);
		assert_int_equal(there(end), size);
		/* Nothing is left that could wake us. */
		assert_int_equal(event_base_get_num_events(scene->base, EVENT_BASE_COUNT_ADDED), idle - 2);
		reopen(scene);
	}
}

TEST_AT_END(what_is_said_on_the_socket_breaks_it, setup, teardown)
{
	for (int i = 0; i < 4; i++) {
		const char bytes[] = {i ? 'a' : GATEWAY_LIFE_BROKEN, 0};
		uint32_t size = bring_frame(end, 100);
		size_t said = i == 2 ? 2 : 1;

		assert_int_equal(send(end->fds[GATEWAY_FD_LIFE], bytes, said, i == 3 ? MSG_OOB : 0), said);
		if (i != 1)
			close_life(end);
		assert_over(scene, CARRIER_BROKEN);
		assert_int_equal(there(end), size);
		reopen(scene);
	}
}

TEST_AT_END(descriptors_are_the_end_and_closed_by_others, setup, teardown)
{
	for (int i = 0; i < 3; i++) {
		uint32_t size = bring_frame(end, 100);
		int peer, fd = lingering_socket(&peer);

		assert_true(fd >= 0);
		assert_int_equal(send_descriptor(end->fds[GATEWAY_FD_LIFE], "12345678", 8, fd, 0), 8);
		close(fd);
		if (i == 1)
			close_life(end);
		if (i < 2)
			assert_over(scene, CARRIER_BROKEN);
		assert_int_equal(there(end), size);
		close_end(end);
		while (account_usage(scene->account, QUOTA_DESCRIPTORS).used > 0)
			event_base_loop(scene->base, EVLOOP_ONCE);
		close(peer);
		open_end(scene, end);
	}
}

/* Sets the gateway's bell, which is the daemon's, too, to what nobody can ring. */
static void spoil_bell(struct end *end, int how)
{
	int fd = end->fds[GATEWAY_FD_WAKE_GATEWAY];
	uint64_t one = 1;

	while (how == 1 && write(fd, &one, sizeof(one)) > 0)
		;				    /* full: a write would wait */
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0); /* from now on calls wait that aren't told not to */
}

TEST_AT_END(a_gateway_that_spoils_its_bell_makes_nobody_wait, setup, teardown)
{
	for (int i = 0; i < 2; i++) {
		spoil_bell(end, i);
		for (int k = 0; k < 100; k++) {
			ring_reader_arm(&end->leaving, GATEWAY_RING_SIZE);
			put_frame(end, 8);
			assert_int_equal(carrier_notify(&end->carrier), 0);
		}
		settle(scene);
		assert_state(scene, CARRIER_OPEN);
		reopen(scene);
	}
}

/* It takes more than a lifetime to empty one of ours, so this one is a gateway's idea of a bell. */
TEST_AT_END(an_empty_bell_makes_nobody_wait, setup, teardown)
{
	struct conversation_memory memory;
	struct carrier carrier;
	struct charge charge;
	int fds[GATEWAY_FDS], empty = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);

	charge_init(&charge, scene->account);
	assert_int_equal(conversation_memory_make(&memory, &scene->board, &charge, fds), 0);
	assert_int_equal(dup3(empty, memory.wake_gateway, O_CLOEXEC), memory.wake_gateway);
	assert_int_equal(dup3(empty, memory.wake_daemon, O_CLOEXEC), memory.wake_daemon);
	close(empty);
	assert_int_equal(shared_carrier_new(&carrier, &scene->board, &memory, &charge, false), 0);
	settle(scene);
	for (int i = 0; i < 100; i++)
		assert_int_equal(carrier_notify(&carrier), 0);
	assert_int_equal(carrier_state(&carrier), CARRIER_OPEN);
	carrier_end(&carrier, false);
	close(fds[GATEWAY_FD_LIFE]);
	close(fds[GATEWAY_FD_MEMORY]);
}

/* One event for all that it rings in a pass: it can't keep the loop busy. */
TEST_AT_END(a_gateway_that_rings_on_and_on_is_heard_once_a_pass, setup, teardown)
{
	for (unsigned pass = 1; pass <= 10; pass++) {
		for (int i = 0; i < 1000; i++)
			doorbell_ring(end->fds[GATEWAY_FD_WAKE_DAEMON]);
		event_base_loop(scene->base, EVLOOP_NONBLOCK);
		assert_true(end->events <= pass);
	}
	settle(scene);
	assert_true(end->events >= 1 && end->events <= 11);
}

TEST_AT_END(indices_that_cannot_be_are_noticed, setup, teardown)
{
	const struct {
		bool producer;
		uint32_t index;
	} cases[] = {
		{true, GATEWAY_RING_SIZE + 1},
		{true, (uint32_t)-8},
		{true, UINT32_MAX / 2},
		{false, 1024 + 8},
		{false, 12},
		{false, (uint32_t)-8},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		while (end->out.head < 1024)
			put_frame(end, 48);
		assert_int_equal(end->out.head, 1024);
		ring_store(cases[i].producer ? end->arrived.ring.producer : end->leaving.ring.consumer,
			   cases[i].index);
		if (cases[i].producer)
			assert_int_equal(there(end), -EPROTO);
		else
			assert_int_equal(ring_writer_space(&end->out, GATEWAY_RING_SIZE), -EPROTO);
		reopen(scene);
	}
}

TEST_AT_END(what_was_written_last_still_goes, setup, teardown)
{
	uint32_t size = put_frame(end, 40);
	uint8_t expected[100], got[100];
	char byte;

	settle(scene);
	end->rung = 0;
	carrier_end(&end->carrier, false);
	settle(scene);
	assert_int_equal(end->rung, 1); /* even if it hadn't asked */
	assert_int_equal(recv(end->fds[GATEWAY_FD_LIFE], &byte, 1, MSG_DONTWAIT), 0);
	assert_int_equal(ring_reader_ready(&end->leaving, size), size);
	ring_reader_copy(&end->leaving, 0, got, size);
	make_frame(expected, 40, 0);
	assert_memory_equal(got, expected, size);
	while (account_usage(scene->account, QUOTA_MEMORY).used)
		event_base_loop(scene->base, EVLOOP_ONCE);
}

TEST_AT_END(an_end_is_paid_for, setup, teardown)
{
	uint64_t before = account_time(scene->account)->spent;

	close_life(&scene->end);
	settle(scene);
	assert_true(account_time(scene->account)->spent > before);
}
