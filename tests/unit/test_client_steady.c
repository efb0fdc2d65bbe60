/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a pipelined program costs: no allocation and no system call for a message, once everything has found
 * its size. */

#include "tests/unit/client_call_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libclient/helpers.h"
#include "wire/bytes.h"

/* The library's calls come by here, since this program defines them too. */
static unsigned long allocations, system_calls;
static bool no_memory;

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size)
{
	allocations++;
	return no_memory ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	allocations++;
	return no_memory ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	allocations++;
	return no_memory ? NULL : __libc_realloc(memory, size);
}
#else
#define COUNTS_ALLOCATIONS 0
#endif

ssize_t write(int fd, const void *data, size_t size)
{
	system_calls++;
	return syscall(SYS_write, fd, data, size);
}

int epoll_wait(int epfd, struct epoll_event *events, int count, int timeout)
{
	system_calls++;
	/* arm64 has no SYS_epoll_wait */
	return (int)syscall(SYS_epoll_pwait, epfd, events, count, timeout, NULL, 0);
}

static unsigned long done_count;

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	assert_int_equal(result->error, 0);
	done_count++;
}

/* Takes what is in the ring, as a busy daemon does: it doesn't ask to be notified. */
static uint64_t drain(void)
{
	uint64_t bytes = 0;

	while (fake_has_frame(&fake)) {
		fake_read_busy(&fake);
		if (fake.header.type == FRAME_DATA)
			bytes += fake.header.length;
	}
	return bytes;
}

SHARED(a_sender_in_the_steady_state_costs_nothing_but_copies)
{
	const unsigned batch = 200;
	uint64_t consumed = 0;
	uint8_t data[64] = {0};

	fake_be_busy(&fake);
	for (unsigned round = 0; round < 300; round++) {
		if (round == 100)
			allocations = system_calls = 0;
		for (unsigned i = 0; i < batch; i++)
			assert_int_equal(xenmsg_begin_send(fake.conn, i % 2 ? "5:inbox" : "5:other", data,
							   sizeof(data), NULL, on_done, NULL, NULL),
					 0);
		consumed += drain() / 2;
		if (round == 0) {
			fake_opened(&fake, 0, 1 << 16, FAKE_MAX_MESSAGE);
			fake_opened(&fake, 2, 1 << 16, FAKE_MAX_MESSAGE);
		}
		fake_credit(&fake, 0, consumed, consumed + (1 << 16));
		fake_credit(&fake, 2, consumed, consumed + (1 << 16));
		/* Something is there, so this doesn't sleep. */
		assert_true(xenmsg_wait(fake.conn, -1) > 0);
	}
	assert_int_equal(done_count, 300 * batch);
	if (COUNTS_ALLOCATIONS)
		assert_int_equal(allocations, 0);
	/* What the fake daemon wrote to wake a program that had armed and not slept; far from one a
	 * message. */
	assert_true(system_calls <= 200 * 2);
}

SHARED(a_receiver_in_the_steady_state_costs_nothing_but_copies)
{
	uint8_t data[64] = {0};
	uint32_t size = 0;

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_be_busy(&fake);
	fake_open(&fake, 1, "inbox");
	for (unsigned i = 0; i < 100; i++)
		size += fake_message(stream + size, data, sizeof(data), MESSAGE_SENT);
	for (unsigned round = 0; round < 300; round++) {
		if (round == 100)
			allocations = system_calls = 0;
		fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
		for (unsigned i = 0; i < 100; i++) {
			struct xenmsg_message *message;

			assert_int_equal(xenmsg_recv(fake.conn, &message, -1), 0);
			xenmsg_message_free(message);
		}
	}
	if (COUNTS_ALLOCATIONS)
		assert_int_equal(allocations, 0);
	assert_true(system_calls <= 200 * 2);
}

static unsigned handled;

static void handle(void *userdata, struct xenmsg_message *message)
{
	assert_int_equal(xenmsg_message_size(message), 5000);
	handled++;
	xenmsg_message_free(message);
}

/* Lets the library work without memory. */
static int process_without_memory(void)
{
	int r;

	no_memory = true;
	r = xenmsg_process(fake.conn);
	no_memory = false;
	return r;
}

/* Channel 1 has a message that is too large for what the library has at hand. */
static void deliver_large(xenmsg_message_handler handler)
{
	static uint8_t data[5000];

	handled = 0;
	fake_bind(&fake, "inbox", handler, NULL);
	fake_open(&fake, 1, "inbox");
	assert_true(xenmsg_process(fake.conn) >= 0);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, fake_message(stream, data, sizeof(data), MESSAGE_SENT));
}

static void expect_handled_once(void)
{
	assert_int_equal(handled, 1);
	assert_int_equal(xenmsg_process(fake.conn), 0);
}

SHARED(a_message_without_memory_for_it_stays_and_is_received_later)
{
	struct xenmsg_message *message;

	if (!COUNTS_ALLOCATIONS)
		skip();
	deliver_large(NULL);
	no_memory = true;
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -ENOMEM);
	no_memory = false;
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), 0);
	handle(NULL, message);
	expect_handled_once();
}

SHARED(a_message_without_memory_for_it_stays_and_is_tried_again)
{
	if (!COUNTS_ALLOCATIONS)
		skip();
	deliver_large(handle);
	for (int i = 0; i < 3; i++) {
		struct pollfd ready = {.fd = xenmsg_fd(fake.conn), .events = POLLIN};

		assert_int_equal(process_without_memory(), -ENOMEM);
		/* The descriptor tells when it is time. */
		assert_int_equal(poll(&ready, 1, 60000), 1);
	}
	while (!handled)
		assert_true(xenmsg_wait(fake.conn, 60000) >= 0);
	expect_handled_once();
}

/* That a channel is opened, say: the frames stay where they are, for a moment. */
SHARED(what_the_daemon_says_is_read_when_there_is_memory_for_it)
{
	static uint8_t data[5000];

	if (!COUNTS_ALLOCATIONS)
		skip();
	fake_bind(&fake, "inbox", handle, NULL);
	handled = 0;
	fake_open(&fake, 1, "inbox");
	fake_send(&fake, FRAME_DATA, 0, 1, stream, fake_message(stream, data, sizeof(data), MESSAGE_SENT));
	for (int i = 0; i < 3; i++) {
		struct pollfd ready = {.fd = xenmsg_fd(fake.conn), .events = POLLIN};

		assert_int_equal(process_without_memory(), 0);
		assert_int_equal(handled, 0);
		assert_int_equal(poll(&ready, 1, 60000), 1);
	}
	while (!handled)
		assert_true(xenmsg_wait(fake.conn, 60000) >= 0);
	expect_handled_once();
}

/* Of the others nothing changes. */
SHARED(an_answer_for_which_there_is_no_memory_ends_its_call)
{
	static uint8_t data[5000];
	struct outcome one = {0}, two = {0};
	uint32_t channel, number, second, size;

	if (!COUNTS_ALLOCATIONS)
		skip();
	number = call(&one, "x", true, &channel);
	second = call(&two, "y", false, &channel);
	fake_opened(&fake, channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, 48, 65536);
	assert_true(xenmsg_process(fake.conn) >= 0);
	for (int i = 0; i < 2; i++) {
		size = fake_message(stream, data, sizeof(data), MESSAGE_SENT);
		put_u32(stream + 4, MESSAGE_REPLY);
		put_u32(stream + size - 4, i ? second : number);
		fake_send(&fake, FRAME_DATA, 0, channel, stream, size);
		if (i == 0)
			assert_true(process_without_memory() >= 0);
	}
	wait_for(&two);
	assert_int_equal(one.result, -ENOMEM);
	assert_int_equal(one.fate, XENMSG_FATE_UNKNOWN);
	assert_int_equal(two.result, 0);
}

TEST(a_queue_that_never_empties_keeps_its_memory)
{
	static uint8_t message[65552];
	struct fifo fifo = {0};
	uint64_t in = 0, out = 0;

	for (unsigned round = 0; round < 4000; round++) {
		if (round == 1000)
			allocations = 0;
		/* Written in whole, taken in pieces: never all of it. */
		while (fifo_size(&fifo) < 4 * sizeof(message)) {
			memset(message, (int)(in++ % 251), sizeof(message));
			assert_int_equal(fifo_append(&fifo, message, sizeof(message)), 0);
		}
		for (unsigned i = 0; i < 1 + round % 5; i++, out += 32776) {
			assert_int_equal(fifo_front(&fifo)[0], out / sizeof(message) % 251);
			fifo_drop(&fifo, 32776);
		}
	}
	if (COUNTS_ALLOCATIONS)
		assert_int_equal(allocations, 0);
	assert_true(fifo.capacity <= 12 * sizeof(message));
	fifo_free(&fifo);
}
