/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a connection and its streams have in common: a descriptor, a loop, and an end.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static unsigned messages;

static void take_message(void *userdata, struct xenmsg_message *message)
{
	messages++;
	xenmsg_message_free(message);
}

static void send_message(const char *text)
{
	uint8_t stream[64];
	uint32_t span = fake_message(stream, text, (uint32_t)strlen(text), 0);

	fake_open(&front, 1, "mail");
	fake_send(&front, FRAME_DATA, 0, 1, stream, span);
}

MUX_BOTH(messages_and_streams_come_by_one_descriptor)
{
	struct user *user = connected(LIMIT);

	messages = 0;
	fake_bind(&front, "mail", take_message, NULL);
	settle();
	assert_false(is_readable(conn));
	send_message("hello");
	assert_true(is_readable(conn));
	assert_int_equal(xenmsg_process(conn), 1);
	assert_int_equal(messages, 1);
	settle();
	send_data(user, "you", 3);
	assert_true(is_readable(conn));
	assert_int_equal(xenmsg_process(conn), 1);
	assert_int_equal(user->size, 3);
}

static void ignore_event(void *userdata, const struct xenmsg_event *event)
{
}

/* Does so until the daemon answers. */
static void wait_for_something_else(void)
{
	fake_watch_meanwhile(&front, EHOSTDOWN);
	assert_int_equal(xenmsg_watch(conn, "5", NULL, ignore_event, NULL), -EHOSTDOWN);
	fake_join(&front);
}

/* What has woken the program is there to be told of afterwards. */
MUX_BOTH(streams_wait_while_the_program_waits_for_something_else)
{
	struct user *user = connected(LIMIT);

	send_data(user, "hello", 5);
	wait_for_something_else();
	assert_int_equal(user->size, 0);
	assert_true(is_readable(conn));
	settle();
	assert_int_equal(user->size, 5);
}

static void *memory;
static size_t kept;

/* Waits for something while the bytes are here. */
static size_t wait_within_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	if (!memory) {
		memory = fake_offer_memory(&fake);
		wait_for_something_else();
	}
	assert_memory_equal(data, "hello", size);
	kept += size;
	return size;
}

/* The daemon hands over to another one, with other memory, at any time. */
MUX_SHARED(bytes_stay_where_they_are_while_their_callback_waits)
{
	static const struct xenmsg_stream_callbacks callbacks = {
		.size = sizeof(struct xenmsg_stream_callbacks), .data = wait_within_data};
	struct user *user = connected(LIMIT);

	memory = NULL;
	kept = 0;
	xenmsg_stream_set_callbacks(user->stream, &callbacks, NULL);
	send_data(user, "hello", 5);
	settle();
	assert_int_equal(kept, 5);
	settle();
	fake_use_memory(&fake, memory);
	send_data(user, "hello", 5);
	settle();
	assert_int_equal(kept, 10);
	assert_int_equal(xenmsg_stream_write(user->stream, "you", 3), 3);
	expect_data(user, "you", 3);
}

MUX_BOTH(the_end_of_messages_is_that_of_streams)
{
	struct user *user = connected(LIMIT), *opening = dial();
	struct xenmsg_stream *stream;

	send_data(user, "hello", 5);
	fake_die(&front);
	assert_int_equal(process_until_over(), -ENOTCONN);
	assert_string_equal(user->log, "db");
	assert_int_equal(user->error, -ECONNRESET);
	assert_string_equal(opening->log, "b");
	assert_int_equal(xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, NULL, &stream), -ENOTCONN);
}

static void close_within(struct user *user)
{
	close_conn();
}

/* All others are told nothing any more. */
MUX_BOTH(a_streams_callback_may_close_the_connection)
{
	for (int way = 0; way < 2; way++) {
		struct user *user = connected(LIMIT), *other = connected(LIMIT);

		user->take = way ? 0 : SIZE_MAX;
		send_data(user, "hello", 5);
		if (way) {
			settle();
			user->take = 2;
			forget_log(user);
		} else {
			send_data(other, "you", 3);
		}
		user->when = DATA;
		user->also = close_within;
		if (way)
			xenmsg_stream_resume(user->stream);
		else
			assert_int_equal(xenmsg_process(conn), -ECANCELED);
		assert_null(conn);
		assert_string_equal(user->log, "d");
		assert_string_equal(other->log, "");
		assert_int_equal(xenmsg_stream_write(user->stream, "x", 1), -EPIPE);
		if (!way) {
			tear_down_mux(NULL);
			fake.shared ? set_up_mux_shared(NULL) : set_up_mux_socket(NULL);
		}
	}
}

MUX_BOTH(a_stream_that_is_not_answered_in_time_is_broken)
{
	struct user *late = user_new(), *patient = dial();

	assert_int_equal(xenmsg_stream_connect(conn, PEER, XENMSG_FLAGS(XENMSG_LEND), &user_callbacks, late,
					       &late->stream),
			 -EINVAL);
	assert_int_equal(
		xenmsg_stream_connect(conn, PEER, XENMSG_WITHIN(20), &user_callbacks, late, &late->stream),
		0);
	while (!*late->log)
		assert_true(xenmsg_wait(conn, -1) >= 0);
	assert_string_equal(late->log, "b");
	assert_int_equal(late->error, -ETIMEDOUT);
	assert_int_equal(xenmsg_stream_write(late->stream, "x", 1), -EPIPE);
	late->number = fake_expect_open(&fake);
	fake_opened(&fake, late->number, LIMIT, FAKE_MAX_MESSAGE); /* too late */
	expect_reset(late, ECONNRESET);
	fake_reset(&fake, late->number, ECONNRESET, 0, 0);
	expect_silence();
	assert_string_equal(late->log, "b");
	assert_string_equal(patient->log, "");
}

/* ---- a connection that outlives its daemon ---------------------------------------------------- */

static char told[16], lost_endpoint[64];

static void note_change(void *userdata, const struct xenmsg_change *change)
{
	size_t count = strlen(told);

	assert_true(count + 1 < sizeof(told));
	told[count] = "?LBN"[change->kind];
	told[count + 1] = '\0';
	if (change->kind == XENMSG_DAEMON_REFUSED)
		snprintf(lost_endpoint, sizeof(lost_endpoint), "%s", change->endpoint);
}

static int set_up_lasting(bool shared)
{
	told[0] = '\0';
	mux_set_up(shared, XENMSG_FLAGS(XENMSG_RECONNECT));
	xenmsg_on_change(conn, note_change, NULL);
	return 0;
}

static int with_memory(void **state)
{
	return set_up_lasting(true);
}

static int without_memory(void **state)
{
	return set_up_lasting(false);
}

#define LASTING(test)                                                                                        \
	UNIT_TESTS(test, SHARED_ROW(test, with_memory, tear_down_mux),                                       \
		   SOCKET_ROW(test, without_memory, tear_down_mux))

static void await_told(const char *changes)
{
	for (int i = 0; i < 200 && strlen(told) < strlen(changes); i++)
		assert_true(xenmsg_wait(conn, 100) >= 0);
	assert_string_equal(told, changes);
}

/* The next daemon has both sessions. */
static void find_next_daemon(void)
{
	fake_begin_anew(&front);
	while (pthread_tryjoin_np(front.thread, NULL) == EBUSY)
		assert_true(xenmsg_wait(conn, 10) >= 0);
	fake_stop(&fake);
	fake_await_second(&fake, &front, false);
	let_session_begin();
}

static void answer_bind(uint32_t error)
{
	struct frame_bind bind;

	fake_expect(&fake, FRAME_BIND);
	bind = FAKE_HEARD(&fake, bind);
	assert_int_equal(bind.endpoint.size, 5);
	assert_memory_equal(bind.endpoint.data, "inbox", 5);
	fake_reply(&fake, fake.header.channel, error, error ? "no" : "");
}

static void lose_and_find(struct fake *which)
{
	struct user *user = connected(LIMIT), *waiting = user_new();

	send_data(user, "hello", 5);
	fake_die(which);
	await_told("L");
	assert_string_equal(user->log, "db");
	assert_int_equal(user->error, -ECONNRESET);
	close_user(user);
	begin_to_dial(waiting);
	find_next_daemon();
	assert_string_equal(told, "L");
	answer_bind(0); /* before all else */
	await_told("LB");
	waiting->number = fake_expect_open(&fake);
	fake_opened(&fake, waiting->number, LIMIT, FAKE_MAX_MESSAGE);
	expect_log(waiting, "o");
	send_data(accepted(1, LIMIT), "again", 5);
	expect_silence();
}

LASTING(endpoints_come_back_and_streams_break_once)
{
	lose_and_find(&front);
}

/* One end is that of the whole connection. */
LASTING(the_loss_of_the_streams_session_is_that_of_the_daemon)
{
	lose_and_find(&fake);
}

LASTING(an_endpoint_for_streams_that_is_refused_then_is_told)
{
	fake_die(&front);
	await_told("L");
	find_next_daemon();
	answer_bind(EEXIST);
	await_told("LNB");
	assert_string_equal(lost_endpoint, "inbox");
	assert_int_equal(xenmsg_unbind(conn, "inbox"), -ENOENT);
	expect_silence();
}

static void expect_bound_here(const char *name)
{
	assert_int_equal(xenmsg_begin_bind(conn, name, NULL, take_message, NULL, NULL, NULL), -EEXIST);
	assert_int_equal(xenmsg_begin_listen(conn, name, NULL, NULL, NULL, NULL), -EEXIST);
	assert_int_equal(xenmsg_begin_stream_listen(conn, name, NULL, on_incoming, NULL, NULL, NULL),
			 -EEXIST);
}

/* Else who ends one of them, or gives it up, would end the other one at the daemon, which knows but the
 * name. */
MUX_BOTH(a_name_is_bound_here_once_for_messages_or_streams)
{
	expect_bound_here("inbox");
	assert_int_equal(xenmsg_begin_listen(conn, "doors", NULL, NULL, NULL, NULL), 0);
	settle();
	fake_expect(&front, FRAME_BIND);
	expect_bound_here("doors");
	assert_int_equal(xenmsg_begin_bind(conn, "mail", NULL, take_message, NULL, NULL, NULL), 0);
	settle();
	fake_expect(&front, FRAME_BIND);
	expect_bound_here("mail");
	assert_int_equal(xenmsg_unbind(conn, "inbox"), 0);
	settle();
	fake_expect(&fake, FRAME_UNBIND);
	assert_int_equal(xenmsg_begin_bind(conn, "inbox", NULL, take_message, NULL, NULL, NULL), 0);
	settle();
	fake_expect(&front, FRAME_BIND);
}
