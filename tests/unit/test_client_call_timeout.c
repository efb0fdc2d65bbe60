/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to a caller whose time is up: the call is cancelled, or withdrawn where it was
 * taken.
 */
#include "tests/unit/client_call_rig.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"

static void say_cancelled(struct fake *daemon)
{
	fake_accept(daemon);
	fake_expect(daemon, FRAME_DATA);
	fake_expect(daemon, FRAME_CANCEL);
	fake_cancelled(daemon, daemon->header.channel, 16, ECANCELED);
}

static void expect_withdrawal(struct fake *daemon, uint32_t channel, uint32_t number)
{
	fake_expect(daemon, FRAME_DATA);
	assert_int_equal(daemon->header.channel, channel);
	assert_int_equal(daemon->header.length, 16);
	assert_int_equal(get_u32(daemon->payload), 0);
	assert_int_equal(daemon->payload[4], MESSAGE_WITHDRAWAL);
	assert_int_equal(get_u32(daemon->payload + 12), number);
}

static void take_and_keep_silent(struct fake *daemon)
{
	uint32_t channel = fake_accept(daemon), number;

	fake_expect(daemon, FRAME_DATA);
	number = number_read();
	fake_credit(daemon, channel, 24, 65536);
	expect_withdrawal(daemon, channel, number);
	send_one(channel, MESSAGE_REPLY, 0, number, "too late");
}

BOTH(a_call_that_was_taken_is_withdrawn_when_its_time_is_up)
{
	struct xenmsg_result result;

	fake_meanwhile(&fake, take_and_keep_silent);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "x", 1, XENMSG_WITHIN(500), &result), -ETIMEDOUT);
	fake_join(&fake);
	assert_non_null(strstr(result.reason, "may have been carried out"));
	assert_string_equal(result.reason, xenmsg_reason(fake.conn));
	assert_int_equal(result.fate, XENMSG_FATE_UNKNOWN);
	/* The answer that crossed it is nobody's. */
	assert_int_equal(xenmsg_process(fake.conn), 0);
}

static void say_taken(struct fake *daemon)
{
	uint32_t channel = fake_accept(daemon), number;

	fake_expect(daemon, FRAME_DATA);
	number = number_read();
	fake_expect(daemon, FRAME_CANCEL);
	fake_cancelled(daemon, channel, 16, 0);
	expect_withdrawal(daemon, channel, number);
}

BOTH(a_call_that_is_taken_while_it_is_cancelled_is_withdrawn)
{
	struct xenmsg_result result;

	fake_meanwhile(&fake, say_taken);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "x", 1, XENMSG_WITHIN(500), &result), -ETIMEDOUT);
	fake_join(&fake);
	assert_non_null(strstr(result.reason, "may have been carried out"));
}

/* Relies on the descriptor alone. */
static void loop_until(const struct outcome *outcome)
{
	while (!outcome->count)
		loop_once(fake.conn);
}

/* Posts a call with a time-out while the daemon does something, until it has ended for want of time. */
static void post_until_its_time_is_up(void (*script)(struct fake *daemon), struct outcome *one)
{
	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "x", 1, XENMSG_WITHIN(500), note, one, NULL),
			 0);
	loop_until(one);
	fake_join(&fake);
	assert_int_equal(one->result, -ETIMEDOUT);
}

/* Posts a call without an end and withdraws it, while the daemon does something. */
static void post_and_withdraw(void (*script)(struct fake *daemon), struct outcome *one)
{
	struct xenmsg_op *op;
	int again;

	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "x", 1, NULL, note, one, &op), 0);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	again = xenmsg_op_withdraw(op);
	assert_true(again == 0 || again == -EALREADY); /* its end may be known by now */
	assert_int_equal(one->count, 0);
	loop_until(one);
	fake_join(&fake);
	assert_int_equal(one->result, -ETIMEDOUT);
}

BOTH(a_posted_call_is_withdrawn_before_it_was_taken)
{
	struct outcome one = {0};

	post_and_withdraw(say_cancelled, &one);
	assert_string_equal(one.reason, "");
}

BOTH(a_posted_call_is_withdrawn_while_it_is_taken)
{
	struct outcome one = {0};

	post_and_withdraw(say_taken, &one);
	assert_non_null(strstr(one.reason, "may have been carried out"));
}

BOTH(a_posted_call_that_was_not_taken_in_time_is_cancelled)
{
	struct outcome one = {0};

	post_until_its_time_is_up(say_cancelled, &one);
	assert_string_equal(one.reason, "");
}

BOTH(a_posted_call_that_was_taken_is_withdrawn_after_its_time)
{
	struct outcome one = {0};

	post_until_its_time_is_up(take_and_keep_silent, &one);
	assert_non_null(strstr(one.reason, "may have been carried out"));
	assert_string_equal(xenmsg_reason(fake.conn), "");
	assert_int_equal(xenmsg_process(fake.conn), 0);
	assert_int_equal(one.count, 1);
}

BOTH(posted_calls_time_out_each_in_its_time)
{
	static const int times[] = {10000, 900, 500, 700, -1, 300};
	struct outcome outcomes[6] = {0};
	uint32_t channel = 0, answered = 0;

	noted = 0;
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "x", 1, XENMSG_WITHIN(times[i]), note,
						   &outcomes[i], NULL),
				 0);
		xenmsg_process(fake.conn);
		if (i == 0) {
			channel = fake_accept(&fake);
			xenmsg_process(fake.conn);
		}
		expect_data(channel);
		if (i == 0)
			answered = number_read();
		fake_credit(&fake, channel, 24 * (i + 1), 65536);
	}
	while (!outcomes[1].count)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	assert_int_equal(outcomes[5].order, 1);
	assert_int_equal(outcomes[2].order, 2);
	assert_int_equal(outcomes[3].order, 3);
	assert_int_equal(outcomes[1].order, 4);
	send_one(channel, MESSAGE_REPLY, 0, answered, "in time");
	wait_for(&outcomes[0]);
	assert_int_equal(outcomes[0].result, 0);
	assert_int_equal(outcomes[4].count, 0);
	fake_close(&fake);
	assert_int_equal(outcomes[4].result, -ECONNRESET);
}
