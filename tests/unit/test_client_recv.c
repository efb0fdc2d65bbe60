/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What libxenmsg promises about messages that a program receives, about requests and events, and about
 * connecting. */

#include "tests/unit/client_fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/address.h"
#include "wire/bytes.h"

static uint8_t stream[FRAME_PAYLOAD_MAX * 4];

/* A frame with messages of the given texts. */
static void deliver(uint32_t channel, const char *const *texts)
{
	uint32_t size = 0;

	for (; *texts; texts++)
		size += fake_message(stream + size, *texts, (uint32_t)strlen(*texts), MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, channel, stream, size);
}

#define DELIVER(channel, ...) deliver(channel, (const char *const[]){__VA_ARGS__, NULL})

static void expect_message(const char *text)
{
	struct xenmsg_message *message;

	assert_int_equal(xenmsg_recv(fake.conn, &message, 10000), 0);
	assert_int_equal(xenmsg_message_size(message), strlen(text));
	assert_memory_equal(xenmsg_message_data(message), text, strlen(text));
	xenmsg_message_free(message);
}

static void expect_nothing(void)
{
	struct xenmsg_message *message;

	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EAGAIN);
}

static void expect_reset(uint32_t channel, uint32_t error, uint64_t consumed)
{
	struct frame_reset reset;

	fake_expect(&fake, FRAME_RESET);
	assert_int_equal(fake.header.channel, channel);
	assert_int_equal(frame_reset_decode(fake.payload, fake.header.length, &reset), 0);
	assert_int_equal(reset.error, error);
	assert_int_equal(reset.consumed, consumed);
	assert_int_equal(reset.unsure, consumed);
}

/* How far the daemon sees that the program has taken the only channel's stream of one frame. */
static void expect_taken(uint32_t channel, uint64_t consumed)
{
	struct frame_credit credit;

	if (fake.shared) {
		int unread = ring_writer_unread(&fake.deliveries);

		assert_int_equal(fake.deliveries.head - (uint32_t)unread, FRAME_HEADER_SIZE + consumed);
		return;
	}
	fake_expect(&fake, FRAME_CREDIT);
	assert_int_equal(fake.header.channel, channel);
	assert_int_equal(frame_credit_decode(fake.payload, fake.header.length, &credit), 0);
	assert_int_equal(credit.consumed, consumed);
}

static void a_message_comes_with_its_stamp(void **state)
{
	struct xenmsg_message *message;

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "hello");
	assert_int_equal(xenmsg_recv(fake.conn, &message, 10000), 0);
	assert_int_equal(xenmsg_message_size(message), 5);
	assert_memory_equal(xenmsg_message_data(message), "hello", 5);
	assert_string_equal(xenmsg_message_endpoint(message), "inbox");
	assert_int_equal(xenmsg_message_sender_domid(message), 3);
	assert_int_equal(xenmsg_message_sender_uid(message), 1000);
	assert_int_equal(xenmsg_message_sender_gid(message), 100);
	assert_int_equal(xenmsg_message_sender_pid(message), 4321);
	assert_string_equal(xenmsg_message_sender_name(message), "");
	/* It outlives the connection. */
	xenmsg_close(fake.conn);
	fake.conn = NULL;
	assert_memory_equal(xenmsg_message_data(message), "hello", 5);
	xenmsg_message_free(message);
}

static void only_what_was_taken_is_reported_as_taken(void **state)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
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

static void a_program_that_takes_nothing_reports_nothing(void **state)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one");
	assert_int_equal(xenmsg_wait(fake.conn, 10000), 1);
	assert_int_equal(xenmsg_process(fake.conn), 1);
	if (fake.shared) {
		uint32_t *word = ring_writer_word(&fake.deliveries, FRAME_HEADER_SIZE + 16);

		expect_taken(1, 0);
		assert_int_equal(*word, MESSAGE_SENT);
		/* So the daemon can still cancel it. */
		*word = MESSAGE_CANCELLED;
		expect_nothing();
	} else {
		assert_false(fake_has_frame(&fake));
	}
}

static void a_message_in_pieces_is_put_together(void **state)
{
	uint32_t size = 130000, span = 8 + size + 8;
	uint8_t *data = malloc(size), *whole = malloc(span);
	struct xenmsg_message *message;

	fill(data, size, 5);
	assert_int_equal(fake_message(whole, data, size, MESSAGE_SENT), span);
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
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
	assert_int_equal(xenmsg_recv(fake.conn, &message, 10000), 0);
	assert_int_equal(xenmsg_message_size(message), size);
	assert_memory_equal(xenmsg_message_data(message), data, size);
	xenmsg_message_free(message);
	free(data);
	free(whole);
}

static void messages_wrap_around_the_ring(void **state)
{
	uint8_t *data = malloc(40000), *whole = malloc(40016);

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t size = 35000 + 41 * i;
		struct xenmsg_message *message;

		fill(data, size, i);
		fake_send(&fake, FRAME_DATA, 0, 1, whole, fake_message(whole, data, size, MESSAGE_SENT));
		assert_int_equal(xenmsg_recv(fake.conn, &message, 10000), 0);
		assert_int_equal(xenmsg_message_size(message), size);
		assert_memory_equal(xenmsg_message_data(message), data, size);
		xenmsg_message_free(message);
		expect_nothing();
	}
	free(data);
	free(whole);
}

static void a_cancelled_message_is_skipped(void **state)
{
	uint32_t size;

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	size = fake_message(stream, "no", 2, MESSAGE_CANCELLED);
	size += fake_message(stream + size, "yes", 3, MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	expect_message("yes");
	expect_nothing();
}

static void a_cancel_frame_is_settled_by_who_came_first(void **state)
{
	struct frame_cancelled answer;
	uint8_t payload[8];

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one", "two", "three");
	expect_message("one");
	fake_send(&fake, FRAME_CANCEL, 0, 1, payload, frame_u64_encode(16, payload));
	fake_send(&fake, FRAME_CANCEL, 0, 1, payload, frame_u64_encode(24 + 16, payload));
	xenmsg_process(fake.conn);
	expect_message("three");
	expect_nothing();
	xenmsg_process(fake.conn);
	do
		fake_read(&fake);
	while (fake.header.type == FRAME_CREDIT);
	assert_int_equal(fake.header.type, FRAME_CANCELLED);
	assert_int_equal(frame_cancelled_decode(fake.payload, fake.header.length, &answer), 0);
	assert_int_equal(answer.result, 0);
	do
		fake_read(&fake);
	while (fake.header.type == FRAME_CREDIT);
	assert_int_equal(frame_cancelled_decode(fake.payload, fake.header.length, &answer), 0);
	assert_int_equal(answer.offset, 40);
	assert_int_equal(answer.result, ECANCELED);
}

static void a_malformed_stream_ends_its_channel_alone(void **state)
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
		do
			fake_read(&fake);
		while (fake.header.type == FRAME_CREDIT);
		assert_int_equal(fake.header.type, FRAME_RESET);
		assert_int_equal(fake.header.channel, channel);
		assert_int_equal(get_u32(fake.payload), cases[i].error);
		/* Until the daemon answers, whatever else comes is ignored. */
		DELIVER(channel, "ignored");
		expect_nothing();
		fake_reset(&fake, channel, cases[i].error, 0, 0);
	}
}

static void a_huge_announcement_costs_nothing(void **state)
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

static void a_channel_to_an_endpoint_that_is_not_ours_is_refused(void **state)
{
	fake_open(&fake, 1, "nobody");
	DELIVER(1, "lost");
	expect_nothing();
	xenmsg_process(fake.conn);
	expect_reset(1, ENOENT, 0);
}

static void fin_is_answered_after_the_last_message_was_taken(void **state)
{
	uint8_t payload[8];

	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one", "two");
	fake_send(&fake, FRAME_FIN, 0, 1, payload, frame_u64_encode(48, payload));
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

static void a_reset_takes_what_was_not_taken(void **state)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one", "two");
	expect_message("one");
	fake_reset(&fake, 1, ECONNRESET, 0, 0);
	xenmsg_process(fake.conn);
	expect_nothing();
	xenmsg_process(fake.conn);
	do
		fake_read(&fake);
	while (fake.header.type == FRAME_CREDIT);
	assert_int_equal(fake.header.type, FRAME_RESET);
	assert_int_equal(fake.header.channel, 1);
}

static int handled;

static void handle(void *userdata, struct xenmsg_message *message)
{
	assert_ptr_equal(userdata, &fake);
	assert_int_equal(xenmsg_message_size(message), 3);
	handled++;
	xenmsg_message_free(message);
}

static void answer(void *userdata, struct xenmsg_message *message)
{
	struct fake *to = userdata;

	assert_int_equal(xenmsg_post(to->conn, "2:x", "yes", 3, NULL, NULL), 0);
	xenmsg_message_free(message);
}

/* How often the library has notified the daemon since it was last asked. */
static uint64_t notifications(void)
{
	struct pollfd wait = {.fd = fake.wake_daemon, .events = POLLIN};
	uint64_t count = 0;

	if (poll(&wait, 1, 0) == 1)
		assert_int_equal(read(fake.wake_daemon, &count, sizeof(count)), sizeof(count));
	return count;
}

static void an_answer_and_what_was_taken_for_it_cost_one_notification(void **state)
{
	if (!fake.shared)
		skip();
	fake_bind(&fake, "inbox", answer, &fake);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one");
	xenmsg_process(fake.conn);
	fake_expect(&fake, FRAME_OPEN);
	fake_expect(&fake, FRAME_DATA);
	fake_opened(&fake, 0, 1u << 20, 1u << 20);
	xenmsg_process(fake.conn);
	notifications();
	assert_int_equal(ring_writer_arm(&fake.deliveries, FAKE_RING_SIZE + 1), 0);
	assert_int_equal(ring_reader_arm(&fake.out, 1), 0);
	DELIVER(1, "two");
	xenmsg_process(fake.conn);
	assert_int_equal(ring_writer_unread(&fake.deliveries), 0);
	assert_int_equal(notifications(), 1);
	fake_expect(&fake, FRAME_DATA);
	/* The daemon has looked, and asks again for what it still waits for. */
	assert_int_equal(ring_writer_arm(&fake.deliveries, FAKE_RING_SIZE + 1), 0);
	DELIVER(1, "three");
	fake_be_busy(&fake);
	xenmsg_process(fake.conn);
	assert_int_equal(notifications(), 1);
}

static void drop(void *userdata, struct xenmsg_message *message)
{
	xenmsg_message_free(message);
}

/* Fresh out of xenmsg_wait(), a program is about to do something that the daemon will be told of anyway. */
static void who_waits_reports_what_it_took_with_what_it_does_next(void **state)
{
	if (!fake.shared)
		skip();
	fake_bind(&fake, "inbox", drop, NULL);
	fake_open(&fake, 1, "inbox");
	xenmsg_process(fake.conn);
	notifications();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ring_reader_arm(&fake.out, 1), 0);
		assert_int_equal(ring_writer_arm(&fake.deliveries, FAKE_RING_SIZE + 1), 0);
		DELIVER(1, "one");
		assert_int_equal(xenmsg_wait(fake.conn, 10000), 1);
		assert_int_equal(ring_writer_unread(&fake.deliveries), 0);
		assert_int_equal(notifications(), 0);
		if (i == 0)
			assert_int_equal(xenmsg_post(fake.conn, "2:x", "yes", 3, NULL, NULL), 0);
		else
			assert_int_equal(xenmsg_wait(fake.conn, 0), 0);
		assert_int_equal(notifications(), 1);
		while (i == 0 && fake_has_frame(&fake))
			fake_read(&fake);
	}
}

/* More messages come than one xenmsg_process() handles, again and again. */
static void what_is_said_under_a_flood_is_shown_with_the_next_process(void **state)
{
	uint32_t size = 0;
	uint8_t payload[8];

	if (!fake.shared)
		skip();
	fake_bind(&fake, "inbox", drop, NULL);
	fake_open(&fake, 1, "inbox");
	fake_open(&fake, 3, "inbox");
	DELIVER(1, "the last one");
	while (size < 24 * 1000)
		size += fake_message(stream + size, "x", 1, MESSAGE_SENT);
	for (int i = 0; i < 4; i++)
		fake_send(&fake, FRAME_DATA, 0, 3, stream, size);
	fake_send(&fake, FRAME_FIN, 0, 1, payload, frame_u64_encode(32, payload));
	assert_int_equal(xenmsg_process(fake.conn), 1024);
	assert_int_equal(xenmsg_process(fake.conn), 1024);
	assert_true(fake_has_frame(&fake));
	fake_expect(&fake, FRAME_FIN);
	assert_int_equal(fake.header.channel, 1);
}

static void handlers_run_in_process_and_the_descriptor_tells_when(void **state)
{
	struct pollfd wait;

	handled = 0;
	fake_bind(&fake, "inbox", handle, &fake);
	wait = (struct pollfd){.fd = xenmsg_fd(fake.conn), .events = (short)xenmsg_events(fake.conn)};
	xenmsg_process(fake.conn);
	assert_int_equal(poll(&wait, 1, 0), 0);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one", "two");
	assert_int_equal(poll(&wait, 1, 10000), 1);
	while (handled < 2)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	xenmsg_process(fake.conn);
	assert_int_equal(poll(&wait, 1, 0), 0);
	DELIVER(1, "tri");
	assert_int_equal(poll(&wait, 1, 10000), 1);
	assert_int_equal(xenmsg_process(fake.conn), 1);
}

static void consent_to_unbind(struct fake *daemon)
{
	expect_reset(1, ENOENT, 24);
	fake_expect(daemon, FRAME_UNBIND);
	fake_reset(daemon, 1, ENOENT, 0, 0);
	fake_reply(daemon, daemon->header.channel, 0, "", false);
}

static void unbinding_tells_the_senders_first(void **state)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one", "two");
	expect_message("one");
	if (!fake.shared) {
		xenmsg_process(fake.conn);
		expect_taken(1, 24);
	}
	fake_meanwhile(&fake, consent_to_unbind);
	assert_int_equal(xenmsg_unbind(fake.conn, "inbox"), 0);
	fake_join(&fake);
	expect_nothing();
	assert_int_equal(xenmsg_unbind(fake.conn, "inbox"), -ENOENT);
}

static void refuse_bind(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_reply(daemon, daemon->header.channel, EEXIST, "pid 17 has bound it", false);
}

static void refuse_bind_without_words(struct fake *daemon)
{
	fake_expect(daemon, FRAME_BIND);
	fake_reply(daemon, daemon->header.channel, EHOSTUNREACH, "", false);
}

static void a_refusal_may_come_without_words(void **state)
{
	fake_meanwhile(&fake, refuse_bind_without_words);
	assert_int_equal(xenmsg_bind(fake.conn, "inbox", 0, NULL, NULL), -EHOSTUNREACH);
	fake_join(&fake);
	assert_string_equal(xenmsg_reason(fake.conn), "");
}

static void a_refusal_comes_with_its_reason(void **state)
{
	char longest[ENDPOINT_NAME_MAX + 2];

	fake_meanwhile(&fake, refuse_bind);
	assert_int_equal(xenmsg_bind(fake.conn, "inbox", 0, NULL, NULL), -EEXIST);
	fake_join(&fake);
	assert_string_equal(xenmsg_reason(fake.conn), "pid 17 has bound it");
	memset(longest, 'a', sizeof(longest));
	longest[ENDPOINT_NAME_MAX + 1] = '\0';
	assert_int_equal(xenmsg_bind(fake.conn, longest, 0, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "", 0, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "a.b", 0, NULL, NULL), -EINVAL);
	assert_int_equal(xenmsg_bind(fake.conn, "fine", 4, NULL, NULL), -EINVAL);
	longest[ENDPOINT_NAME_MAX] = '\0';
	fake_bind(&fake, longest, NULL, NULL);
}

static void answer_query(struct fake *daemon)
{
	fake_expect(daemon, FRAME_QUERY);
	assert_int_equal(daemon->header.length, 5);
	assert_memory_equal(daemon->payload, "peers", 5);
	fake_reply(daemon, daemon->header.channel, 0, "[1,", true);
	fake_reply(daemon, daemon->header.channel, 0, "2]", false);
}

static void answer_ping(struct fake *daemon)
{
	uint8_t payload[16] = {0};

	fake_expect(daemon, FRAME_PROBE);
	put_u64(payload + 8, 123456);
	fake_send(daemon, FRAME_REPLY, 0, daemon->header.channel, payload, 16);
}

static void answers_may_come_in_pieces_and_late(void **state)
{
	uint64_t rtt;
	char *json;

	fake_meanwhile(&fake, answer_query);
	assert_int_equal(xenmsg_query(fake.conn, "peers", &json), 0);
	fake_join(&fake);
	assert_string_equal(json, "[1,2]");
	free(json);
	assert_int_equal(xenmsg_ping(fake.conn, "2", 20, &rtt), -ETIMEDOUT);
	fake_expect(&fake, FRAME_PROBE);
	fake_reply(&fake, fake.header.channel, EHOSTDOWN, "too late", false);
	fake_meanwhile(&fake, answer_ping);
	assert_int_equal(xenmsg_ping(fake.conn, "2", 10000, &rtt), 0);
	fake_join(&fake);
	assert_int_equal(rtt, 123456);
}

static void deliver_and_answer(struct fake *daemon)
{
	fake_expect(daemon, FRAME_QUERY);
	fake_reply(daemon, daemon->header.channel, 0, "[]", false);
}

static void a_request_leaves_the_descriptor_telling_of_what_comes_next(void **state)
{
	struct pollfd wait;
	char *json;

	handled = 0;
	fake_bind(&fake, "inbox", handle, &fake);
	wait = (struct pollfd){.fd = xenmsg_fd(fake.conn), .events = (short)xenmsg_events(fake.conn)};
	fake_meanwhile(&fake, deliver_and_answer);
	assert_int_equal(xenmsg_query(fake.conn, "peers", &json), 0);
	fake_join(&fake);
	free(json);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "one");
	assert_int_equal(poll(&wait, 1, 10000), 1);
	while (handled < 1)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}

static uint32_t watch_number;
static char seen[256];

static void on_event(void *userdata, const struct xenmsg_event *event)
{
	size_t used = strlen(seen);

	snprintf(seen + used, sizeof(seen) - used, "%d:%u:%s ", event->kind, event->domid, event->name);
}

static void send_event(struct fake *daemon, uint32_t kind, uint32_t domid, const char *name)
{
	struct frame_event event = {.kind = kind, .domid = domid, .text = {name, strlen(name)}};
	uint8_t payload[256];

	fake_send(daemon, FRAME_EVENT, 0, watch_number, payload, frame_event_encode(&event, payload));
}

static void answer_watch(struct fake *daemon)
{
	fake_expect(daemon, FRAME_WATCH);
	watch_number = daemon->header.channel;
	fake_reply(daemon, watch_number, 0, "", false);
	send_event(daemon, EVENT_DOMAIN_UP, 2, "");
}

static void answer_unwatch(struct fake *daemon)
{
	fake_expect(daemon, FRAME_UNWATCH);
	assert_int_equal(get_u32(daemon->payload), watch_number);
	send_event(daemon, EVENT_DOMAIN_DOWN, 2, "");
	fake_reply(daemon, daemon->header.channel, 0, "", false);
}

static void events_are_reported_until_unwatch(void **state)
{
	int watch;

	seen[0] = '\0';
	fake_meanwhile(&fake, answer_watch);
	watch = xenmsg_watch(fake.conn, "*", on_event, NULL);
	fake_join(&fake);
	assert_true(watch > 0);
	send_event(&fake, EVENT_ENDPOINT_UP, 2, "print");
	send_event(&fake, 99, 2, "of a later version");
	while (!strchr(seen, 't'))
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	assert_string_equal(seen, "1:2: 3:2:print ");
	fake_meanwhile(&fake, answer_unwatch);
	assert_int_equal(xenmsg_unwatch(fake.conn, watch), 0);
	fake_join(&fake);
	xenmsg_process(fake.conn);
	assert_string_equal(seen, "1:2: 3:2:print ");
	assert_int_equal(xenmsg_unwatch(fake.conn, watch), -ENOENT);
	assert_int_equal(xenmsg_watch(fake.conn, "", on_event, NULL), -EINVAL);
	assert_int_equal(xenmsg_watch(fake.conn, "2:", on_event, NULL), -EINVAL);
}

static void die(struct fake *daemon)
{
	fake_expect(daemon, FRAME_QUERY);
	fake_die(daemon);
}

static void the_death_of_the_daemon_ends_what_waits(void **state)
{
	struct xenmsg_message *message;
	char *json;

	fake_meanwhile(&fake, die);
	assert_int_equal(xenmsg_query(fake.conn, "status", &json), -ENOTCONN);
	fake_join(&fake);
	assert_int_equal(xenmsg_recv(fake.conn, &message, -1), -ENOTCONN);
	assert_int_equal(xenmsg_bind(fake.conn, "inbox", 0, NULL, NULL), -ENOTCONN);
	assert_int_equal(xenmsg_wait(fake.conn, -1), -ENOTCONN);
}

/* ---- small messages, which are taken by a shorter way where nothing is about them ------------ */

#define SMALL_CHANNELS 3u /* 1 and 3 to an endpoint with a handler, 5 to one without */
#define SMALL_PENDING  65536u

/* What a channel's stream holds that wasn't put into a frame yet, and the messages that were not received
 * yet. */
struct small_stream {
	uint8_t bytes[SMALL_PENDING];
	uint32_t size, first, last;
	struct {
		uint32_t size, seed;
	} messages[1024];
};

static struct small_stream small[SMALL_CHANNELS];

/* The channel is written into every message that has room for it. */
static void fill_small(uint8_t *data, uint32_t size, uint32_t seed, uint32_t channel)
{
	fill(data, size, seed);
	if (size > 0)
		data[0] = (uint8_t)channel;
}

static void expect_small(struct xenmsg_message *message, uint32_t channel)
{
	struct small_stream *from = &small[channel];
	uint8_t data[1024];

	assert_true(from->first != from->last);
	fill_small(data, from->messages[from->first % 1024].size, from->messages[from->first % 1024].seed,
		   channel);
	assert_int_equal(xenmsg_message_size(message), from->messages[from->first % 1024].size);
	assert_memory_equal(xenmsg_message_data(message), data, xenmsg_message_size(message));
	assert_string_equal(xenmsg_message_endpoint(message), channel == 2 ? "without" : "with");
	assert_int_equal(xenmsg_message_sender_domid(message), 3);
	from->first++;
}

static void handle_small(void *userdata, struct xenmsg_message *message)
{
	expect_small(message, xenmsg_message_size(message) ? *(uint8_t *)xenmsg_message_data(message) : 0);
	xenmsg_message_free(message);
}

/* Adds a message to a stream: plain, cancelled, or with garbage where nothing is defined. */
static void add_small(uint32_t channel)
{
	struct small_stream *to = &small[channel];
	/* An empty one tells nothing of its channel. */
	uint32_t size =
		channel == 1 ? 1 + (uint32_t)rand() % 700 : (uint32_t)rand() % (rand() % 4 ? 80 : 700);
	uint32_t seed = (uint32_t)rand();
	bool cancelled = rand() % 16 == 0;
	uint8_t data[1024], *at = to->bytes + to->size;

	fill_small(data, size, seed, channel);
	to->size += fake_message(at, data, size, cancelled ? MESSAGE_CANCELLED : MESSAGE_SENT);
	if (rand() % 16 == 0)
		at[5 + rand() % 3] = (uint8_t)rand();
	if (cancelled)
		return;
	to->messages[to->last % 1024].size = size;
	to->messages[to->last++ % 1024].seed = seed;
}

/* A frame with some of the stream: it may begin and end anywhere. */
static void send_small(uint32_t channel)
{
	struct small_stream *from = &small[channel];
	uint32_t size = rand() % 2 ? from->size : (uint32_t)rand() % (from->size + 8) & ~7u;

	if (size > from->size)
		size = from->size;
	fake_send(&fake, FRAME_DATA, 0, 2 * channel + 1, from->bytes, size);
	memmove(from->bytes, from->bytes + size, from->size - size);
	from->size -= size;
}

static void small_messages_come_whole_and_in_order_wherever_they_lie(void **state)
{
	struct xenmsg_message *message;

	srand(7);
	memset(small, 0, sizeof(small));
	fake_bind(&fake, "with", handle_small, NULL);
	fake_bind(&fake, "without", NULL, NULL);
	fake_open(&fake, 1, "with");
	fake_open(&fake, 3, "with");
	fake_open(&fake, 5, "without");
	for (int round = 0; round < 2000; round++) {
		for (int i = rand() % 24; i > 0; i--)
			add_small((uint32_t)rand() % SMALL_CHANNELS);
		for (int i = rand() % 6; i > 0; i--)
			send_small((uint32_t)rand() % SMALL_CHANNELS);
		if (round % 50 == 49)
			for (uint32_t i = 0; i < SMALL_CHANNELS; i++) {
				fake_send(&fake, FRAME_DATA, 0, 2 * i + 1, small[i].bytes, small[i].size);
				small[i].size = 0;
			}
		while (xenmsg_recv(fake.conn, &message, 0) == 0) {
			expect_small(message, 2);
			xenmsg_message_free(message);
		}
		while (fake_has_frame(&fake)) {
			fake_read(&fake);
			assert_int_equal(fake.header.type, FRAME_CREDIT);
		}
		if (round % 50 == 49 && fake.shared)
			for (uint32_t i = 0; i < SMALL_CHANNELS; i++)
				assert_int_equal(small[i].first, small[i].last);
	}
}

static unsigned counted;

static void count_message(void *userdata, struct xenmsg_message *message)
{
	counted++;
	xenmsg_message_free(message);
}

/* Nothing of a frame is believed because what lies before it was in order. */
static void what_is_malformed_behind_a_message_ends_its_channel(void **state)
{
	static const struct {
		uint32_t size;
		uint8_t type;
		uint32_t state, error;
	} cases[] = {
		{FAKE_MAX_MESSAGE + 1, 0, 0, EMSGSIZE},
		{UINT32_MAX, 0, 0, EMSGSIZE},
		{8, MESSAGE_REQUEST, 0, EPROTO},
		{8, MESSAGE_WITHDRAWAL, 0, EPROTO},
		{8, 200, 0, EPROTO},
		{8, 0, 7, EPROTO},
	};

	fake_bind(&fake, "inbox", count_message, NULL);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t channel = 2 * i + 1, good = fake_message(stream, "good", 4, MESSAGE_SENT), bad;

		counted = 0;
		fake_open(&fake, channel, "inbox");
		bad = fake_message(stream + good, "12345678", 8, cases[i].state);
		put_u32(stream + good, cases[i].size);
		stream[good + 4] = cases[i].type;
		bad += fake_message(stream + good + bad, "ignored", 7, MESSAGE_SENT);
		fake_send(&fake, FRAME_DATA, 0, channel, stream, good + bad);
		while (!counted || !fake_has_frame(&fake))
			assert_true(xenmsg_wait(fake.conn, 10000) >= 0);
		xenmsg_process(fake.conn);
		do
			fake_read(&fake);
		while (fake.header.type == FRAME_CREDIT);
		assert_int_equal(fake.header.type, FRAME_RESET);
		assert_int_equal(fake.header.channel, channel);
		assert_int_equal(get_u32(fake.payload), cases[i].error);
		assert_int_equal(counted, 1);
		fake_reset(&fake, channel, cases[i].error, 0, 0);
		xenmsg_process(fake.conn);
	}
}

/* The message's end is in the next frame, whatever lies behind this one in the ring. */
static void a_message_ends_in_its_stream_and_not_in_the_ring(void **state)
{
	uint32_t good = fake_message(stream, "good", 4, MESSAGE_SENT);
	uint8_t data[64];

	counted = 0;
	fill(data, sizeof(data), 1);
	fake_bind(&fake, "inbox", count_message, NULL);
	fake_open(&fake, 1, "inbox");
	fake_open(&fake, 3, "inbox");
	fake_message(stream + good, data, sizeof(data), MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, good + 16);
	memset(stream + 4096, 0, 64);
	for (int i = 0; i < 4; i++)
		fake_message(stream + 4096 + 16 * i, NULL, 0, MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 3, stream + 4096, 64);
	while (counted < 5)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	fake_send(&fake, FRAME_DATA, 0, 1, stream + good + 16, 64);
	while (counted < 6)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
}

/* In `in` it is told that the channel has ended, and that another one has its number, while a frame of it is
 * being read. */
static void what_is_left_of_a_channel_is_not_its_successors(void **state)
{
	uint32_t size = 0;

	counted = 0;
	fake_bind(&fake, "inbox", count_message, NULL);
	fake_open(&fake, 1, "inbox");
	for (int i = 0; i < 2500; i++)
		size += fake_message(stream + size, NULL, 0, MESSAGE_SENT);
	fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	/* It lets other sources of the program's loop have their turn. */
	while (!counted)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	assert_true(counted < 2500);
	fake_reset(&fake, 1, ENOENT, 0, 0);
	fake_open(&fake, 1, "inbox");
	DELIVER(1, "of the next");
	size = counted + 1;
	while (counted < size && xenmsg_wait(fake.conn, 10000) > 0)
		;
	assert_int_equal(xenmsg_wait(fake.conn, 0), 0);
	assert_int_equal(counted, size);
}

static void look_for_reset(void *userdata, struct xenmsg_message *message)
{
	counted++;
	/* What is released counts as taken, unless it is known to the daemon that it wasn't. */
	if (ring_writer_unread(&fake.deliveries) < (int)(fake.deliveries.head))
		assert_true(fake_has_frame(&fake));
	xenmsg_message_free(message);
}

static void a_reset_is_shown_before_what_was_not_taken_is_released(void **state)
{
	uint8_t bad[24] = {0};

	counted = 0;
	fake_bind(&fake, "inbox", look_for_reset, NULL);
	while (fake_has_frame(&fake))
		fake_read(&fake);
	fake_open(&fake, 1, "inbox");
	fake_open(&fake, 3, "inbox");
	put_u32(bad, UINT32_MAX);
	fake_send(&fake, FRAME_DATA, 0, 1, bad, sizeof(bad));
	DELIVER(3, "fine", "fine, too");
	while (counted < 2)
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
	expect_reset(1, EMSGSIZE, 0);
}

/* Else it would sleep until the program has nothing more to take, in a busy stream for long. */
static void a_daemon_that_waits_for_room_is_woken_while_there_is_more(void **state)
{
	uint32_t size = 0, taken = 0;
	uint64_t count;

	counted = 0;
	for (int i = 0; i < 1024; i++)
		size += fake_message(stream + size, "12345678", 8, MESSAGE_SENT);
	fake_bind(&fake, "inbox", count_message, NULL);
	fake_open(&fake, 1, "inbox");
	for (int i = 0; i < 4; i++)
		fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	while (read(fake.wake_daemon, &count, sizeof(count)) > 0)
		;
	do {
		assert_int_equal(ring_writer_arm(&fake.deliveries, fake.deliveries.ring.size), 0);
		/* It lets other sources of the program's loop have their turn, so some are left. */
		assert_true(xenmsg_wait(fake.conn, 10000) > 0);
		assert_true(ring_writer_unread(&fake.deliveries) > (int)size);
		taken += size;
		assert_true(taken < 2 * FAKE_RING_SIZE);
		fake_send(&fake, FRAME_DATA, 0, 1, stream, size);
	} while (read(fake.wake_daemon, &count, sizeof(count)) < 0);
}

static void half_a_frame_in_the_ring_ends_the_connection(void **state)
{
	struct frame_header header = {.type = FRAME_DATA, .channel = 1, .length = 64};
	struct xenmsg_message *message;
	uint8_t raw[FRAME_HEADER_SIZE];

	frame_header_encode(&header, raw);
	ring_writer_put(&fake.deliveries, raw, sizeof(raw));
	ring_writer_publish(&fake.deliveries);
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EPROTO);
}

static void an_impossible_index_ends_the_connection(void **state)
{
	struct xenmsg_message *message;

	__atomic_store_n(fake.deliveries.ring.producer, FAKE_RING_SIZE + 8, __ATOMIC_RELEASE);
	assert_int_equal(xenmsg_recv(fake.conn, &message, 0), -EPROTO);
}

/* ---- connecting ------------------------------------------------------------------------------ */

static const char *greeting;
static size_t greeting_size;

static void *greet(void *userdata)
{
	int listener = *(int *)userdata, fd = accept(listener, NULL, NULL);
	char hello[24];

	assert_int_equal(recv(fd, hello, sizeof(hello), MSG_WAITALL), sizeof(hello));
	assert_int_equal(send(fd, greeting, greeting_size, MSG_NOSIGNAL), greeting_size);
	close(fd);
	return NULL;
}

static int open_with_greeting(const void *bytes, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), r;
	char directory[] = "/tmp/xenmsg-test.XXXXXX";
	struct xenmsg *conn;
	pthread_t thread;

	greeting = bytes;
	greeting_size = size;
	assert_non_null(mkdtemp(directory));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, greet, &listener), 0);
	r = xenmsg_open(&conn, address.sun_path);
	pthread_join(thread, NULL);
	close(listener);
	unlink(address.sun_path);
	rmdir(directory);
	return r;
}

static void what_is_no_daemon_is_told(void **state)
{
	struct frame_header header = {.type = FRAME_GOODBYE, .length = 4};
	struct frame_welcome welcome = {.major = 2};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct xenmsg *conn;
	char path[200];

	assert_int_equal(xenmsg_open(&conn, "/nonexistent/socket"), -ENOENT);
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	assert_int_equal(xenmsg_open(&conn, path), -ENAMETOOLONG);
	assert_int_equal(open_with_greeting("", 0), -ECONNREFUSED);
	assert_int_equal(open_with_greeting("HTTP/1.0 400 Bad Request\r\n\r\n", 28), -EPROTO);
	assert_int_equal(open_with_greeting("\x10\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0", 16), -ECONNREFUSED);

	frame_header_encode(&header, frame);
	put_u32(frame + FRAME_HEADER_SIZE, ENOBUFS);
	assert_int_equal(open_with_greeting(frame, FRAME_HEADER_SIZE + 8), -ENOBUFS);

	header = (struct frame_header){.type = FRAME_WELCOME};
	header.length = frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	assert_int_equal(open_with_greeting(frame, FRAME_HEADER_SIZE + header.length), -EPROTONOSUPPORT);

	/* Memory is said to be shared, but no descriptor comes with it. */
	welcome = (struct frame_welcome){.major = 1, .flags = HELLO_SHARED_MEMORY};
	header.length = frame_welcome_encode(&welcome, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	assert_int_equal(open_with_greeting(frame, FRAME_HEADER_SIZE + header.length), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_message_comes_with_its_stamp),
		BOTH(only_what_was_taken_is_reported_as_taken),
		BOTH(a_program_that_takes_nothing_reports_nothing),
		BOTH(a_message_in_pieces_is_put_together),
		BOTH(messages_wrap_around_the_ring),
		BOTH(a_cancelled_message_is_skipped),
		BOTH(a_cancel_frame_is_settled_by_who_came_first),
		BOTH(a_malformed_stream_ends_its_channel_alone),
		BOTH(a_huge_announcement_costs_nothing),
		BOTH(a_channel_to_an_endpoint_that_is_not_ours_is_refused),
		BOTH(fin_is_answered_after_the_last_message_was_taken),
		BOTH(a_reset_takes_what_was_not_taken),
		BOTH(who_waits_reports_what_it_took_with_what_it_does_next),
		BOTH(what_is_said_under_a_flood_is_shown_with_the_next_process),
		BOTH(an_answer_and_what_was_taken_for_it_cost_one_notification),
		BOTH(handlers_run_in_process_and_the_descriptor_tells_when),
		BOTH(unbinding_tells_the_senders_first),
		BOTH(a_refusal_may_come_without_words),
		BOTH(a_refusal_comes_with_its_reason),
		BOTH(answers_may_come_in_pieces_and_late),
		BOTH(a_request_leaves_the_descriptor_telling_of_what_comes_next),
		BOTH(events_are_reported_until_unwatch),
		BOTH(the_death_of_the_daemon_ends_what_waits),
		BOTH(small_messages_come_whole_and_in_order_wherever_they_lie),
		BOTH(what_is_malformed_behind_a_message_ends_its_channel),
		BOTH(a_message_ends_in_its_stream_and_not_in_the_ring),
		SHARED(what_is_left_of_a_channel_is_not_its_successors),
		SHARED(a_reset_is_shown_before_what_was_not_taken_is_released),
		SHARED(a_daemon_that_waits_for_room_is_woken_while_there_is_more),
		SHARED(half_a_frame_in_the_ring_ends_the_connection),
		SHARED(an_impossible_index_ends_the_connection),
		cmocka_unit_test(what_is_no_daemon_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
