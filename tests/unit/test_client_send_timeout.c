/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to a sender whose time is up, or who withdraws what it posted.
 */
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <stdlib.h>

#include "libclient/deadline.h"
#include "wire/bytes.h"

/* What answers a CANCEL, and what that makes of the message. */
static const struct {
	uint32_t answer;
	int result;
} cancels[] = {{ECANCELED, -ETIMEDOUT}, {0, 0}, {ECONNRESET, -ECONNRESET}};
static const char *const addresses[] = {"5:inbox0", "5:inbox1", "5:inbox2"};
static uint32_t cancel_answer;

static void answer_cancel(struct fake *daemon)
{
	uint64_t offset;
	uint32_t channel;

	channel = fake_expect_open(daemon);
	fake_expect(daemon, FRAME_DATA);
	fake_opened(daemon, channel, 65536, FAKE_MAX_MESSAGE);
	fake_expect(daemon, FRAME_CANCEL);
	assert_int_equal(frame_u64_decode(daemon->payload, daemon->header.length, &offset), 0);
	assert_int_equal(offset, SPAN_64 - 8);
	/* `consumed` passes a skipped message as well as a taken one: it is no answer. */
	fake_credit(daemon, channel, SPAN_64, 65536);
	fake_cancelled(daemon, channel, offset, cancel_answer);
}

BOTH(a_timed_out_send_ends_as_its_cancel_is_answered)
{
	uint8_t data[64] = {0};

	for (int i = 0; i < 3; i++) {
		cancel_answer = cancels[i].answer;
		fake_meanwhile(&fake, answer_cancel);
		assert_int_equal(
			xenmsg_send(fake.conn, addresses[i], data, sizeof(data), XENMSG_WITHIN(30), NULL),
			cancels[i].result);
		fake_join(&fake);
	}
}

static void leave_cancel_unanswered(struct fake *daemon)
{
	fake_expect(daemon, FRAME_OPEN);
	fake_expect(daemon, FRAME_DATA);
	fake_opened(daemon, daemon->header.channel, 65536, FAKE_MAX_MESSAGE);
	fake_expect(daemon, FRAME_CANCEL);
}

/* Domain 0's daemon isn't there yet, so the receiver's doesn't know whom its rules are about. */
static void names_are_unknown(struct fake *daemon, unsigned tries)
{
	for (unsigned i = 0; i < tries; i++) {
		uint32_t channel;

		channel = fake_expect_open(daemon);
		fake_expect(daemon, FRAME_DATA);
		fake_reset(daemon, channel, ENODATA, 0, 0);
		fake_expect(daemon, FRAME_RESET);
		assert_int_equal(daemon->header.channel, channel);
	}
}

static void names_become_known(struct fake *daemon)
{
	names_are_unknown(daemon, 2);
	fake_expect(daemon, FRAME_OPEN);
	fake_opened(daemon, daemon->header.channel, 65536, FAKE_MAX_MESSAGE);
	fake_expect(daemon, FRAME_DATA);
	fake_credit(daemon, daemon->header.channel, SPAN_64, 65536);
}

static void names_stay_unknown(struct fake *daemon)
{
	names_are_unknown(daemon, 2);
}

BOTH(a_send_that_is_not_decided_yet_is_tried_again_in_its_time)
{
	uint8_t data[64] = {0};
	static int result;

	fake_meanwhile(&fake, names_become_known);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), XENMSG_WITHIN(60000), NULL),
			 0);
	fake_join(&fake);
	fake_meanwhile(&fake, names_become_known);
	assert_int_equal(xenmsg_send(fake.conn, "5:other", data, sizeof(data), NULL, NULL), 0);
	fake_join(&fake);
	/* Who doesn't wait has it told. */
	post("5:third", data, sizeof(data), &result);
	fake_meanwhile(&fake, names_stay_unknown);
	while (result == PENDING)
		xenmsg_wait(fake.conn, 1000);
	assert_int_equal(result, -ENODATA);
	post("5:third", data, sizeof(data), &result);
	assert_int_equal(outcome_of(&result), -ENODATA);
	fake_join(&fake);
}

/* Refused for as long as it asks. */
static void refuse_all(struct fake *daemon)
{
	for (;;) {
		fake_read_up_to(daemon, FRAME_OPEN);
		if (FAKE_HEARD(daemon, open).kind == CHANNEL_CALL)
			break;
		fake_reset(daemon, daemon->header.channel, ENODATA, 0, 0);
	}
	daemon->questions = daemon->header.channel + 1;
	fake_opened(daemon, daemon->header.channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	fake_watch(daemon, "5", EHOSTDOWN);
}

static void ignore_event(void *userdata, const struct xenmsg_event *event)
{
}

BOTH(a_send_that_is_never_decided_says_so_when_its_time_is_up)
{
	uint8_t data[64] = {0};

	fake_meanwhile(&fake, refuse_all);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), XENMSG_WITHIN(300), NULL),
			 -ENODATA);
	assert_int_equal(xenmsg_watch(fake.conn, "5", NULL, ignore_event, NULL), -EHOSTDOWN);
	fake_join(&fake);
}

BOTH(a_post_that_is_withdrawn_ends_as_its_cancel_is_answered)
{
	uint8_t data[64] = {0};
	static int result;
	int again;

	for (int i = 0; i < 3; i++) {
		struct xenmsg_op *op = begin(addresses[i], data, sizeof(data), &result);

		cancel_answer = cancels[i].answer;
		fake_meanwhile(&fake, answer_cancel);
		assert_int_equal(xenmsg_op_withdraw(op), 0);
		/* Once more changes nothing, and nothing is told from within. */
		again = xenmsg_op_withdraw(op);
		assert_true(again == 0 || again == -EALREADY);
		assert_int_equal(result, PENDING);
		assert_int_equal(outcome_of(&result), cancels[i].result);
		fake_join(&fake);
	}
}

BOTH(a_send_that_never_left_is_withdrawn)
{
	uint8_t *large = calloc(1, 100000), stream[SPAN_64], data[64] = {7};
	uint32_t channel;
	static int result;

	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", large, 100000, XENMSG_WITHIN(30), NULL),
			 -ETIMEDOUT);
	channel = expect_open("5:inbox");
	post("5:inbox", data, sizeof(data), &result);
	/* No CANCEL, no byte of it: the stream begins with the next message. */
	read_stream(channel, stream, sizeof(stream));
	assert_int_equal(get_u32(stream), 64);
	assert_memory_equal(stream + 8, data, 64);
	free(large);
}

BOTH(a_message_cancelled_half_way_is_marked_and_completed)
{
	size_t size = 100000, span = 16 + size;
	uint8_t *large = calloc(1, size), *stream = malloc(span);
	uint32_t channel;

	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", large, 0, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL), 0);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, 16);
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", large, size, XENMSG_WITHIN(30), NULL), -ETIMEDOUT);
	read_stream(channel, stream, 65536 - 16);
	fake_credit(&fake, channel, 16, 1 << 20);
	read_stream(channel, stream + 65536 - 16, span - (65536 - 16));
	assert_int_equal(get_u32(stream), size);
	assert_int_equal(get_u32(stream + span - 8), MESSAGE_CANCELLED);
	free(large);
	free(stream);
}

static int post_timed(const char *address, int timeout_ms, int *result)
{
	static const uint8_t data[64];

	*result = PENDING;
	return xenmsg_begin_send(fake.conn, address, data, sizeof(data), XENMSG_WITHIN(timeout_ms),
				 note_outcome, result, NULL);
}

BOTH(a_timed_post_ends_as_its_cancel_is_answered)
{
	for (int i = 0; i < 3; i++) {
		int result;

		cancel_answer = cancels[i].answer;
		assert_int_equal(post_timed(addresses[i], 30, &result), 0);
		fake_meanwhile(&fake, answer_cancel);
		assert_int_equal(outcome_of(&result), cancels[i].result);
		fake_join(&fake);
	}
}

BOTH(a_timed_post_ends_soon_though_its_cancel_is_not_answered)
{
	int result;

	assert_int_equal(post_timed("5:inbox", 30, &result), 0);
	fake_meanwhile(&fake, leave_cancel_unanswered);
	assert_int_equal(outcome_of(&result), -ECONNRESET);
	fake_join(&fake);
}

/* As at a hand-over. */
BOTH(what_times_out_while_no_daemon_reads_is_settled_by_the_next)
{
	uint64_t offset;
	int64_t begun;
	int result;

	assert_int_equal(post_timed("5:inbox", 30, &result), 0);
	begun = now_ms();
	while (now_ms() - begun < 700)
		xenmsg_wait(fake.conn, 50);
	assert_int_equal(result, PENDING);
	fake_expect(&fake, FRAME_OPEN);
	fake_expect(&fake, FRAME_DATA);
	fake_expect(&fake, FRAME_CANCEL);
	assert_int_equal(frame_u64_decode(fake.payload, fake.header.length, &offset), 0);
	fake_opened(&fake, fake.header.channel, 65536, FAKE_MAX_MESSAGE);
	fake_cancelled(&fake, fake.header.channel, offset, ECANCELED);
	assert_int_equal(outcome_of(&result), -ETIMEDOUT);
}

BOTH(a_timed_post_that_is_taken_in_time_is_delivered)
{
	int results[2], ever;
	uint32_t channel;

	assert_int_equal(post_timed("5:inbox", 60000, &results[0]), 0);
	assert_int_equal(post_timed("5:inbox", 60000, &results[1]), 0);
	assert_int_equal(post_timed("5:inbox", -1, &ever), 0);
	channel = expect_open("5:inbox");
	for (int i = 0; i < 3; i++)
		fake_expect(&fake, FRAME_DATA);
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, SPAN_64, 65536);
	assert_int_equal(outcome_of(&results[0]), 0);
	assert_int_equal(results[1], PENDING);
	fake_reset(&fake, channel, EACCES, SPAN_64, SPAN_64);
	assert_int_equal(outcome_of(&results[1]), -EACCES);
	assert_int_equal(outcome_of(&ever), -EACCES);
}
