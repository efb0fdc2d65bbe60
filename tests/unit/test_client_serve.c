/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises to a server: each request is answered once, whatever the daemon and the caller
 * say.
 */
#include "tests/unit/client_call_rig.h"
#include "tests/unit/client_recv_rig.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"

static void open_calls(uint32_t channel, uint64_t limit)
{
	fake_open_kind(&fake, channel, CHANNEL_CALL, "work");
	if (limit)
		fake_credit(&fake, channel, 0, limit);
}

static struct xenmsg_message *take(const char *text)
{
	struct xenmsg_message *message = recv_one();

	expect_payload(message, text, strlen(text));
	return message;
}

/* A server that has taken a request, number 71, on channel 1. */
static struct xenmsg_message *take_one(void)
{
	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	return take("one");
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

BOTH(an_exit_status_comes_with_an_error)
{
	struct xenmsg_message *one = take_one();

	assert_int_equal(xenmsg_reply_exit_status(one, 0), -EINVAL);
	assert_int_equal(xenmsg_reply_exit_status(one, 256), -EINVAL);
	assert_int_equal(xenmsg_reply_exit_status(one, 255), 0);
	expect_answer(1, MESSAGE_ERROR, EIO, 71, "");
	assert_int_equal(fake.payload[5], 255);
	assert_int_equal(xenmsg_reply_exit_status(one, 1), -EALREADY);
	xenmsg_message_free(one);
}

BOTH(a_request_is_answered_once)
{
	struct xenmsg_message *one = take_one(), *two;

	send_one(1, MESSAGE_REQUEST, 0, 72, "two");
	two = take("two");
	assert_true(xenmsg_message_wants_reply(one));
	assert_int_equal(xenmsg_message_detach(one), -EBUSY);
	assert_int_equal(xenmsg_peer_uid(xenmsg_message_sender(one)), 1000);
	assert_int_equal(xenmsg_reply(two, "zwei", 4), 0);
	expect_answer(1, MESSAGE_REPLY, 0, 72, "zwei");
	assert_int_equal(xenmsg_reply_error(one, 0, NULL, 0), -EINVAL);
	assert_int_equal(xenmsg_reply_error(one, 65536, NULL, 0), -EINVAL);
	assert_int_equal(xenmsg_reply_error(one, 65535, "why", 3), 0);
	expect_answer(1, MESSAGE_ERROR, 65535, 71, "why");
	assert_int_equal(xenmsg_reply(one, "", 0), -EALREADY);
	assert_int_equal(xenmsg_reply_error(two, EIO, NULL, 0), -EALREADY);
	assert_false(xenmsg_message_wants_reply(two));
	assert_int_equal(xenmsg_message_detach(two), 0);
	assert_false(xenmsg_message_wants_reply(two));
	assert_int_equal(xenmsg_reply_error(two, EIO, NULL, 0), -EALREADY);
	xenmsg_message_free(one);
	xenmsg_message_free(two);
}

BOTH(an_older_credit_takes_none_of_the_answers_back)
{
	struct xenmsg_message *one;

	fake_bind(&fake, "work", NULL, NULL);
	open_calls(1, 65536);
	fake_credit(&fake, 1, 0, 0);
	send_one(1, MESSAGE_REQUEST, 0, 71, "one");
	one = take("one");
	assert_int_equal(xenmsg_reply(one, "eins", 4), 0);
	expect_answer(1, MESSAGE_REPLY, 0, 71, "eins");
	xenmsg_message_free(one);
}

BOTH(a_request_that_is_freed_is_answered_with_an_error)
{
	xenmsg_message_free(take_one());
	expect_answer(1, MESSAGE_ERROR, XENMSG_UNANSWERED, 71, "");
}

BOTH(a_message_wants_no_reply)
{
	struct xenmsg_message *message;

	fake_bind(&fake, "work", NULL, NULL);
	fake_open(&fake, 1, "work");
	send_one(1, MESSAGE_PLAIN, 0, 0, "plain");
	message = take("plain");
	assert_false(xenmsg_message_wants_reply(message));
	assert_int_equal(xenmsg_reply(message, "", 0), -EINVAL);
	assert_int_equal(xenmsg_reply_error(message, EIO, NULL, 0), -EINVAL);
	xenmsg_message_free(message);
}

BOTH(a_withdrawn_request_can_not_be_answered)
{
	struct xenmsg_message *one = take_one(), *two;

	send_one(1, MESSAGE_REQUEST, 0, 72, "two");
	two = take("two");
	fake_withdraw(&fake, 1, 71);
	fake_withdraw(&fake, 1, 4711);
	fake_withdraw(&fake, 1, 72);
	expect_nothing();
	assert_false(xenmsg_message_wants_reply(one) || xenmsg_message_wants_reply(two));
	assert_int_equal(xenmsg_reply(one, "late", 4), -ECANCELED);
	assert_int_equal(xenmsg_reply(two, "late", 4), -ECANCELED);
	xenmsg_message_free(one);
	xenmsg_message_free(two);
}

BOTH(the_end_of_the_channel_ends_its_requests)
{
	struct xenmsg_message *one = take_one();

	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	for (int i = 0; i < 100 && xenmsg_message_wants_reply(one); i++)
		xenmsg_wait(fake.conn, 100);
	assert_int_equal(xenmsg_reply(one, "late", 4), -ECANCELED);
	xenmsg_message_free(one);
}

BOTH(a_request_outlives_its_connection)
{
	struct xenmsg_message *one = take_one();

	fake_close(&fake);
	assert_false(xenmsg_message_wants_reply(one));
	assert_int_equal(xenmsg_reply(one, "late", 4), -ECANCELED);
	xenmsg_message_free(one);
}

BOTH(replies_keep_to_the_callers_credit)
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
	expect_over(-EPROTO);
}

BOTH(the_end_is_answered_when_every_request_is)
{
	struct xenmsg_message *one = take_one();
	uint64_t total;

	fake_fin(&fake, 1, 24);
	expect_nothing();
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

BOTH(a_malformed_stream_of_requests_ends_its_channel_alone)
{
	static const struct {
		uint8_t type;
		const char *text;
	} cases[] = {{MESSAGE_PLAIN, "x"}, {MESSAGE_REPLY, "x"}, {MESSAGE_ERROR, ""}, {9, ""}};
	struct xenmsg_message *good;

	fake_bind(&fake, "work", NULL, NULL);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_calls(2 * i + 1, 65536);
		send_one(2 * i + 1, cases[i].type, 0, 1, cases[i].text);
		expect_nothing();
		fake_expect(&fake, FRAME_RESET);
		fake_reset(&fake, 2 * i + 1, EPROTO, 0, 0);
	}
	/* A number that is outstanding. */
	open_calls(101, 65536);
	send_one(101, MESSAGE_REQUEST, 0, 5, "good");
	send_one(101, MESSAGE_REQUEST, 0, 5, "evil");
	good = take("good");
	expect_nothing();
	fake_expect_past_credit(&fake, FRAME_RESET);
	assert_int_equal(xenmsg_reply(good, "", 0), -ECANCELED);
	xenmsg_message_free(good);
	open_calls(103, 65536);
	send_one(103, MESSAGE_REQUEST, 0, 5, "fine");
	good = take("fine");
	assert_int_equal(xenmsg_reply(good, "", 0), 0);
	xenmsg_message_free(good);
}

static void agree(struct fake *daemon)
{
	struct frame_bind bind;

	fake_expect(daemon, FRAME_BIND);
	bind = FAKE_HEARD(daemon, bind);
	fake_reply(daemon, daemon->header.channel, 0, "");
	assert_int_equal(bind.kinds, bind.endpoint.data[0] == 'b' ? 3 : bind.endpoint.data[0] == 'm' ? 1 : 2);
}

BOTH(an_endpoint_takes_what_its_options_say)
{
	static const struct {
		const char *name;
		unsigned options;
	} cases[] = {{"both", 0}, {"messages", XENMSG_ONLY_MESSAGES}, {"calls", XENMSG_ONLY_CALLS}};

	for (unsigned i = 0; i < 3; i++) {
		fake_meanwhile(&fake, agree);
		assert_int_equal(
			xenmsg_bind(fake.conn, cases[i].name, XENMSG_FLAGS(cases[i].options), NULL, NULL), 0);
		fake_join(&fake);
	}
}
