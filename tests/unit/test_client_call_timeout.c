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
	uint32_t state;

	fake_accept(daemon);
	fake_expect(daemon, FRAME_DATA);
	state = daemon->header.length - MESSAGE_TRAILER_SIZE;
	fake_expect(daemon, FRAME_CANCEL);
	fake_cancelled(daemon, daemon->header.channel, state, ECANCELED);
}

static void expect_withdrawal(struct fake *daemon, uint32_t channel, uint32_t number)
{
	fake_expect(daemon, FRAME_WITHDRAW);
	assert_int_equal(daemon->header.channel, channel);
	assert_int_equal(get_u32(daemon->payload), number);
}

static void take_and_keep_silent(struct fake *daemon)
{
	uint32_t channel = fake_accept(daemon), number;

	fake_expect(daemon, FRAME_DATA);
	number = number_read();
	fake_credit(daemon, channel, daemon->header.length, 65536);
	expect_withdrawal(daemon, channel, number);
	send_one(channel, MESSAGE_REPLY, 0, number, "too late");
}

static void say_taken(struct fake *daemon)
{
	uint32_t channel = fake_accept(daemon), number, state;

	fake_expect(daemon, FRAME_DATA);
	number = number_read();
	state = daemon->header.length - MESSAGE_TRAILER_SIZE;
	fake_expect(daemon, FRAME_CANCEL);
	fake_cancelled(daemon, channel, state, 0);
	expect_withdrawal(daemon, channel, number);
}

/* ---- three ways to have no more time, while the daemon does something -------------------------- */

static struct outcome one; /* of the last call */

static const struct outcome *call_in_time(const char *address, void (*script)(struct fake *daemon))
{
	struct xenmsg_result result;

	one = (struct outcome){0};
	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_call(fake.conn, address, "x", 1, XENMSG_WITHIN((int)patience(500)), &result),
			 -ETIMEDOUT);
	fake_join(&fake);
	assert_string_equal(result.reason, xenmsg_reason(fake.conn, 0));
	note(&one, &result);
	return &one;
}

/* Relies on the descriptor alone. */
static void loop_until_it_ends(void)
{
	while (!one.count)
		loop_once(fake.conn);
	fake_join(&fake);
}

static const struct outcome *post_in_time(const char *address, void (*script)(struct fake *daemon))
{
	one = (struct outcome){0};
	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_begin_call(fake.conn, address, "x", 1, XENMSG_WITHIN((int)patience(500)),
					   note, &one, NULL),
			 0);
	loop_until_it_ends();
	return &one;
}

static const struct outcome *post_and_withdraw(const char *address, void (*script)(struct fake *daemon))
{
	struct xenmsg_op *op;
	int again;

	one = (struct outcome){0};
	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_begin_call(fake.conn, address, "x", 1, NULL, note, &one, &op), 0);
	assert_int_equal(xenmsg_op_withdraw(op), 0);
	again = xenmsg_op_withdraw(op);
	assert_true(again == 0 || again == -EALREADY); /* its end may be known by now */
	assert_int_equal(one.count, 0);
	loop_until_it_ends();
	return &one;
}

static void expect_not_done(const struct outcome *outcome)
{
	assert_int_equal(outcome->result, -ETIMEDOUT);
	assert_int_equal(outcome->fate, XENMSG_FATE_NOT_DONE);
	assert_string_equal(outcome->reason, xenmsg_error_text(-ETIMEDOUT));
}

static void expect_perhaps_done(const struct outcome *outcome)
{
	assert_int_equal(outcome->result, -ETIMEDOUT);
	assert_int_equal(outcome->fate, XENMSG_FATE_UNKNOWN);
	assert_non_null(strstr(outcome->reason, "may have been carried out"));
}

BOTH(a_call_that_was_not_taken_is_cancelled)
{
	expect_not_done(call_in_time("2:first", say_cancelled));
	expect_not_done(post_in_time("2:second", say_cancelled));
	expect_not_done(post_and_withdraw("2:third", say_cancelled));
}

BOTH(a_call_that_is_taken_while_it_is_cancelled_is_withdrawn)
{
	expect_perhaps_done(call_in_time("2:first", say_taken));
	expect_perhaps_done(post_in_time("2:second", say_taken));
	expect_perhaps_done(post_and_withdraw("2:third", say_taken));
}

BOTH(a_call_that_was_taken_is_withdrawn)
{
	expect_perhaps_done(post_in_time("2:first", take_and_keep_silent));
	assert_string_equal(xenmsg_reason(fake.conn, 0), "");
	/* The answer that crossed it is nobody's. */
	assert_int_equal(xenmsg_process(fake.conn), 0);
	assert_int_equal(one.count, 1);
	fake_read_all(&fake);
	expect_perhaps_done(call_in_time("2:second", take_and_keep_silent));
	assert_int_equal(xenmsg_process(fake.conn), 0);
}

BOTH(posted_calls_time_out_each_in_its_time)
{
	static const int times[] = {10000, 900, 500, 700, -1, 300};
	struct outcome outcomes[6] = {0};
	uint32_t channel = 0, answered = 0;
	uint64_t consumed = 0;

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
		consumed += fake.header.length;
		fake_credit(&fake, channel, consumed, 65536);
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
