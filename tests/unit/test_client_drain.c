/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises when an endpoint is drained: what is in service goes on, nothing new is taken, and
 * nobody is left in doubt; and to a caller whose server does so.
 */
#include "tests/unit/client_call_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>

#include "wire/bytes.h"

static struct xenmsg_message *taken[8];
static unsigned taken_count;
static int drained;

static void keep(void *userdata, struct xenmsg_message *message)
{
	assert_true(taken_count < 8);
	taken[taken_count++] = message;
}

/* The daemon's side of a server: channel 1 is for messages, 3 and 5 of callers. */
static void serve(void)
{
	static const uint32_t channels[] = {3, 5};

	taken_count = 0;
	drained = PENDING;
	fake_bind(&fake, "work", keep, NULL);
	fake_open(&fake, 1, "work");
	for (unsigned i = 0; i < 2; i++) {
		FAKE_SAY(&fake, OPEN, open, channels[i], .kind = CHANNEL_CALL, .name = {"work", 4});
		fake_credit(&fake, channels[i], 0, 65536);
	}
}

static void take(unsigned count)
{
	while (taken_count < count)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
	assert_int_equal(taken_count, count);
	fake_read_all(&fake);
}

static struct xenmsg_op *drain(const struct xenmsg_options *options)
{
	struct xenmsg_op *op;

	assert_int_equal(xenmsg_begin_drain(fake.conn, "work", options, note_outcome, &drained, &op), 0);
	assert_int_equal(drained, PENDING);
	return op;
}

/* A server that has taken one call, on channel 3, and is drained. */
static struct xenmsg_op *drain_with_a_call(const struct xenmsg_options *options)
{
	serve();
	send_one(3, MESSAGE_REQUEST, 0, 70, "one");
	take(1);
	return drain(options);
}

/* The next frame but receipts, for which the library gets to run. */
static void read_next(uint8_t type)
{
	do {
		while (!fake_has_frame(&fake))
			assert_true(xenmsg_wait(fake.conn, 10) >= 0);
		fake_read(&fake);
	} while (fake.header.type == FRAME_CREDIT);
	assert_string_equal(frame_type_name(fake.header.type), frame_type_name(type));
}

static void read_about(uint8_t type, uint32_t channel)
{
	read_next(type);
	assert_int_equal(fake.header.channel, channel);
}

static void expect_reset(uint32_t channel, uint32_t error)
{
	read_about(FRAME_RESET, channel);
	assert_int_equal(get_u32(fake.payload), error);
}

static void expect_drain(void)
{
	read_next(FRAME_DRAIN);
	assert_int_equal(fake.header.length, 4);
	assert_memory_equal(fake.payload, "work", 4);
	fake_reply(&fake, fake.header.channel, 0, "");
}

static void free_taken(void)
{
	for (unsigned i = 0; i < taken_count; i++)
		xenmsg_message_free(taken[i]);
	taken_count = 0;
}

static void expect_drained(int error)
{
	assert_int_equal(outcome_of(&drained), error);
	assert_int_equal(xenmsg_unbind(fake.conn, "work"), -ENOENT);
}

BOTH(what_is_in_service_goes_on_and_nothing_new_is_taken)
{
	serve();
	send_one(3, MESSAGE_REQUEST, 0, 70, "one");
	send_one(5, MESSAGE_REQUEST, 0, 80, "one");
	take(2);
	drain(NULL);
	expect_drain();
	expect_reset(1, ENOENT); /* of messages nothing is in service */
	/* What comes now is refused: it wasn't done. */
	send_one(3, MESSAGE_REQUEST, 0, 71, "two");
	send_one(5, MESSAGE_REQUEST, 0, 81, "two");
	for (int i = 0; i < 2; i++) {
		read_about(FRAME_DATA, i == 0 ? 3 : 5);
		assert_int_equal(fake.payload[4], MESSAGE_REFUSAL);
		assert_int_equal(get_u16(fake.payload + 6), ENOENT);
		assert_int_equal(get_u32(fake.payload + 12), i == 0 ? 71 : 81);
	}
	assert_int_equal(taken_count, 2);
	/* A channel ends when its caller has its last answer, not before. */
	assert_int_equal(xenmsg_reply(taken[0], "eins", 4), 0);
	read_about(FRAME_DATA, 3);
	assert_memory_equal(fake.payload + 8, "eins", 4);
	xenmsg_process(fake.conn);
	assert_false(fake.shared && fake_has_frame(&fake));
	fake_credit(&fake, 3, 16 + 24, 65536);
	expect_reset(3, ENOENT);
	/* What lies behind a request that was refused goes to nobody else, before that. */
	assert_int_equal(get_u32(fake.payload + 4), RESET_REFUSED);
	assert_int_equal(drained, PENDING);
	assert_int_equal(xenmsg_reply(taken[1], "eins", 4), 0);
	read_about(FRAME_DATA, 5);
	fake_credit(&fake, 5, 16 + 24, 65536);
	expect_drained(0);
	free_taken();
}

BOTH(where_nothing_is_in_service_it_is_drained_at_once)
{
	serve();
	send_one(3, MESSAGE_REQUEST, 0, 70, "one");
	take(1);
	xenmsg_message_free(taken[0]);
	taken_count = 0;
	read_about(FRAME_DATA, 3); /* ECANCELED */
	fake_credit(&fake, 3, 16, 65536);
	while (xenmsg_wait(fake.conn, 20) > 0)
		;
	drain(NULL);
	expect_drained(0);
	expect_drain();
	for (uint32_t channel = 1; channel <= 5; channel += 2) {
		expect_reset(channel, ENOENT);
		assert_int_equal(get_u32(fake.payload + 4), 0); /* it may go on elsewhere */
	}
}

BOTH(it_is_drained_when_the_answers_have_come)
{
	serve();
	send_one(3, MESSAGE_REQUEST, 0, 70, "one");
	take(1);
	assert_int_equal(xenmsg_reply(taken[0], "eins", 4), 0);
	read_about(FRAME_DATA, 3);
	/* all is answered, and the answer is on its way */
	drain(NULL);
	expect_drain();
	expect_reset(1, ENOENT);
	expect_reset(5, ENOENT);
	assert_int_equal(drained, PENDING);
	fake_credit(&fake, 3, 24, 65536);
	expect_reset(3, ENOENT);
	expect_drained(0);
	free_taken();
}

BOTH(an_endpoint_may_be_bound_again_while_it_is_drained)
{
	drain_with_a_call(NULL);
	expect_drain();
	expect_reset(1, ENOENT);
	expect_reset(5, ENOENT);
	assert_int_equal(xenmsg_begin_bind(fake.conn, "work", NULL, keep, NULL, NULL, NULL), 0);
	read_next(FRAME_BIND);
	fake_reply(&fake, fake.header.channel, 0, "");
	fake_open(&fake, 7, "work");
	send_one(7, MESSAGE_PLAIN, 0, 0, "new");
	take(2);
	assert_int_equal(xenmsg_reply(taken[0], "eins", 4), 0);
	read_about(FRAME_DATA, 3);
	fake_credit(&fake, 3, 24, 65536);
	assert_int_equal(outcome_of(&drained), 0);
	send_one(7, MESSAGE_PLAIN, 0, 0, "more");
	take(3);
	free_taken();
}

static void expect_cut_short(void)
{
	expect_drained(-ETIMEDOUT);
	assert_int_equal(xenmsg_reply(taken[0], "", 0), -ECANCELED);
	free_taken();
}

BOTH(what_is_in_service_ends_with_the_time_of_draining)
{
	drain_with_a_call(XENMSG_WITHIN(10));
	expect_cut_short();
}

BOTH(who_waits_no_longer_ends_what_is_in_service)
{
	assert_int_equal(xenmsg_op_withdraw(drain_with_a_call(NULL)), 0);
	expect_cut_short();
}

BOTH(a_caller_that_dies_is_waited_for_no_longer)
{
	drain_with_a_call(NULL);
	fake_reset(&fake, 3, ECONNRESET, 0, 0);
	expect_drained(0);
	free_taken();
}

BOTH(a_withdrawn_call_is_waited_for_no_longer)
{
	drain_with_a_call(NULL);
	fake_withdraw(&fake, 3, 70);
	expect_drained(0);
	free_taken();
}

BOTH(draining_ends_with_the_connection)
{
	drain_with_a_call(NULL);
	fake_close(&fake);
	assert_int_equal(drained, -ECANCELED);
	free_taken();
}

BOTH(draining_ends_with_the_daemon)
{
	drain_with_a_call(NULL);
	fake_die(&fake);
	assert_int_equal(outcome_of(&drained), -ENOTCONN);
	free_taken();
}

BOTH(what_can_not_be_drained_is_refused)
{
	drained = PENDING;
	assert_int_equal(xenmsg_drain(fake.conn, "work", NULL), -ENOENT);
	fake_bind(&fake, "work", keep, NULL);
	assert_int_equal(xenmsg_begin_drain(fake.conn, "work", NULL, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_begin_drain(fake.conn, "work", XENMSG_FLAGS(XENMSG_LEND), note_outcome,
					    &drained, NULL),
			 -EINVAL);
	assert_int_equal(xenmsg_unbind(fake.conn, "work"), 0);
}

/* ---- the caller ------------------------------------------------------------------------------ */

BOTH(a_call_that_is_refused_was_not_done_and_the_next_opens_anew)
{
	struct outcome one = {0}, two = {0};
	uint32_t channel, number = call(&one, "x", true, &channel);

	fake_opened(&fake, channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, 24, 65536);
	send_one(channel, MESSAGE_REFUSAL, ENOENT, number, "");
	wait_for(&one);
	assert_int_equal(one.result, -ENOENT);
	assert_int_equal(one.fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "x", 1, NULL, note, &two, NULL), 0);
	xenmsg_process(fake.conn);
	read_next(FRAME_OPEN);
	assert_true(fake.header.channel != channel);
	fake_reset(&fake, fake.header.channel, ENOENT, 0, 0);
	wait_for(&two);
	assert_int_equal(two.result, -ENOENT);
}

static void begin_waiting(const char *text, struct outcome *outcome)
{
	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", text, strlen(text), XENMSG_FLAGS(XENMSG_WAIT),
					   note, outcome, NULL),
			 0);
	xenmsg_process(fake.conn);
}

static uint32_t expect_call(uint32_t channel, const char *text)
{
	read_about(FRAME_DATA, channel);
	assert_memory_equal(fake.payload + MESSAGE_HEAD_SIZE, text, strlen(text));
	return number_read();
}

BOTH(calls_that_wait_go_behind_those_that_will_be_refused)
{
	struct outcome one = {0}, two = {0}, three = {0};
	uint32_t channel, first, second;

	begin_waiting("1", &one);
	begin_waiting("2", &two);
	read_next(FRAME_OPEN);
	channel = fake.header.channel;
	first = expect_call(channel, "1");
	second = expect_call(channel, "2");
	fake_opened(&fake, channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, 48, 65536);
	send_one(channel, MESSAGE_REFUSAL, ENOENT, first, "");
	read_next(FRAME_OPEN);
	fake.questions = fake.header.channel + 1;
	fake_opened(&fake, fake.header.channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	FAKE_EVENT(&fake, fake_watch(&fake, NULL, 0), .kind = EVENT_ENDPOINT_UP, .domid = 2,
		   .text = {"work", 4});
	read_next(FRAME_OPEN);
	assert_true(fake.header.channel != channel);
	expect_call(fake.header.channel, "1");
	/* It could go at once, but for the one before it, whose refusal is still on its way. */
	begin_waiting("3", &three);
	send_one(channel, MESSAGE_REFUSAL, ENOENT, second, "");
	expect_call(fake.header.channel, "2");
	expect_call(fake.header.channel, "3");
	fake_close(&fake);
}
