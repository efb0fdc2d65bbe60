/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to programs with a loop: one descriptor that tells everything, by level and by
 * edge; wake-ups from anywhere; and what a callback may call.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"
#include "wire/properties.h"

static int outcomes, last;

static void note(void *userdata, const struct xenmsg_result *result)
{
	outcomes++;
	last = result->error;
}

static void leave_cancel_unanswered(struct fake *daemon)
{
	fake_expect(daemon, FRAME_OPEN);
	fake_expect(daemon, FRAME_DATA);
	fake_expect(daemon, FRAME_DATA);
	fake_expect(daemon, FRAME_CANCEL);
}

/* As executors of other languages do it: each edge is told once. */
BOTH(a_time_out_comes_by_an_edge_of_the_descriptor)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	outcomes = 0;
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, xenmsg_fd(fake.conn), &event), 0);
	fake_meanwhile(&fake, leave_cancel_unanswered);
	assert_int_equal(
		xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, XENMSG_WITHIN(60000), NULL, NULL, NULL), 0);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, XENMSG_WITHIN(30), note, NULL, NULL),
			 0);
	while (outcomes < 1) {
		while (xenmsg_process(fake.conn) > 0)
			;
		if (outcomes < 1)
			assert_int_equal(epoll_wait(epoll, &event, 1, -1), 1);
	}
	assert_int_equal(last, -ECONNRESET);
	fake_join(&fake);
	close(epoll);
}

#define STREAMS 9 /* more than the library takes at once */

static void say_welcome(int fd)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	const struct frame_welcome welcome = {.major = 1};
	const struct frame_header header = {
		.type = FRAME_WELCOME, .length = frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE)};
	uint32_t size = frame_wrap(frame, &header);

	assert_int_equal(send(fd, frame, size, 0), size);
}

static void say_yes(int fd)
{
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	const struct frame_reply reply = {.error = 0};
	const struct frame_header header = {.type = FRAME_REPLY,
					    .length = frame_reply_encode(&reply, frame + FRAME_HEADER_SIZE)};
	uint32_t size = frame_wrap(frame, &header);

	assert_int_equal(send(fd, frame, size, 0), size);
}

/* The last of them has its answer, behind others that have a part of theirs. */
BOTH(by_edge_none_of_many_streams_is_forgotten)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), epoll = epoll_create1(EPOLL_CLOEXEC), fds[STREAMS];

	outcomes = 0;
	unlink(fake.path);
	memcpy(address.sun_path, fake.path, sizeof(fake.path));
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, STREAMS), 0);
	for (int i = 0; i < STREAMS; i++) {
		assert_int_equal(xenmsg_begin_connect(fake.conn, "5:doors", NULL, note, NULL, NULL), 0);
		fds[i] = accept(listener, NULL, NULL);
	}
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, xenmsg_fd(fake.conn), &event), 0);
	while (epoll_wait(epoll, &event, 1, 0) || xenmsg_process(fake.conn))
		xenmsg_process(fake.conn);
	for (int i = 0; i < STREAMS; i++)
		say_welcome(fds[i]);
	say_yes(fds[STREAMS - 1]);
	while (outcomes < 1) {
		assert_int_equal(epoll_wait(epoll, &event, 1, 20000), 1);
		while (xenmsg_process(fake.conn) > 0)
			;
	}
	assert_int_equal(last, 0);
	for (int i = 0; i < STREAMS; i++)
		close(fds[i]);
	close(listener);
	close(epoll);
}

static void *wake(void *conn)
{
	assert_int_equal(xenmsg_wake(conn), 0);
	return NULL;
}

static void wake_again(int number)
{
	xenmsg_wake(fake.conn);
}

BOTH(a_wake_up_from_anywhere_ends_the_wait)
{
	struct pollfd readable = {.fd = xenmsg_fd(fake.conn), .events = POLLIN};
	struct sigaction action = {.sa_handler = wake_again, .sa_flags = SA_RESTART};
	pthread_t thread;

	xenmsg_process(fake.conn);
	assert_int_equal(pthread_create(&thread, NULL, wake, fake.conn), 0);
	assert_int_equal(xenmsg_wait(fake.conn, -1), 0);
	pthread_join(thread, NULL);
	/* One that comes before the wait isn't lost, and is told once. */
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	raise(SIGUSR1);
	assert_int_equal(poll(&readable, 1, -1), 1);
	assert_int_equal(xenmsg_wait(fake.conn, -1), 0);
	assert_int_equal(poll(&readable, 1, 0), 0);
	/* Nor does it end what waits for something else. */
	raise(SIGUSR1);
	assert_int_equal(xenmsg_send(fake.conn, "bad address", "x", 1, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_wait(fake.conn, -1), 0);
	/* What is told next is told by the descriptor, whatever came with the wake-up. */
	fake_send(&fake, 200, 0, 0, "", 0);
	raise(SIGUSR1);
	assert_int_equal(xenmsg_wait(fake.conn, -1), 0);
	fake_send(&fake, 200, 0, 0, "", 0);
	assert_int_equal(poll(&readable, 1, -1), 1);
}

static int within[2];

static void process_within(void *userdata, struct xenmsg_message *message)
{
	within[0] = xenmsg_process(fake.conn);
	within[1] = xenmsg_wait(fake.conn, 1000);
	xenmsg_message_free(message);
}

BOTH(a_callback_can_not_process)
{
	open_inbox(process_within, NULL);
	DELIVER(1, "one", "two");
	while (xenmsg_wait(fake.conn, -1) != 2)
		;
	assert_int_equal(within[0], -EBUSY);
	assert_int_equal(within[1], -EBUSY);
}

static void close_within(void *userdata, struct xenmsg_message *message)
{
	handled++;
	xenmsg_close(fake.conn);
	xenmsg_close(fake.conn);
	/* It is still there. */
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, note, NULL, NULL), 0);
	xenmsg_message_free(message);
}

static int process_until_closed(void)
{
	int r;

	do
		r = xenmsg_wait(fake.conn, -1);
	while (r >= 0);
	return r;
}

BOTH(a_handler_may_close_the_connection)
{
	handled = outcomes = 0;
	open_inbox(close_within, NULL);
	DELIVER(1, "one", "two");
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, note, NULL, NULL), 0);
	assert_int_equal(process_until_closed(), -ECANCELED);
	fake.conn = NULL;
	assert_int_equal(handled, 1);
	assert_int_equal(outcomes, 2);
}

BOTH(recv_ends_when_a_handler_closes)
{
	struct xenmsg_message *message;

	handled = outcomes = 0;
	fake_bind(&fake, "inbox", close_within, NULL);
	fake_bind(&fake, "plain", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	fake_open(&fake, 3, "plain");
	DELIVER(1, "one");
	DELIVER(3, "two");
	assert_int_equal(xenmsg_recv(fake.conn, &message, -1), -ECANCELED);
	fake.conn = NULL;
	assert_int_equal(handled, 1);
	assert_int_equal(outcomes, 1);
}

static void close_when_done(void *userdata, const struct xenmsg_result *result)
{
	note(NULL, result);
	xenmsg_close(fake.conn);
}

/* Opens the next channel and takes the messages, of a byte each, that come in it. */
static uint32_t take_messages(struct fake *daemon, unsigned count)
{
	uint32_t channel = fake_expect_open(daemon);

	for (unsigned i = 0; i < count; i++)
		fake_expect(daemon, FRAME_DATA);
	fake_opened(daemon, channel, 65536, FAKE_MAX_MESSAGE);
	fake_credit(daemon, channel, count * 24, 65536);
	return channel;
}

static void take_one(struct fake *daemon)
{
	take_messages(daemon, 1);
}

static void take_both(struct fake *daemon)
{
	take_messages(daemon, 2);
}

/* What it has begun has its outcome first. */
BOTH(a_send_within_which_the_connection_is_closed_ends)
{
	struct xenmsg_result result;

	outcomes = 0;
	fake_meanwhile(&fake, take_both);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, close_when_done, NULL, NULL),
			 0);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", "x", 1, NULL, &result), 0);
	assert_string_equal(result.reason,
			    xenmsg_error_text(result.error)); /* though the connection is gone */
	fake_join(&fake);
	fake.conn = NULL;
	assert_int_equal(outcomes, 1);
	assert_int_equal(last, 0);
}

BOTH(a_done_that_is_told_by_close_may_close_again)
{
	outcomes = 0;
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, close_when_done, NULL, NULL),
			 0);
	fake_close(&fake);
	assert_int_equal(outcomes, 1);
}

static void post_another(void *userdata, const struct xenmsg_result *result)
{
	note(NULL, result);
	assert_int_equal(xenmsg_flush(fake.conn, -1), -EBUSY);
	assert_int_equal(xenmsg_begin_send(fake.conn, "6:inbox", "x", 1, NULL, note, NULL, NULL), 0);
	fake_meanwhile(&fake, take_one);
}

BOTH(flush_waits_for_all_that_was_begun)
{
	uint32_t channel;

	outcomes = 0;
	assert_int_equal(xenmsg_flush(fake.conn, -1), 0);
	/* Also for what nobody wants to hear of. */
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(xenmsg_flush(fake.conn, 0), -ETIMEDOUT);
	channel = take_messages(&fake, 1);
	assert_int_equal(xenmsg_flush(fake.conn, -1), 0);
	/* And for what a callback begins. */
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, post_another, NULL, NULL), 0);
	assert_int_equal(xenmsg_flush(fake.conn, 0), -ETIMEDOUT);
	fake_expect(&fake, FRAME_DATA);
	fake_credit(&fake, channel, 48, 65536);
	assert_int_equal(xenmsg_flush(fake.conn, -1), 0);
	fake_join(&fake);
	assert_int_equal(outcomes, 2);
	/* So has what the daemon was asked. */
	assert_int_equal(xenmsg_begin_bind(fake.conn, "late", NULL, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(xenmsg_flush(fake.conn, 0), -ETIMEDOUT);
	fake_answer(&fake, FRAME_BIND, 0, "");
	assert_int_equal(xenmsg_flush(fake.conn, -1), 0);
	/* A call has its answer. */
	assert_int_equal(xenmsg_begin_call(fake.conn, "5:work", "x", 1, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(xenmsg_flush(fake.conn, 0), -ETIMEDOUT);
	fake_die(&fake);
	assert_int_equal(xenmsg_flush(fake.conn, -1), -ENOTCONN);
}

/* Its bytes lie before the receiver, who hasn't skipped them yet; nothing more is to be told. */
BOTH(flush_does_not_wait_for_what_was_withdrawn)
{
	struct xenmsg_op *op;
	uint32_t channel;

	outcomes = 0;
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, note, NULL, &op), 0);
	assert_int_equal(xenmsg_flush(fake.conn, 0), -ETIMEDOUT);
	channel = fake_expect_open(&fake);
	fake_expect(&fake, FRAME_DATA);
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	assert_int_equal(xenmsg_flush(fake.conn, 0), -ETIMEDOUT);
	fake_expect(&fake, FRAME_CANCEL);
	fake_cancelled(&fake, channel, 16, ECANCELED);
	assert_int_equal(xenmsg_flush(fake.conn, 1000), 0);
	assert_int_equal(outcomes, 1);
}

static void *use_and_free(void *message)
{
	expect_payload(message, "one", 3);
	xenmsg_message_free(message);
	return NULL;
}

BOTH(another_thread_may_have_a_message)
{
	struct xenmsg_message *messages[2];
	pthread_t thread;

	open_inbox(NULL, NULL);
	DELIVER(1, "one", "one");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(xenmsg_recv(fake.conn, &messages[i], -1), 0);
		assert_int_equal(xenmsg_message_detach(messages[i]), 0);
		assert_int_equal(xenmsg_message_detach(messages[i]), 0);
		assert_int_equal(xenmsg_reply(messages[i], "x", 1), -EINVAL);
	}
	assert_int_equal(pthread_create(&thread, NULL, use_and_free, messages[0]), 0);
	xenmsg_process(fake.conn);
	fake_close(&fake);
	pthread_join(thread, NULL);
	use_and_free(messages[1]);
}

/* More of them than a program may ask questions at once. */
BOTH(endpoints_are_removed_without_waiting)
{
	enum { MANY = 100 };
	char name[16];

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "e%d", i);
		fake_bind(&fake, name, NULL, NULL);
	}
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "e%d", i);
		assert_int_equal(xenmsg_unbind(fake.conn, name), 0);
	}
	for (int i = 0; i < MANY; i++) {
		fake_answer(&fake, FRAME_UNBIND, 0, "");
	}
	assert_int_equal(xenmsg_process(fake.conn), 0);
	fake_bind(&fake, "e1", NULL, NULL);
}

TEST(the_version_is_that_of_the_package)
{
	char text[32];

	snprintf(text, sizeof(text), "%u.%u.%u", xenmsg_version() >> 16, xenmsg_version() >> 8 & 255,
		 xenmsg_version() & 255);
	assert_string_equal(text, PACKAGE_VERSION);
	assert_int_equal(xenmsg_version(), XENMSG_VERSION);
}

static int renumbered;

static void note_change(void *userdata, const struct xenmsg_change *change)
{
	assert_int_equal(change->kind, XENMSG_RENUMBERED);
	assert_int_equal(xenmsg_domid(fake.conn), 9);
	renumbered++;
}

BOTH(the_new_number_of_a_domain_that_was_restored_is_told)
{
	uint8_t payload[4];

	renumbered = 0;
	assert_int_equal(xenmsg_domid(fake.conn), 7);
	xenmsg_on_change(fake.conn, note_change, NULL);
	for (int i = 0; i < 2; i++) /* the second is no change */
		fake_send(&fake, FRAME_SELF, 0, 0, payload, frame_u32_encode(9, payload));
	while (!renumbered)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
	assert_true(xenmsg_process(fake.conn) >= 0);
	assert_int_equal(renumbered, 1);
	fake_send(&fake, FRAME_SELF, 0, 0, payload, 3);
	expect_over(-EPROTO);
}

static int said_more;
static void close_at_a_change(void *userdata, const struct xenmsg_change *change)
{
	uint8_t payload[4];

	fake_send(&fake, FRAME_SELF, 0, 0, payload, frame_u32_encode(10, payload));
	xenmsg_close(fake.conn);
	__atomic_add_fetch(&said_more, 1, __ATOMIC_RELEASE);
}

static void answer_when_all_is_read(struct fake *daemon)
{
	uint32_t channel = fake_expect_open(daemon);

	while (!__atomic_load_n(&said_more, __ATOMIC_ACQUIRE) || ring_writer_unread(&daemon->in))
		sched_yield();
	fake_opened(daemon, channel, 65536, FAKE_MAX_MESSAGE);
	fake_expect(daemon, FRAME_DATA);
	fake_credit(daemon, channel, SPAN_64, 65536);
}

SHARED(what_is_not_told_any_more_does_not_keep_from_waiting)
{
	uint8_t payload[64] = {0};

	xenmsg_on_change(fake.conn, close_at_a_change, NULL);
	fake_meanwhile(&fake, answer_when_all_is_read);
	for (uint32_t domid = 8; domid < 10; domid++)
		fake_send(&fake, FRAME_SELF, 0, 0, payload, frame_u32_encode(domid, payload));
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", payload, 64, NULL, NULL), 0);
	fake.conn = NULL;
	fake_join(&fake);
	assert_int_equal(said_more, 1);
}

static void note_notice(void *userdata, struct xenmsg_message *message)
{
	handled += xenmsg_message_notice(message)->kind == XENMSG_ENDED;
	xenmsg_message_free(message);
}

/* Its subscription ends though the program waits for something else at once. */
SHARED(a_topic_that_has_ended_is_left_whatever_is_done_next)
{
	const struct properties ended = {.notice = {.kind = NOTICE_ENDED, .error = EACCES}};
	uint8_t block[NOTICE_BLOCK];
	uint32_t size = fake_message(stream, block, properties_encode(&ended, block), MESSAGE_SENT);

	handled = 0;
	stream[4] = MESSAGE_PLAIN | MESSAGE_PROPERTIES;
	assert_int_equal(xenmsg_begin_subscribe(fake.conn, "*:news", XENMSG_FLAGS(XENMSG_PATTERN),
						note_notice, NULL, NULL, NULL),
			 0);
	xenmsg_process(fake.conn);
	FAKE_EVENT(&fake, fake_watch(&fake, "*:news", 0), .kind = EVENT_ENDPOINT_UP, .domid = 3,
		   .text = frame_text_of("news"), .domain_name = frame_text_of("web"));
	loop_once(fake.conn);
	fake_answer(&fake, FRAME_SUBSCRIBE, 0, "");
	fake_open(&fake, 1, "3:news");
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	while (!handled)
		loop_once(fake.conn);
	fake_bind(&fake, "other", NULL, NULL);
	assert_true(is_readable(fake.conn));
	xenmsg_process(fake.conn);
	fake_read_up_to(&fake, FRAME_UNBIND);
}

SHARED(a_ring_that_is_full_to_the_last_byte_is_read)
{
	for (uint32_t i = 0; i < FAKE_RING_SIZE / FRAME_HEADER_SIZE; i++)
		fake_send(&fake, 200, 0, 0, "", 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(xenmsg_process(fake.conn), 0);
	assert_int_equal(ring_writer_space(&fake.in, FAKE_RING_SIZE), FAKE_RING_SIZE);
}
