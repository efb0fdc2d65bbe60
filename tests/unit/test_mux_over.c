/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams through one session that end otherwise: closed by the program, at any time and in every callback,
 * reset, or lost with the session. Each is told so once, and never after its end.
 */
#include "tests/unit/mux_rig.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint8_t bytes[512u << 10];

/* The daemon answers the program's RESET; from then on the number is free. */
static void expect_reset_and_answer(struct user *user)
{
	expect_reset(user, ECONNRESET);
	/* what was in flight */
	fake_credit(&fake, user->number, 0, 2 * LIMIT);
	send_data(user, "late", 4);
	send_fin(user, 4);
	fake_reset(&fake, user->number, ECONNRESET, 0, 0);
	settle();
	assert_false(fake_has_frame(&fake));
	if (user->number % 2) {
		struct user *next = accepted(user->number, LIMIT);

		assert_int_equal(xenmsg_stream_write(next->stream, "next", 4), 4);
		expect_data(next, "next", 4);
	}
}

/* The other stream goes on. */
static void expect_alive(struct user *other)
{
	size_t before = other->size;

	send_data(other, "alive", 5);
	settle();
	assert_int_equal(other->size, before + 5);
	assert_int_equal(xenmsg_stream_write(other->stream, "alive", 5), 5);
	expect_data(other, "alive", 5);
}

/* Of one whose end was told the rest isn't wanted: that breaks nothing. */
MUX_BOTH(closing_behind_ones_own_end_drops_what_comes)
{
	struct user *user = accepted(1, LIMIT);

	user->take = 0;
	send_data(user, "hello", 5);
	settle();
	xenmsg_stream_end(user->stream);
	expect_offset(user, FRAME_FIN, 0);
	close_user(user);
	expect_offset(user, FRAME_CREDIT, 5);
	assert_int_equal(FAKE_HEARD(&fake, credit).flags, CREDIT_STOP);
	fake_credit(&fake, 1, 0, LIMIT);
	fake_send(&fake, FRAME_DATA, 0, 1, "more", 4);
	settle();
	expect_silence();
	send_fin(user, 9);
	expect_offset(user, FRAME_CREDIT, 9);
	settle();
	assert_int_equal(fake.header.type, FRAME_CREDIT);
}

MUX_BOTH(a_writer_whose_reader_wants_no_more_is_told)
{
	struct user *user = accepted(1, LIMIT);

	FAKE_SAY(&fake, CREDIT, credit, 1, .limit = LIMIT, .flags = CREDIT_STOP);
	settle();
	expect_offset(user, FRAME_FIN, 0);
	assert_int_equal(xenmsg_stream_write(user->stream, "x", 1), -EPIPE);
	send_data(user, "hello", 5);
	send_fin(user, 5);
	settle();
	expect_log(user, "de");
	close_user(user);
}

MUX_BOTH(closing_breaks_a_stream_in_any_state)
{
	struct user *other = connected(LIMIT), *user = dial();

	close_user(user); /* not opened yet */
	fake_opened(&fake, user->number, LIMIT, FAKE_MAX_MESSAGE);
	expect_reset_and_answer(user);
	assert_string_equal(user->log, "");

	user = connected(LIMIT);
	close_user(user);
	expect_reset_and_answer(user);

	user = accepted(1, LIMIT);
	user->take = 0;
	send_data(user, "hello", 5);
	settle();
	close_user(user);
	expect_reset_and_answer(user);

	user = accepted(5, LIMIT); /* the other end has come */
	send_fin(user, 0);
	settle();
	close_user(user);
	expect_reset(user, ECONNRESET);
	fake_reset(&fake, 5, ECONNRESET, 0, 0);
	settle();

	user = accepted(9, LIMIT); /* it has ended altogether */
	end_both(user, 0, 0);
	close_user(user);
	expect_silence();
	expect_alive(other);
}

/* Stream 1: both directions have ended, and it was closed, but the daemon hasn't said that it took what was
 * sent. */
static struct user *closed_in_order(void)
{
	struct user *user = accepted(1, LIMIT);

	assert_int_equal(xenmsg_stream_write(user->stream, "hello", 5), 5);
	xenmsg_stream_end(user->stream);
	send_fin(user, 0);
	settle();
	close_user(user);
	expect_data(user, "hello", 5);
	expect_offset(user, FRAME_FIN, 5);
	return user;
}

MUX_BOTH(closing_in_order_waits_for_what_was_sent)
{
	struct user *user = closed_in_order();

	expect_silence();
	fake_credit(&fake, 1, 3, LIMIT + 3);
	fake_credit(&fake, 1, 5, LIMIT + 5);
	expect_log(user, "e");
	accepted(1, LIMIT);
}

MUX_BOTH(a_stream_that_was_closed_in_order_may_still_be_reset)
{
	struct user *user = closed_in_order();

	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	expect_reset(user, ECONNRESET);
	assert_string_equal(user->log, "e");
	accepted(1, LIMIT);
}

/* Makes the stream hear this, from a daemon that goes on. */
static void bring_about(struct user *user, enum event event)
{
	switch (event) {
	case OPENED:
		fake_opened(&fake, user->number, LIMIT, FAKE_MAX_MESSAGE);
		break;
	case DATA:
		send_data(user, bytes, 20000);
		send_data(user, bytes, 20000);
		send_fin(user, 40000);
		break;
	case ENDED:
		send_data(user, "hello", 5);
		send_fin(user, 5);
		break;
	case ROOM:
		assert_int_equal(xenmsg_stream_write(user->stream, bytes, LIMIT + 1), LIMIT);
		fake_credit(&fake, user->number, LIMIT, 2 * LIMIT);
		fake_credit(&fake, user->number, LIMIT, 3 * LIMIT);
		break;
	case BROKEN:
		send_data(user, "hello", 5);
		fake_reset(&fake, user->number, EPIPE, 0, 0);
		break;
	case NEVER:
		break;
	}
}

MUX_BOTH(streams_may_be_closed_in_every_callback)
{
	for (enum event event = OPENED; event <= BROKEN; event++) {
		struct user *user = event == OPENED ? dial() : connected(LIMIT);
		struct user *other = connected(1u << 20), *quiet = connected(LIMIT);

		/* the other one is in the middle of things */
		other->take = 0;
		send_data(other, "hello", 5);
		assert_int_equal(xenmsg_stream_write(other->stream, bytes, 1), 1);
		settle();
		fake_read_all(&fake);
		user->when = event;
		user->victims[0] = other;
		user->victims[1] = user;
		bring_about(user, event);
		settle();
		assert_true(user->is_closed && other->is_closed);
		assert_non_null(strchr(user->log, "?oderb"[event]));
		while (fake_has_frame(&fake)) {
			fake_read(&fake);
			settle();
			if (fake.header.type != FRAME_RESET)
				continue;
			assert_true(fake.header.channel == user->number ||
				    fake.header.channel == other->number);
			if (fake.header.channel != user->number || event != BROKEN)
				fake_reset(&fake, fake.header.channel, ECONNRESET, 0, 0);
			settle();
		}
		expect_alive(quiet);
		close_user(quiet);
		expect_reset(quiet, ECONNRESET);
		fake_reset(&fake, quiet->number, ECONNRESET, 0, 0);
		settle();
	}
}

/* Several wait for room; the first to hear of it closes the others. */
MUX_SHARED(those_that_wait_for_room_may_be_closed_by_one_of_them)
{
	struct user *waiting[3];

	for (int i = 0; i < 3; i++)
		waiting[i] = connected(1u << 30);
	assert_true(written_of(waiting[0], bytes, sizeof(bytes)) < sizeof(bytes));
	for (int i = 1; i < 3; i++)
		assert_int_equal(xenmsg_stream_write(waiting[i]->stream, bytes, 5000), 0);
	waiting[0]->when = ROOM;
	waiting[0]->victims[0] = waiting[1];
	waiting[0]->victims[1] = waiting[0];
	waiting[0]->victims[2] = waiting[2];
	settle();
	while (!waiting[0]->is_closed) {
		fake_expect(&fake, FRAME_DATA);
		settle();
	}
	settle();
	fake_read_all(&fake);
	for (int i = 0; i < 3; i++)
		fake_reset(&fake, waiting[i]->number, ECONNRESET, 0, 0);
	settle();
	expect_alive(connected(LIMIT));
}

/* A program that gives back what comes, and keeps with the library what finds no room. */
struct echo {
	struct user *user;
	int error;
};

static size_t echo_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	return (size_t)xenmsg_stream_write(stream, data, size); /* an error takes all */
}

static void echo_room(void *userdata, struct xenmsg_stream *stream)
{
	struct echo *echo = userdata;

	xenmsg_stream_resume(echo->user->stream);
}

static void echo_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct echo *echo = userdata;

	echo->error = error;
	close_user(echo->user);
}

static const struct xenmsg_stream_callbacks echo_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.data = echo_data,
	.room = echo_room,
	.broken = echo_broken,
};

/* What it keeps can't go anywhere any more. */
MUX_BOTH(who_waits_for_room_to_take_more_hears_of_the_break)
{
	struct echo reset = {.user = accepted(1, 10)}, lost = {.user = accepted(3, 10)};

	xenmsg_stream_set_callbacks(reset.user->stream, &echo_callbacks, &reset);
	xenmsg_stream_set_callbacks(lost.user->stream, &echo_callbacks, &lost);
	send_data(reset.user, bytes, 100);
	send_data(lost.user, bytes, 100);
	expect_data(reset.user, bytes, 10);
	expect_data(lost.user, bytes, 10);
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	expect_reset(reset.user, ECONNRESET);
	assert_int_equal(reset.error, -ECONNRESET);
	assert_int_equal(lost.error, 0);
	fake_die(&fake);
	assert_int_equal(process_until_over(), -ENOTCONN);
	assert_int_equal(lost.error, -ECONNRESET);
}

MUX_BOTH(resets_that_cross_are_not_answered)
{
	struct user *user = accepted(1, LIMIT);

	close_user(user);
	fake_reset(&fake, 1, EPIPE, 0, 0); /* before it has seen ours */
	expect_reset(user, ECONNRESET);
	expect_silence();
	assert_string_equal(user->log, "");
	accepted(1, LIMIT);
}

MUX_BOTH(a_reset_of_what_has_ended_is_answered)
{
	struct user *user = accepted(1, LIMIT);

	end_both(user, 0, 0);
	fake_reset(&fake, 1, EPIPE, 0, 0);
	fake_credit(&fake, 1, 0, LIMIT);
	send_fin(user, 0);
	fake_reset(&fake, 60000, EPIPE, 0, 0);
	expect_reset(user, EPIPE);
	fake_expect(&fake, FRAME_RESET);
	assert_int_equal(fake.header.channel, 60000);
	expect_silence();
	assert_string_equal(user->log, "e");
}

struct crowd {
	struct user *opening, *open, *full, *queued, *ended, *half, *closed, *orderly, *over, *hungry;
};

/* One stream in each state. */
static void make_crowd(struct crowd *crowd)
{
	crowd->opening = dial();
	crowd->open = connected(LIMIT);
	crowd->full = connected(10);
	assert_int_equal(xenmsg_stream_write(crowd->full->stream, bytes, 20), 10);
	crowd->queued = accepted(1, LIMIT);
	crowd->queued->take = 2;
	send_data(crowd->queued, "hello", 5);
	settle();
	crowd->queued->take = 0;
	crowd->ended = accepted(3, LIMIT);
	send_fin(crowd->ended, 0);
	crowd->half = accepted(5, LIMIT);
	xenmsg_stream_end(crowd->half->stream);
	crowd->closed = accepted(7, LIMIT);
	close_user(crowd->closed);
	crowd->orderly = accepted(9, LIMIT);
	assert_int_equal(xenmsg_stream_write(crowd->orderly->stream, "hello", 5), 5);
	xenmsg_stream_end(crowd->orderly->stream);
	send_fin(crowd->orderly, 0);
	settle();
	close_user(crowd->orderly);
	crowd->over = accepted(11, LIMIT);
	fake_credit(&fake, 11, 0, LIMIT);
	send_fin(crowd->over, 0);
	settle();
	xenmsg_stream_end(crowd->over->stream);
	crowd->hungry = connected(1u << 30);
	while (xenmsg_stream_write(crowd->hungry->stream, bytes, 5000) == 5000)
		;
	settle();
}

static void expect_crowd_told(struct crowd *crowd)
{
	assert_string_equal(crowd->opening->log, "b");
	assert_int_equal(crowd->opening->error, -ECONNRESET);
	assert_string_equal(crowd->open->log, "b");
	assert_string_equal(crowd->full->log, "b");
	assert_string_equal(crowd->ended->log, "eb");
	assert_string_equal(crowd->half->log, "b");
	assert_string_equal(crowd->closed->log, "");
	assert_string_equal(crowd->orderly->log, "e");
	assert_string_equal(crowd->over->log, "e");
	assert_string_equal(crowd->hungry->log, "b");
	assert_string_equal(crowd->queued->log, "d");
	crowd->queued->take = SIZE_MAX;
	xenmsg_stream_resume(crowd->queued->stream);
	xenmsg_stream_resume(crowd->queued->stream);
	assert_string_equal(crowd->queued->log, "db");
	assert_memory_equal(crowd->queued->bytes, "hello", 5);
}

static void expect_nothing_works(struct crowd *crowd)
{
	struct xenmsg_stream *stream;

	assert_int_equal(xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, NULL, &stream),
			 xenmsg_process(conn));
	assert_true(is_readable(conn) || xenmsg_process(conn) < 0);
	assert_int_equal(xenmsg_stream_write(crowd->open->stream, "x", 1), -EPIPE);
	xenmsg_stream_end(crowd->open->stream);
	xenmsg_stream_resume(crowd->open->stream);
	close_user(crowd->half);
	assert_true(xenmsg_process(conn) < 0);
}

MUX_BOTH(a_lost_session_breaks_each_stream_once)
{
	struct crowd crowd;

	make_crowd(&crowd);
	fake_die(&fake);
	assert_int_equal(process_until_over(), -ENOTCONN);
	expect_crowd_told(&crowd);
	expect_nothing_works(&crowd);
}

MUX_BOTH(what_came_before_the_loss_is_given_out)
{
	struct user *user = connected(LIMIT);
	/* more than one call takes; the socket doesn't hold as many */
	unsigned count = fake.shared ? 300 : 60;

	for (unsigned i = 0; i < count; i++)
		send_data(user, bytes, 10);
	fake_die(&fake);
	assert_int_equal(process_until_over(), -ENOTCONN);
	assert_int_equal(user->size, 10 * count);
	assert_string_equal(user->log, "db");
}

/* The rig closes the streams behind xenmsg_close(), and some before. */
MUX_BOTH(a_session_may_be_freed_before_its_streams)
{
	struct crowd crowd;

	make_crowd(&crowd);
	close_conn();
	assert_string_equal(crowd.open->log, "");
	assert_string_equal(crowd.hungry->log, "");
	assert_int_equal(xenmsg_stream_write(crowd.open->stream, "x", 1), -EPIPE);
	xenmsg_stream_end(crowd.open->stream);
	close_user(crowd.open);
	close_user(crowd.hungry);
}

/* ---- a child of the program ------------------------------------------------------------------- */

static pid_t made;

static void make_child(struct user *user)
{
	made = fork();
	assert_true(made >= 0);
}

static bool is_refused_everything(struct user *user)
{
	struct xenmsg_stream *stream;
	bool refused = xenmsg_fd(conn) == -ECHILD && xenmsg_process(conn) == -ECHILD &&
		       xenmsg_wait(conn, 1000) == -ECHILD &&
		       xenmsg_stream_listen(conn, "x", NULL, on_incoming, NULL) == -ECHILD &&
		       xenmsg_unbind(conn, "x") == -ECHILD &&
		       xenmsg_stream_connect(conn, PEER, NULL, &user_callbacks, user, &stream) == -ECHILD &&
		       xenmsg_stream_write(user->stream, "child", 5) == -ECHILD;

	xenmsg_stream_end(user->stream);
	xenmsg_stream_resume(user->stream);
	xenmsg_stream_close(user->stream);
	xenmsg_close(conn);
	return refused;
}

/* It is made in a callback, and returns to the library first: no second one is called there. */
MUX_BOTH(a_child_does_nothing_to_the_session)
{
	struct user *user = connected(LIMIT), *other = connected(LIMIT);
	struct pollfd end = {.fd = fake.fd, .events = POLLIN | POLLRDHUP};
	int status;

	made = -1;
	user->when = DATA;
	user->also = make_child;
	send_data(user, "one", 3);
	send_data(other, "two", 3);
	while (made < 0)
		xenmsg_process(conn);
	if (made == 0)
		_exit(!(other->size == 0 && is_refused_everything(user)));
	assert_int_equal(waitpid(made, &status, 0), made);
	assert_int_equal(status, 0);
	assert_int_equal(poll(&end, 1, 0), 0);
	expect_silence();
	assert_int_equal(user->size, 3);
	assert_int_equal(other->size, 3);
	assert_string_equal(user->log, "d");
	expect_alive(user);
	expect_alive(other);
}
