/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to a caller: each call ends once, in its own answer or in one error, whatever the
 * daemon and the server say.
 */
#include "tests/unit/client_call_rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "wire/bytes.h"

/* ---- the caller ------------------------------------------------------------------------------ */

BOTH(each_call_gets_its_own_answer)
{
	struct outcome one = {0}, two = {0}, three = {0};
	uint32_t channel, first, second, third;

	first = call(&one, "one", true, &channel);
	second = call(&two, "two", false, &channel);
	third = call(&three, "three", false, &channel);
	assert_true(first != second && second != third && first != third);
	send_one(channel, MESSAGE_REPLY, 0, third, "drei");
	send_one(channel, MESSAGE_ERROR, 65535, first, "why");
	send_one(channel, MESSAGE_REPLY, 0, 4711, "never asked");
	send_one(channel, MESSAGE_REPLY, 0, third, "again");
	send_one(channel, MESSAGE_REPLY, 0, second, "zwei");
	wait_for(&two);
	assert_string_equal(three.text, "drei");
	assert_string_equal(two.text, "zwei");
	/* The server's number is its own, and so are the words. */
	assert_int_equal(one.result, -EREMOTEIO);
	assert_int_equal(one.code, 65535);
	assert_int_equal(one.fate, XENMSG_FATE_DONE);
	assert_string_equal(one.text, "why");
	assert_int_equal(two.fate, XENMSG_FATE_DONE);
	assert_int_equal(one.count + two.count + three.count, 3);
}

/* However many there are, and though each request was taken. */
BOTH(no_channel_is_closed_whose_calls_are_not_answered)
{
	enum { MANY = 300 };
	static struct outcome outcomes[MANY];

	memset(outcomes, 0, sizeof(outcomes));
	for (int i = 0; i < MANY; i++) {
		char address[32];
		uint32_t channel;

		snprintf(address, sizeof(address), "5:work%d", i);
		assert_int_equal(
			xenmsg_begin_call(fake.conn, address, "x", 1, NULL, note, &outcomes[i], NULL), 0);
		xenmsg_process(fake.conn);
		channel = fake_expect_open(&fake);
		expect_data(channel);
		fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
		fake_credit(&fake, channel, fake.header.length, 65536);
		xenmsg_process(fake.conn);
		assert_int_equal(outcomes[i].count, 0);
	}
}

BOTH(what_the_caller_took_of_the_answers_is_reported)
{
	struct outcome one = {0};
	uint32_t channel, number = call(&one, "one", true, &channel);

	send_one(channel, MESSAGE_REPLY, 0, number, "12345678");
	wait_for(&one);
	if (fake.shared) {
		assert_int_equal(ring_writer_unread(&fake.in), 0);
		return;
	}
	fake_expect(&fake, FRAME_CREDIT);
	assert_int_equal(fake.header.channel, channel);
	assert_int_equal(FAKE_HEARD(&fake, credit).consumed, 24);
}

BOTH(an_answer_may_come_in_any_pieces)
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
SOCKET(answers_come_whole_however_fast)
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

BOTH(an_answer_that_is_too_large_fails_its_call_alone)
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
	/* Not the request: somebody has answered it. */
	assert_int_equal(one.fate, XENMSG_FATE_UNKNOWN);
	assert_non_null(strstr(one.reason, "may have been carried out"));
	assert_string_equal(two.text, "fine");
}

BOTH(an_answer_may_overtake_the_receipt)
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
static void note_and_hear_of_the_receipt(void *userdata, const struct xenmsg_result *result)
{
	note(userdata, result);
	fake_credit(&fake, channel_to_confirm, 24, 65536);
	assert_int_equal(xenmsg_send(fake.conn, "2:log", "x", 1, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL), 0);
	assert_int_equal(xenmsg_send(fake.conn, "2:log", "x", 1, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL), 0);
}

BOTH(a_receipt_may_come_while_the_answer_is_told)
{
	struct outcome one = {0}, two = {0};
	uint32_t number;

	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "one", 3, NULL, note_and_hear_of_the_receipt,
					   &one, NULL),
			 0);
	xenmsg_process(fake.conn);
	channel_to_confirm = fake_expect_open(&fake);
	expect_data(channel_to_confirm);
	number = number_read();
	send_one(channel_to_confirm, MESSAGE_REPLY, 0, number, "quick");
	wait_for(&one);
	assert_string_equal(one.text, "quick");
	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "two", 3, NULL, note, &two, NULL), 0);
	fake_reset(&fake, channel_to_confirm, ENOENT, 24, 24);
	wait_for(&two);
	assert_int_equal(one.count + two.count, 2);
}

BOTH(the_end_of_the_channel_tells_taken_calls_from_others)
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
	assert_int_equal(one.fate, XENMSG_FATE_UNKNOWN);
	assert_int_equal(two.fate, XENMSG_FATE_UNKNOWN);
	assert_int_equal(three.fate, XENMSG_FATE_NOT_DONE);
}

BOTH(an_answer_that_makes_no_sense_ends_its_channel_alone)
{
	static const uint8_t types[] = {MESSAGE_PLAIN, MESSAGE_REQUEST, 77};

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

BOTH(answers_on_a_channel_of_messages_end_the_connection)
{
	assert_int_equal(xenmsg_begin_send(fake.conn, "2:work", "x", 1, NULL, NULL, NULL, NULL), 0);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	send_one(fake.header.channel, MESSAGE_REPLY, 0, 1, "x");
	expect_over(-EPROTO);
}

static void answer_three(struct fake *daemon)
{
	uint32_t channel = fake_accept(daemon);

	fake_expect(daemon, FRAME_DATA);
	fake_credit(daemon, channel, 24, 65536);
	send_one(channel, MESSAGE_REPLY, 0, number_read(), "three");
}

/* The first is refused by a policy that can't be decided yet, the second isn't. */
static void answer_at_the_second_try(struct fake *daemon)
{
	uint32_t channel = fake_accept(daemon);

	fake_expect(daemon, FRAME_DATA);
	fake_reset(daemon, channel, ENODATA, 0, 0);
	fake_expect(daemon, FRAME_RESET);
	answer_three(daemon);
}

/* By the server, who may answer what it likes. */
static void answer_no_data(struct fake *daemon)
{
	uint32_t channel;

	/* over the socket it says that it has taken the answer before */
	fake_expect_past_credit(daemon, FRAME_DATA);
	channel = daemon->header.channel;
	send_one(channel, MESSAGE_ERROR, ENODATA, number_read(), "");
}

BOTH(a_call_that_is_not_decided_yet_is_tried_again)
{
	struct xenmsg_result result;

	fake_meanwhile(&fake, answer_at_the_second_try);
	/* a reply that nobody wants is freed */
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, XENMSG_WITHIN(60000), NULL), 0);
	fake_join(&fake);
	fake_meanwhile(&fake, answer_no_data);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, XENMSG_WITHIN(60000), &result),
			 -EREMOTEIO);
	fake_join(&fake);
	assert_int_equal(result.code, ENODATA);
	assert_int_equal(result.fate, XENMSG_FATE_DONE);
	assert_null(result.reply);
	assert_int_equal(xenmsg_call(fake.conn, "no address", "1+2", 3, XENMSG_WITHIN(60000), &result),
			 -EINVAL);
	assert_int_equal(result.fate, XENMSG_FATE_NOT_DONE);
	assert_null(result.reply);
}

BOTH(a_result_is_filled_also_after_einval)
{
	const struct xenmsg_options wrong = {.size = sizeof(wrong), .flags = XENMSG_TOPIC};

	for (int i = 0; i < 4; i++) {
		const struct xenmsg_options *options = i & 1 ? &wrong : NULL;
		const char *address = i & 1 ? "2:work" : "no address";
		struct xenmsg_result result;
		int r;

		memset(&result, 0xff, sizeof(result));
		if (i & 2)
			r = xenmsg_send(fake.conn, address, "x", 1, options, &result);
		else
			r = xenmsg_call(fake.conn, address, "x", 1, options, &result);
		assert_int_equal(r, -EINVAL);
		assert_int_equal(result.error, -EINVAL);
		assert_int_equal(result.fate, XENMSG_FATE_NOT_DONE);
		assert_int_equal(result.code, 0);
		assert_int_equal(result.exit_status, 0);
		assert_string_equal(result.reason,
				    i & 1 ? "a flag in the options has no meaning for this"
					  : "bad address: there is no colon; write DOMAIN:ENDPOINT");
		assert_string_equal(xenmsg_reason(fake.conn, r), result.reason);
		assert_null(result.reply);
		assert_null(result.json);
		assert_int_equal(result.stream, -1);
	}
}

static uint32_t other_channel, other_number;

/* The blocking call's error, and behind it, in the same frame, the reply to the other. */
static void answer_both(struct fake *daemon)
{
	uint32_t size;

	expect_data(other_channel);
	size = put(stream, MESSAGE_ERROR, EDOM, number_read(), "", 0);
	size += put(stream + size, MESSAGE_REPLY, 0, other_number, "one", 3);
	fake_send(daemon, FRAME_DATA, 0, other_channel, stream, size);
}

BOTH(what_answered_a_blocking_call_is_told_whatever_ends_after_it)
{
	struct outcome one = {0};
	struct xenmsg_result result;

	other_number = call(&one, "one", true, &other_channel);
	fake_opened(&fake, other_channel, 65536, FAKE_MAX_MESSAGE);
	fake_meanwhile(&fake, answer_both);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "1+2", 3, XENMSG_WITHIN(10000), &result),
			 -EREMOTEIO);
	fake_join(&fake);
	assert_int_equal(result.code, EDOM);
	wait_for(&one);
	assert_int_equal(one.result, 0);
}

BOTH(the_death_of_the_daemon_ends_every_call)
{
	struct outcome one = {0}, two = {0};
	uint32_t channel;

	call(&one, "one", true, &channel);
	fake_credit(&fake, channel, 24, 65536);
	call(&two, "two", false, &channel);
	fake_die(&fake);
	wait_for(&two);
	assert_int_equal(one.result, -ECONNRESET);
	assert_int_equal(two.result, -ECONNRESET);
	assert_int_equal(xenmsg_call(fake.conn, "2:work", "", 0, XENMSG_WITHIN(50), NULL), -ENOTCONN);
	assert_int_equal(xenmsg_begin_call(fake.conn, "2:work", "", 0, NULL, note, &one, NULL), -ENOTCONN);
}

BOTH(closing_ends_every_call)
{
	struct outcome one = {0};
	uint32_t channel;

	call(&one, "one", true, &channel);
	fake_credit(&fake, channel, 24, 65536);
	xenmsg_process(fake.conn);
	fake_close(&fake);
	assert_int_equal(one.count, 1);
	assert_int_equal(one.result, -ECONNRESET);
}
