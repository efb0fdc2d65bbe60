/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to a program that calls fork(): whatever the child does with a connection of its
 * parent's, the parent doesn't notice.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libclient/transport.h"
#include "wire/bytes.h"

#define LENT 20000u

static uint8_t lent_bytes[LENT];
static struct xenmsg_message *plain, *request, *lent;
static void *reserved;
static struct xenmsg_op *begun;
static int result, called;

/* Runs it in a child, in which it returns what was wrong; NULL: nothing. */
static void in_child(const char *(*run)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		const char *wrong = run();

		if (wrong)
			fprintf(stderr, "in the child: %s\n", wrong);
		_exit(wrong ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void count_done(void *userdata, const struct xenmsg_result *told)
{
	called++;
}

static void count_event(void *userdata, const struct xenmsg_event *event)
{
	called++;
}

#define REFUSED(call)                                                                                        \
	if ((call) != -ECHILD)                                                                               \
	return #call

static const char *use_everything(void)
{
	struct xenmsg *conn = fake.conn;
	struct xenmsg_message *message;
	char *json;
	void *data;

	REFUSED(xenmsg_fd(conn));
	REFUSED(xenmsg_wake(conn));
	REFUSED(xenmsg_flush(conn, 1000));
	REFUSED(xenmsg_message_detach(plain));
	REFUSED(xenmsg_process(conn));
	REFUSED(xenmsg_wait(conn, 1000));
	REFUSED(xenmsg_bind(conn, "other", NULL, NULL, NULL));
	REFUSED(xenmsg_begin_bind(conn, "other", NULL, NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_unbind(conn, "inbox"));
	REFUSED(xenmsg_recv(conn, &message, 1000));
	REFUSED(xenmsg_peek(conn, &message));
	REFUSED(xenmsg_take(conn, plain));
	REFUSED(xenmsg_refuse(conn, plain, EIO));
	REFUSED(xenmsg_send(conn, "5:inbox", "child", 5, XENMSG_WITHIN(1000), NULL));
	REFUSED(xenmsg_send(conn, "5:inbox", "child", 5, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL));
	REFUSED(xenmsg_begin_send(conn, "5:inbox", "child", 5, NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_send(conn, "5:inbox", "child", 5, XENMSG_WITHIN(1000), count_done, NULL, NULL));
	REFUSED(xenmsg_reserve(conn, "5:inbox", 5, &data));
	REFUSED(xenmsg_commit(conn, 5, NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_op_withdraw(begun));
	REFUSED(xenmsg_call(conn, "5:inbox", "child", 5, XENMSG_WITHIN(1000), NULL));
	REFUSED(xenmsg_begin_call(conn, "5:inbox", "child", 5, NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_call(conn, "5:inbox", "child", 5, XENMSG_WITHIN(1000), count_done, NULL, NULL));
	REFUSED(xenmsg_reply(request, "child", 5));
	REFUSED(xenmsg_reply_error(request, EIO, NULL, 0));
	REFUSED(xenmsg_reply_exit_status(request, 1));
	REFUSED(xenmsg_connect(conn, "5:inbox", XENMSG_WITHIN(1000)));
	REFUSED(xenmsg_listen(conn, "streams", NULL));
	REFUSED(xenmsg_accept(conn, XENMSG_WITHIN(1000), NULL));
	REFUSED(xenmsg_message_on_withdrawn(request, NULL, NULL));
	REFUSED(xenmsg_await_reply_room(request, 5, XENMSG_WITHIN(1000)));
	REFUSED(xenmsg_begin_await_reply_room(request, 5, NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_await_room(conn, "5:inbox", 5, XENMSG_WITHIN(1000)));
	REFUSED(xenmsg_begin_await_room(conn, "5:inbox", 5, NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_pause(conn));
	REFUSED(xenmsg_resume(conn));
	REFUSED(xenmsg_drain(conn, "inbox", XENMSG_WITHIN(1000)));
	REFUSED(xenmsg_begin_drain(conn, "inbox", NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_connect(conn, "5:inbox", NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_listen(conn, "streams", NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_watch(conn, "*", NULL, count_event, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_query(conn, "status", NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_begin_ping(conn, "5", NULL, count_done, NULL, NULL));
	REFUSED(xenmsg_watch(conn, "*", NULL, count_event, NULL));
	REFUSED(xenmsg_unwatch(conn, 1));
	REFUSED(xenmsg_query(conn, "status", NULL, &json));
	REFUSED(xenmsg_ping(conn, "5", XENMSG_WITHIN(1000), NULL));
	xenmsg_unreserve(conn);
	if (xenmsg_message_wants_reply(request))
		return "it may answer";
	/* What is a copy can be read. */
	if (xenmsg_message_size(plain) != 5 || memcmp(xenmsg_message_data(plain), "plain", 5) != 0)
		return "a copied message is another one";
	xenmsg_message_free(request);
	xenmsg_message_free(lent);
	xenmsg_close(conn);
	xenmsg_message_free(plain);
	return called ? "it was called back" : NULL;
}

/* The program has a message, one that lies in the ring, and a call to be answered; it has posted something,
 * and reserved the place of its next message. */
static uint32_t have_everything(void)
{
	uint32_t channel, size = fake_message(stream, "call", 4, MESSAGE_SENT);
	static const uint32_t number = 7;

	called = 0;
	result = PENDING;
	open_inbox_with(XENMSG_LEND, NULL);
	fake_open_kind(&fake, 3, CHANNEL_CALL, "inbox");
	stream[4] = MESSAGE_REQUEST;
	put_u32(stream + size - 4, number);
	fake_send(&fake, FRAME_DATA, 0, 3, stream, size);
	DELIVER(1, "plain");
	fill(lent_bytes, LENT, 1);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, fake_message(stream, lent_bytes, LENT, MESSAGE_SENT));
	request = recv_one();
	plain = recv_one();
	lent = recv_one();
	fake_read_all(&fake);
	begun = begin("5:inbox", "posted", 6, &result);
	channel = expect_open("5:inbox");
	fake_opened(&fake, channel, 1u << 20, FAKE_MAX_MESSAGE);
	fake_read_up_to(&fake, FRAME_DATA);
	xenmsg_process(fake.conn);
	assert_int_equal(xenmsg_reserve(fake.conn, "5:inbox", LENT, &reserved), 0);
	fake_read_all(&fake);
	return channel;
}

BOTH(the_parent_loses_nothing_though_the_child_uses_everything)
{
	uint32_t channel = have_everything(), span = 8 + LENT + 8;
	int second = PENDING, unread = fake.shared ? ring_writer_unread(&fake.deliveries) : 0;
	struct pollfd end = {.fd = fake.fd, .events = POLLIN | POLLRDHUP};

	in_child(use_everything);
	/* The daemon has seen nothing of it, and its end of the socket is as it was. */
	assert_false(fake_has_frame(&fake));
	assert_int_equal(poll(&end, 1, 0), 0);
	if (fake.shared)
		assert_int_equal(ring_writer_unread(&fake.deliveries), unread);

	/* What was lent is still there, in both directions. */
	assert_memory_equal(xenmsg_message_data(lent), lent_bytes, LENT);
	memcpy(reserved, lent_bytes, LENT);
	assert_int_equal(xenmsg_commit(fake.conn, LENT, NULL, NULL, NULL, NULL), 0);
	post("5:inbox", "second", 6, &second);
	xenmsg_process(fake.conn);
	fake_read_up_to(&fake, FRAME_DATA);
	assert_int_equal(fake.header.length, span);
	assert_memory_equal(fake.payload + 8, lent_bytes, LENT);
	fake_expect(&fake, FRAME_DATA);
	assert_memory_equal(fake.payload + 8, "second", 6);
	fake_credit(&fake, channel, 24 + span + 24, 1u << 20);
	assert_int_equal(outcome_of(&result), 0);
	assert_int_equal(outcome_of(&second), 0);

	assert_int_equal(xenmsg_message_wants_reply(request), 1);
	fake_credit(&fake, 3, 0, 65536);
	xenmsg_process(fake.conn);
	assert_int_equal(xenmsg_reply(request, "answer", 6), 0);
	fake_read_up_to(&fake, FRAME_DATA);
	assert_int_equal(fake.header.channel, 3);
	assert_memory_equal(fake.payload + 8, "answer", 6);
	xenmsg_message_free(request);
	xenmsg_message_free(plain);
	xenmsg_message_free(lent);
	DELIVER(1, "next");
	expect_message("next");
	assert_int_equal(called, 0);
}

static pid_t made;

static void make_child(void *userdata, struct xenmsg_message *message)
{
	xenmsg_message_free(message);
	handled++;
	made = fork();
	assert_true(made >= 0);
}

/* Returns to the library in the child, too, where no second message is handled. */
BOTH(a_child_that_a_handler_makes_has_no_connection_either)
{
	int status;

	handled = 0;
	made = -1;
	open_inbox(make_child, NULL);
	fake_read_all(&fake);
	DELIVER(1, "one");
	while (!handled)
		xenmsg_process(fake.conn);
	if (made == 0) {
		bool right =
			handled == 1 && xenmsg_process(fake.conn) == -ECHILD &&
			xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL) == -ECHILD;

		xenmsg_close(fake.conn);
		_exit(!right);
	}
	assert_int_equal(waitpid(made, &status, 0), made);
	assert_int_equal(status, 0);
	xenmsg_process(fake.conn);
	expect_taken(1, 24);
	assert_false(fake_has_frame(&fake));
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, NULL, NULL, NULL), 0);
	expect_open("5:inbox");
}

static struct opener opener, without_page;

static const char *look_from_child(void)
{
	return opener_is_here(&opener)	       ? "the page says that this is the parent"
	       : opener_is_here(&without_page) ? "the number says that this is the parent"
					       : NULL;
}

TEST(a_child_is_told_from_its_parent_if_fork_clears_no_page)
{
	opener_note(&opener);
	assert_non_null(opener.word);
	without_page = (struct opener){.pid = opener.pid};
	assert_true(opener_is_here(&opener));
	assert_true(opener_is_here(&without_page));
	in_child(look_from_child);
	opener_forget(&opener);
	assert_true(opener_is_here(&opener));
}
