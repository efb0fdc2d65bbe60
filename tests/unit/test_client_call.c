/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libxenmsg promises about calls, to the caller and to the server, whatever the daemon and the other
 * side say. */

#include "tests/unit/client_fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wire/bytes.h"

static uint8_t stream[FRAME_PAYLOAD_MAX * 8];

/* A message of a call as it stands in a stream. Returns its span. */
static uint32_t put(uint8_t *at, uint8_t type, uint16_t error, uint32_t number, const void *data,
		    uint32_t size)
{
	uint32_t span = fake_message(at, data, size, MESSAGE_SENT);

	at[4] = type;
	put_u16(at + 6, error);
	put_u32(at + span - 4, number);
	return span;
}

static void send_one(uint32_t channel, uint8_t type, uint16_t error, uint32_t number, const char *text)
{
	uint32_t size = put(stream, type, error, number, text, (uint32_t)strlen(text));

	fake_send(&fake, FRAME_DATA, 0, channel, stream, size);
}

/* The next frame of data, skipping receipts. */
static void expect_data(uint32_t channel)
{
	do
		fake_read(&fake);
	while (fake.header.type == FRAME_CREDIT);
	assert_string_equal(frame_type_name(fake.header.type), "DATA");
	assert_int_equal(fake.header.channel, channel);
}

struct outcome {
	int count, result;
	char text[64];
	size_t size;
	int answered;
	char reason[128];
	int order; /* among all that were noted */
};

static int noted;

static void note(void *userdata, int result, struct xenmsg_message *reply)
{
	struct outcome *outcome = userdata;

	outcome->count++;
	outcome->result = result;
	outcome->answered = xenmsg_answered(fake.conn);
	outcome->order = ++noted;
	snprintf(outcome->reason, sizeof(outcome->reason), "%s", xenmsg_reason(fake.conn));
	assert_int_equal(result == 0, reply != NULL);
	if (reply) {
		outcome->size = xenmsg_message_size(reply);
		memcpy(outcome->text, xenmsg_message_data(reply), outcome->size < 63 ? outcome->size : 63);
	}
	xenmsg_message_free(reply);
}

/* Posts a call and reads its frames. The channel is opened by the first. */
static uint32_t call(struct outcome *outcome, const char *text, bool first, uint32_t *channel)
{
	assert_int_equal(xenmsg_call_post(fake.conn, "2:work", text, strlen(text), note, outcome), 0);
	xenmsg_process(fake.conn);
	if (first) {
		struct frame_open open;

		fake_expect(&fake, FRAME_OPEN);
		assert_int_equal(frame_open_decode(fake.payload, fake.header.length, &open), 0);
		assert_int_equal(open.kind, CHANNEL_CALL);
		*channel = fake.header.channel;
	}
	expect_data(*channel);
	assert_int_equal(fake.payload[4], MESSAGE_REQUEST);
	assert_memory_equal(fake.payload + MESSAGE_HEAD_SIZE, text, strlen(text));
	return get_u32(fake.payload + fake.header.length - 4);
}

static void wait_for(const struct outcome *outcome)
{
	while (!outcome->count)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}

/* ---- the caller ------------------------------------------------------------------------------ */

static void each_call_gets_its_own_answer(void **state)
{
	struct outcome one = {0}, two = {0}, three = {0};
	uint32_t channel, first, second, third;

	first = call(&one, "one", true, &channel);
	second = call(&two, "two", false, &channel);
	third = call(&three, "three", false, &channel);
	assert_true(first != second && second != third && first != third);
	send_one(channel, MESSAGE_REPLY, 0, third, "drei");
	send_one(channel, MESSAGE_ERROR, EDOM, first, "");
	send_one(channel, MESSAGE_REPLY, 0, 4711, "never asked");
	send_one(channel, MESSAGE_REPLY, 0, third, "again");
	send_one(channel, MESSAGE_REPLY, 0, second, "zwei");
	wait_for(&two);
	assert_string_equal(three.text, "drei");
	assert_string_equal(two.text, "zwei");
	assert_int_equal(one.result, -EDOM);
	assert_true(one.answered && !two.answered);
	assert_int_equal(one.count + two.count + three.count, 3);
	assert_int_equal(xenmsg_timeout(fake.conn), -1);
}

static void what_the_caller_took_of_the_answers_is_reported(void **state)
{
	struct outcome one = {0};
	struct frame_credit credit;
	uint32_t channel, number = call(&one, "one", true, &channel);

	send_one(channel, MESSAGE_REPLY, 0, number, "12345678");
	wait_for(&one);
	if (fake.shared) {
		assert_int_equal(ring_writer_unread(&fake.in), 0);
		return;
	}
	fake_expect(&fake, FRAME_CREDIT);
	assert_int_equal(fake.header.channel, channel);
	assert_int_equal(frame_credit_decode(fake.payload, fake.header.length, &credit), 0);
	assert_int_equal(credit.consumed, 24);
}

static void an_answer_may_come_in_any_pieces(void **state)
{
	static const uint32_t sizes[] = {8, 16, 24, 40, 1000, 65536};
	static char data[70001];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct outcome one = {0}, two = {0};
		static uint32_t channel;
		uint32_t a = call(&one, "one", i == 0, &channel), b = call(&two, "two", false, &channel),
			 size;

		memset(data, 'a' + (int)i, sizeof(data));
		size = put(stream, MESSAGE_REPLY, 0, a, data, sizeof(data));
		size += put(stream + size, MESSAGE_REPLY, 0, b, "", 0);
		for (uint32_t at = 0; at < size; at += sizes[i]) {
			fake_send(&fake, FRAME_DATA, 0, channel, stream + at,
				  size - at < sizes[i] ? size - at : sizes[i]);
			xenmsg_process(fake.conn);
			while (fake_has_frame(&fake))
				fake_expect(&fake, FRAME_CREDIT);
		}
		wait_for(&two);
		assert_int_equal(one.size, sizeof(data));
		assert_int_equal(one.text[0], 'a' + (int)i);
		assert_int_equal(two.size, 0);
	}
}

#define FLOOD 24

static uint32_t flooded_channel, flooded_numbers[FLOOD];

static void flood(struct fake *daemon)
{
	static uint8_t answer[FAKE_MAX_MESSAGE + 16];

	for (int i = 0; i < FLOOD; i++) {
		uint32_t size =
			put(answer, MESSAGE_REPLY, 0, flooded_numbers[i], answer + 8, FAKE_MAX_MESSAGE);

		for (uint32_t at = 0; at < size; at += 65536)
			fake_send(daemon, FRAME_DATA, 0, flooded_channel, answer + at,
				  size - at < 65536 ? size - at : 65536);
	}
}

/* More than the rings hold, so that some of it waits until they were read, in the middle of a frame. */
static void answers_come_whole_however_fast(void **state)
{
	struct outcome outcomes[FLOOD] = {{0}};

	for (int i = 0; i < FLOOD; i++)
		flooded_numbers[i] = call(&outcomes[i], "x", i == 0, &flooded_channel);
	fake_meanwhile(&fake, flood);
	wait_for(&outcomes[FLOOD - 1]);
	fake_join(&fake);
	for (int i = 0; i < FLOOD; i++)
		assert_int_equal(outcomes[i].size, FAKE_MAX_MESSAGE);
}

static void an_answer_that_is_too_large_fails_its_call_alone(void **state)
{
	struct outcome one = {0}, two = {0};
	uint32_t channel, a = call(&one, "one", true, &channel), b = call(&two, "two", false, &channel);
	const uint32_t body = FAKE_MAX_MESSAGE + 8;

	memset(stream, 0, sizeof(stream));
	put_u32(stream, body);
	stream[4] = MESSAGE_REPLY;
	fake_send(&fake, FRAME_DATA, 0, channel, stream, MESSAGE_HEAD_SIZE);
	for (uint32_t sent = 0; sent < body;) {
		uint32_t n = body - sent < 32768 ? body - sent : 32768;

		fake_send(&fake, FRAME_DATA, 0, channel, stream + 64, n);
		xenmsg_process(fake.conn);
		sent += n;
	}
	put_u32(stream, MESSAGE_SENT);
	put_u32(stream + 4, a);
	fake_send(&fake, FRAME_DATA, 0, channel, stream, MESSAGE_TRAILER_SIZE);
	send_one(channel, MESSAGE_REPLY, 0, b, "fine");
	wait_for(&two);
	assert_int_equal(one.result, -EMSGSIZE);
	assert_string_equal(two.text, "fine");
}

static void an_answer_may_overtake_the_receipt(void **state)
{
	struct outcome one = {0}, two = {0};
	uint32_t channel, number = call(&one, "one", true, &channel);

	send_one(channel, MESSAGE_REPLY, 0, number, "quick");
	wait_for(&one);
	assert_string_equal(one.text, "quick");
	fake_credit(&fake, channel, 24, 65536);
	number = call(&two, "two", false, &channel);
	/* And the channel may end before it comes. */
	send_one(channel, MESSAGE_REPLY, 0, number, "quick");
	wait_for(&two);
	fake_reset(&fake, channel, ENOENT, 24, 24);
	xenmsg_process(fake.conn);
	assert_int_equal(one.count + two.count, 2);
}

static uint32_t channel_to_confirm;

/* What the program does while it is told of an answer may read the receipt of the same call's request. */
static void note_and_hear_of_the_receipt(void *userdata, int result, struct xenmsg_message *reply)
{
	note(userdata, result, reply);
	fake_credit(&fake, channel_to_confirm, 24, 65536);
	assert_int_equal(xenmsg_send(fake.conn, "2:log", "x", 1, 0), 0);
	assert_int_equal(xenmsg_send(fake.conn, "2:log", "x", 1, 0), 0);
}

static void a_receipt_may_come_while_the_answer_is_told(void **state)
{
	struct outcome one = {0}, two = {0};
	uint32_t number;

	assert_int_equal(xenmsg_call_post(fake.conn, "2:work", "one", 3, note_and_hear_of_the_receipt, &one),
			 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	channel_to_confirm = fake.header.channel;
	expect_data(channel_to_confirm);
	number = get_u32(fake.payload + fake.header.length - 4);
	send_one(channel_to_confirm, MESSAGE_REPLY, 0, number, "quick");
	wait_for(&one);
	assert_string_equal(one.text, "quick");
	assert_int_equal(xenmsg_call_post(fake.conn, "2:work", "two", 3, note, &two), 0);
	fake_reset(&fake, channel_to_confirm, ENOENT, 24, 24);
	wait_for(&two);
	assert_int_equal(one.count + two.count, 2);
}

static void the_end_of_the_channel_tells_taken_calls_from_others(void **state)
{
	struct outcome one = {0}, two = {0}, three = {0};
	uint32_t channel;

	call(&one, "one", true, &channel);
	call(&two, "two", false, &channel);
	call(&three, "three", false, &channel);
	/* The first was taken, the second perhaps, the third not. */
	fake_reset(&fake, channel, ENOENT, 24, 48);
	wait_for(&three);
	assert_int_equal(one.result, -ECONNRESET);
	assert_int_equal(two.result, -ECONNRESET);
	assert_int_equal(three.result, -ENOENT);
	assert_false(one.answered || two.answered || three.answered);
}

static void an_answer_that_makes_no_sense_ends_its_channel_alone(void **state)
{
	static const uint8_t types[] = {MESSAGE_PLAIN, MESSAGE_REQUEST, MESSAGE_WITHDRAWAL, 77};

	for (unsigned i = 0; i < sizeof(types); i++) {
		struct outcome one = {0};
		uint32_t channel, number = call(&one, "one", true, &channel);

		send_one(channel, types[i], 0, number, "");
		send_one(channel, MESSAGE_REPLY, 0, number, "ignored");
		wait_for(&one);
		assert_int_equal(one.result, -ECONNRESET);
		fake_expect(&fake, FRAME_RESET);
		assert_int_equal(fake.header.channel, channel);
		fake_reset(&fake, channel, EPROTO, 0, 0);
		xenmsg_process(fake.conn);
		assert_false(fake_has_frame(&fake));
	}
}

static void answers_on_a_channel_of_messages_end_the_connection(void **state)
{
	assert_int_equal(xenmsg_post(fake.conn, "2:work", "x", 1, NULL, NULL), 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	send_one(fake.header.channel, MESSAGE_REPLY, 0, 1, "x");
	while (xenmsg_wait(fake.conn, 10000) >= 0)
		;
	assert_int_equal(xenmsg_process(fake.conn), -EPROTO);
}

static void answer_three(struct fake *daemon)
{
	uint32_t channel, number;

	fake_expect(daemon, FRAME_OPEN);
	channel = daemon->header.channel;
	fake_expect(daemon, FRAME_DATA);
	number = get_u32(daemon->payload + daemon->header.length - 4);
	fake_opened(daemon, channel, 65536, FAKE_MAX_MESSAGE);
	fake_credit(daemon, channel, 24, 65536);
	send_one(channel, MESSAGE_REPLY, 0, number, "three");
}

static void a_blocking_call_returns_the_reply(void **state)
{
	struct xenmsg_message *reply;

	fake_meanwhile(&fake, answer_three);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, &reply, 10000), 0);
	fake_join(&fake);
	assert_memory_equal(xenmsg_message_data(reply), "three", 5);
	assert_string_equal(xenmsg_message_endpoint(reply), "work");
	assert_false(xenmsg_message_wants_reply(reply));
	assert_int_equal(xenmsg_reply(reply, "", 0), -EINVAL);
	xenmsg_message_free(reply);
}

/* The first is refused by a policy that can't be decided yet, the second isn't. */
static void answer_at_the_second_try(struct fake *daemon)
{
	uint32_t channel;

	fake_expect(daemon, FRAME_OPEN);
	channel = daemon->header.channel;
	fake_expect(daemon, FRAME_DATA);
	fake_reset(daemon, channel, ENODATA, 0, 0);
	fake_expect(daemon, FRAME_RESET);
	answer_three(daemon);
}

/* By the server, who may answer what it likes. */
static void answer_no_data(struct fake *daemon)
{
	uint32_t channel;

	do
		fake_read(daemon);
	/* over the socket it says that it has taken the answer before */
	while (daemon->header.type == FRAME_CREDIT);
	assert_int_equal(daemon->header.type, FRAME_DATA);
	channel = daemon->header.channel;
	send_one(channel, MESSAGE_ERROR, ENODATA, get_u32(daemon->payload + daemon->header.length - 4), "");
}

static void a_call_that_is_not_decided_yet_is_tried_again(void **state)
{
	struct xenmsg_message *reply;

	fake_meanwhile(&fake, answer_at_the_second_try);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, &reply, 60000), 0);
	fake_join(&fake);
	xenmsg_message_free(reply);
	fake_meanwhile(&fake, answer_no_data);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, &reply, 60000), -ENODATA);
	fake_join(&fake);
	assert_true(xenmsg_answered(fake.conn));
}

static uint32_t other_channel, other_number;

/* The blocking call's error, and behind it, in the same frame, the reply to the other. */
static void answer_both(struct fake *daemon)
{
	uint32_t number, size;

	expect_data(other_channel);
	number = get_u32(daemon->payload + daemon->header.length - 4);
	size = put(stream, MESSAGE_ERROR, EDOM, number, "", 0);
	size += put(stream + size, MESSAGE_REPLY, 0, other_number, "one", 3);
	fake_send(daemon, FRAME_DATA, 0, other_channel, stream, size);
}

static void what_answered_a_blocking_call_is_told_whatever_ends_after_it(void **state)
{
	struct outcome one = {0};
	struct xenmsg_message *reply;

	other_number = call(&one, "one", true, &other_channel);
	fake_meanwhile(&fake, answer_both);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, &reply, 10000), -EDOM);
	fake_join(&fake);
	assert_true(xenmsg_answered(fake.conn));
	wait_for(&one);
	assert_true(one.result == 0 && !one.answered);
}

static void say_cancelled(struct fake *daemon)
{
	fake_expect(daemon, FRAME_OPEN);
	fake_expect(daemon, FRAME_DATA);
	fake_expect(daemon, FRAME_CANCEL);
	fake_cancelled(daemon, daemon->header.channel, 16, ECANCELED);
}

static void a_call_that_was_not_taken_in_time_is_cancelled(void **state)
{
	struct xenmsg_message *reply;

	fake_meanwhile(&fake, say_cancelled);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "x", 1, &reply, 500), -ETIMEDOUT);
	fake_join(&fake);
	assert_string_equal(xenmsg_reason(fake.conn), "");
	assert_null(reply);
}

static void leave_cancel_unanswered(struct fake *daemon)
{
	fake_expect(daemon, FRAME_OPEN);
	fake_expect(daemon, FRAME_DATA);
	fake_expect(daemon, FRAME_CANCEL);
}

static void a_call_ends_soon_though_its_cancel_is_not_answered(void **state)
{
	struct timespec before, after;
	struct xenmsg_message *reply;

	fake_meanwhile(&fake, leave_cancel_unanswered);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "x", 1, &reply, 30), -ECONNRESET);
	clock_gettime(CLOCK_MONOTONIC, &after);
	fake_join(&fake);
	assert_true(after.tv_sec - before.tv_sec < 2);
	assert_non_null(strstr(xenmsg_reason(fake.conn), "can't be known"));
	assert_null(reply);
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
	uint32_t channel, number;

	fake_expect(daemon, FRAME_OPEN);
	channel = daemon->header.channel;
	fake_expect(daemon, FRAME_DATA);
	number = get_u32(daemon->payload + daemon->header.length - 4);
	fake_credit(daemon, channel, 24, 65536);
	expect_withdrawal(daemon, channel, number);
	send_one(channel, MESSAGE_REPLY, 0, number, "too late");
}

static void a_call_that_was_taken_is_withdrawn_when_its_time_is_up(void **state)
{
	struct xenmsg_message *reply;

	fake_meanwhile(&fake, take_and_keep_silent);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "x", 1, &reply, 500), -ETIMEDOUT);
	fake_join(&fake);
	assert_non_null(strstr(xenmsg_reason(fake.conn), "may have been carried out"));
	/* The answer that crossed it is nobody's. */
	assert_int_equal(xenmsg_process(fake.conn), 0);
}

static void say_taken(struct fake *daemon)
{
	uint32_t channel, number;

	fake_expect(daemon, FRAME_OPEN);
	channel = daemon->header.channel;
	fake_expect(daemon, FRAME_DATA);
	number = get_u32(daemon->payload + daemon->header.length - 4);
	fake_expect(daemon, FRAME_CANCEL);
	fake_cancelled(daemon, channel, 16, 0);
	expect_withdrawal(daemon, channel, number);
}

static void a_call_that_is_taken_while_it_is_cancelled_is_withdrawn(void **state)
{
	struct xenmsg_message *reply;

	fake_meanwhile(&fake, say_taken);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "x", 1, &reply, 500), -ETIMEDOUT);
	fake_join(&fake);
	assert_non_null(strstr(xenmsg_reason(fake.conn), "may have been carried out"));
}

/* As a loop does it, which relies on the descriptor and xenmsg_timeout(). */
static void loop_until(const struct outcome *outcome)
{
	while (!outcome->count) {
		struct pollfd what = {.fd = xenmsg_fd(fake.conn), .events = (short)xenmsg_events(fake.conn)};
		int timeout = xenmsg_timeout(fake.conn);

		assert_true(timeout >= 0 && timeout <= 10000);
		assert_true(poll(&what, 1, timeout) >= 0);
		assert_true(xenmsg_process(fake.conn) >= 0);
	}
}

/* Posts a call with a time-out while the daemon does something, until it has ended for want of time. */
static void post_until_its_time_is_up(void (*script)(struct fake *daemon), struct outcome *one)
{
	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_call_post_timed(fake.conn, "2:work", "x", 1, 500, note, one), 0);
	loop_until(one);
	fake_join(&fake);
	assert_int_equal(one->result, -ETIMEDOUT);
}

/* Posts a call without an end and withdraws it, while the daemon does something. */
static void post_and_withdraw(void (*script)(struct fake *daemon), struct outcome *one)
{
	fake_meanwhile(&fake, script);
	assert_int_equal(xenmsg_call_post(fake.conn, "2:work", "x", 1, note, one), 0);
	assert_int_equal(xenmsg_withdraw(fake.conn, "2:work", one), 0);
	assert_int_equal(xenmsg_withdraw(fake.conn, "2:work", one), 0);
	assert_int_equal(one->count, 0);
	loop_until(one);
	fake_join(&fake);
	assert_int_equal(one->result, -ETIMEDOUT);
	assert_int_equal(xenmsg_withdraw(fake.conn, "2:work", one), -ENOENT);
}

static void a_posted_call_is_withdrawn_before_it_was_taken(void **state)
{
	struct outcome one = {0};

	post_and_withdraw(say_cancelled, &one);
	assert_string_equal(one.reason, "");
	assert_int_equal(xenmsg_timeout(fake.conn), -1);
}

static void a_posted_call_is_withdrawn_while_it_is_taken(void **state)
{
	struct outcome one = {0};

	post_and_withdraw(say_taken, &one);
	assert_non_null(strstr(one.reason, "may have been carried out"));
}

static void a_posted_call_that_was_not_taken_in_time_is_cancelled(void **state)
{
	struct outcome one = {0};

	post_until_its_time_is_up(say_cancelled, &one);
	assert_string_equal(one.reason, "");
	assert_int_equal(xenmsg_timeout(fake.conn), -1);
}

static void a_posted_call_that_was_taken_is_withdrawn_when_its_time_is_up(void **state)
{
	struct outcome one = {0};

	post_until_its_time_is_up(take_and_keep_silent, &one);
	assert_non_null(strstr(one.reason, "may have been carried out"));
	assert_string_equal(xenmsg_reason(fake.conn), "");
	assert_int_equal(xenmsg_process(fake.conn), 0);
	assert_int_equal(one.count, 1);
}

static void a_posted_call_that_is_taken_while_it_is_cancelled_is_withdrawn(void **state)
{
	struct outcome one = {0};

	post_until_its_time_is_up(say_taken, &one);
	assert_non_null(strstr(one.reason, "may have been carried out"));
}

static void posted_calls_time_out_each_in_its_time(void **state)
{
	static const int times[] = {10000, 900, 500, 700, -1, 300};
	struct outcome outcomes[6] = {0};
	uint32_t channel = 0, answered = 0;

	noted = 0;
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(
			xenmsg_call_post_timed(fake.conn, "2:work", "x", 1, times[i], note, &outcomes[i]), 0);
		xenmsg_process(fake.conn);
		if (i == 0) {
			fake_expect(&fake, FRAME_OPEN);
			channel = fake.header.channel;
		}
		expect_data(channel);
		if (i == 0)
			answered = get_u32(fake.payload + fake.header.length - 4);
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
	assert_int_equal(xenmsg_timeout(fake.conn), -1);
	xenmsg_close(fake.conn);
	fake.conn = NULL;
	assert_int_equal(outcomes[4].result, -ECONNRESET);
}

static void the_death_of_the_daemon_ends_every_call(void **state)
{
	struct outcome one = {0}, two = {0};
	struct xenmsg_message *reply;
	uint32_t channel;

	call(&one, "one", true, &channel);
	fake_credit(&fake, channel, 24, 65536);
	call(&two, "two", false, &channel);
	fake_die(&fake);
	wait_for(&two);
	assert_int_equal(one.result, -ECONNRESET);
	assert_int_equal(two.result, -ECONNRESET);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "", 0, &reply, 50), -ENOTCONN);
	assert_int_equal(xenmsg_call_post(fake.conn, "2:work", "", 0, note, &one), -ENOTCONN);
}

static void closing_ends_every_call(void **state)
{
	struct outcome one = {0};
	uint32_t channel;

	call(&one, "one", true, &channel);
	fake_credit(&fake, channel, 24, 65536);
	xenmsg_process(fake.conn);
	xenmsg_close(fake.conn);
	fake.conn = NULL;
	assert_int_equal(one.count, 1);
	assert_int_equal(one.result, -ECONNRESET);
}

/* ---- the server ------------------------------------------------------------------------------ */

static void open_calls(uint32_t channel, uint64_t limit)
{
	fake_open_kind(&fake, channel, CHANNEL_CALL, "work");
	if (limit)
		fake_credit(&fake, channel, 0, limit);
}

static struct xenmsg_message *take(const char *text)
{
	struct xenmsg_message *message;

	assert_int_equal(xenmsg_recv(fake.conn, &message, 10000), 0);
	assert_int_equal(xenmsg_message_size(message), strlen(text));
	assert_memory_equal(xenmsg_message_data(message), text, strlen(text));
	return message;
}

static void expect_answer(uint32_t channel, uint8_t type, uint16_t error, uint32_t number, const char *text)
{
	expect_data(channel);
	assert_int_equal(get_u32(fake.payload), strlen(text));
	assert_int_equal(fake.payload[4], type);
	assert_int_equal(get_u16(fake.payload + 6), error);
	assert_memory_equal(fake.payload + MESSAGE_HEAD_SIZE, text, strlen(text));
	assert_int_equal(get_u32(fake.payload + fake.header.length - 4), number);
	assert_int_equal(get_u32(fake.payload + fake.header.length - 8), MESSAGE_SENT);
}

static void a_request_is_answered_once(void **state)
{
	struct xenmsg_message *one, *two;

	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	send_one(1, MESSAGE_REQUEST, 0, 72, "two");
	one = take("one");
	two = take("two");
	assert_true(xenmsg_message_wants_reply(one));
	assert_int_equal(xenmsg_message_sender_uid(one), 1000);
	assert_int_equal(xenmsg_reply(two, "zwei", 4), 0);
	expect_answer(1, MESSAGE_REPLY, 0, 72, "zwei");
	assert_int_equal(xenmsg_reply_error(one, 0), -EINVAL);
	assert_int_equal(xenmsg_reply_error(one, 4096), -EINVAL);
	assert_int_equal(xenmsg_reply_error(one, -EDOM), 0);
	expect_answer(1, MESSAGE_ERROR, EDOM, 71, "");
	assert_int_equal(xenmsg_reply(one, "", 0), -EALREADY);
	assert_int_equal(xenmsg_reply_error(two, EIO), -EALREADY);
	assert_false(xenmsg_message_wants_reply(two));
	xenmsg_message_free(one);
	xenmsg_message_free(two);
}

static void a_request_that_is_freed_is_answered_with_an_error(void **state)
{
	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	xenmsg_message_free(take("one"));
	expect_answer(1, MESSAGE_ERROR, ECANCELED, 71, "");
}

static void a_message_wants_no_reply(void **state)
{
	struct xenmsg_message *message;

	fake_bind(&fake, "work", NULL, NULL);
	fake_open(&fake, 1, "work");
	send_one(1, MESSAGE_PLAIN, 0, 0, "plain");
	message = take("plain");
	assert_false(xenmsg_message_wants_reply(message));
	assert_int_equal(xenmsg_reply(message, "", 0), -EINVAL);
	assert_int_equal(xenmsg_reply_error(message, EIO), -EINVAL);
	xenmsg_message_free(message);
}

static void a_withdrawn_request_can_not_be_answered(void **state)
{
	struct xenmsg_message *one, *two, *none;

	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	send_one(1, MESSAGE_REQUEST, 0, 72, "two");
	one = take("one");
	two = take("two");
	send_one(1, MESSAGE_WITHDRAWAL, 0, 71, "");
	send_one(1, MESSAGE_WITHDRAWAL, 0, 4711, "");
	/* In two pieces. */
	put(stream, MESSAGE_WITHDRAWAL, 0, 72, "", 0);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, 8);
	fake_send(&fake, FRAME_DATA, 0, 1, stream + 8, 8);
	assert_int_equal(xenmsg_recv(fake.conn, &none, 0), -EAGAIN);
	assert_false(xenmsg_message_wants_reply(one) || xenmsg_message_wants_reply(two));
	assert_int_equal(xenmsg_reply(one, "late", 4), -ECANCELED);
	assert_int_equal(xenmsg_reply(two, "late", 4), -ECANCELED);
	xenmsg_message_free(one);
	xenmsg_message_free(two);
	/* It was consumed like a message. */
	if (fake.shared)
		assert_int_equal(ring_writer_unread(&fake.deliveries), 0);
}

static void the_end_of_the_channel_ends_its_requests(void **state)
{
	struct xenmsg_message *one;

	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	one = take("one");
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	for (int i = 0; i < 100 && xenmsg_message_wants_reply(one); i++)
		xenmsg_wait(fake.conn, 100);
	assert_int_equal(xenmsg_reply(one, "late", 4), -ECANCELED);
	xenmsg_message_free(one);
}

static void a_request_outlives_its_connection(void **state)
{
	struct xenmsg_message *one;

	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	one = take("one");
	xenmsg_close(fake.conn);
	fake.conn = NULL;
	assert_false(xenmsg_message_wants_reply(one));
	assert_int_equal(xenmsg_reply(one, "late", 4), -ECANCELED);
	xenmsg_message_free(one);
}

static void replies_keep_to_the_callers_credit(void **state)
{
	static char data[1000];
	struct xenmsg_message *one;
	uint32_t got = 0;

	memset(data, 'r', sizeof(data));
	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 0);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	one = take("one");
	assert_int_equal(xenmsg_reply(one, data, sizeof(data)), 0);
	xenmsg_message_free(one);
	xenmsg_process(fake.conn);
	while (fake_has_frame(&fake))
		fake_expect(&fake, FRAME_CREDIT);
	for (uint64_t limit = 408; got < 1016; limit += 400) {
		fake_credit(&fake, 1, 0, limit);
		xenmsg_process(fake.conn);
		expect_data(1);
		got += fake.header.length;
		assert_true(got <= limit);
	}
	assert_int_equal(got, 1016);
	/* More can't have been taken than was sent. */
	fake_credit(&fake, 1, 1024, 65536);
	while (xenmsg_wait(fake.conn, 10000) >= 0)
		;
	assert_int_equal(xenmsg_process(fake.conn), -EPROTO);
}

static void the_end_is_answered_when_every_request_is(void **state)
{
	struct xenmsg_message *one, *none;
	uint8_t payload[8];
	uint64_t total;

	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	one = take("one");
	fake_send(&fake, FRAME_FIN, 0, 1, payload, frame_u64_encode(24, payload));
	assert_int_equal(xenmsg_recv(fake.conn, &none, 0), -EAGAIN);
	while (fake_has_frame(&fake))
		fake_expect(&fake, FRAME_CREDIT);
	assert_int_equal(xenmsg_reply(one, "eins", 4), 0);
	expect_answer(1, MESSAGE_REPLY, 0, 71, "eins");
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_FIN);
	assert_int_equal(frame_u64_decode(fake.payload, fake.header.length, &total), 0);
	assert_int_equal(total, 24);
	xenmsg_message_free(one);
}

static void a_malformed_stream_of_requests_ends_its_channel_alone(void **state)
{
	static const struct {
		uint8_t type;
		const char *text;
	} cases[] = {{MESSAGE_PLAIN, "x"},
		     {MESSAGE_REPLY, "x"},
		     {MESSAGE_ERROR, ""},
		     {MESSAGE_WITHDRAWAL, "x"},
		     {9, ""}};
	struct xenmsg_message *none, *good;

	fake_bind(&fake, "work", NULL, NULL);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_calls(2 * i + 1, 65536);
		send_one(2 * i + 1, cases[i].type, 0, 1, cases[i].text);
		assert_int_equal(xenmsg_recv(fake.conn, &none, 0), -EAGAIN);
		fake_expect(&fake, FRAME_RESET);
		fake_reset(&fake, 2 * i + 1, EPROTO, 0, 0);
	}
	/* A number that is outstanding. */
	open_calls(101, 65536);
	send_one(101, MESSAGE_REQUEST, 0, 5, "good");
	send_one(101, MESSAGE_REQUEST, 0, 5, "evil");
	good = take("good");
	assert_int_equal(xenmsg_recv(fake.conn, &none, 0), -EAGAIN);
	do
		fake_read(&fake);
	while (fake.header.type == FRAME_CREDIT);
	assert_string_equal(frame_type_name(fake.header.type), "RESET");
	assert_int_equal(xenmsg_reply(good, "", 0), -ECANCELED);
	xenmsg_message_free(good);
	open_calls(103, 65536);
	send_one(103, MESSAGE_REQUEST, 0, 5, "fine");
	good = take("fine");
	assert_int_equal(xenmsg_reply(good, "", 0), 0);
	xenmsg_message_free(good);
}

static struct xenmsg_message *kept;

static void keep(void *userdata, struct xenmsg_message *message)
{
	kept = message;
}

static void a_handler_may_answer_later(void **state)
{
	fake_bind(&fake, "work", keep, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	while (!kept)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	assert_int_equal(xenmsg_reply(kept, "eins", 4), 0);
	xenmsg_message_free(kept);
	kept = NULL;
	expect_answer(1, MESSAGE_REPLY, 0, 71, "eins");
}

static void agree(struct fake *daemon)
{
	struct frame_bind bind;

	fake_expect(daemon, FRAME_BIND);
	assert_int_equal(frame_bind_decode(daemon->payload, daemon->header.length, &bind), 0);
	fake_reply(daemon, daemon->header.channel, 0, "", false);
	assert_int_equal(bind.kinds, bind.endpoint.data[0] == 'b' ? 3 : bind.endpoint.data[0] == 'm' ? 1 : 2);
}

static void an_endpoint_takes_what_its_options_say(void **state)
{
	static const struct {
		const char *name;
		unsigned options;
	} cases[] = {{"both", 0}, {"messages", XENMSG_BIND_MESSAGES}, {"calls", XENMSG_BIND_CALLS}};

	for (unsigned i = 0; i < 3; i++) {
		fake_meanwhile(&fake, agree);
		assert_int_equal(xenmsg_bind(fake.conn, cases[i].name, cases[i].options, NULL, NULL), 0);
		fake_join(&fake);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(each_call_gets_its_own_answer),
		BOTH(what_the_caller_took_of_the_answers_is_reported),
		BOTH(an_answer_may_come_in_any_pieces),
		SOCKET(answers_come_whole_however_fast),
		BOTH(an_answer_that_is_too_large_fails_its_call_alone),
		BOTH(an_answer_may_overtake_the_receipt),
		BOTH(a_receipt_may_come_while_the_answer_is_told),
		BOTH(the_end_of_the_channel_tells_taken_calls_from_others),
		BOTH(an_answer_that_makes_no_sense_ends_its_channel_alone),
		BOTH(answers_on_a_channel_of_messages_end_the_connection),
		BOTH(a_blocking_call_returns_the_reply),
		BOTH(a_call_that_is_not_decided_yet_is_tried_again),
		BOTH(what_answered_a_blocking_call_is_told_whatever_ends_after_it),
		BOTH(a_call_that_was_not_taken_in_time_is_cancelled),
		BOTH(a_call_ends_soon_though_its_cancel_is_not_answered),
		BOTH(a_call_that_was_taken_is_withdrawn_when_its_time_is_up),
		BOTH(a_call_that_is_taken_while_it_is_cancelled_is_withdrawn),
		BOTH(a_posted_call_that_was_not_taken_in_time_is_cancelled),
		BOTH(a_posted_call_that_was_taken_is_withdrawn_when_its_time_is_up),
		BOTH(a_posted_call_that_is_taken_while_it_is_cancelled_is_withdrawn),
		BOTH(a_posted_call_is_withdrawn_before_it_was_taken),
		BOTH(a_posted_call_is_withdrawn_while_it_is_taken),
		BOTH(posted_calls_time_out_each_in_its_time),
		BOTH(the_death_of_the_daemon_ends_every_call),
		BOTH(closing_ends_every_call),
		BOTH(a_request_is_answered_once),
		BOTH(a_request_that_is_freed_is_answered_with_an_error),
		BOTH(a_message_wants_no_reply),
		BOTH(a_withdrawn_request_can_not_be_answered),
		BOTH(the_end_of_the_channel_ends_its_requests),
		BOTH(a_request_outlives_its_connection),
		BOTH(replies_keep_to_the_callers_credit),
		BOTH(the_end_is_answered_when_every_request_is),
		BOTH(a_malformed_stream_of_requests_ends_its_channel_alone),
		BOTH(a_handler_may_answer_later),
		BOTH(an_endpoint_takes_what_its_options_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
