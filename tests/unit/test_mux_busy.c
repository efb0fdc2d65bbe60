/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Streams through one session with a daemon that runs at the same time, and sleeps, as the program does,
 * until it is notified: a notification that gets lost is a test that fails.
 */
#include "tests/unit/mux_rig.h"

#include <poll.h>
#include <string.h>

#include "wire/bytes.h"

#define PATIENCE_MS 20000
#define STREAMS	    4u
#define TOTAL	    (6u << 20) /* bytes each way on each stream */
#define WINDOW	    300000u    /* more than a ring holds */

static struct flow {
	struct xenmsg_stream *stream;
	uint64_t written, got;
	uint32_t sizes; /* of its writes: a sequence by chance */
	bool ended;
} flows[STREAMS];

static uint8_t bytes[100000];

/* Writes until there is no room. */
static void write_on(struct flow *flow)
{
	size_t size = 1, written = 1;

	while (written == size && flow->written < TOTAL) {
		ssize_t n;

		flow->sizes = flow->sizes * 1664525u + 1013904223u;
		size = flow->sizes >> 29 ? flow->sizes >> 20 : flow->sizes >> 16;
		size = size + 1 < TOTAL - flow->written ? size + 1 : TOTAL - flow->written;
		n = xenmsg_stream_write(flow->stream, bytes, size);
		assert_true(n >= 0);
		written = (size_t)n;
		flow->written += written;
	}
	if (flow->written == TOTAL)
		xenmsg_stream_end(flow->stream);
}

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct flow *flow = userdata;

	flow->got += size;
	return size;
}

static void on_ended(void *userdata, struct xenmsg_stream *stream)
{
	struct flow *flow = userdata;

	assert_int_equal(flow->got, TOTAL);
	flow->ended = true;
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	fail();
}

static void on_moving(void *userdata, struct xenmsg_stream *stream)
{
	write_on(userdata);
}

static const struct xenmsg_stream_callbacks callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.opened = on_moving,
	.data = on_data,
	.ended = on_ended,
	.room = on_moving,
	.broken = on_broken,
};

struct echo {
	uint64_t came, sent, taken;
	bool fin_came, fin_sent;
};

/* Sends on, as far as the program has taken what was sent before. */
static void send_on(struct fake *daemon, uint32_t channel, struct echo *echo)
{
	while (echo->sent < echo->came && echo->sent - echo->taken < 32768) {
		uint64_t size = echo->came - echo->sent;
		uint32_t part = size < 16384 ? (uint32_t)size : 16384;

		fake_send(daemon, FRAME_DATA, 0, channel, bytes, part);
		echo->sent += part;
	}
	if (echo->fin_came && !echo->fin_sent && echo->sent == TOTAL) {
		fake_fin(daemon, channel, TOTAL);
		echo->fin_sent = true;
	}
}

/* Sends back what comes. */
static void echo_all(struct fake *daemon)
{
	struct echo echos[STREAMS] = {0};
	unsigned over = 0;

	while (over < STREAMS) {
		struct echo *echo;
		uint32_t channel;

		fake_read(daemon);
		channel = daemon->header.channel;
		assert_true(channel / 2 < STREAMS);
		echo = &echos[channel / 2];
		switch (daemon->header.type) {
		case FRAME_OPEN:
			fake_opened(daemon, channel, WINDOW, 1);
			break;
		case FRAME_DATA:
			echo->came += daemon->header.length;
			fake_credit(daemon, channel, echo->came, echo->came + WINDOW);
			break;
		case FRAME_CREDIT:
			echo->taken = get_u64(daemon->payload);
			over += echo->fin_sent && echo->taken == TOTAL;
			break;
		case FRAME_FIN:
			assert_int_equal(echo->came, TOTAL);
			echo->fin_came = true;
			break;
		default:
			fail();
		}
		send_on(daemon, channel, echo);
	}
}

MUX_BOTH(bytes_go_both_ways)
{
	unsigned over = 0;

	memset(flows, 0, sizeof(flows));
	fake_meanwhile(&fake, echo_all);
	for (unsigned i = 0; i < STREAMS; i++) {
		flows[i].sizes = i;
		assert_int_equal(
			xenmsg_stream_connect(conn, PEER, NULL, &callbacks, &flows[i], &flows[i].stream), 0);
	}
	while (over < STREAMS) {
		struct pollfd wait = {.fd = xenmsg_fd(conn), .events = POLLIN};

		assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
		assert_true(xenmsg_process(conn) >= 0);
		over = 0;
		for (unsigned i = 0; i < STREAMS; i++)
			over += flows[i].ended;
	}
	fake_join(&fake);
	for (unsigned i = 0; i < STREAMS; i++)
		xenmsg_stream_close(flows[i].stream);
}
