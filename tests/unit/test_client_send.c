/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libxenmsg promises about messages that a program sends, against a daemon that does what the test
 * says. */

#include "tests/unit/client_fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "wire/bytes.h"

#define PENDING 12345
#define SPAN_64 (8u + 64u + 8u)

static void note(void *userdata, int result)
{
	int *at = userdata;

	/* Exactly once. */
	assert_int_equal(*at, PENDING);
	*at = result;
}

/* Lets the library work until this outcome is known. */
static int outcome_of(const int *result)
{
	for (int i = 0; i < 200 && *result == PENDING; i++)
		if (xenmsg_wait(fake.conn, 100) < 0 && *result == PENDING)
			break;
	return *result;
}

static void post(const char *address, const void *data, size_t size, int *result)
{
	*result = PENDING;
	assert_int_equal(xenmsg_post(fake.conn, address, data, size, note, result), 0);
}

/* Reads DATA frames of a channel until `size` bytes of its stream are there; the library gets to run in
 * between. */
static void read_stream(uint32_t channel, uint8_t *stream, uint64_t size)
{
	uint64_t got = 0;

	while (got < size) {
		xenmsg_process(fake.conn);
		fake_expect(&fake, FRAME_DATA);
		assert_int_equal(fake.header.channel, channel);
		assert_true(got + fake.header.length <= size);
		memcpy(stream + got, fake.payload, fake.header.length);
		got += fake.header.length;
	}
}

static uint32_t expect_open(const char *address)
{
	struct frame_open open;

	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	assert_int_equal(frame_open_decode(fake.payload, fake.header.length, &open), 0);
	assert_int_equal(open.kind, CHANNEL_MESSAGE);
	assert_int_equal(open.name.size, strlen(address));
	assert_memory_equal(open.name.data, address, open.name.size);
	assert_int_equal(fake.header.channel % 2, 0);
	return fake.header.channel;
}

static void messages_go_out_before_the_channel_is_opened(void **state)
{
	uint8_t stream[3 * SPAN_64], data[64];
	static int results[3];
	uint32_t channel;

	fill(data, sizeof(data), 1);
	for (int i = 0; i < 3; i++)
		post("5:inbox", data, sizeof(data), &results[i]);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(get_u32(stream + i * SPAN_64), 64);
		assert_memory_equal(stream + i * SPAN_64 + 8, data, 64);
		assert_int_equal(get_u32(stream + i * SPAN_64 + 72), MESSAGE_SENT);
	}
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	xenmsg_process(fake.conn);
	assert_int_equal(results[0], PENDING);
	fake_credit(&fake, channel, 2 * SPAN_64 + 8, 65536);
	assert_int_equal(outcome_of(&results[1]), 0);
	assert_int_equal(results[0], 0);
	assert_int_equal(results[2], PENDING);
	fake_credit(&fake, channel, 3 * SPAN_64, 65536);
	assert_int_equal(outcome_of(&results[2]), 0);
}

static void an_empty_message_is_a_message(void **state)
{
	uint8_t stream[16];
	uint32_t channel;
	static int result;

	post("5:inbox", NULL, 0, &result);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	assert_int_equal(get_u32(stream), 0);
	fake_credit(&fake, channel, 16, 65536);
	assert_int_equal(outcome_of(&result), 0);
}

static void bytes_beyond_the_credit_wait_for_it(void **state)
{
	size_t size = 200000, span = 8 + size + 8;
	uint8_t *data = malloc(size), *stream = malloc(span);
	uint32_t channel;
	static int result;

	fill(data, size, 2);
	post("5:inbox", data, size, &result);
	channel = expect_open("5:inbox");
	/* Larger than the initial credit: whether the other side takes it at all is known with OPENED. */
	xenmsg_process(fake.conn);
	assert_false(fake_has_frame(&fake));
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	read_stream(channel, stream, 65536);
	xenmsg_process(fake.conn);
	assert_false(fake_has_frame(&fake));
	fake_credit(&fake, channel, 65536, 65536 + 8);
	read_stream(channel, stream + 65536, 8);
	fake_credit(&fake, channel, 65544, 1000000);
	read_stream(channel, stream + 65544, span - 65544);
	assert_int_equal(get_u32(stream), size);
	assert_memory_equal(stream + 8, data, size);
	assert_int_equal(result, PENDING);
	fake_credit(&fake, channel, span, 1000000);
	assert_int_equal(outcome_of(&result), 0);
	free(data);
	free(stream);
}

static void a_large_message_does_not_hold_up_a_small_one(void **state)
{
	size_t size = FAKE_MAX_MESSAGE;
	uint8_t *large = calloc(1, size), small[64] = {1};
	uint64_t before = 0, span = 16 + size, got = 0;
	uint32_t first, second = 1;
	static int results[2];

	post("5:large", large, size, &results[0]);
	first = expect_open("5:large");
	fake_opened(&fake, first, 1ull << 40, FAKE_MAX_MESSAGE);
	xenmsg_process(fake.conn);
	/* The ring is full of the large one; the small one is posted behind it. */
	post("5:small", small, sizeof(small), &results[1]);
	while (got < span) {
		fake_read(&fake);
		if (fake.header.type == FRAME_OPEN)
			second = fake.header.channel;
		else if (fake.header.channel == second)
			before = got;
		else
			got += fake.header.length;
		xenmsg_process(fake.conn);
	}
	assert_true(before > 0);
	/* What was in the ring (and the socket's buffer) already, and a frame each turn. */
	assert_true(before <= 2 * FAKE_RING_SIZE + 4 * FRAME_PAYLOAD_MAX);
	free(large);
}

static void a_reset_settles_each_message_by_the_rule(void **state)
{
	uint8_t stream[4 * SPAN_64], data[64] = {0};
	static int results[5];
	uint32_t channel, next;

	for (int i = 0; i < 4; i++)
		post("5:inbox", data, sizeof(data), &results[i]);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	fake_reset(&fake, channel, ENOENT, SPAN_64, SPAN_64 + 8);
	assert_int_equal(outcome_of(&results[3]), -ENOENT);
	assert_int_equal(results[0], 0);	   /* at or below consumed */
	assert_int_equal(results[1], -ECONNRESET); /* begins below unsure */
	assert_int_equal(results[2], -ENOENT);	   /* begins above it */
	fake_expect(&fake, FRAME_RESET);
	assert_int_equal(fake.header.channel, channel);
	post("5:inbox", data, sizeof(data), &results[4]);
	next = expect_open("5:inbox");
	read_stream(next, stream, SPAN_64);
	fake_credit(&fake, next, SPAN_64, 65536);
	assert_int_equal(outcome_of(&results[4]), 0);
}

static uint32_t cancel_answer;

static void answer_cancel(struct fake *daemon)
{
	uint64_t offset;
	uint32_t channel;

	fake_expect(daemon, FRAME_OPEN);
	channel = daemon->header.channel;
	fake_expect(daemon, FRAME_DATA);
	fake_opened(daemon, channel, 65536, FAKE_MAX_MESSAGE);
	fake_expect(daemon, FRAME_CANCEL);
	assert_int_equal(frame_u64_decode(daemon->payload, daemon->header.length, &offset), 0);
	assert_int_equal(offset, SPAN_64 - 8);
	/* `consumed` passes a skipped message as well as a taken one: it is no answer. */
	fake_credit(daemon, channel, SPAN_64, 65536);
	fake_cancelled(daemon, channel, offset, cancel_answer);
}

static void a_timed_out_send_ends_as_its_cancel_is_answered(void **state)
{
	static const struct {
		uint32_t answer;
		int result;
	} cases[] = {{ECANCELED, -ETIMEDOUT}, {0, 0}, {ECONNRESET, -ECONNRESET}};
	uint8_t data[64] = {0};

	for (int i = 0; i < 3; i++) {
		char address[16] = "5:inbox0";

		address[7] = (char)('0' + i);
		cancel_answer = cases[i].answer;
		fake_meanwhile(&fake, answer_cancel);
		assert_int_equal(xenmsg_send(fake.conn, address, data, sizeof(data), 30), cases[i].result);
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

static void a_timed_out_send_ends_soon_though_its_cancel_is_not_answered(void **state)
{
	struct timespec before, after;
	uint8_t data[64] = {0};

	fake_meanwhile(&fake, leave_cancel_unanswered);
	clock_gettime(CLOCK_MONOTONIC, &before);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), 30), -ECONNRESET);
	clock_gettime(CLOCK_MONOTONIC, &after);
	fake_join(&fake);
	assert_true(after.tv_sec - before.tv_sec < 2);
	assert_non_null(strstr(xenmsg_reason(fake.conn), "can't be known"));
}

/* Domain 0's daemon isn't there yet, so the receiver's doesn't know whom its rules are about. */
static void names_are_unknown(struct fake *daemon, unsigned tries)
{
	for (unsigned i = 0; i < tries; i++) {
		uint32_t channel;

		fake_expect(daemon, FRAME_OPEN);
		channel = daemon->header.channel;
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

static void a_send_that_is_not_decided_yet_is_tried_again_in_its_time(void **state)
{
	uint8_t data[64] = {0};
	static int result;

	fake_meanwhile(&fake, names_become_known);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), 60000), 0);
	fake_join(&fake);
	fake_meanwhile(&fake, names_become_known);
	assert_int_equal(xenmsg_send(fake.conn, "5:other", data, sizeof(data), -1), 0);
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
		fake_read(daemon);
		if (daemon->header.type == FRAME_OPEN)
			fake_reset(daemon, daemon->header.channel, ENODATA, 0, 0);
		else if (daemon->header.type == FRAME_QUERY)
			break;
	}
	fake_reply(daemon, daemon->header.channel, 0, "", false);
}

static void a_send_that_is_never_decided_says_so_when_its_time_is_up(void **state)
{
	uint8_t data[64] = {0};
	char *answer;

	fake_meanwhile(&fake, refuse_all);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), 300), -ENODATA);
	assert_int_equal(xenmsg_query(fake.conn, "end", &answer), 0);
	fake_join(&fake);
	free(answer);
}

static void a_post_that_is_withdrawn_ends_as_its_cancel_is_answered(void **state)
{
	static const struct {
		uint32_t answer;
		int result;
	} cases[] = {{ECANCELED, -ETIMEDOUT}, {0, 0}, {ECONNRESET, -ECONNRESET}};
	uint8_t data[64] = {0};
	static int result;

	for (int i = 0; i < 3; i++) {
		char address[16] = "5:inbox0";

		address[7] = (char)('0' + i);
		cancel_answer = cases[i].answer;
		post(address, data, sizeof(data), &result);
		assert_int_equal(xenmsg_withdraw(fake.conn, "5:other", &result), -ENOENT);
		assert_int_equal(xenmsg_withdraw(fake.conn, address, &cases), -ENOENT);
		fake_meanwhile(&fake, answer_cancel);
		assert_int_equal(xenmsg_withdraw(fake.conn, address, &result), 0);
		/* Once more changes nothing, and nothing is told from within. */
		assert_int_equal(xenmsg_withdraw(fake.conn, address, &result), 0);
		assert_int_equal(result, PENDING);
		assert_int_equal(outcome_of(&result), cases[i].result);
		fake_join(&fake);
		assert_int_equal(xenmsg_withdraw(fake.conn, address, &result), -ENOENT);
	}
}

static void a_post_that_never_left_is_withdrawn(void **state)
{
	uint8_t *large = calloc(1, 100000), stream[SPAN_64], data[64] = {7};
	static int gone, result;
	uint32_t channel;

	post("5:inbox", large, 100000, &gone);
	assert_int_equal(xenmsg_withdraw(fake.conn, "5:inbox", &gone), 0);
	assert_int_equal(gone, PENDING);
	/* A loop is told of it. */
	assert_int_equal(xenmsg_timeout(fake.conn), 0);
	assert_int_equal(outcome_of(&gone), -ETIMEDOUT);
	channel = expect_open("5:inbox");
	post("5:inbox", data, sizeof(data), &result);
	read_stream(channel, stream, sizeof(stream));
	assert_int_equal(get_u32(stream), 64);
	assert_memory_equal(stream + 8, data, 64);
	free(large);
}

static void a_send_that_never_left_is_withdrawn(void **state)
{
	uint8_t *large = calloc(1, 100000), stream[SPAN_64], data[64] = {7};
	uint32_t channel;
	static int result;

	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", large, 100000, 30), -ETIMEDOUT);
	channel = expect_open("5:inbox");
	post("5:inbox", data, sizeof(data), &result);
	/* No CANCEL, no byte of it: the stream begins with the next message. */
	read_stream(channel, stream, sizeof(stream));
	assert_int_equal(get_u32(stream), 64);
	assert_memory_equal(stream + 8, data, 64);
	free(large);
}

static void a_message_cancelled_half_way_is_marked_and_completed(void **state)
{
	size_t size = 100000, span = 16 + size;
	uint8_t *large = calloc(1, size), *stream = malloc(span);
	uint32_t channel;

	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", large, 0, 0), 0);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, 16);
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", large, size, 30), -ETIMEDOUT);
	read_stream(channel, stream, 65536 - 16);
	fake_credit(&fake, channel, 16, 1 << 20);
	read_stream(channel, stream + 65536 - 16, span - (65536 - 16));
	assert_int_equal(get_u32(stream), size);
	assert_int_equal(get_u32(stream + span - 8), MESSAGE_CANCELLED);
	free(large);
	free(stream);
}

static void the_death_of_the_daemon_ends_every_send_once(void **state)
{
	uint8_t *large = calloc(1, 100000), data[64] = {0};
	static int results[3];

	post("5:inbox", data, sizeof(data), &results[0]);
	post("5:other", data, sizeof(data), &results[1]);
	post("5:inbox", large, 100000, &results[2]);
	xenmsg_process(fake.conn);
	fake_die(&fake);
	/* What may have been taken can't be known; what never left is certain. */
	assert_int_equal(outcome_of(&results[2]), -ENOTCONN);
	assert_int_equal(outcome_of(&results[0]), -ECONNRESET);
	assert_int_equal(outcome_of(&results[1]), -ECONNRESET);
	assert_int_equal(xenmsg_post(fake.conn, "5:inbox", data, 64, NULL, NULL), -ENOTCONN);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, 64, 1000), -ENOTCONN);
	assert_int_equal(xenmsg_process(fake.conn), -ENOTCONN);
	free(large);
}

static void close_ends_every_send_once(void **state)
{
	uint8_t *large = calloc(1, 100000), data[64] = {0};
	static int results[2];

	post("5:inbox", data, sizeof(data), &results[0]);
	post("5:inbox", large, 100000, &results[1]);
	xenmsg_close(fake.conn);
	fake.conn = NULL;
	assert_int_equal(results[0], -ECONNRESET);
	assert_int_equal(results[1], -ECANCELED);
	free(large);
}

static void what_the_peer_does_not_accept_is_taken_out_of_the_stream(void **state)
{
	uint8_t *large = calloc(1, 70000), data[64] = {3}, stream[2 * SPAN_64];
	static int results[3];
	uint32_t channel;

	post("5:inbox", data, sizeof(data), &results[0]);
	post("5:inbox", large, 70000, &results[1]);
	post("5:inbox", data, sizeof(data), &results[2]);
	channel = expect_open("5:inbox");
	fake_opened(&fake, channel, 1 << 20, 1000);
	assert_int_equal(outcome_of(&results[1]), -EMSGSIZE);
	read_stream(channel, stream, sizeof(stream));
	assert_int_equal(get_u32(stream + SPAN_64), 64);
	fake_credit(&fake, channel, 2 * SPAN_64, 1 << 20);
	assert_int_equal(outcome_of(&results[2]), 0);
	assert_int_equal(xenmsg_post(fake.conn, "5:inbox", large, 1001, NULL, NULL), -EMSGSIZE);
	free(large);
}

static void the_limit_is_the_limit(void **state)
{
	uint8_t *large = calloc(1, FAKE_MAX_MESSAGE + 1);
	static int result;

	assert_int_equal(xenmsg_max_message(fake.conn), FAKE_MAX_MESSAGE);
	post("5:inbox", large, FAKE_MAX_MESSAGE, &result);
	assert_int_equal(xenmsg_post(fake.conn, "5:inbox", large, FAKE_MAX_MESSAGE + 1, NULL, NULL),
			 -EMSGSIZE);
	free(large);
}

static void too_much_for_one_address_is_refused(void **state)
{
	uint8_t *large = calloc(1, FAKE_MAX_MESSAGE), data[64] = {0};
	int r = 0, posts = 0;

	while (r == 0 && posts < 100) {
		r = xenmsg_post(fake.conn, "5:inbox", large, FAKE_MAX_MESSAGE, NULL, NULL);
		posts++;
	}
	assert_int_equal(r, -EAGAIN);
	assert_int_equal(xenmsg_post(fake.conn, "5:other", data, 64, NULL, NULL), 0);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, 64, 0), -EAGAIN);
	free(large);
}

/* ---- small messages, which go out by a shorter way where nothing stands before them ---------- */

#define SMALL_ADDRESSES 24u

struct small_stream {
	char address[16];
	uint32_t channel; /* once it was opened */
	bool opened;
	uint64_t limit, framed, frames_messages;
	uint32_t posted;
	uint8_t *bytes; /* what its stream must be */
	uint64_t size;
};

static struct small_stream small[SMALL_ADDRESSES];

static struct small_stream *small_by_channel(uint32_t channel)
{
	for (uint32_t i = 0; i < SMALL_ADDRESSES; i++)
		if (small[i].opened && small[i].channel == channel)
			return &small[i];
	fail_msg("DATA of channel %u before its OPEN", channel);
	return NULL;
}

static void read_small(void)
{
	struct small_stream *to;
	struct frame_open open;

	fake_read(&fake);
	if (fake.header.type == FRAME_OPEN) {
		assert_int_equal(frame_open_decode(fake.payload, fake.header.length, &open), 0);
		for (uint32_t i = 0; i < SMALL_ADDRESSES; i++)
			if (strlen(small[i].address) == open.name.size &&
			    !memcmp(small[i].address, open.name.data, open.name.size)) {
				assert_false(small[i].opened);
				small[i].opened = true;
				small[i].channel = fake.header.channel;
				return;
			}
		fail_msg("an OPEN for something else");
	}
	assert_string_equal(frame_type_name(fake.header.type), "DATA");
	to = small_by_channel(fake.header.channel);
	assert_true(to->framed + fake.header.length <= to->limit);
	assert_true(to->framed + fake.header.length <= to->size);
	assert_memory_equal(to->bytes + to->framed, fake.payload, fake.header.length);
	to->framed += fake.header.length;
	to->frames_messages += fake.header.messages;
}

static void post_small(struct small_stream *to)
{
	uint32_t size = (uint32_t)rand() % (rand() % 4 ? 90 : 700);
	uint8_t data[1024];

	fill(data, size, (uint32_t)rand());
	if (rand() % 8 ? xenmsg_post(fake.conn, to->address, data, size, NULL, NULL) < 0
		       : xenmsg_send(fake.conn, to->address, data, size, 0) < 0)
		return;
	to->bytes = realloc(to->bytes, to->size + 1024);
	assert_non_null(to->bytes);
	to->size += fake_message(to->bytes + to->size, data, size, MESSAGE_SENT);
	to->posted++;
}

/* However full the ring is, and however odd the credit: what stands before a message stays before it. */
static void small_messages_go_out_whole_and_in_order(void **state)
{
	uint32_t addresses = 1;

	srand(3);
	memset(small, 0, sizeof(small));
	for (uint32_t i = 0; i < SMALL_ADDRESSES; i++) {
		/* OPENs of different lengths */
		snprintf(small[i].address, sizeof(small[i].address), "%u:%.*s", i + 10, (int)(1 + i % 10),
			 "abcdefghijk");
		small[i].limit = CHANNEL_INITIAL_LIMIT;
	}
	for (int round = 0; round < 4000; round++) {
		struct small_stream *of = &small[(uint32_t)rand() % addresses];
		bool full = round / 200 % 2; /* the ring is, else credit is short */

		if (rand() % 100 == 0 && addresses < SMALL_ADDRESSES)
			addresses++;
		for (int i = rand() % 60; i > 0; i--)
			post_small(&small[(uint32_t)rand() % addresses]);
		xenmsg_process(fake.conn);
		for (int i = rand() % (full ? 8 : 300); i > 0 && fake_has_frame(&fake); i--)
			read_small();
		if (of->opened) {
			uint64_t limit = of->framed + (uint64_t)rand() % (full ? 300000 : 3000);

			of->limit = limit > of->limit ? limit : of->limit;
			fake_credit(&fake, of->channel, rand() % 2 ? of->framed : 0, of->limit);
		}
	}
	for (uint32_t i = 0; i < addresses; i++)
		while (small[i].framed < small[i].size) {
			if (small[i].opened && small[i].limit < small[i].size) {
				small[i].limit = small[i].size;
				fake_credit(&fake, small[i].channel, 0, small[i].limit);
			}
			xenmsg_process(fake.conn);
			while (fake_has_frame(&fake))
				read_small();
		}
	for (uint32_t i = 0; i < addresses; i++) {
		assert_int_equal(small[i].frames_messages, small[i].posted);
		free(small[i].bytes);
	}
}

static uint32_t room_in_the_ring(void)
{
	return FAKE_RING_SIZE - (*fake.out.ring.producer - *fake.out.ring.consumer);
}

/* There is room for the message, but not for the OPEN that stands before it. */
static void a_small_message_does_not_overtake_its_open(void **state)
{
	uint8_t data[512] = {0};
	uint32_t channel;
	static int result;

	post("5:full", data, 0, &result);
	channel = expect_open("5:full");
	fake_opened(&fake, channel, 1ull << 40, FAKE_MAX_MESSAGE);
	while (room_in_the_ring() > 40) {
		uint32_t room = room_in_the_ring() - 40;

		assert_int_equal(
			xenmsg_post(fake.conn, "5:full", data, room < 600 ? room - 32 : 480, NULL, NULL), 0);
	}
	assert_int_equal(room_in_the_ring(), 40);
	assert_int_equal(xenmsg_post(fake.conn, "6:a-name-that-takes-room", data, 0, NULL, NULL), 0);
	assert_int_equal(room_in_the_ring(), 40);
	do {
		xenmsg_process(fake.conn);
		fake_read(&fake);
	} while (fake.header.channel == channel);
	assert_int_equal(fake.header.type, FRAME_OPEN);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_DATA);
}

static void malformed_addresses_are_refused(void **state)
{
	static const char *const addresses[] = {
		"",	      "5",
		":",	      ":x",
		"5:",	      "5:-x",
		"5:_x",	      "5:a b",
		"5:x:y",      "5:a.b",
		"a/b:x",      "a b:x",
		"5:\xc3\xa9", "5:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
		assert_int_equal(xenmsg_post(fake.conn, addresses[i], "x", 1, NULL, NULL), -EINVAL);
	xenmsg_process(fake.conn);
	assert_false(fake_has_frame(&fake));
}

static bool readable(void)
{
	struct pollfd wait = {.fd = xenmsg_fd(fake.conn), .events = (short)xenmsg_events(fake.conn)};

	return poll(&wait, 1, 0) == 1;
}

static void the_descriptor_tells_a_loop_when_to_process(void **state)
{
	uint8_t stream[SPAN_64], data[64] = {0};
	uint32_t channel;
	static int result;

	post("5:inbox", data, sizeof(data), &result);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	xenmsg_process(fake.conn);
	assert_false(readable());
	assert_int_equal(xenmsg_timeout(fake.conn), -1);
	fake_credit(&fake, channel, SPAN_64, 65536);
	assert_true(readable());
	assert_int_equal(xenmsg_process(fake.conn), 1);
	assert_int_equal(result, 0);
	assert_false(readable());
	/* A post may come across the news, but calls nobody back: the descriptor still tells. */
	post("5:inbox", data, sizeof(data), &result);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_DATA);
	fake_credit(&fake, channel, 2 * SPAN_64, 65536);
	assert_int_equal(xenmsg_post(fake.conn, "5:inbox", data, 64, NULL, NULL), 0);
	assert_int_equal(result, PENDING);
	assert_true(readable() || xenmsg_timeout(fake.conn) == 0);
	xenmsg_process(fake.conn);
	assert_int_equal(result, 0);
}

static int chain_results[3];

static void post_next(void *userdata, int result)
{
	int *at = userdata;

	*at = result;
	if (at + 1 < chain_results + 3)
		assert_int_equal(xenmsg_post(fake.conn, "5:inbox", "x", 1, post_next, at + 1), 0);
}

static void a_callback_may_post(void **state)
{
	uint8_t stream[24];
	uint32_t channel;

	for (int i = 0; i < 3; i++)
		chain_results[i] = PENDING;
	assert_int_equal(xenmsg_post(fake.conn, "5:inbox", "x", 1, post_next, &chain_results[0]), 0);
	channel = expect_open("5:inbox");
	for (uint64_t i = 0; i < 3; i++) {
		read_stream(channel, stream, sizeof(stream));
		fake_credit(&fake, channel, (i + 1) * 24, 65536);
		assert_int_equal(outcome_of(&chain_results[i]), 0);
	}
}

static void idle_channels_are_closed_when_there_are_many(void **state)
{
	uint8_t stream[24];
	bool fin = false;

	for (int i = 0; i < 300 && !fin; i++) {
		char address[32];
		uint32_t channel;
		static int result;

		snprintf(address, sizeof(address), "5:e%d", i);
		post(address, "x", 1, &result);
		xenmsg_process(fake.conn);
		fake_read(&fake);
		if (fake.header.type == FRAME_FIN) {
			uint64_t total;

			fin = true;
			assert_int_equal(fake.header.channel, 0); /* the one that was used first */
			assert_int_equal(frame_u64_decode(fake.payload, fake.header.length, &total), 0);
			assert_int_equal(total, 24);
			break;
		}
		assert_int_equal(fake.header.type, FRAME_OPEN);
		channel = fake.header.channel;
		read_stream(channel, stream, sizeof(stream));
		fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
		fake_credit(&fake, channel, 24, 65536);
		assert_int_equal(outcome_of(&result), 0);
	}
	assert_true(fin);
}

static void garbage_from_the_daemon_ends_the_connection(void **state)
{
	static const uint8_t zeros[64];
	uint8_t stream[SPAN_64], data[64] = {0};
	static int result;
	int what = *(int *)*state;
	uint32_t channel;

	fake_start(&fake, what % 2);
	post("5:inbox", data, sizeof(data), &result);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	switch (what / 2) {
	case 0: /* a type that must not be skipped */
		fake_send(&fake, 99, 0, 0, zeros, 8);
		break;
	case 1: /* more consumed than was sent */
		fake_credit(&fake, channel, SPAN_64 + 8, 65536);
		break;
	case 2: /* too short for its type */
		fake_send(&fake, FRAME_CREDIT, 0, channel, zeros, 8);
		break;
	case 3: /* a channel with a number of ours */
		fake_open(&fake, 1000, "inbox");
		break;
	case 4: /* opened twice */
		fake_opened(&fake, channel, 65536, 1);
		fake_opened(&fake, channel, 65536, 1);
		break;
	case 5: /* an answer to nothing */
		fake_reply(&fake, 77, 0, "", false);
		break;
	case 6: /* a length that no frame has */
		if (fake.shared) {
			uint8_t raw[FRAME_HEADER_SIZE] = {0, 0, 0, 0xff, FRAME_CREDIT};

			ring_writer_put(&fake.in, raw, sizeof(raw));
			ring_writer_publish(&fake.in);
		} else {
			uint8_t raw[FRAME_HEADER_SIZE] = {0, 0, 0, 0xff, FRAME_CREDIT};

			assert_int_equal(send(fake.fd, raw, sizeof(raw), MSG_NOSIGNAL), sizeof(raw));
		}
		break;
	}
	for (int i = 0; i < 100 && result == PENDING; i++)
		xenmsg_wait(fake.conn, 100);
	assert_int_equal(result, -ECONNRESET);
	assert_int_equal(xenmsg_process(fake.conn), -EPROTO);
	assert_int_equal(xenmsg_post(fake.conn, "5:inbox", data, 64, NULL, NULL), -ENOTCONN);
	fake_stop(&fake);
}

/* Whatever the program does when the library comes upon it: the session is over, and that is what it hears. */
static void an_impossible_index_ends_the_connection_whoever_finds_it(void **state)
{
	int which = *(int *)*state, pending = PENDING, r = 0;
	struct xenmsg_message *reply;
	char *json;

	fake_start(&fake, true);
	post("5:inbox", NULL, 0, &pending);
	fake_opened(&fake, expect_open("5:inbox"), 1ull << 40, FAKE_MAX_MESSAGE);
	xenmsg_process(fake.conn);
	while (r == 0)
		r = xenmsg_send(fake.conn, "5:inbox", NULL, 0, 0);
	assert_int_equal(r, -EAGAIN); /* the ring is full, so the next one looks how much was taken */
	*fake.out.ring.consumer = *fake.out.ring.producer + 8;
	switch (which) {
	case 0:
		r = xenmsg_send(fake.conn, "5:inbox", NULL, 0, 0);
		break;
	case 1:
		r = xenmsg_send(fake.conn, "5:other", NULL, 0, 0);
		break;
	case 2:
		r = xenmsg_send(fake.conn, "5:other", NULL, 0, 1000);
		break;
	case 3:
		r = xenmsg_post(fake.conn, "5:other", NULL, 0, NULL, NULL);
		break;
	case 4:
		r = xenmsg_call(fake.conn, "5:other", NULL, 0, &reply, 1000);
		break;
	case 5:
		r = xenmsg_call_post(fake.conn, "5:other", NULL, 0, NULL, NULL);
		break;
	case 6:
		r = xenmsg_query(fake.conn, "status", &json);
		break;
	case 7:
		r = xenmsg_bind(fake.conn, "mine", 0, NULL, NULL);
		break;
	}
	assert_int_equal(r, -ENOTCONN);
	assert_int_equal(outcome_of(&pending), -ECONNRESET);
	assert_int_equal(xenmsg_process(fake.conn), -EPROTO);
	fake_stop(&fake);
}

static int whats[14], finders[8];

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(messages_go_out_before_the_channel_is_opened),
		BOTH(an_empty_message_is_a_message),
		BOTH(bytes_beyond_the_credit_wait_for_it),
		BOTH(a_large_message_does_not_hold_up_a_small_one),
		BOTH(a_reset_settles_each_message_by_the_rule),
		BOTH(a_timed_out_send_ends_as_its_cancel_is_answered),
		BOTH(a_timed_out_send_ends_soon_though_its_cancel_is_not_answered),
		BOTH(a_send_that_is_not_decided_yet_is_tried_again_in_its_time),
		BOTH(a_send_that_is_never_decided_says_so_when_its_time_is_up),
		BOTH(a_send_that_never_left_is_withdrawn),
		BOTH(a_post_that_is_withdrawn_ends_as_its_cancel_is_answered),
		BOTH(a_post_that_never_left_is_withdrawn),
		BOTH(a_message_cancelled_half_way_is_marked_and_completed),
		BOTH(the_death_of_the_daemon_ends_every_send_once),
		BOTH(close_ends_every_send_once),
		BOTH(what_the_peer_does_not_accept_is_taken_out_of_the_stream),
		BOTH(the_limit_is_the_limit),
		BOTH(too_much_for_one_address_is_refused),
		SHARED(small_messages_go_out_whole_and_in_order),
		SHARED(a_small_message_does_not_overtake_its_open),
		BOTH(malformed_addresses_are_refused),
		BOTH(the_descriptor_tells_a_loop_when_to_process),
		BOTH(a_callback_may_post),
		BOTH(idle_channels_are_closed_when_there_are_many),
	};
	struct CMUnitTest garbage[14], impossible[8];
	int failed;

	for (int i = 0; i < 14; i++) {
		whats[i] = i;
		garbage[i] = (struct CMUnitTest){.name = "garbage_from_the_daemon_ends_the_connection",
						 .test_func = garbage_from_the_daemon_ends_the_connection,
						 .initial_state = &whats[i]};
	}
	for (int i = 0; i < 8; i++) {
		finders[i] = i;
		impossible[i] = (struct CMUnitTest){
			.name = "an_impossible_index_ends_the_connection_whoever_finds_it",
			.test_func = an_impossible_index_ends_the_connection_whoever_finds_it,
			.initial_state = &finders[i]};
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	failed += cmocka_run_group_tests(garbage, NULL, NULL);
	return failed + cmocka_run_group_tests(impossible, NULL, NULL);
}
