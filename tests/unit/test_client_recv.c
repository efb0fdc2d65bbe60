/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libxenmsg promises about messages that a program receives: each comes whole, and only what was taken
 * is reported as taken.
 */
#include "tests/unit/client_recv_rig.h"
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <stdlib.h>

#include "wire/bytes.h"

BOTH(a_message_comes_with_its_stamp)
{
	struct xenmsg_message *message;

	open_inbox(NULL, NULL);
	DELIVER(1, "hello");
	message = recv_one();
	assert_int_equal(xenmsg_message_size(message), 5);
	assert_memory_equal(xenmsg_message_data(message), "hello", 5);
	assert_string_equal(xenmsg_message_endpoint(message), "inbox");
	assert_int_equal(xenmsg_peer_domid(xenmsg_message_sender(message)), 3);
	assert_int_equal(xenmsg_peer_uid(xenmsg_message_sender(message)), 1000);
	assert_int_equal(xenmsg_peer_gid(xenmsg_message_sender(message)), 100);
	assert_int_equal(xenmsg_peer_pid(xenmsg_message_sender(message)), 4321);
	assert_string_equal(xenmsg_peer_domain_name(xenmsg_message_sender(message)), "");
	/* It outlives the connection. */
	fake_close(&fake);
	assert_memory_equal(xenmsg_message_data(message), "hello", 5);
	xenmsg_message_free(message);
}

BOTH(only_what_was_taken_is_reported_as_taken)
{
	open_inbox(NULL, NULL);
	DELIVER(1, "one", "two");
	expect_message("one");
	/* Waiting for nothing makes the library report. */
	xenmsg_process(fake.conn);
	expect_taken(1, 24);
	expect_message("two");
	expect_nothing();
	xenmsg_process(fake.conn);
	expect_taken(1, 48);
}

BOTH(a_channel_of_a_kind_that_it_does_not_know_is_refused)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open_kind(&fake, 1, CHANNEL_STREAM, "inbox");
	xenmsg_process(fake.conn);
	expect_reset(1, EPROTONOSUPPORT, 0);
}

BOTH(a_message_in_pieces_is_put_together)
{
	uint32_t size = 130000, span = 8 + size + 8;
	uint8_t *data = malloc(size), *whole = malloc(span);
	struct xenmsg_message *message;

	fill(data, size, 5);
	assert_int_equal(fake_message(whole, data, size, MESSAGE_SENT), span);
	open_inbox(NULL, NULL);
	fake_open(&fake, 3, "inbox");
	fake_send(&fake, FRAME_DATA, 0, 1, whole, 8);
	DELIVER(3, "between");
	fake_send(&fake, FRAME_DATA, 0, 1, whole + 8, 65536);
	fake_send(&fake, FRAME_DATA, 0, 1, whole + 65544, span - 65544 - 32);
	expect_message("between");
	expect_nothing();
	DELIVER(3, "and again");
	fake_send(&fake, FRAME_DATA, 0, 1, whole + span - 32, 24);
	expect_message("and again");
	expect_nothing();
	fake_send(&fake, FRAME_DATA, 0, 1, whole + span - 8, 8);
	message = recv_one();
	assert_int_equal(xenmsg_message_size(message), size);
	assert_memory_equal(xenmsg_message_data(message), data, size);
	xenmsg_message_free(message);
	free(data);
	free(whole);
}

BOTH(a_cancelled_message_is_skipped)
{
	uint32_t size;

	open_inbox(NULL, NULL);
	size = fake_message(stream, "no", 2, MESSAGE_CANCELLED);
	size += fake_message(stream + size, "yes", 3, MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	expect_message("yes");
	expect_nothing();
}

BOTH(a_cancel_frame_is_settled_by_who_came_first)
{
	struct frame_cancelled answer;

	open_inbox(NULL, NULL);
	DELIVER(1, "one", "two", "three");
	expect_message("one");
	fake_cancel(&fake, 1, 16);
	fake_cancel(&fake, 1, 24 + 16);
	xenmsg_process(fake.conn);
	expect_message("three");
	expect_nothing();
	xenmsg_process(fake.conn);
	fake_expect_past_credit(&fake, FRAME_CANCELLED);
	assert_int_equal(FAKE_HEARD(&fake, cancelled).result, 0);
	fake_expect_past_credit(&fake, FRAME_CANCELLED);
	answer = FAKE_HEARD(&fake, cancelled);
	assert_int_equal(answer.offset, 40);
	assert_int_equal(answer.result, ECANCELED);
}

BOTH(a_malformed_stream_ends_its_channel_alone)
{
	static const struct {
		uint32_t size;
		uint8_t type;
		uint32_t length, state, error;
	} cases[] = {
		{FAKE_MAX_MESSAGE + 1, 0, 32, 0, EMSGSIZE},
		{UINT32_MAX, 0, 32, 0, EMSGSIZE},
		{8, 1, 24, 0, EPROTO},
		{8, 0, 20, 0, EPROTO},
		{8, 0, 24, 7, EPROTO},
	};
	uint32_t channel = 1;

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 101, "inbox");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++, channel += 2) {
		uint8_t bad[64] = {0};

		fake_open(&fake, channel, "inbox");
		put_u32(bad, cases[i].size);
		bad[4] = cases[i].type;
		put_u32(bad + 16, cases[i].state);
		fake_send(&fake, FRAME_DATA, 0, channel, bad, cases[i].length);
		DELIVER(101, "fine");
		expect_message("fine");
		expect_nothing();
		xenmsg_process(fake.conn);
		fake_expect_past_credit(&fake, FRAME_RESET);
		assert_int_equal(fake.header.channel, channel);
		assert_int_equal(get_u32(fake.payload), cases[i].error);
		/* Until the daemon answers, whatever else comes is ignored. */
		DELIVER(channel, "ignored");
		expect_nothing();
		fake_reset(&fake, channel, cases[i].error, 0, 0);
	}
}

BOTH(a_huge_announcement_costs_nothing)
{
	uint8_t head[16] = {0};

	fake_bind(&fake, "inbox", NULL, NULL);
	put_u32(head, FAKE_MAX_MESSAGE);
	/* 2000 × 1 MiB were 2 GiB. */
	for (uint32_t channel = 1; channel < 4000; channel += 2) {
		fake_open(&fake, channel, "inbox");
		fake_send(&fake, FRAME_DATA, 0, channel, head, 16);
		expect_nothing();
	}
}

BOTH(a_channel_to_an_endpoint_that_is_not_ours_is_refused)
{
	fake_open(&fake, 1, "nobody");
	DELIVER(1, "lost");
	expect_nothing();
	xenmsg_process(fake.conn);
	expect_reset(1, ENOENT, 0);
}

BOTH(fin_is_answered_after_the_last_message_was_taken)
{
	open_inbox(NULL, NULL);
	DELIVER(1, "one", "two");
	fake_fin(&fake, 1, 48);
	expect_message("one");
	xenmsg_process(fake.conn);
	expect_taken(1, 24);
	assert_false(fake_has_frame(&fake));
	expect_message("two");
	expect_nothing();
	xenmsg_process(fake.conn);
	expect_taken(1, 48);
	fake_expect(&fake, FRAME_FIN);
	/* The number is free again. */
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "three");
	expect_message("three");
}

BOTH(a_reset_takes_what_was_not_taken)
{
	open_inbox(NULL, NULL);
	DELIVER(1, "one", "two");
	expect_message("one");
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	xenmsg_process(fake.conn);
	expect_nothing();
	xenmsg_process(fake.conn);
	fake_expect_past_credit(&fake, FRAME_RESET);
	assert_int_equal(fake.header.channel, 1);
}

/* xenmsg_wait() returns at once while a message waits, and yet the outcome of another comes. */
BOTH(a_message_that_waits_hides_nothing_else)
{
	static int result; /* it may come as late as in tear_down() */
	uint32_t channel;

	open_inbox(NULL, NULL);
	DELIVER(1, "one");
	assert_int_equal(xenmsg_wait(fake.conn, 10000), 1);
	post("5:inbox", "x", 1, &result);
	channel = expect_open("5:inbox");
	fake_expect(&fake, FRAME_DATA);
	fake_opened(&fake, channel, 65536, FAKE_MAX_MESSAGE);
	fake_credit(&fake, channel, 24, 65536);
	for (int i = 0; i < 3 && result == PENDING; i++)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	assert_int_equal(result, 0);
}
