/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames that arrive at hops, from a program and from a peer, in any order and form: the first byte of the
 * input says who speaks, and each record that follows is { u8 who and what, u8 type, u8 channel, u8 length in
 * words, payload }; more records come before the hop looks, if bit 5 of the first byte or bit 0 of the last
 * one says so. A third hop accepts what is opened, and its reader takes what comes. Whatever happens,
 * the hops end when they are told to, and nothing is left.
 */

#include <event2/event.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "tests/fuzz/fuzz.h"

#define RING 8192u
#define HOPS 3 /* a program, a peer, and who accepts */

struct end {
	struct hop hop;
	struct end *acceptor;
	struct {
		struct ring_words words;
		uint8_t data[RING];
	} rings[3];
	struct ring_view views[3];
	struct ring_writer writer;
	struct ring_reader readers[2];
	uint32_t sequence;
};

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return header->type < FRAME_OPEN ? 0 : -EPROTO;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct end *end = owner;
	int r;

	if (open->name.size == 0 || open->name.data[0] == 'n') {
		channel_refuse(channel, ENOENT);
		return 0;
	}
	r = channel_accept(channel, open->name.data[0] == 's' ? &end->hop : &end->acceptor->hop, "inbox");
	if (r < 0)
		channel_refuse(channel, -r);
	return 0;
}

static void on_notify(void *owner)
{
}

static void on_failed(void *owner, int error, const char *why)
{
	struct end *end = owner;

	hop_detach(&end->hop);
	hop_reset_channels(&end->hop, EHOSTDOWN);
}

static const struct hop_callbacks callbacks = {
	.control = on_control, .open = on_open, .notify = on_notify, .failed = on_failed};

static void end_start(struct end *end, struct switchboard *board, enum hop_kind kind)
{
	struct hop_rings rings = {0};

	for (unsigned i = 0; i < 3; i++)
		end->views[i] = ring_words_view(&end->rings[i].words, end->rings[i].data, RING);
	rings.in = end->views[0];
	rings.out[0] = end->views[1];
	rings.out[1] = end->views[2];
	check(hop_init(&end->hop, board, kind, &callbacks, end, 1, 16) == 0);
	check(hop_attach(&end->hop, &rings) == 0);
	ring_writer_init(&end->writer, &end->views[0], false);
	for (unsigned i = 0; i < 2; i++)
		ring_reader_init(&end->readers[i], &end->views[i + 1], false);
}

/* The other end takes `bytes` of what was put into its rings. */
static void take(struct end *end, uint32_t bytes)
{
	for (unsigned i = 0; i < 2; i++) {
		uint32_t ready = (uint32_t)ring_reader_ready(&end->readers[i], UINT32_MAX);

		if (!end->readers[i].ring.size || (int)ready <= 0)
			continue;
		ring_reader_consume(&end->readers[i], bytes < ready ? bytes : ready);
		ring_reader_release(&end->readers[i]);
	}
}

static size_t put(struct end *end, const uint8_t *record, size_t size)
{
	struct frame_header header = {.type = record[1], .channel = record[2]};
	uint8_t frame[FRAME_HEADER_SIZE + 256 * 8] = {0};
	size_t length = record[3] * 8u;

	if (length > size - 4)
		length = size - 4;
	/* Mostly what the fields can be, so that the input gets somewhere. */
	header.length = (uint32_t)length - (record[0] & 0x40 && length ? 1 : 0);
	header.sequence = end->hop.traits->numbers_frames ? end->sequence++ : 0;
	if (record[0] & 0x80)
		header.length ^= 0x10000u;
	frame_header_encode(&header, frame);
	memcpy(frame + FRAME_HEADER_SIZE, record + 4, length);
	if (ring_writer_space(&end->writer, frame_size((uint32_t)length)) >=
	    (int)frame_size((uint32_t)length))
		ring_writer_put(&end->writer, frame, frame_size((uint32_t)length));
	ring_writer_publish(&end->writer);
	return 4 + length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct event_base *base = event_base_new();
	struct end *ends = calloc(HOPS, sizeof(*ends));
	struct switchboard board;

	check(base && ends && switch_init(&board, base, 1u << 20) == 0);
	board.cancel_ms = 0;
	for (unsigned i = 0; i < HOPS; i++) {
		end_start(&ends[i], &board, i == 1 ? HOP_LINK : HOP_SHARED);
		ends[i].acceptor = &ends[i == 2 ? 1 : 2];
	}
	while (size >= 4) {
		struct end *end = &ends[data[0] % HOPS];
		bool at_once = data[0] & 0x20;
		size_t used = 4;

		switch ((data[0] >> 2) & 7) {
		case 0:
			take(end, data[1] * 32u);
			break;
		case 1:
			event_active(end->hop.waiting.stuck_timer, EV_TIMEOUT, 0);
			break;
		case 2:
			end->rings[data[1] % 3].words.producer += data[2];
			break;
		case 3:
			end->rings[data[1] % 3].words.consumer += data[2];
			break;
		default:
			used = put(end, data, size);
		}
		data += used;
		size -= used;
		if (at_once || (data[-1] & 1))
			continue;
		hop_event(&end->hop);
		switch_pass(&board);
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	for (unsigned i = 0; i < HOPS; i++) {
		hop_finish(&ends[i].hop, -ECONNRESET, "the end");
		while (switch_is_busy(&board))
			switch_pass(&board);
	}
	/* What was opened to one that had failed waits for it, as for a link that isn't up. */
	for (unsigned i = 0; i < HOPS; i++)
		hop_reset_channels(&ends[i].hop, EHOSTDOWN);
	switch_pass(&board);
	for (unsigned i = 0; i < HOPS; i++) {
		check(!ends[i].hop.channels.count);
		hop_cleanup(&ends[i].hop);
	}
	switch_cleanup(&board);
	event_base_free(base);
	free(ends);
	return 0;
}
