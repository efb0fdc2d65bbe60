/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A daemon that breaks the protocol: the session is over, every send has its end, and the program is told.
 */
#include "tests/unit/client_send_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/descriptors.h"

static int full;

TEST_EACH(garbage_from_the_daemon_ends_the_connection, 14)
{
	static const uint8_t zeros[64], impossible[FRAME_HEADER_SIZE] = {0, 0, 0, 0xff, FRAME_CREDIT};
	uint8_t stream[SPAN_64], data[64] = {0};
	static int result;
	int what = unit_number(state);
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
		fake_reply(&fake, 77, 0, "");
		break;
	case 6: /* a length that no frame has */
		if (fake.shared) {
			ring_writer_put(&fake.in, impossible, sizeof(impossible));
			ring_writer_publish(&fake.in);
		} else {
			assert_int_equal(send(fake.fd, impossible, sizeof(impossible), MSG_NOSIGNAL),
					 sizeof(impossible));
		}
		break;
	}
	assert_int_equal(outcome_of(&result), -ECONNRESET);
	assert_int_equal(xenmsg_process(fake.conn), -EPROTO);
	assert_int_equal(xenmsg_begin_send(fake.conn, "5:inbox", data, 64, NULL, NULL, NULL, NULL),
			 -ENOTCONN);
	fake_stop(&fake);
}

/* Whatever the program does when the library comes upon it: the session is over, and that is what it
 * hears. */
TEST_EACH(an_impossible_index_ends_the_connection_whoever_finds_it, 8)
{
	int which = unit_number(state), pending = PENDING, r = 0;
	char *json;

	fake_start(&fake, true);
	post("5:inbox", NULL, 0, &pending);
	fake_opened(&fake, expect_open("5:inbox"), 1ull << 40, FAKE_MAX_MESSAGE);
	xenmsg_process(fake.conn);
	while (r == 0)
		r = xenmsg_send(fake.conn, "5:inbox", NULL, 0, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL);
	assert_int_equal(r, -EAGAIN); /* the ring is full, so the next one looks how much was taken */
	*fake.out.ring.consumer = *fake.out.ring.producer + 8;
	switch (which) {
	case 0:
		r = xenmsg_send(fake.conn, "5:inbox", NULL, 0, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL);
		break;
	case 1:
		r = xenmsg_send(fake.conn, "5:other", NULL, 0, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL);
		break;
	case 2:
		r = xenmsg_send(fake.conn, "5:other", NULL, 0, XENMSG_WITHIN(1000), NULL);
		break;
	case 3:
		r = xenmsg_begin_send(fake.conn, "5:other", NULL, 0, NULL, NULL, NULL, NULL);
		break;
	case 4:
		r = xenmsg_call(fake.conn, "5:other", NULL, 0, XENMSG_WITHIN(1000), NULL);
		break;
	case 5:
		r = xenmsg_begin_call(fake.conn, "5:other", NULL, 0, NULL, NULL, NULL, NULL);
		break;
	case 6:
		r = xenmsg_query(fake.conn, "status", NULL, &json);
		break;
	case 7:
		r = xenmsg_bind(fake.conn, "mine", NULL, NULL, NULL);
		break;
	}
	assert_int_equal(r, -ENOTCONN);
	assert_int_equal(outcome_of(&pending), -ECONNRESET);
	assert_int_equal(xenmsg_process(fake.conn), -EPROTO);
	fake_stop(&fake);
}

/* A daemon that hands over gives programs other memory. What could make them crash, or isn't the same, ends
 * the session. */
TEST_EACH(bad_memory_ends_the_session, 7)
{
	int fd, pair[2], result = PENDING;

	fake_start(&fake, true);
	post("5:inbox", NULL, 0, &result);
	expect_open("5:inbox");
	fd = memfd_create("bad", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FAKE_MEMORY_SIZE + (unit_number(state) == 1   ? 4096
							   : unit_number(state) == 2 ? -4096
										     : 0)),
			 0);
	if (unit_number(state) != 3) /* else it could shrink */
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	if (unit_number(state) == 4) /* else it could be sealed here */
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
	if (unit_number(state) == 5) { /* has no size */
		assert_int_equal(pipe(pair), 0);
		assert_int_equal(dup2(pair[0], fd), fd);
		close(pair[0]);
		close(pair[1]);
	} else if (unit_number(state) == 6) { /* has the size, and no seals */
		FILE *file = tmpfile();

		assert_non_null(file);
		assert_int_equal(ftruncate(fileno(file), FAKE_MEMORY_SIZE), 0);
		assert_int_equal(dup2(fileno(file), fd), fd);
		fclose(file);
	}
	fake_send_memory(&fake, unit_number(state) == 0 ? -1 : fd);
	close(fd);
	assert_int_equal(outcome_of(&result), -ECONNRESET);
	assert_int_equal(xenmsg_process(fake.conn), -ENOTCONN);
	fake_stop(&fake);
}

/* The memory comes with more descriptors than it needs, for which there is room nevertheless. */
SHARED(no_descriptor_that_is_not_wanted_stays_open)
{
	const struct frame_header header = {.type = FRAME_MEMORY};
	uint8_t raw[FRAME_HEADER_SIZE];
	int pair[2], first, more[4];

	frame_header_encode(&header, raw);
	assert_int_equal(pipe(pair), 0);
	for (int i = 0; i < 4; i++)
		more[i] = pair[1];
	assert_int_equal(send_descriptors(fake.fd, raw, sizeof(raw), more, 4, 0), sizeof(raw));
	expect_over(-ENOTCONN);
	close(pair[1]);
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(pair[0], &first, 1), 0); /* nobody has the other end */
	close(pair[0]);
}

/* Fills the ring, so that the next frame looks how much of it was taken, which is impossible. */
static void lie_of_the_ring(void)
{
	int r = 0;

	post("5:full", NULL, 0, &full);
	fake_opened(&fake, expect_open("5:full"), 1ull << 40, FAKE_MAX_MESSAGE);
	xenmsg_process(fake.conn);
	while (r == 0)
		r = xenmsg_send(fake.conn, "5:full", NULL, 0, XENMSG_FLAGS(XENMSG_AT_ONCE), NULL);
	*fake.out.ring.consumer = *fake.out.ring.producer + 8;
}

/* The first of them can't be told; valgrind and AddressSanitizer see whether the second one still has the
 * binding. */
SHARED(all_channels_leave_an_endpoint_though_the_daemon_lies)
{
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	fake_open(&fake, 3, "inbox");
	lie_of_the_ring();
	assert_int_equal(xenmsg_unbind(fake.conn, "inbox"), -EPROTO);
	xenmsg_process(fake.conn);
}

static void ignore_event(void *userdata, const struct xenmsg_event *event)
{
}

static void ignore_done(void *userdata, const struct xenmsg_result *result)
{
}

static void flood_events(uint32_t watch)
{
	static uint32_t domid;

	FAKE_EVENT(&fake, 1, .kind = EVENT_DOMAIN_UP, .domid = domid++, .text = {"web", 3});
}

static void flood_arrivals(uint32_t number)
{
	FAKE_SAY(&fake, INCOMING, incoming, 0, .token = number, .endpoint = {"doors", 5});
}

static void flood_resets(uint32_t number)
{
	fake_reset(&fake, 4, EIO, 0, 0);
}

static void flood_cancels(uint32_t number)
{
	fake_cancel(&fake, 1, 8ull * (1 << 28));
}

/* A program that begins one thing after the other, and lets nothing be told, keeps so much and no more. */
TEST_EACH(what_a_daemon_makes_a_program_keep_has_a_bound, 4)
{
	static void (*const floods[])(uint32_t number) = {flood_events, flood_arrivals, flood_resets,
							  flood_cancels};
	int which = unit_number(state), r = 0;
	uint32_t sent = 0;

	fake_start(&fake, true);
	fake_bind(&fake, "inbox", NULL, NULL);
	fake_open(&fake, 1, "inbox");
	fake_watch_meanwhile(&fake, 0);
	assert_int_equal(xenmsg_watch(fake.conn, "*", NULL, ignore_event, NULL), 2);
	fake_join(&fake);
	for (; r == 0 && sent < 1u << 22; sent++) {
		floods[which](2);
		if (sent % 512 == 511)
			r = xenmsg_begin_await_room(fake.conn, "5:x", 1, NULL, ignore_done, NULL, NULL);
		if (which == 3)
			fake_read_all(&fake);
	}
	assert_int_equal(r, -ENOTCONN);
	expect_over(-EPROTO);
	fake_stop(&fake);
}
