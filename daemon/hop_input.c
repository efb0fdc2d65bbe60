/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What comes in at a hop: frames, and what a program has taken of its own. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <utlist.h>

#include "daemon/cancel.h"
#include "daemon/channel.h"
#include "daemon/hop.h"
#include "daemon/hop_internal.h"
#include "daemon/timer.h"

#define CHUNK	       32768u	/* bytes after which the other side gets to see, or gets back, what was done */
#define INPUT_BUDGET   262144u	/* bytes of one hop's input in a turn */
#define SMALL	       1024u	/* a payload that is worth a shorter way */
#define REQUEST_COST   65536u	/* of it takes a request: 24 bytes may ask for much work */
#define STUCK_MS       10
#define STUCK_BYTES    16384u	/* less than this in that time: stuck */
#define POLL_LAST_MS   1024

/* --- what a program has taken --------------------------------------------------------------------------------------- */

static void snapshot_taken(struct hop *hop)
{
	if (!hop->release_means_taken || hop->taken_pending)
		return;
	for (unsigned i = 0; i < hop->outlets; i++) {
		struct outlet *outlet = &hop->out[i];

		if (ring_writer_unread(&outlet->writer) < 0)
			hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
		else
			outlet->taken_upto = outlet->writer.tail;
	}
	/* Only now: a RESET was sent before the release that we have just seen. */
	if (ring_reader_ready(&hop->in, UINT32_MAX) < 0)
		hop_fail(hop, -EPROTO, "impossible producer index in the ring");
	hop->taken_mark = hop->in.head;
	hop->taken_pending = true;
}

static void apply_taken(struct hop *hop)
{
	bool progress = false;

	hop->taken_pending = false;
	for (unsigned i = 0; i < hop->outlets; i++) {
		struct outlet *outlet = &hop->out[i];

		while (outlet->handed_count) {
			const struct handed handed = outlet->handed[outlet->handed_first];
			int32_t past = (int32_t)(outlet->taken_upto - handed.position);
			uint32_t taken = past > 0 && (uint32_t)past < handed.length ? (uint32_t)past : handed.length;

			if (past <= 0)
				break;
			progress = true;
			if (handed.end)
				channel_taken(handed.end, handed.offset + taken);
			if (taken < handed.length)
				break;
			outlet->handed_first = (outlet->handed_first + 1) & (outlet->handed_room - 1);
			outlet->handed_count--;
		}
	}
	if (progress)
		hop->poll_ms = HOP_POLL_FIRST_MS;
}

/* Input, and with it what the program had released before. */
void hop_take_in(struct hop *hop)
{
	snapshot_taken(hop);
	hop_input(hop);
}

void hop_on_poll(int fd, short what, void *userdata)
{
	struct hop *hop = userdata;

	(void)fd;
	(void)what;
	if (hop->poll_ms < POLL_LAST_MS)
		hop->poll_ms *= 2;
	hop_event(hop);
	relay_flush(hop->relay);
}

int hop_handed_word(struct hop *hop, struct channel_end *end, uint64_t offset, uint32_t **word)
{
	struct outlet *outlet = hop_outlet(hop, end);

	if (!hop->attached || hop->has_failed)
		return -ENOENT;
	hop_close_frame(hop, outlet);
	if (ring_writer_unread(&outlet->writer) < 0) {
		hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
		return -ENOENT;
	}
	for (uint32_t i = 0; i < outlet->handed_count; i++) {
		const struct handed *handed =
			&outlet->handed[(outlet->handed_first + i) & (outlet->handed_room - 1)];
		uint32_t position = handed->position + (uint32_t)(offset - handed->offset);

		if (handed->end != end || offset < handed->offset || offset - handed->offset + 4 > handed->length)
			continue;
		if (position & 3)
			return -ENOENT; /* its sender doesn't send whole words */
		/* What was released may have been overwritten by us, though it isn't yet counted as taken. */
		if ((int32_t)(position - outlet->writer.tail) < 0)
			return -EALREADY;
		*word = ring_writer_word(&outlet->writer, position);
		return 0;
	}
	return -ENOENT;
}

void hop_forget_end(struct hop *hop, struct channel_end *end)
{
	for (unsigned i = 0; i < hop->outlets; i++) {
		struct outlet *outlet = &hop->out[i];

		if (outlet->filling == end)
			hop_close_frame(hop, outlet);
		for (uint32_t k = 0; k < outlet->handed_count; k++) {
			struct handed *handed =
				&outlet->handed[(outlet->handed_first + k) & (outlet->handed_room - 1)];

			if (handed->end == end)
				handed->end = NULL;
		}
	}
}

static void watch_stuck(struct hop *hop)
{
	if (evtimer_pending(hop->stuck_timer, NULL))
		return;
	hop->stuck_from = hop->out_position;
	timer_start(hop->stuck_timer, STUCK_MS);
}

void hop_on_stuck(int fd, short what, void *userdata)
{
	struct hop *hop = userdata;

	(void)fd;
	(void)what;
	if (!hop->waiters)
		return;
	if (hop->out_position - hop->stuck_from >= STUCK_BYTES) {
		watch_stuck(hop); /* busy, not stuck */
		return;
	}
	hop->stuck = true;
	hop_resume_waiters(hop);
	hop_mark_dirty(hop);
	relay_flush(hop->relay);
}

static void wait_for(struct hop *hop, struct hop *output)
{
	hop->blocked_on = output;
	DL_APPEND2(output->waiters, hop, waiter_prev, waiter_next);
	watch_stuck(output);
	hop_mark_dirty(output); /* so that it asks for space */
}

void hop_stop_waiting(struct hop *hop)
{
	if (!hop->blocked_on)
		return;
	DL_DELETE2(hop->blocked_on->waiters, hop, waiter_prev, waiter_next);
	hop->blocked_on = NULL;
}

/* The program uses the number of a channel again: it had released the last of it before, though we haven't come to count that. */
static void count_released(struct hop *hop, struct channel_end *end)
{
	for (unsigned i = 0; i < hop->outlets; i++) {
		struct outlet *outlet = &hop->out[i];

		if (ring_writer_unread(&outlet->writer) < 0)
			hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
		for (uint32_t k = 0; k < outlet->handed_count; k++) {
			const struct handed *handed =
				&outlet->handed[(outlet->handed_first + k) & (outlet->handed_room - 1)];

			if (handed->end == end &&
			    (int32_t)(outlet->writer.tail - handed->position) >= (int32_t)handed->length)
				channel_taken(end, handed->offset + handed->length);
		}
	}
	channel_check_ended(end);
}

static bool is_refused(const struct hop *hop, uint32_t number)
{
	return hop->refused && number < CHANNEL_NUMBERS && (hop->refused[number / 8] & (1u << (number % 8)));
}

/* The number stays in use until the opener has answered; a bit is all that it costs us, since it costs the opener no more. */
static int refuse(struct hop *hop, uint32_t number, int error)
{
	const struct frame_reset reset = {.error = (uint32_t)error};
	uint8_t payload[FRAME_SMALL_MAX];

	if (!hop->refused)
		hop->refused = calloc(CHANNEL_NUMBERS / 8, 1);
	if (!hop->refused)
		return -ENOMEM;
	hop->refused[number / 8] |= (uint8_t)(1u << (number % 8));
	return hop_send(hop, FRAME_RESET, 0, number, payload, frame_reset_encode(&reset, payload));
}

static int take_open(struct hop *hop, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_open open;
	struct channel *channel;
	int r = frame_open_decode(payload, header->length, &open), error;

	if (r < 0)
		return r;
	if (header->channel >= CHANNEL_NUMBERS || (header->channel & 1) == hop->parity || is_refused(hop, header->channel))
		return -EPROTO;
	if (open.kind < CHANNEL_MESSAGE || open.kind > CHANNEL_STREAM)
		return -EPROTO;
	if (hop->release_means_taken && hop_find(hop, header->channel))
		count_released(hop, hop_find(hop, header->channel));
	r = channel_new(hop, header->channel, open.kind, &open.identity, &channel);
	if (r < 0)
		return r;
	if (hop->channels > hop->channels_max)
		channel_refuse(channel, ENOBUFS);
	else
		r = hop->ops->open(hop->owner, channel, &open);
	if (r == 0 && channel_was_refused(channel, &error))
		r = refuse(hop, header->channel, error);
	return r;
}

/* A frame about a channel, but neither OPEN nor DATA. */
static int take_channel_frame(struct channel_end *end, const struct frame_header *header, const uint8_t *payload)
{
	union {
		struct frame_opened opened;
		struct frame_credit credit;
		struct frame_reset reset;
		struct frame_cancelled cancelled;
		uint64_t number;
	} u;
	int r;

	switch (header->type) {
	case FRAME_OPENED:
		r = frame_opened_decode(payload, header->length, &u.opened);
		return r < 0 ? r : channel_opened(end, &u.opened);
	case FRAME_CREDIT:
		r = frame_credit_decode(payload, header->length, &u.credit);
		return r < 0 ? r : channel_credit(end, &u.credit);
	case FRAME_FIN:
		r = frame_u64_decode(payload, header->length, &u.number);
		return r < 0 ? r : channel_fin(end, u.number);
	case FRAME_RESET:
		r = frame_reset_decode(payload, header->length, &u.reset);
		return r < 0 ? r : channel_reset(end, &u.reset);
	case FRAME_CANCEL:
		r = frame_u64_decode(payload, header->length, &u.number);
		return r < 0 ? r : channel_cancel(end, u.number);
	default:
		r = frame_cancelled_decode(payload, header->length, &u.cancelled);
		return r < 0 ? r : channel_cancelled(end, &u.cancelled);
	}
}

/* Encoded anew: a longer one of a later version might not fit into the ring. */
static int answer_reset(struct hop *hop, const struct frame_header *header, const uint8_t *payload)
{
	uint8_t answer[FRAME_SMALL_MAX];
	struct frame_reset reset;
	int r = frame_reset_decode(payload, header->length, &reset);

	return r < 0 ? r : hop_send(hop, FRAME_RESET, 0, header->channel, answer, frame_reset_encode(&reset, answer));
}

static int take_frame(struct hop *hop, const struct frame_header *header)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct channel_end *end;

	ring_reader_copy(&hop->in, FRAME_HEADER_SIZE, payload, header->length);
	switch (header->type) {
	case FRAME_OPEN:
		return take_open(hop, header, payload);
	case FRAME_OPENED:
	case FRAME_CREDIT:
	case FRAME_FIN:
	case FRAME_RESET:
	case FRAME_CANCEL:
	case FRAME_CANCELLED:
		end = hop_find(hop, header->channel);
		if (end)
			return take_channel_frame(end, header, payload);
		if (is_refused(hop, header->channel)) {
			if (header->type == FRAME_RESET)
				hop->refused[header->channel / 8] &= (uint8_t)~(1u << (header->channel % 8));
			return 0;
		}
		/* The channel has ended here while this was on its way. Who sends a RESET waits for the answer. */
		return header->type == FRAME_RESET ? answer_reset(hop, header, payload) : 0;
	default:
		if (header->type >= FRAME_OPTIONAL)
			return 0;
		if (hop->kind == HOP_LOCAL)
			hop->budget -= REQUEST_COST;
		return hop->ops->control(hop->owner, header, payload);
	}
}

/* How much of the DATA frame at the head of the ring has been dealt with, or below zero. */
static int take_data(struct hop *hop, const struct frame_header *header)
{
	struct channel_end *end = hop_find(hop, header->channel);
	int r;

	if (!end && is_refused(hop, header->channel)) {
		hop->in_progress = header->length;
		return 0;
	}
	if (!end)
		return -EPROTO;
	r = channel_data(end, &hop->in, FRAME_HEADER_SIZE + hop->in_progress, header->length - hop->in_progress,
			 header->messages, hop->kind == HOP_LOCAL && !hop->finishing);
	if (r < 0)
		return r;
	hop->in_progress += (uint32_t)r;
	if (hop->in_progress < header->length)
		wait_for(hop, channel_other(end)->hop);
	return (int)hop->in_progress;
}

static void give_back(struct hop *hop)
{
	if (!hop->attached || !hop->unreleased)
		return;
	hop->unreleased = 0;
	if (ring_reader_release(&hop->in))
		hop_notify(hop);
}

/* The frame at the head of the ring was dealt with. */
static void finish_frame(struct hop *hop, const struct frame_header *header)
{
	uint32_t total = frame_size(header->length);

	ring_reader_consume(&hop->in, total);
	hop->in_sequence++;
	hop->in_position += total;
	hop->unreleased += total;
	hop->rx.frames++;
	hop->rx.bytes += total;
	if (header->type == FRAME_DATA)
		hop->rx.messages += header->messages;
}

/* Small pieces of a stream, right behind one that has gone on: up to the first about which there is more to say. */
static void take_run(struct hop *hop, uint32_t number)
{
	struct channel_end *end = hop_find(hop, number);

	while (end && hop->unreleased < CHUNK) {
		int ready = ring_reader_ready(&hop->in, FRAME_HEADER_SIZE + SMALL);
		uint8_t encoded[FRAME_HEADER_SIZE];
		struct frame_header header;
		struct iovec pieces[2];

		if (ready < (int)FRAME_HEADER_SIZE)
			break;
		ring_reader_copy(&hop->in, 0, encoded, FRAME_HEADER_SIZE);
		if (frame_header_decode(encoded, &header) < 0 || header.type != FRAME_DATA || header.channel != number ||
		    header.length > SMALL || frame_size(header.length) > (uint32_t)ready ||
		    ring_reader_peek(&hop->in, FRAME_HEADER_SIZE, header.length, pieces) != 1 ||
		    !channel_append(end, pieces[0].iov_base, header.length, header.messages))
			break;
		finish_frame(hop, &header);
	}
}

/* Deals with the frame at the head of the ring. 1: dealt with; 0: there is none, or it waits; below zero: failed. */
static int take_next(struct hop *hop, uint32_t *missing)
{
	uint8_t encoded[FRAME_HEADER_SIZE];
	struct frame_header header;
	uint32_t total;
	int r, ready = ring_reader_ready(&hop->in, FRAME_HEADER_SIZE);

	if (ready < 0) {
		hop_fail(hop, ready, "impossible producer index in the ring");
		return ready;
	}
	*missing = (uint32_t)ready + 1;
	if (ready < (int)FRAME_HEADER_SIZE) {
		if (ready == 0 || !hop->whole_frames)
			return 0;
		hop_fail(hop, -EPROTO, "an incomplete frame in the ring");
		return -EPROTO;
	}
	ring_reader_copy(&hop->in, 0, encoded, FRAME_HEADER_SIZE);
	r = frame_header_decode(encoded, &header);
	total = frame_size(header.length);
	if (r < 0 || total > hop->in.ring.size) {
		hop_fail(hop, -EPROTO, "a frame of %u bytes is too long", header.length);
		return -EPROTO;
	}
	ready = ring_reader_ready(&hop->in, total);
	if (ready < 0) {
		hop_fail(hop, ready, "impossible producer index in the ring");
		return ready;
	}
	*missing = (uint32_t)ready + 1;
	if ((uint32_t)ready < total) {
		if (!hop->whole_frames)
			return 0;
		hop_fail(hop, -EPROTO, "an incomplete frame in the ring");
		return -EPROTO;
	}
	if (hop->kind == HOP_LINK && header.sequence != hop->in_sequence) {
		hop_fail(hop, -EPROTO, "frame %u came where %u was expected", header.sequence, hop->in_sequence);
		return -EPROTO;
	}
	if (header.type == FRAME_DATA && hop->in_progress > header.length) {
		hop_fail(hop, -EPROTO, "a frame changed while it was being read");
		return -EPROTO;
	}
	r = header.type == FRAME_DATA ? take_data(hop, &header) : take_frame(hop, &header);
	if (r < 0) {
		hop_fail(hop, r, "bad %s frame for channel %u: %s", frame_type_name(header.type), header.channel,
			 strerror(-r));
		return r;
	}
	if (hop->blocked_on)
		return 0;
	hop->in_progress = 0;
	if (!hop->attached)
		return 0;
	finish_frame(hop, &header);
	if (hop->kind == HOP_LOCAL && header.type == FRAME_DATA)
		take_run(hop, header.channel);
	return 1;
}

static void read_frames(struct hop *hop)
{
	uint64_t start = hop->in_position;
	uint32_t missing = 1;
	int r;

	hop->budget = INPUT_BUDGET;
	while (hop->attached && !hop->has_failed && !hop->blocked_on) {
		r = take_next(hop, &missing);
		if (r < 0)
			break;
		if (hop->unreleased >= CHUNK)
			give_back(hop);
		if (r > 0 && (int64_t)(hop->in_position - start) >= hop->budget) {
			hop_mark_unfinished(hop);
			break;
		}
		if (r > 0 || hop->blocked_on || !hop->attached)
			continue;
		give_back(hop);
		if (hop->looks_again)
			return;
		r = ring_reader_arm(&hop->in, missing);
		if (r < 0)
			hop_fail(hop, -EPROTO, "impossible producer index in the ring");
		if (r <= 0)
			return;
	}
	if (hop->attached && !hop->has_failed)
		give_back(hop);
}

void hop_input(struct hop *hop)
{
	hop->look_due = false;
	read_frames(hop);
	if (!hop->attached || hop->has_failed || !hop->taken_pending || (int32_t)(hop->in.tail - hop->taken_mark) < 0)
		return;
	apply_taken(hop);
	hop_mark_dirty(hop); /* it may have taken more since */
}

void hop_look(struct hop *hop)
{
	if (!hop->attached || hop->has_failed)
		return;
	hop_take_in(hop);
	hop_mark_dirty(hop);
}

void hop_dont_ask(struct hop *hop)
{
	if (hop->attached)
		ring_reader_disarm(&hop->in);
}

/* What is impossible is for hop_look() to find, too. */
bool hop_has_input(struct hop *hop)
{
	return hop->attached && ring_reader_ready(&hop->in, 1) != 0;
}

void hop_event(struct hop *hop)
{
	if (hop->attached && !hop->has_failed)
		hop->rx.notifications++;
	hop_look(hop);
}

void hop_finish(struct hop *hop)
{
	hop->finishing = true;
	/* Twice: the snapshot of an earlier turn may be pending, and a new one can only be made behind it. */
	for (int i = 0; i < 2 && hop->attached && !hop->has_failed; i++) {
		uint32_t mark, before;

		hop_stop_waiting(hop);
		snapshot_taken(hop);
		if (ring_reader_ready(&hop->in, UINT32_MAX) < 0)
			hop_fail(hop, -EPROTO, "impossible producer index in the ring");
		mark = hop->in.head;
		do {
			before = hop->in.tail;
			hop_input(hop);
		} while (hop->attached && !hop->has_failed && hop->in.tail != before && (int32_t)(hop->in.tail - mark) < 0);
	}
}
