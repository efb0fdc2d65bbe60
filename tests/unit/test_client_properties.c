/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises of what a message says beside its payload: how long an answer is wanted, and where
 * it belongs in a trace; and of who has answered.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <string.h>

#include "wire/bytes.h"
#include "wire/properties.h"

#define TRACE_55 "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static const struct frame_identity server = {.domid = 5, .uid = 33, .gid = 34, .pid = 35};

/* A message that has properties, as it stands in a stream: these, and a payload behind them. */
struct seen {
	struct properties properties;
	const uint8_t *payload;
	uint32_t size;
};

static struct seen see(const uint8_t *message)
{
	struct seen seen;
	int length;

	assert_true(message[4] & MESSAGE_PROPERTIES);
	length = properties_length(message + MESSAGE_HEAD_SIZE, get_u32(message));
	assert_true(length > 0);
	assert_int_equal(properties_decode(message + MESSAGE_HEAD_SIZE, (uint32_t)length, &seen.properties),
			 0);
	seen.payload = message + MESSAGE_HEAD_SIZE + length;
	seen.size = get_u32(message) - (uint32_t)length;
	return seen;
}

/* The message that comes next. */
static struct seen see_next(void)
{
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_DATA);
	return see(fake.payload);
}

/* Returns the channel of the OPEN that comes next. */
static uint32_t expect_call_channel(void)
{
	uint32_t channel = fake_expect_open(&fake);

	assert_int_equal(fake.payload[0], CHANNEL_CALL);
	return channel;
}

static void post_traced(const char *trace, const void *data, size_t size, int *outcome)
{
	*outcome = PENDING;
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:work", data, size, XENMSG_TRACED(-1, 0, trace),
					   note_outcome, outcome, NULL),
			 0);
}

static void begin_call(const char *text, const struct xenmsg_options *options)
{
	assert_int_equal(xenmsg_begin_call(fake.conn, "5:work", text, 5, options, NULL, NULL, NULL), 0);
	xenmsg_process(fake.conn);
}

/* ---- the sender ------------------------------------------------------------------------------ */

BOTH(a_call_tells_how_long_its_answer_is_wanted)
{
	struct seen seen;
	uint32_t channel;

	begin_call("hello", XENMSG_TRACED(60000, 0, TRACE_55));
	channel = expect_call_channel();
	fake_opened_by(&fake, channel, &server);
	seen = see_next();
	assert_int_equal(fake.payload[4] & ~MESSAGE_PROPERTIES, MESSAGE_REQUEST);
	assert_true(seen.properties.has_deadline);
	assert_in_range(seen.properties.deadline_ms, 30001, 60000);
	assert_int_equal(seen.properties.trace.size, 55);
	assert_memory_equal(seen.properties.trace.data, TRACE_55, 55);
	assert_int_equal(seen.size, 5);
	assert_memory_equal(seen.payload, "hello", 5);
	begin_call("again", XENMSG_WITHIN(60000));
	seen = see_next();
	assert_true(seen.properties.has_deadline);
	assert_int_equal(seen.properties.trace.size, 0);
}

BOTH(a_message_has_properties_only_if_it_needs_them)
{
	static int first, second;
	struct seen seen;
	uint32_t channel;

	post("5:work", "plain", 5, &first);
	channel = expect_open("5:work");
	fake_expect(&fake, FRAME_DATA);
	assert_int_equal(fake.payload[4], MESSAGE_PLAIN);
	fake_opened_by(&fake, channel, &server);
	post_traced("t", "traced", 6, &second);
	seen = see_next();
	assert_false(seen.properties.has_deadline);
	assert_int_equal(seen.properties.trace.size, 1);
	assert_memory_equal(seen.payload, "traced", 6);
}

BOTH(a_large_message_keeps_its_properties)
{
	static uint8_t large[150000], read[200000];
	static int outcome;
	struct seen seen;
	uint32_t channel;

	fill(large, sizeof(large), 3);
	post_traced(TRACE_55, large, sizeof(large), &outcome);
	channel = expect_open("5:work");
	fake_opened_by(&fake, channel, &server);
	read_stream(channel, read, 8 + 64 + sizeof(large) + 8);
	seen = see(read);
	assert_int_equal(seen.properties.trace.size, 55);
	assert_int_equal(seen.size, sizeof(large));
	assert_memory_equal(seen.payload, large, sizeof(large));
	fake_credit(&fake, channel, 8 + 64 + sizeof(large) + 8, 1u << 20);
	assert_int_equal(outcome_of(&outcome), 0);
}

/* The size is the payload's: properties don't make a message too large. */
BOTH(the_largest_message_may_have_properties)
{
	static uint8_t large[70000], read[80000];
	static int fits, larger;
	uint32_t channel;

	post_traced("t", large, 70000, &larger);
	post_traced("t", large, 69992, &fits);
	channel = expect_open("5:work");
	fake_opened(&fake, channel, 1u << 20, 69992);
	xenmsg_process(fake.conn);
	assert_int_equal(outcome_of(&larger), -EMSGSIZE);
	read_stream(channel, read, 8 + 16 + 69992 + 8);
	assert_int_equal(see(read).size, 69992);
	fake_credit(&fake, channel, 8 + 16 + 69992 + 8, 1u << 20);
	assert_int_equal(outcome_of(&fits), 0);
}

BOTH(a_reserved_message_may_have_properties)
{
	static uint8_t bytes[20000];
	static int first, second;
	struct seen seen;
	uint32_t channel;
	void *data;

	second = PENDING;
	post("5:work", "plain", 5, &first);
	channel = expect_open("5:work");
	fake_expect(&fake, FRAME_DATA);
	fake_opened_by(&fake, channel, &server);
	xenmsg_process(fake.conn);
	fill(bytes, sizeof(bytes), 9);
	assert_int_equal(xenmsg_reserve(fake.conn, "5:work", sizeof(bytes), &data), 0);
	memcpy(data, bytes, sizeof(bytes));
	assert_int_equal(xenmsg_commit(fake.conn, sizeof(bytes), XENMSG_TRACED(-1, 0, "t"), note_outcome,
				       &second, NULL),
			 0);
	seen = see_next();
	assert_int_equal(seen.properties.trace.size, 1);
	assert_int_equal(seen.size, sizeof(bytes));
	assert_memory_equal(seen.payload, bytes, sizeof(bytes));
}

BOTH(a_trace_that_is_none_is_refused)
{
	static char longest[TRACE_MAX + 2];
	static const char *const bad[] = {"", "two\nlines", "\303\244", longest};
	struct xenmsg_options older = {.size = 16, .timeout_ms = -1, .trace = ""};

	memset(longest, 'x', sizeof(longest) - 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct xenmsg_options options = {
			.size = sizeof(options), .timeout_ms = -1, .trace = bad[i]};

		assert_int_equal(xenmsg_begin_send(fake.conn, "5:work", "x", 1, &options, NULL, NULL, NULL),
				 -EINVAL);
		assert_int_equal(xenmsg_call(fake.conn, "5:work", "x", 1, &options, NULL), -EINVAL);
	}
	/* Where there is no message, and where nothing can wait. */
	assert_int_equal(xenmsg_ping(fake.conn, "5", XENMSG_TRACED(1000, 0, "t"), NULL), -EINVAL);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:work", "x", 1,
					   XENMSG_TRACED(-1, XENMSG_AT_ONCE, "t"), NULL, NULL, NULL),
			 -EINVAL);
	/* A program that was built before has no such member. */
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:work", "x", 1, &older, NULL, NULL, NULL), 0);
}

/* ---- the receiver ---------------------------------------------------------------------------- */

/* Writes a message with a block before its payload. Returns its span. */
static uint32_t with_block(uint8_t *at, uint8_t type, const void *block, uint32_t length, const void *data,
			   uint32_t size)
{
	static uint8_t whole[FRAME_PAYLOAD_MAX * 3];
	uint32_t span;

	memcpy(whole, block, length);
	memcpy(whole + length, data, size);
	span = fake_message(at, whole, length + size, MESSAGE_SENT);
	at[4] = type | MESSAGE_PROPERTIES;
	return span;
}

static uint32_t with_properties(uint8_t *at, uint8_t type, uint32_t ms, const char *trace, const void *data,
				uint32_t size)
{
	const struct properties properties = {
		.has_deadline = ms, .deadline_ms = ms, .trace = frame_text_of(trace)};
	uint8_t block[PROPERTIES_WRITE];

	return with_block(at, type, block, properties_encode(&properties, block), data, size);
}

/* Binds and opens a channel of a kind. */
static void be_open(enum channel_kind kind)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open_kind(&fake, 1, kind, "inbox");
}

BOTH(a_server_is_told_how_long_its_answer_is_wanted)
{
	uint32_t size = with_properties(stream, MESSAGE_REQUEST, 60000, TRACE_55, "hello", 5);
	struct xenmsg_message *message;

	be_open(CHANNEL_CALL);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	message = recv_one();
	expect_payload(message, "hello", 5);
	assert_string_equal(xenmsg_message_trace(message), TRACE_55);
	assert_in_range(xenmsg_message_time_left(message), 1, 60000);
	assert_int_equal(xenmsg_reply(message, "x", 1), 0);
	xenmsg_message_free(message);

	/* The next one, in the same memory, has none of it. */
	size = fake_message(stream, "plain", 5, MESSAGE_SENT);
	stream[4] = MESSAGE_REQUEST;
	put_u32(stream + size - 4, 7);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	message = recv_one();
	assert_memory_equal(xenmsg_message_data(message), "plain", 5);
	assert_string_equal(xenmsg_message_trace(message), "");
	assert_int_equal(xenmsg_message_time_left(message), -1);
	xenmsg_message_free(message);
}

BOTH(the_time_for_an_answer_runs_out)
{
	uint32_t size = with_properties(stream, MESSAGE_REQUEST, 1, NULL, "", 0);
	struct xenmsg_message *message;

	be_open(CHANNEL_CALL);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	message = recv_one();
	while (xenmsg_message_time_left(message) != 0)
		;
	assert_int_equal(xenmsg_message_wants_reply(message), 1);
	xenmsg_message_free(message);
}

BOTH(kinds_of_a_later_version_are_skipped)
{
	static const char block[] =
		"\30\0\0\0"
		"\5\0\11\0later\0\0\0"
		"\1\0\2\0t\0\0\0";
	struct xenmsg_message *message;

	be_open(CHANNEL_MESSAGE);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, with_block(stream, 0, block, 24, "hello", 5));
	message = recv_one();
	assert_memory_equal(xenmsg_message_data(message), "hello", 5);
	assert_string_equal(xenmsg_message_trace(message), "t");
	xenmsg_message_free(message);
}

/* The parts end in the block, behind it, and in the payload. */
BOTH(properties_of_a_message_in_parts_are_put_together)
{
	static const uint32_t cuts[] = {8, 16, 40, 72, 80, 5000};
	static uint8_t payload[20000];
	int r;

	fill(payload, sizeof(payload), 5);
	be_open(CHANNEL_MESSAGE);
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		struct xenmsg_message *message, *copy;
		uint32_t span = with_properties(stream, 0, 0, TRACE_55, payload, sizeof(payload));

		fake_send(&fake, FRAME_DATA, 0, 1, stream, cuts[i]);
		xenmsg_process(fake.conn);
		fake_send(&fake, FRAME_DATA, 0, 1, stream + cuts[i], span - cuts[i]);
		while ((r = xenmsg_peek(fake.conn, &copy)) == -EAGAIN)
			assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
		assert_int_equal(r, 0);
		message = recv_one();
		expect_payload(message, payload, sizeof(payload));
		assert_string_equal(xenmsg_message_trace(message), TRACE_55);
		assert_memory_equal(xenmsg_message_data(copy), payload, sizeof(payload));
		assert_string_equal(xenmsg_message_trace(copy), TRACE_55);
		xenmsg_message_free(message);
		assert_int_equal(xenmsg_message_detach(copy), 0);
		assert_memory_equal(xenmsg_message_data(copy), payload, sizeof(payload));
		xenmsg_message_free(copy);
	}
}

static struct xenmsg_message *lent;

static void keep(void *userdata, struct xenmsg_message *message)
{
	lent = message;
}

BOTH(a_message_that_stays_in_the_ring_may_have_properties)
{
	static uint8_t payload[20000];
	uint32_t span;

	fill(payload, sizeof(payload), 5);
	lent = NULL;
	open_inbox_with(XENMSG_LEND, keep);
	span = with_properties(stream, 0, 0, TRACE_55, payload, sizeof(payload));
	fake_send(&fake, FRAME_DATA, 0, 1, stream, span);
	while (!lent)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
	expect_payload(lent, payload, sizeof(payload));
	assert_string_equal(xenmsg_message_trace(lent), TRACE_55);
	xenmsg_message_free(lent);
}

/* Each of them harms only its own channel; nothing of it counts as taken. */
BOTH(properties_that_make_no_sense_end_the_channel)
{
	static const struct {
		const char *block;
		uint32_t length, size;
	} bad[] = {
		{"\0\0\0\0\0\0\0\0", 8, 8},
		{"\377\377\0\0\0\0\0\0", 8, 8},
		{"\20\0\0\0\3\0\1\0abc\0\0\0\0\0", 16, 16},
		{"\20\0\0\0\3\0\2\0a\nb\0\0\0\0\0", 16, 20},
		{"\20\0\0\0", 4, 0},
		{"", 0, 1},
		{"\20\0\0\0\377\1\2\0\0\0\0\0\0\0\0\0", 16, 70000},
	};
	static uint8_t payload[70000];
	uint32_t channel = 1;

	fake_bind(&fake, "inbox", NULL, NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++, channel += 2) {
		uint32_t span, sent = 0;

		fake_open(&fake, channel, "inbox");
		span = with_block(stream, 0, bad[i].block, bad[i].length, payload, bad[i].size);
		for (; sent < span; sent += 65536)
			fake_send(&fake, FRAME_DATA, 0, channel, stream + sent,
				  span - sent < 65536 ? span - sent : 65536);
		expect_nothing();
		fake_expect_past_credit(&fake, FRAME_RESET);
		assert_int_equal(fake.header.channel, channel);
		assert_int_equal(get_u32(fake.payload), EPROTO);
		assert_true(get_u64(fake.payload + 8) < span);
	}
	fake_open(&fake, channel, "inbox");
	DELIVER(channel, "fine");
	expect_message("fine");
}

/* ---- answers --------------------------------------------------------------------------------- */

static struct xenmsg_message *answered;
static int answer_error;

static void keep_answer(void *userdata, const struct xenmsg_result *result)
{
	answered = result->reply;
	answer_error = result->error;
}

/* Begins a call, which the daemon answers with these bytes, of which `number` bytes from the end is the
 * call's number. */
static void call_and_answer(const char *address, const struct frame_identity *by, uint32_t size)
{
	uint32_t channel;

	answered = NULL;
	answer_error = PENDING;
	assert_int_equal(xenmsg_begin_call(fake.conn, address, "x", 1, NULL, keep_answer, NULL, NULL), 0);
	xenmsg_process(fake.conn);
	channel = expect_call_channel();
	fake_expect(&fake, FRAME_DATA);
	put_u32(stream + size - 4, get_u32(fake.payload + fake.header.length - 4));
	if (by)
		fake_opened_by(&fake, channel, by);
	else
		fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, 24, 65536);
	fake_send(&fake, FRAME_DATA, 0, channel, stream, size);
	while (answer_error == PENDING)
		assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
}

static uint32_t plain_answer(void)
{
	uint32_t size = fake_message(stream, "three", 5, MESSAGE_SENT);

	stream[4] = MESSAGE_REPLY;
	return size;
}

BOTH(an_answer_says_who_has_given_it)
{
	call_and_answer("hostb/5:work", &server, plain_answer());
	assert_int_equal(answer_error, 0);
	assert_int_equal(xenmsg_peer_domid(xenmsg_message_sender(answered)), 5);
	assert_int_equal(xenmsg_peer_uid(xenmsg_message_sender(answered)), 33);
	assert_int_equal(xenmsg_peer_gid(xenmsg_message_sender(answered)), 34);
	assert_int_equal(xenmsg_peer_pid(xenmsg_message_sender(answered)), 35);
	assert_string_equal(xenmsg_peer_host(xenmsg_message_sender(answered)), "hostb");
	assert_string_equal(xenmsg_message_endpoint(answered), "work");
	xenmsg_message_free(answered);
}

BOTH(an_answer_of_an_unknown_program_says_nobody)
{
	call_and_answer("5:work", NULL, plain_answer());
	assert_int_equal(xenmsg_peer_domid(xenmsg_message_sender(answered)), UINT32_MAX);
	assert_int_equal(xenmsg_peer_uid(xenmsg_message_sender(answered)), UINT32_MAX);
	xenmsg_message_free(answered);
}

BOTH(an_answer_may_have_properties)
{
	call_and_answer("5:work", &server, with_properties(stream, MESSAGE_REPLY, 0, "t", "three", 5));
	assert_int_equal(answer_error, 0);
	expect_payload(answered, "three", 5);
	assert_string_equal(xenmsg_message_trace(answered), "t");
	xenmsg_message_free(answered);
}

BOTH(an_answer_whose_properties_make_no_sense_ends_the_channel)
{
	call_and_answer("5:work", &server,
			with_block(stream, MESSAGE_REPLY, "\7\0\0\0\0\0\0\0", 8, "three", 5));
	assert_int_equal(answer_error, -ECONNRESET);
	assert_null(answered);
	assert_true(xenmsg_process(fake.conn) >= 0);
}
