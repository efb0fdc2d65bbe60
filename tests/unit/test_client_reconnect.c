/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about a connection that outlives its daemon.
 */
#include "libclient/conn.h" /* before `stream` is a name of the rig */

#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libclient/deadline.h"
#include "wire/bytes.h"
#include "xenmsg-stream.h"

/* The changes that were told, in a row: "L" lost, "B" back, "N" not back. */
static char told[32];
static struct xenmsg_change last;
static char refused[64];
/* What watches told. */
static int events;

static void note_change(void *userdata, const struct xenmsg_change *change)
{
	size_t count = strlen(told);

	assert_ptr_equal(userdata, &fake);
	assert_true(count + 1 < sizeof(told));
	told[count] = "?LBN"[change->kind];
	told[count + 1] = '\0';
	last = *change;
	if (change->kind == XENMSG_DAEMON_REFUSED)
		snprintf(refused, sizeof(refused), "%s: %s, %s", change->endpoint, strerror(-change->error),
			 change->reason);
}

static void note_event(void *userdata, const struct xenmsg_event *event)
{
	events++;
}

static void await_daemon(bool shared)
{
	fake_await(&fake, shared, false);
	told[0] = '\0';
	events = handled = 0;
}

/* Either way to open a connection does. */
static int with_memory(void **state)
{
	await_daemon(true);
	assert_int_equal(xenmsg_open(&fake.conn, fake.path, XENMSG_FLAGS(XENMSG_RECONNECT)), 0);
	xenmsg_on_change(fake.conn, note_change, &fake);
	fake_join(&fake);
	return 0;
}

static int without_memory(void **state)
{
	await_daemon(false);
	assert_int_equal(xenmsg_begin_open(&fake.conn, fake.path, XENMSG_FLAGS(XENMSG_RECONNECT), NULL, NULL),
			 0);
	xenmsg_on_change(fake.conn, note_change, &fake);
	while (xenmsg_domid(fake.conn) != 7)
		assert_true(xenmsg_wait(fake.conn, 100) >= 0);
	fake_join(&fake);
	return 0;
}

#define LASTING(test)                                                                                        \
	UNIT_TESTS(test, SHARED_ROW(test, with_memory, tear_down),                                           \
		   SOCKET_ROW(test, without_memory, tear_down))

/* Lets the library work until these changes were told, in a row. */
static void expect_told(const char *changes)
{
	for (int i = 0; i < 200 && strlen(told) < strlen(changes); i++)
		assert_true(xenmsg_wait(fake.conn, 100) >= 0);
	assert_string_equal(told, changes);
}

static void wait_until(const int *count)
{
	for (int i = 0; i < 200 && !*count; i++)
		xenmsg_wait(fake.conn, 100);
	assert_int_equal(*count, 1);
}

static void lose(void)
{
	fake_die(&fake);
	expect_told("L");
}

/* The next daemon answers the greeting, while the library works. */
static void find(void)
{
	fake_begin_anew(&fake);
	while (pthread_tryjoin_np(fake.thread, NULL) == EBUSY)
		assert_true(xenmsg_wait(fake.conn, 10) >= 0);
	xenmsg_process(fake.conn);
}

/* A child that has the descriptors too, and does nothing with them. */
LASTING(what_a_child_still_holds_wakes_nobody)
{
	int held = dup(fake.conn->transport.socket);
	struct pollfd wait = {.fd = xenmsg_fd(fake.conn), .events = POLLIN};

	assert_true(held >= 0);
	lose();
	/* It dials now and then. In between there is nothing to do. */
	for (int i = 0; i < 100; i++) {
		assert_true(xenmsg_process(fake.conn) >= 0);
		if (poll(&wait, 1, 0) == 0)
			break;
		assert_int_not_equal(i, 99);
	}
	close(held);
}

static void expect_bind(const char *endpoint, uint32_t error)
{
	struct frame_bind bind;

	fake_expect(&fake, FRAME_BIND);
	bind = FAKE_HEARD(&fake, bind);
	assert_int_equal(bind.endpoint.size, strlen(endpoint));
	assert_memory_equal(bind.endpoint.data, endpoint, bind.endpoint.size);
	fake_reply(&fake, fake.header.channel, error, error ? "no" : "");
}

LASTING(what_was_under_way_ends_and_the_rest_goes_on)
{
	int fd = xenmsg_fd(fake.conn), sent, later;
	uint32_t channel;

	post("2:x", "abc", 3, &sent);
	channel = expect_open("2:x");
	fake_opened(&fake, channel, 1 << 20, 1 << 20);
	fake_expect(&fake, FRAME_DATA);
	lose();
	assert_int_equal(last.error, -ENOTCONN);
	assert_int_equal(sent, -ECONNRESET); /* it may have been taken */
	post("2:x", "def", 3, &later);
	assert_int_equal(xenmsg_wait(fake.conn, 0), 0);
	assert_int_equal(later, PENDING);
	find();
	expect_told("LB");
	assert_int_equal(xenmsg_fd(fake.conn), fd);
	channel = expect_open("2:x");
	fake_opened(&fake, channel, 1 << 20, 1 << 20);
	fake_expect(&fake, FRAME_DATA);
	fake_credit(&fake, channel, 24, 1 << 20);
	assert_int_equal(outcome_of(&later), 0);
}

LASTING(endpoints_are_bound_again_before_anything_is_sent)
{
	static int sent; /* it has no outcome before the end */

	fake_bind(&fake, "first", handle, &fake);
	fake_bind(&fake, "second", handle, &fake);
	lose();
	post("self:first", "abc", 3, &sent);
	find();
	assert_string_equal(told, "L"); /* they aren't bound yet */
	expect_bind("first", 0);
	expect_bind("second", 0);
	expect_told("LB");
	fake_expect(&fake, FRAME_OPEN);
	fake_open(&fake, 1, "second");
	DELIVER(1, "abc");
	wait_until(&handled);
}

LASTING(an_endpoint_that_is_refused_is_told_and_gone)
{
	fake_bind(&fake, "first", handle, &fake);
	fake_bind(&fake, "second", handle, &fake);
	lose();
	find();
	expect_bind("first", EEXIST);
	expect_bind("second", 0);
	expect_told("LNB");
	assert_string_equal(refused, "first: File exists, no");
	assert_int_equal(xenmsg_unbind(fake.conn, "first"), -ENOENT);
	assert_int_equal(xenmsg_unbind(fake.conn, "second"), 0);
}

LASTING(a_watch_is_set_again_under_its_number)
{
	int watch = xenmsg_begin_watch(fake.conn, "*", NULL, note_event, NULL, NULL, NULL);

	assert_true(watch > 0);
	xenmsg_process(fake.conn);
	fake_watch(&fake, "*", 0);
	lose();
	find();
	FAKE_EVENT(&fake, fake_watch(&fake, "*", 0), .kind = EVENT_DOMAIN_UP, .domid = 3, .text = {"web", 3});
	expect_told("LB");
	wait_until(&events);
	assert_int_equal(xenmsg_unwatch(fake.conn, watch), 0);
}

/* A watch of another host, which the next daemon doesn't know yet. */
LASTING(a_watch_of_a_host_waits_until_that_is_known)
{
	int watch = xenmsg_begin_watch(fake.conn, "hostb/*", NULL, note_event, NULL, NULL, NULL);

	xenmsg_process(fake.conn);
	fake_watch(&fake, "hostb/*", 0);
	lose();
	find();
	fake_watch(&fake, "hostb/*", EHOSTDOWN);
	expect_told("LB");
	fake_read_all(&fake);
	for (int i = 0; i < 300 && !fake_has_frame(&fake); i++)
		xenmsg_wait(fake.conn, 100);
	fake_watch(&fake, "hostb/*", 0);
	xenmsg_wait(fake.conn, 0);
	assert_string_equal(told, "LB");
	assert_int_equal(xenmsg_unwatch(fake.conn, watch), 0);
}

LASTING(a_bind_without_an_answer_is_asked_again)
{
	int result = PENDING;

	assert_int_equal(xenmsg_begin_listen(fake.conn, "streams", NULL, note_outcome, &result, NULL), 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_BIND);
	lose();
	assert_int_equal(result, PENDING);
	find();
	expect_bind("streams", 0);
	expect_told("LB");
	assert_int_equal(outcome_of(&result), 0);
	/* It is a wish like those that were granted. */
	fake_die(&fake);
	expect_told("LBL");
	find();
	expect_bind("streams", 0);
	expect_told("LBLB");
}

LASTING(what_is_begun_meanwhile_ends_with_its_time)
{
	struct xenmsg_result result;
	int sent = PENDING;

	lose();
	assert_int_equal(xenmsg_send(fake.conn, "2:x", "abc", 3, XENMSG_WITHIN(30), &result), -ETIMEDOUT);
	assert_int_equal(result.fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(xenmsg_call(fake.conn, "2:x", "abc", 3, XENMSG_WITHIN(30), &result), -ETIMEDOUT);
	assert_int_equal(result.fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(xenmsg_ping(fake.conn, "2", XENMSG_WITHIN(30), NULL), -ETIMEDOUT);
	assert_int_equal(xenmsg_connect(fake.conn, "2:x", XENMSG_WITHIN(30)), -ETIMEDOUT);
	assert_int_equal(xenmsg_send(fake.conn, "2:x", "abc", 3, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL),
			 -EAGAIN);
	post("2:x", "abc", 3, &sent);
	fake_close(&fake);
	assert_int_equal(sent, -ECANCELED);
}

LASTING(a_daemon_may_be_lost_while_it_is_asked)
{
	fake_bind(&fake, "inbox", handle, &fake);
	lose();
	for (int i = 0; i < 3; i++) {
		find();
		fake_expect(&fake, FRAME_BIND);
		fake_die(&fake);
		for (int j = 0; j < 50; j++)
			assert_true(xenmsg_wait(fake.conn, 10) >= 0);
		assert_string_equal(told, "L");
	}
	find();
	expect_bind("inbox", 0);
	expect_told("LB");
	fake_die(&fake);
	expect_told("LBL");
}

/* Reads up to it, while the library works. */
static uint32_t read_watch(void)
{
	uint32_t channel;

	do {
		while (!fake_has_frame(&fake))
			assert_true(xenmsg_wait(fake.conn, 10) >= 0);
		fake_read(&fake);
		channel = fake.header.channel;
		if (fake.header.type == FRAME_OPEN && FAKE_HEARD(&fake, open).kind == CHANNEL_CALL) {
			fake.questions = channel + 1;
			fake_opened(&fake, channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
		}
	} while (fake.header.type != FRAME_DATA || channel != fake.questions - 1);
	return get_u32(fake.payload + fake.header.length - 4);
}

/* It may be that of another host, which the next daemon refuses for a quota or by policy. */
LASTING(what_waits_goes_on_though_the_next_daemon_refuses_its_watch)
{
	struct ended ended = {0};
	uint32_t watch;

	assert_int_equal(xenmsg_begin_send(fake.conn, "hostb/5:inbox", "hello", 5, XENMSG_FLAGS(XENMSG_WAIT),
					   note_end, &ended, NULL),
			 0);
	fake_reset(&fake, expect_open("hostb/5:inbox"), EHOSTDOWN, 0, 0);
	fake_watched(&fake, read_watch(), 0);
	assert_true(xenmsg_wait(fake.conn, 10) >= 0);
	lose();
	find();
	fake_watch(&fake, "hostb/5:inbox", ENOBUFS);
	expect_told("LB"); /* the watch isn't the program's */
	fake_reset(&fake, expect_open("hostb/5:inbox"), EHOSTDOWN, 0, 0);
	watch = read_watch();
	assert_int_equal(ended.times, 0);
	fake_watched(&fake, watch, ENOBUFS);
	expect_end(&ended, -ENOBUFS);
}

static void no_stream(void *userdata, struct xenmsg_stream *come, const struct xenmsg_peer *peer)
{
	fail();
}

/* It stands still, say, once it has greeted the session for messages: it has refused nothing. */
LASTING(a_daemon_that_does_not_greet_streams_is_tried_again)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int silent = socket(AF_UNIX, SOCK_STREAM, 0), bound = PENDING;
	static struct fake streams;

	assert_int_equal(xenmsg_begin_stream_listen(fake.conn, "doors", XENMSG_WITHIN(-1), no_stream,
						    note_outcome, &bound, NULL),
			 0);
	unlink(fake.path);
	memcpy(address.sun_path, fake.path, sizeof(fake.path));
	assert_int_equal(bind(silent, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(silent, 1), 0);
	while (fake.conn->mux->state != MUX_DIALS)
		assert_true(xenmsg_wait(fake.conn, 10) >= 0);
	fake.conn->mux->due = now_ms(); /* its time is up */
	for (int i = 0; i < 3; i++)
		assert_true(xenmsg_wait(fake.conn, 10) >= 0);
	assert_int_equal(bound, PENDING);
	close(silent);
	fake_await_second(&streams, &fake, false);
	while (pthread_tryjoin_np(streams.thread, NULL) == EBUSY)
		assert_true(xenmsg_wait(fake.conn, 10) >= 0);
	xenmsg_process(fake.conn);
	fake_answer(&streams, FRAME_BIND, 0, "");
	assert_int_equal(outcome_of(&bound), 0);
	fake_close(&fake);
	fake_stop(&streams);
}

/* Sends a call of 3 bytes on channel 3. */
static void send_call(void)
{
	uint8_t request[64];
	uint32_t size = fake_message(request, "who", 3, MESSAGE_SENT);

	fake_open_kind(&fake, 3, CHANNEL_CALL, "inbox");
	put_u32(request + 4, MESSAGE_REQUEST);
	put_u32(request + size - 4, 7);
	fake_send(&fake, FRAME_DATA, 0, 3, request, size);
}

/* The caller doesn't have its answer. */
LASTING(a_drain_says_that_the_daemon_is_lost)
{
	static int drained;

	drained = PENDING;
	fake_bind(&fake, "inbox", handle, &fake);
	send_call();
	wait_until(&handled);
	assert_int_equal(xenmsg_begin_drain(fake.conn, "inbox", NULL, note_outcome, &drained, NULL), 0);
	xenmsg_wait(fake.conn, 0);
	assert_int_equal(drained, PENDING);
	lose();
	assert_int_equal(outcome_of(&drained), -ENOTCONN);
}

LASTING(what_a_program_holds_outlives_the_daemon)
{
	struct xenmsg_message *message, *call;
	void *data;
	int sent;

	open_inbox(NULL, NULL);
	DELIVER(1, "abc");
	message = recv_one();
	send_call();
	call = recv_one();
	assert_int_equal(xenmsg_reserve(fake.conn, "2:x", 8192, &data), 0);
	memset(data, 'd', 8192);
	lose();
	memset(data, 'e', 8192);
	assert_memory_equal(xenmsg_message_data(message), "abc", 3);
	assert_int_equal(xenmsg_message_wants_reply(call), 0);
	assert_int_equal(xenmsg_reply(call, "me", 2), -ECANCELED);
	xenmsg_message_free(message);
	xenmsg_message_free(call);
	sent = PENDING;
	assert_int_equal(xenmsg_commit(fake.conn, 8192, NULL, note_outcome, &sent, NULL), 0);
	find();
	expect_bind("inbox", 0);
	expect_told("LB");
	fake_read_up_to(&fake, FRAME_DATA);
	assert_int_equal(fake.payload[8], 'e');
	fake_credit(&fake, fake.header.channel, 8192 + 16, 1 << 20);
	assert_int_equal(outcome_of(&sent), 0);
}
