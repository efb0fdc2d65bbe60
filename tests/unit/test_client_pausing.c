/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to who can't take more just now: messages wait, but not the news that an answer is
 * no longer wanted; and that there is room again is told.
 */
#include "tests/unit/client_call_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>

#include "wire/bytes.h"

static struct xenmsg_message *taken[8];
static unsigned taken_count, withdrawn_count;
static bool pauses;

static void keep(void *userdata, struct xenmsg_message *message)
{
	assert_true(taken_count < 8);
	taken[taken_count++] = message;
	if (pauses)
		assert_int_equal(xenmsg_pause(fake.conn), 0);
}

static void on_withdrawn(void *userdata, struct xenmsg_message *message)
{
	assert_ptr_equal(message, *(struct xenmsg_message **)userdata);
	assert_int_equal(xenmsg_message_wants_reply(message), 0);
	withdrawn_count++;
}

/* A server with channel 1, whose handler keeps what comes. */
static void serve(enum channel_kind kind)
{
	taken_count = withdrawn_count = 0;
	pauses = false;
	fake_bind(&fake, "work", keep, NULL);
	fake_open_kind(&fake, 1, kind, "work");
}

static void take(unsigned count)
{
	while (taken_count < count)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
	assert_int_equal(taken_count, count);
}

static void free_taken(void)
{
	for (unsigned i = 0; i < taken_count; i++)
		xenmsg_message_free(taken[i]);
	taken_count = 0;
}

/* ---- pausing --------------------------------------------------------------------------------- */

BOTH(who_is_paused_takes_nothing_until_it_goes_on)
{
	struct xenmsg_message *message;

	serve(CHANNEL_MESSAGE);
	assert_int_equal(xenmsg_pause(fake.conn), 0);
	send_one(1, MESSAGE_PLAIN, 0, 0, "one");
	for (int i = 0; i < 20; i++)
		assert_int_equal(xenmsg_wait(fake.conn, 5), 0);
	/* A loop isn't kept busy by what it leaves there. */
	assert_false(is_readable(fake.conn));
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EAGAIN);
	assert_int_equal(xenmsg_peek(fake.conn, &message), -EAGAIN);
	assert_int_equal(taken_count, 0);
	assert_int_equal(xenmsg_resume(fake.conn), 0);
	assert_true(is_readable(fake.conn));
	assert_int_equal(xenmsg_process(fake.conn), 1);
	assert_int_equal(taken_count, 1);
	free_taken();
}

BOTH(a_handler_that_pauses_gets_no_further_message)
{
	serve(CHANNEL_MESSAGE);
	pauses = true;
	for (int i = 0; i < 3; i++)
		send_one(1, MESSAGE_PLAIN, 0, 0, "one");
	for (unsigned i = 1; i <= 3; i++) {
		take(i);
		assert_int_equal(xenmsg_process(fake.conn), 0);
		assert_int_equal(taken_count, i);
		assert_int_equal(xenmsg_resume(fake.conn), 0);
	}
	free_taken();
}

BOTH(what_was_begun_is_reported_to_who_is_paused)
{
	struct outcome one = {0};
	uint32_t channel, number;

	serve(CHANNEL_MESSAGE);
	assert_int_equal(xenmsg_pause(fake.conn), 0);
	send_one(1, MESSAGE_PLAIN, 0, 0, "one");
	number = call(&one, "x", true, &channel);
	fake_opened(&fake, channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	send_one(channel, MESSAGE_REPLY, 0, number, "yes");
	wait_for(&one);
	assert_string_equal(one.text, "yes");
	assert_int_equal(taken_count, 0);
}

/* ---- withdrawals ----------------------------------------------------------------------------- */

/* A server that is full, with one call taken, and more that it hasn't taken. */
static void be_full(void)
{
	serve(CHANNEL_CALL);
	pauses = true;
	for (uint32_t i = 0; i < 4; i++)
		send_one(1, MESSAGE_REQUEST, 0, 70 + i, "one");
	take(1);
	assert_int_equal(xenmsg_message_on_withdrawn(taken[0], on_withdrawn, &taken[0]), 0);
}

static void expect_withdrawn(void)
{
	while (!withdrawn_count)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
	assert_int_equal(withdrawn_count, 1);
	assert_int_equal(xenmsg_reply(taken[0], "", 0), -ECANCELED);
	assert_int_equal(xenmsg_message_on_withdrawn(taken[0], on_withdrawn, &taken[0]), -ECANCELED);
	xenmsg_process(fake.conn);
	assert_int_equal(withdrawn_count, 1);
	free_taken();
}

BOTH(a_full_server_hears_at_once_that_a_caller_gave_up)
{
	be_full();
	assert_int_equal(withdrawn_count, 0);
	fake_withdraw(&fake, 1, 70);
	expect_withdrawn();
	assert_int_equal(taken_count, 0);
}

BOTH(a_full_server_hears_that_a_caller_has_died)
{
	be_full();
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	expect_withdrawn();
}

BOTH(unbinding_withdraws_what_was_taken)
{
	be_full();
	assert_int_equal(xenmsg_unbind(fake.conn, "work"), 0);
	assert_int_equal(withdrawn_count, 0); /* not within that */
	expect_withdrawn();
}

BOTH(what_was_answered_or_freed_is_not_told_as_withdrawn)
{
	serve(CHANNEL_CALL);
	fake_credit(&fake, 1, 0, 65536);
	for (uint32_t i = 0; i < 5; i++)
		send_one(1, MESSAGE_REQUEST, 0, 70 + i, "one");
	take(5);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(xenmsg_message_on_withdrawn(taken[i], on_withdrawn, &taken[i]), 0);
	assert_int_equal(xenmsg_message_on_withdrawn(taken[0], NULL, NULL), 0);
	assert_int_equal(xenmsg_reply(taken[1], "", 0), 0);
	assert_int_equal(xenmsg_message_on_withdrawn(taken[1], on_withdrawn, &taken[1]), -EALREADY);
	xenmsg_message_free(taken[2]);
	for (uint32_t i = 0; i < 5; i++)
		fake_withdraw(&fake, 1, 70 + i);
	fake_withdraw(&fake, 1, 4711); /* never asked */
	/* It may be known, but not told yet, when the program gives up the other two. */
	if (fake.shared) {
		assert_int_equal(xenmsg_reply(taken[3], "", 0), -ECANCELED);
		assert_int_equal(xenmsg_message_detach(taken[3]), 0);
	} else {
		assert_int_equal(xenmsg_message_on_withdrawn(taken[3], NULL, NULL), 0);
	}
	xenmsg_message_free(taken[4]);
	xenmsg_process(fake.conn);
	assert_int_equal(withdrawn_count, 0);
	xenmsg_message_free(taken[0]);
	xenmsg_message_free(taken[1]);
	xenmsg_message_free(taken[3]);
	taken_count = 0;
}

BOTH(a_message_can_not_be_withdrawn)
{
	serve(CHANNEL_MESSAGE);
	send_one(1, MESSAGE_PLAIN, 0, 0, "one");
	take(1);
	assert_int_equal(xenmsg_message_on_withdrawn(taken[0], on_withdrawn, NULL), -EINVAL);
	free_taken();
	fake_withdraw(&fake, 1, 70);
	expect_over(-EPROTO);
}

/* The server knows WITHDRAW, which goes past what it hasn't taken; nothing comes in the stream. */
BOTH(a_call_that_was_taken_is_withdrawn_by_a_frame_of_its_own)
{
	static const struct frame_identity server = {.domid = 2};
	struct outcome one = {0};
	uint32_t channel, number;
	struct xenmsg_op *op;

	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "x", 1, NULL, note, &one, &op), 0);
	xenmsg_process(fake.conn);
	channel = fake_expect_open(&fake);
	expect_data(channel);
	number = number_read();
	fake_opened_by(&fake, channel, &server);
	fake_credit(&fake, channel, 24, 65536);
	while (!is_readable(fake.conn))
		;
	xenmsg_process(fake.conn);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_WITHDRAW);
	assert_int_equal(fake.header.channel, channel);
	assert_int_equal(get_u32(fake.payload), number);
	assert_int_equal(one.result, -ETIMEDOUT);
	assert_int_equal(one.fate, XENMSG_FATE_UNKNOWN);
	send_one(channel, MESSAGE_REPLY, 0, number, "too late");
	assert_true(xenmsg_process(fake.conn) >= 0);
	assert_false(fake.shared && fake_has_frame(&fake));
}

/* ---- room ------------------------------------------------------------------------------------ */

static uint8_t bytes[60000];

static int send_some(void)
{
	return xenmsg_begin_send(fake.conn, "2:x", bytes, sizeof(bytes), NULL, NULL, NULL, NULL);
}

/* Begins to wait until as much could be sent once more. */
static struct xenmsg_op *wait_for_room(const struct xenmsg_options *options, int *room)
{
	struct xenmsg_op *op;

	*room = PENDING;
	assert_int_equal(
		xenmsg_begin_await_room(fake.conn, "2:x", sizeof(bytes), options, note_outcome, room, &op),
		0);
	return op;
}

/* Sends until there is no room, and the daemon has read what it gives credit for. Returns the channel. */
static uint32_t fill_up(void)
{
	uint32_t channel, got = 0;
	int r;

	while ((r = send_some()) == 0)
		;
	assert_int_equal(r, -EAGAIN);
	xenmsg_process(fake.conn);
	channel = fake_accept(&fake);
	for (; got < CHANNEL_INITIAL_LIMIT; got += fake.header.length) {
		xenmsg_process(fake.conn);
		fake_expect(&fake, FRAME_DATA);
	}
	xenmsg_process(fake.conn);
	while ((r = send_some()) == 0)
		;
	assert_int_equal(r, -EAGAIN);
	return channel;
}

BOTH(room_is_told_when_what_waits_was_sent)
{
	uint32_t channel = fill_up();
	static int room, for_calls;

	wait_for_room(NULL, &room);
	/* For calls there is room: nothing waits there. */
	wait_for_room(XENMSG_FLAGS(XENMSG_ONLY_CALLS), &for_calls);
	assert_int_equal(outcome_of(&for_calls), 0);
	assert_int_equal(xenmsg_process(fake.conn), 0);
	assert_int_equal(room, PENDING);
	fake_credit(&fake, channel, CHANNEL_INITIAL_LIMIT, 4u << 20);
	while (room == PENDING) {
		xenmsg_process(fake.conn);
		if (fake_has_frame(&fake))
			fake_read(&fake);
	}
	assert_int_equal(room, 0);
	assert_int_equal(send_some(), 0);
}

BOTH(room_where_nothing_was_sent_is_told_at_once)
{
	static int room;

	wait_for_room(XENMSG_WITHIN(0), &room);
	assert_int_equal(room, PENDING);
	assert_int_equal(outcome_of(&room), 0);
	assert_int_equal(xenmsg_await_room(fake.conn, "2:x", sizeof(bytes), XENMSG_WITHIN(0)), 0);
	assert_int_equal(xenmsg_await_room(fake.conn, "no address", sizeof(bytes), NULL), -EINVAL);
	assert_int_equal(xenmsg_begin_await_room(fake.conn, "2:x", sizeof(bytes), NULL, NULL, NULL, NULL),
			 -EINVAL);
	assert_int_equal(xenmsg_await_room(fake.conn, "2:x", sizeof(bytes), XENMSG_FLAGS(XENMSG_LEND)),
			 -EINVAL);
}

BOTH(who_waits_for_room_may_give_up)
{
	static int first, second, third;
	struct xenmsg_op *op;

	fill_up();
	assert_int_equal(xenmsg_await_room(fake.conn, "2:x", sizeof(bytes), XENMSG_WITHIN(20)), -ETIMEDOUT);
	wait_for_room(XENMSG_WITHIN(20), &first);
	op = wait_for_room(NULL, &second);
	assert_int_equal(outcome_of(&first), -ETIMEDOUT);
	assert_int_equal(second, PENDING);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	assert_int_equal(second, PENDING);
	assert_int_equal(outcome_of(&second), -ETIMEDOUT);
	wait_for_room(NULL, &third);
	assert_int_equal(xenmsg_flush(fake.conn, 1), -ETIMEDOUT);
	fake_close(&fake);
	assert_int_equal(third, -ECANCELED);
}

BOTH(there_is_room_when_the_channel_has_ended)
{
	static int room;
	uint32_t channel = fill_up();

	wait_for_room(NULL, &room);
	fake_reset(&fake, channel, ENOENT, 0, 0);
	assert_int_equal(outcome_of(&room), 0);
	assert_int_equal(send_some(), 0);
}

BOTH(there_is_no_room_when_the_daemon_has_gone)
{
	static int room;

	fill_up();
	wait_for_room(NULL, &room);
	fake_die(&fake);
	assert_int_equal(outcome_of(&room), -ENOTCONN);
}

/* ---- room for answers ------------------------------------------------------------------------ */

static uint8_t large[1u << 20];

/* A caller who doesn't read; the last of its calls can't be answered. Returns how many bytes wait for it. */
static uint64_t answer_until_full(void)
{
	uint64_t size = 0;
	int r = 0;

	serve(CHANNEL_CALL);
	for (uint32_t i = 0; r == 0; i++) {
		send_one(1, MESSAGE_REQUEST, 0, i, "one");
		take(1);
		r = xenmsg_reply(taken[0], large, sizeof(large));
		if (r == 0)
			free_taken();
		size += r == 0 ? 8 + sizeof(large) + 8 : 0;
	}
	assert_int_equal(r, -EAGAIN);
	return size;
}

static void read_some(struct fake *daemon)
{
	fake_read_up_to(daemon, FRAME_DATA);
}

/* Begins to wait until the last call can be answered. */
static void wait_for_reply_room(int *room)
{
	*room = PENDING;
	assert_int_equal(
		xenmsg_begin_await_reply_room(taken[0], sizeof(large), NULL, note_outcome, room, NULL), 0);
}

BOTH(room_for_an_answer_is_told_when_the_caller_has_read)
{
	uint64_t unread = answer_until_full();
	static int room;

	wait_for_reply_room(&room);
	assert_int_equal(xenmsg_await_reply_room(taken[0], sizeof(large), XENMSG_WITHIN(5)), -ETIMEDOUT);
	assert_int_equal(room, PENDING);
	fake_credit(&fake, 1, 0, unread + sizeof(large) + 16);
	fake_meanwhile(&fake, read_some);
	assert_int_equal(outcome_of(&room), 0);
	fake_join(&fake);
	assert_int_equal(xenmsg_reply(taken[0], "x", 1), 0);
	assert_int_equal(xenmsg_await_reply_room(taken[0], sizeof(large), NULL), -EINVAL);
	free_taken();
}

BOTH(there_is_no_room_for_an_answer_that_nobody_wants)
{
	static int room;

	answer_until_full();
	wait_for_reply_room(&room);
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	assert_int_equal(outcome_of(&room), -ECANCELED);
	assert_int_equal(xenmsg_await_reply_room(taken[0], sizeof(large), NULL), -ECANCELED);
	free_taken();
}

BOTH(waiting_for_room_ends_with_the_connection)
{
	static int closed;

	answer_until_full();
	wait_for_reply_room(&closed);
	fake_close(&fake);
	assert_int_equal(closed, -ECANCELED);
	free_taken();
}
