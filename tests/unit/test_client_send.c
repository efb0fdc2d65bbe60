/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about messages that a program sends: each ends once, by the rule, whatever the
 * daemon and the peer say.
 */
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire/bytes.h"

BOTH(messages_go_out_before_the_channel_is_opened)
{
	uint8_t stream[3 * SPAN_64], data[64];
#define AT_ONCE_MAX 65520 /* what xenmsg_max_at_once() says */

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

BOTH(the_message_that_was_sent_last_has_a_name)
{
	char name[XENMSG_NAME_SIZE], wanted[XENMSG_NAME_SIZE];
	static int results[2];

	assert_int_equal(xenmsg_sent_name(fake.conn, "5:inbox", 0, name, sizeof(name)), -ENOENT);
	post("5:inbox", "x", 1, &results[0]);
	post("5:inbox", "x", 1, &results[1]);
	snprintf(wanted, sizeof(wanted), "%u.%d.1@48", xenmsg_domid(fake.conn), (int)getpid());
	assert_int_equal(xenmsg_sent_name(fake.conn, "5:inbox", 0, name, sizeof(name)), 0);
	assert_string_equal(name, wanted);
	assert_int_equal(xenmsg_sent_name(fake.conn, "5:inbox", XENMSG_ONLY_CALLS, name, sizeof(name)),
			 -ENOENT);
	assert_int_equal(xenmsg_sent_name(fake.conn, "5:inbox", XENMSG_WAIT, name, sizeof(name)), -EINVAL);
	assert_int_equal(xenmsg_sent_name(fake.conn, "5:inbox", 0, name, strlen(wanted)), -ENOBUFS);
}

BOTH(bytes_beyond_the_credit_wait_for_it)
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

BOTH(an_older_credit_takes_none_back)
{
	static uint8_t data[200000], stream[16 + sizeof(data)];
	static int result;
	uint32_t channel;

	post("5:inbox", data, sizeof(data), &result);
	channel = expect_open("5:inbox");
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, 0, 1000000);
	fake_credit(&fake, channel, 0, 65536);
	read_stream(channel, stream, sizeof(stream));
}

BOTH(what_must_not_wait_is_sent_or_refused)
{
	static uint8_t data[AT_ONCE_MAX], stream[16 + sizeof(data)];
	uint32_t channel;

	assert_int_equal(
		xenmsg_send(fake.conn, "5:inbox", data, sizeof(data) + 1, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL),
		-EMSGSIZE);
	assert_int_equal(
		xenmsg_send(fake.conn, "5:inbox", data, sizeof(data), XENMSG_FLAGS(XENMSG_AT_ONCE), NULL), 0);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, 1, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL),
			 -EAGAIN); /* there is no credit left */
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	fake_opened(&fake, channel, 1 << 20, FAKE_MAX_MESSAGE);
	xenmsg_process(fake.conn);
	assert_false(fake_has_frame(&fake)); /* what was refused isn't sent later */
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, 1, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL), 0);
	read_stream(channel, stream, 24);
}

BOTH(a_large_message_does_not_hold_up_a_small_one)
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

BOTH(a_reset_settles_each_message_by_the_rule)
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

struct refusal {
	int result, fate;
	unsigned code;
};

static void note_refusal(void *userdata, const struct xenmsg_result *result)
{
	*(struct refusal *)userdata = (struct refusal){result->error, (int)result->fate, result->code};
}

static void refuse_the_first(struct fake *daemon)
{
	fake_expect(daemon, FRAME_OPEN);
	fake_expect(daemon, FRAME_DATA);
	fake_refuse(daemon, daemon->header.channel, ENODATA, 0);
}

BOTH(a_refused_message_has_its_number_and_those_behind_ours)
{
	uint8_t stream[3 * SPAN_64], data[64] = {0};
	struct refusal refusals[3] = {0}, timed = {0};
	struct xenmsg_result result;
	uint32_t channel;

	for (int i = 0; i < 3; i++)
		assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", data, sizeof(data), NULL,
						   note_refusal, &refusals[i], NULL),
				 0);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	fake_refuse(&fake, channel, ENOENT, SPAN_64);
	while (!refusals[2].result)
		xenmsg_process(fake.conn);
	assert_int_equal(refusals[0].result, 0);
	assert_int_equal(refusals[1].result, -EREMOTEIO);
	assert_int_equal(refusals[1].code, ENOENT);
	assert_int_equal(refusals[1].fate, XENMSG_FATE_NOT_DONE);
	assert_int_equal(refusals[2].result, -ECANCELED);
	assert_int_equal(refusals[2].fate, XENMSG_FATE_NOT_DONE);
	fake_expect(&fake, FRAME_RESET);
	/* Of ours, this number would say that it is to be tried again. */
	fake_meanwhile(&fake, refuse_the_first);
	assert_int_equal(xenmsg_send(fake.conn, "5:other", data, sizeof(data), NULL, &result), -EREMOTEIO);
	assert_int_equal(result.code, ENODATA);
	assert_int_equal(result.fate, XENMSG_FATE_NOT_DONE);
	fake_join(&fake);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:timed", data, sizeof(data), XENMSG_WITHIN(60000),
					   note_refusal, &timed, NULL),
			 0);
	fake_expect(&fake, FRAME_RESET);
	channel = expect_open("5:timed");
	read_stream(channel, stream, SPAN_64);
	fake_refuse(&fake, channel, ENOENT, 0);
	while (!timed.result)
		xenmsg_process(fake.conn);
	assert_int_equal(timed.result, -EREMOTEIO);
	assert_int_equal(timed.code, ENOENT);
}

BOTH(the_death_of_the_daemon_ends_every_send_once)
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
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", data, 64, NULL, NULL, NULL, NULL),
			 -ENOTCONN);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, 64, XENMSG_WITHIN(1000), NULL), -ENOTCONN);
	assert_int_equal(xenmsg_process(fake.conn), -ENOTCONN);
	free(large);
}

BOTH(close_ends_every_send_once)
{
	uint8_t *large = calloc(1, 100000), data[64] = {0};
	static int results[2];

	post("5:inbox", data, sizeof(data), &results[0]);
	post("5:inbox", large, 100000, &results[1]);
	fake_close(&fake);
	assert_int_equal(results[0], -ECONNRESET);
	assert_int_equal(results[1], -ECANCELED);
	free(large);
}

BOTH(what_the_peer_does_not_accept_is_taken_out_of_the_stream)
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
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", large, 1001, NULL, NULL, NULL, NULL),
			 -EMSGSIZE);
	free(large);
}

BOTH(the_limit_is_the_limit)
{
	uint8_t *large = calloc(1, FAKE_MAX_MESSAGE + 1);
	static int result;

	assert_int_equal(xenmsg_max_message(fake.conn), FAKE_MAX_MESSAGE);
	post("5:inbox", large, FAKE_MAX_MESSAGE, &result);
	assert_int_equal(
		xenmsg_begin_send(fake.conn, "5:inbox", large, FAKE_MAX_MESSAGE + 1, NULL, NULL, NULL, NULL),
		-EMSGSIZE);
	free(large);
}

BOTH(too_much_for_one_address_is_refused)
{
	uint8_t *large = calloc(1, FAKE_MAX_MESSAGE), data[64] = {0};
	int r = 0, posts = 0;

	while (r == 0 && posts < 100) {
		r = xenmsg_begin_send(fake.conn, "5:inbox", large, FAKE_MAX_MESSAGE, NULL, NULL, NULL, NULL);
		posts++;
	}
	assert_int_equal(r, -EAGAIN);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:other", data, 64, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(xenmsg_send(fake.conn, "5:inbox", data, 64, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL),
			 -EAGAIN);
	free(large);
}

/* ---- small messages, which go out by a shorter way where nothing stands before them ---------- */

BOTH(the_descriptor_tells_a_loop_when_to_process)
{
	uint8_t stream[SPAN_64], data[64] = {0};
	uint32_t channel;
	static int result;

	post("5:inbox", data, sizeof(data), &result);
	channel = expect_open("5:inbox");
	read_stream(channel, stream, sizeof(stream));
	xenmsg_process(fake.conn);
	assert_false(is_readable(fake.conn));
	fake_credit(&fake, channel, SPAN_64, 65536);
	assert_true(is_readable(fake.conn));
	assert_int_equal(xenmsg_process(fake.conn), 1);
	assert_int_equal(result, 0);
	assert_false(is_readable(fake.conn));
	/* A post may come across the news, but calls nobody back: the descriptor still tells. */
	post("5:inbox", data, sizeof(data), &result);
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_DATA);
	fake_credit(&fake, channel, 2 * SPAN_64, 65536);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", data, 64, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(result, PENDING);
	assert_true(is_readable(fake.conn));
	xenmsg_process(fake.conn);
	assert_int_equal(result, 0);
}

BOTH(idle_channels_are_closed_when_there_are_many)
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
