/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about all that is begun: its options, its one outcome, its withdrawal, and what a
 * signal does to the form that waits.
 */
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "wire/bytes.h"

static void ignore(void *userdata, const struct xenmsg_event *event)
{
}

/* ---- options --------------------------------------------------------------------------------- */

BOTH(options_that_nobody_knows_are_refused)
{
	struct {
		struct xenmsg_options registry;
		uint64_t later;
	} options = {.registry = {.size = sizeof(options), .timeout_ms = -1}};
	static int result;
	struct xenmsg_op *op;
	char *json;

	/* A program of a later version that doesn't use what is new there. */
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, &options.registry, NULL, NULL, NULL),
			 0);
	options.later = 1;
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, &options.registry, NULL, NULL, NULL),
			 -EINVAL);
	options.later = 0;
	options.registry.size = 8;
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", "x", 1, &options.registry, NULL), -EINVAL);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", "x", 1, XENMSG_FLAGS(XENMSG_LEND), NULL), -EINVAL);
	assert_int_equal(xenmsg_call(fake.conn, "5:inbox", "x", 1, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL),
			 -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "a", XENMSG_FLAGS(XENMSG_FROM_HOSTS), NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_listen(fake.conn, "a", XENMSG_FLAGS(XENMSG_ONLY_CALLS)), -EINVAL);
	assert_int_equal(xenmsg_watch(fake.conn, "*", XENMSG_FLAGS(1), ignore, NULL), -EINVAL);
	assert_int_equal(xenmsg_query(fake.conn, "peers", XENMSG_FLAGS(1), &json), -EINVAL);
	assert_int_equal(xenmsg_ping(fake.conn, "5", XENMSG_FLAGS(1), NULL), -EINVAL);
	assert_int_equal(xenmsg_connect(fake.conn, "5:a", XENMSG_FLAGS(1)), -EINVAL);
	assert_int_equal(xenmsg_accept(fake.conn, XENMSG_FLAGS(1), NULL), -EINVAL);
	/* An op is valid until `done` is called, so there has to be one. */
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", "x", 1, NULL, NULL, NULL, &op), -EINVAL);
	assert_int_equal(xenmsg_begin_bind(fake.conn, "a", NULL, NULL, NULL, NULL, &op), -EINVAL);
	assert_int_equal(xenmsg_begin_query(fake.conn, "peers", NULL, NULL, NULL, NULL), -EINVAL);
	post("5:inbox", "x", 1, &result); /* nothing is left of all that */
	expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	fake_expect(&fake, FRAME_DATA);
	assert_false(fake_has_frame(&fake));
}

BOTH(what_is_sent_at_once_has_its_outcome)
{
	static uint8_t large[65536 + 8];
	struct ended ended = {0};
	uint32_t channel;

	assert_true(xenmsg_max_at_once(fake.conn) < sizeof(large));
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", large, sizeof(large),
					   XENMSG_FLAGS(XENMSG_AT_ONCE), note_end, &ended, NULL),
			 -EMSGSIZE);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", large, 64,
					   XENMSG_WITH(60000, XENMSG_AT_ONCE), note_end, &ended, NULL),
			 0);
	channel = expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	fake_credit(&fake, channel, SPAN_64, 65536);
	expect_end(&ended, 0);
	assert_int_equal(ended.result.fate, XENMSG_FATE_DONE);
	assert_int_equal(ended.result.stream, -1);
}

/* ---- requests -------------------------------------------------------------------------------- */

BOTH(questions_are_answered_in_the_loop)
{
	struct ended query = {0}, ping = {0}, watch = {0}, refused = {0};
	uint32_t numbers[4];
	int number;

	assert_int_equal(xenmsg_begin_query(fake.conn, "peers", NULL, note_end, &query, NULL), 0);
	assert_int_equal(xenmsg_begin_ping(fake.conn, "self", NULL, note_end, &ping, NULL), 0);
	number = xenmsg_begin_watch(fake.conn, "*", NULL, ignore, note_end, &watch, NULL);
	assert_true(number > 0);
	assert_int_equal(xenmsg_begin_listen(fake.conn, "streams", NULL, note_end, &refused, NULL), 0);
	assert_int_equal(query.times + ping.times + watch.times + refused.times, 0);
	xenmsg_process(fake.conn);
	numbers[0] = fake_question(&fake, "peers");
	numbers[1] = fake_question(&fake, "ping");
	numbers[2] = fake_expect_watch(&fake, "*");
	fake_expect_past_credit(&fake, FRAME_BIND);
	numbers[3] = fake.header.channel;
	fake_reply(&fake, numbers[3], EACCES, "not you");
	expect_end(&refused, -EACCES);
	assert_int_equal(refused.result.fate, XENMSG_FATE_NOT_DONE);
	assert_string_equal(refused.reason, "not you");
	assert_int_equal(xenmsg_unbind(fake.conn, "streams"), -ENOENT);
	fake_tell_part(&fake, numbers[0], 0, true, "[");
	fake_tell_part(&fake, numbers[0], 1, false, "]");
	expect_end(&query, 0);
	assert_string_equal(query.result.json, "[]");
	free(query.result.json);
	fake_tell(&fake, numbers[1], 0, "{}");
	expect_end(&ping, 0);
	assert_true(ping.result.round_trip_ns > 0);
	assert_null(ping.result.json);
	fake_watched(&fake, numbers[2], 0);
	loop_until(&watch);
	assert_int_equal(xenmsg_unwatch(fake.conn, number), 0);
}

BOTH(what_is_withdrawn_is_undone_at_the_daemon)
{
	struct ended bind = {0}, listen = {0}, watch = {0};
	struct xenmsg_op *ops[3];
	int number;

	assert_int_equal(xenmsg_begin_bind(fake.conn, "inbox", NULL, NULL, note_end, &bind, &ops[0]), 0);
	assert_int_equal(xenmsg_begin_listen(fake.conn, "streams", NULL, note_end, &listen, &ops[1]), 0);
	number = xenmsg_begin_watch(fake.conn, "*", NULL, ignore, note_end, &watch, &ops[2]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(xenmsg_op_withdraw(ops[i]), 0);
		assert_int_equal(xenmsg_op_withdraw(ops[i]), -EALREADY);
	}
	assert_int_equal(bind.times, 0);
	loop_until(&watch);
	assert_int_equal(bind.result.error, -ETIMEDOUT);
	assert_int_equal(bind.result.fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(listen.result.error, -ETIMEDOUT);
	assert_int_equal(watch.result.error, -ETIMEDOUT);
	assert_int_equal(xenmsg_unwatch(fake.conn, number), -ENOENT);
	fake_answer(&fake, FRAME_BIND, 0, ""); /* it was too late to prevent that */
	fake_expect(&fake, FRAME_BIND);
	fake_expect_open(&fake);
	fake_expect(&fake, FRAME_DATA);
	fake_expect(&fake, FRAME_UNBIND);
	assert_memory_equal(fake.payload, "inbox", 5);
	fake_expect(&fake, FRAME_UNBIND);
	assert_memory_equal(fake.payload, "streams", 7);
	fake_expect(&fake, FRAME_CANCEL);
	/* Nothing is told twice, and the name is free again. */
	fake_bind(&fake, "inbox", NULL, NULL);
	assert_int_equal(bind.times, 1);
}

BOTH(what_is_granted_while_it_is_withdrawn_is_undone)
{
	struct ended bind = {0}, listen = {0};
	struct xenmsg_op *ops[2];
	uint32_t first;
	int r;

	assert_int_equal(xenmsg_begin_bind(fake.conn, "inbox", NULL, NULL, note_end, &bind, &ops[0]), 0);
	assert_int_equal(xenmsg_begin_listen(fake.conn, "streams", NULL, note_end, &listen, &ops[1]), 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_BIND);
	first = fake.header.channel;
	fake_expect(&fake,
		    FRAME_BIND); /* it reads what there is while this waits, so the answers come behind */
	fake_reply(&fake, first, 0, "");
	fake_reply(&fake, fake.header.channel, 0, "");
	r = xenmsg_op_withdraw(ops[0]);
	if (r == -EALREADY) { /* with shared memory it may have read that */
		assert_true(fake.shared);
		expect_end(&bind, 0);
		expect_end(&listen, 0);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(xenmsg_op_withdraw(ops[1]), 0);
	expect_end(&bind, -ETIMEDOUT);
	expect_end(&listen, -ETIMEDOUT);
	fake_expect(&fake, FRAME_UNBIND);
	assert_memory_equal(fake.payload, "inbox", 5);
	fake_expect(&fake, FRAME_UNBIND);
	assert_memory_equal(fake.payload, "streams", 7);
	fake_bind(&fake, "inbox", NULL, NULL);
}

BOTH(a_question_whose_time_is_up_ends_in_the_loop)
{
	struct ended late = {0}, soon = {0};
	uint32_t number;

	assert_int_equal(xenmsg_begin_query(fake.conn, "peers", XENMSG_WITHIN(60000), note_end, &late, NULL),
			 0);
	assert_int_equal(xenmsg_begin_listen(fake.conn, "streams", XENMSG_WITHIN(30), note_end, &soon, NULL),
			 0);
	xenmsg_process(fake.conn);
	number = fake_question(&fake, "peers");
	fake_expect(&fake, FRAME_BIND);
	expect_end(&soon, -ETIMEDOUT);
	assert_int_equal(late.times, 0);
	/* What comes later is of no interest, and does no harm. */
	fake_reply(&fake, fake.header.channel, 0, "");
	fake_tell(&fake, number, 0, "[]");
	loop_until(&late);
	assert_string_equal(late.result.json, "[]");
	free(late.result.json);
	assert_int_equal(soon.times, 1);
}

BOTH(each_question_has_its_outcome_when_the_connection_ends)
{
	struct ended ended[3] = {{0}};

	assert_int_equal(xenmsg_begin_query(fake.conn, "peers", NULL, note_end, &ended[0], NULL), 0);
	assert_int_equal(xenmsg_begin_ping(fake.conn, "5", NULL, note_end, &ended[1], NULL), 0);
	assert_true(xenmsg_begin_watch(fake.conn, "*", NULL, ignore, note_end, &ended[2], NULL) > 0);
	fake_close(&fake);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ended[i].times, 1);
		assert_int_equal(ended[i].result.error, i == 2 ? -ECANCELED : -ENOTCONN);
	}
}

/* ---- signals --------------------------------------------------------------------------------- */

static pthread_t waiting;
static volatile bool has_returned;
static uint8_t awaited; /* the frame behind which the signals come */

static void do_nothing(int number)
{
}

/* Signals come until the function has returned: it may not sleep yet when the first does. */
static void interrupt(struct fake *daemon)
{
	fake_expect(daemon, awaited);
	while (!has_returned) {
		pthread_kill(waiting, SIGUSR1);
		usleep(10000);
	}
}

/* The daemon's part is played by what sends the signals. */
static void be_interrupted(void (*script)(struct fake *daemon))
{
	struct sigaction action = {.sa_handler = do_nothing};

	sigaction(SIGUSR1, &action, NULL);
	waiting = pthread_self();
	has_returned = false;
	fake_meanwhile(&fake, script);
}

static void expect_signal(uint8_t frame)
{
	awaited = frame;
	be_interrupted(interrupt);
}

static int end_signal(int r)
{
	has_returned = true;
	fake_join(&fake);
	return r;
}

BOTH(a_signal_ends_a_question)
{
	expect_signal(FRAME_OPEN);
	assert_int_equal(end_signal(xenmsg_watch(fake.conn, "*", NULL, ignore, NULL)), -EINTR);
	fake_expect(&fake, FRAME_DATA);
	fake_expect(&fake, FRAME_CANCEL);
	expect_signal(FRAME_BIND);
	assert_int_equal(end_signal(xenmsg_bind(fake.conn, "inbox", NULL, NULL, NULL)), -EINTR);
	fake_expect(&fake, FRAME_UNBIND);
	assert_non_null(strstr(xenmsg_reason(fake.conn, -EINTR), "a signal came"));
	expect_signal(FRAME_BIND);
	assert_int_equal(end_signal(xenmsg_listen(fake.conn, "streams", NULL)), -EINTR);
	fake_expect(&fake, FRAME_UNBIND);
	fake_bind(&fake, "inbox", NULL, NULL);
}

static bool was_taken;

/* The receiver takes it only if `was_taken`. */
static void interrupt_and_settle(struct fake *daemon)
{
	uint64_t offset;
	uint32_t channel;

	channel = fake_expect_open(daemon);
	fake_expect(daemon, FRAME_DATA);
	fake_opened(daemon, channel, 65536, FAKE_MAX_MESSAGE);
	while (!fake_has_frame(daemon)) {
		pthread_kill(waiting, SIGUSR1);
		usleep(10000);
	}
	fake_expect(daemon, FRAME_CANCEL);
	assert_int_equal(frame_u64_decode(daemon->payload, daemon->header.length, &offset), 0);
	fake_cancelled(daemon, channel, offset, was_taken ? 0 : ECANCELED);
}

static int send_interrupted(const char *address, bool taken, struct xenmsg_result *result)
{
	uint8_t data[64] = {0};

	was_taken = taken;
	be_interrupted(interrupt_and_settle);
	return end_signal(xenmsg_send(fake.conn, address, data, sizeof(data), NULL, result));
}

BOTH(a_signal_withdraws_a_message_that_waits)
{
	struct xenmsg_result result;

	assert_int_equal(send_interrupted("5:inbox", false, &result), -EINTR);
	assert_int_equal(result.fate, XENMSG_FATE_NOT_DONE);
	assert_non_null(strstr(result.reason, "a signal came"));
	assert_int_equal(send_interrupted("6:inbox", true, &result), 0);
	assert_int_equal(result.fate, XENMSG_FATE_DONE);
}
