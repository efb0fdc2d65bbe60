/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Why it is as it is:
 *  - DATA frames are filled in place, right in the ring: consecutive pieces of one channel become one frame, so that a
 *    thousand small messages cost the next daemon one header.
 *  - What was written is shown to the reader in chunks, not only at the end of a turn: on two CPUs the reader works on the
 *    first chunk while we copy the second.
 *  - Input is released in the same chunks, for the same reason.
 */

#include "daemon/hop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <utlist.h>

#include "daemon/channel.h"
#include "daemon/log.h"
#include "daemon/quota.h"

#define CHUNK	       32768u	/* bytes after which the other side gets to see, or gets back, what was done */
#define INPUT_BUDGET   262144u	/* bytes of one hop's input in a turn */
#define QUANTUM	       16384u	/* bytes of one channel's backlog before the next one's turn */
#define PIECE_MIN      256u	/* a longer payload isn't cut into pieces smaller than this */
#define CONTROL_MAX    4194304u /* bytes of session frames that may wait for a reader */
#define CANCEL_MS      2000
#define STUCK_MS       10
#define STUCK_BYTES    16384u	/* less than this in that time: stuck */
#define EMIT_TURNS     8	/* of one hop at a time, while the other end makes room at the same time */
#define FLUSH_EMITS    1024u	/* of a flush; then the event loop looks at everybody else */
#define FLUSH_BYTES    4194304u
#define POLL_FIRST_MS  2
#define POLL_LAST_MS   1024
#define EMIT_FRAME_MAX frame_size(FRAME_SMALL_MAX)

static void start_timer(struct event *timer, uint32_t ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};

	if (!evtimer_pending(timer, NULL))
		evtimer_add(timer, &delay);
}

/* --- the relay ------------------------------------------------------------------------------------------------------ */

/* By a timer rather than by event_active(): the loop looks at the descriptors before it comes to that. */
static void call_again(struct relay *relay)
{
	start_timer(relay->again, 0);
}

static void mark_unfinished(struct hop *hop)
{
	if (hop->is_unfinished)
		return;
	hop->is_unfinished = true;
	DL_APPEND2(hop->relay->unfinished, hop, unfinished_prev, unfinished_next);
}

static void on_again(int fd, short what, void *userdata)
{
	struct relay *relay = userdata;
	struct hop *hop;
	unsigned count = 0;

	(void)fd;
	(void)what;
	DL_FOREACH2(relay->unfinished, hop, unfinished_next)
		count++;
	while (count-- && (hop = relay->unfinished)) {
		hop->is_unfinished = false;
		DL_DELETE2(relay->unfinished, hop, unfinished_prev, unfinished_next);
		hop_event(hop);
	}
	relay_flush(relay);
}

int relay_init(struct relay *relay, struct event_base *base, uint64_t max_message)
{
	*relay = (struct relay){.base = base, .max_message = max_message, .cancel_ms = CANCEL_MS};
	relay->again = evtimer_new(base, on_again, relay);
	return relay->again ? 0 : -ENOMEM;
}

void relay_cleanup(struct relay *relay)
{
	do
		relay_flush(relay);
	while (relay->dirty || relay->failed);
	event_free(relay->again);
	relay->again = NULL;
}

void hop_mark_dirty(struct hop *hop)
{
	if (hop->is_dirty)
		return;
	hop->is_dirty = true;
	DL_APPEND2(hop->relay->dirty, hop, dirty_prev, dirty_next);
}

void hop_fail(struct hop *hop, int error, const char *format, ...)
{
	va_list args;

	if (hop->has_failed)
		return;
	hop->has_failed = true;
	hop->error = error;
	va_start(args, format);
	vsnprintf(hop->why, sizeof(hop->why), format, args);
	va_end(args);
	LL_APPEND2(hop->relay->failed, hop, failed_next);
}

/* --- output --------------------------------------------------------------------------------------------------------- */

static void handed_push(struct hop *hop, struct outlet *outlet, const struct handed *handed)
{
	if (outlet->handed_count == outlet->handed_room) {
		uint32_t room = outlet->handed_room ? outlet->handed_room * 2 : 64;
		struct handed *grown = calloc(room, sizeof(*grown));

		if (!grown) {
			hop_fail(hop, -ENOMEM, "out of memory");
			return;
		}
		for (uint32_t i = 0; i < outlet->handed_count; i++)
			grown[i] = outlet->handed[(outlet->handed_first + i) & (outlet->handed_room - 1)];
		free(outlet->handed);
		outlet->handed = grown;
		outlet->handed_room = room;
		outlet->handed_first = 0;
	}
	outlet->handed[(outlet->handed_first + outlet->handed_count++) & (outlet->handed_room - 1)] = *handed;
}

static void count_frame(struct hop *hop, uint32_t size)
{
	hop->out_sequence++;
	hop->out_position += size;
	hop->tx.frames++;
	hop->tx.bytes += size;
}

static void close_frame(struct hop *hop, struct outlet *outlet)
{
	static const uint8_t zeros[8];
	uint32_t length = outlet->filling_length;
	struct frame_header header = {
		.length = length,
		.type = FRAME_DATA,
		.sequence = hop->kind == HOP_LINK ? hop->out_sequence : 0,
	};
	uint8_t encoded[FRAME_HEADER_SIZE];

	if (!outlet->filling)
		return;
	header.channel = outlet->filling->number;
	header.messages = (uint16_t)(outlet->filling_messages > UINT16_MAX ? UINT16_MAX : outlet->filling_messages);
	ring_writer_put(&outlet->writer, zeros, -length & 7u);
	frame_header_encode(&header, encoded);
	ring_writer_patch(&outlet->writer, outlet->filling_at, encoded, FRAME_HEADER_SIZE);
	if (hop->release_means_taken)
		handed_push(hop, outlet,
			    &(struct handed){
				    .end = outlet->filling,
				    .offset = outlet->filling->sent - length,
				    .position = outlet->filling_at + FRAME_HEADER_SIZE,
				    .length = length,
			    });
	hop->tx.messages += outlet->filling_messages;
	count_frame(hop, frame_size(length));
	outlet->filling = NULL;
}

static void publish(struct hop *hop, struct outlet *outlet)
{
	close_frame(hop, outlet);
	if (ring_writer_publish(&outlet->writer)) {
		hop->tx.notifications++;
		hop->ops->notify(hop->owner);
	}
}

/* The frames in the main ring come first: the OPEN of a channel before its DATA among the deliveries. */
static void publish_all(struct hop *hop)
{
	for (unsigned i = 0; i < hop->outlets; i++)
		publish(hop, &hop->out[i]);
}

static bool space_for(struct hop *hop, struct outlet *outlet, uint32_t size)
{
	int space = ring_writer_space(&outlet->writer, size);

	if (space < 0) {
		hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
		return false;
	}
	if ((uint32_t)space >= size)
		return true;
	if (outlet->wanted < size)
		outlet->wanted = size;
	return false;
}

/* A whole frame that isn't DATA, into the main ring. The caller has seen that there is space. */
static void put_frame(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
		      uint32_t length)
{
	static const uint8_t zeros[8];
	struct outlet *outlet = &hop->out[OUTLET_MAIN];
	struct frame_header header = {.length = length, .type = type, .flags = flags, .channel = channel};
	uint8_t encoded[FRAME_HEADER_SIZE];

	close_frame(hop, outlet);
	if (hop->kind == HOP_LINK)
		header.sequence = hop->out_sequence;
	frame_header_encode(&header, encoded);
	ring_writer_put(&outlet->writer, encoded, FRAME_HEADER_SIZE);
	ring_writer_put(&outlet->writer, payload, length);
	ring_writer_put(&outlet->writer, zeros, -length & 7u);
	count_frame(hop, frame_size(length));
}

int hop_send(struct hop *hop, uint8_t type, uint8_t flags, uint32_t channel, const void *payload, uint32_t length)
{
	static const uint8_t zeros[8];
	struct frame_header header = {.length = length, .type = type, .flags = flags, .channel = channel};
	uint8_t encoded[FRAME_HEADER_SIZE];

	if (evbuffer_get_length(hop->control) > CONTROL_MAX)
		return -ENOBUFS;
	frame_header_encode(&header, encoded);
	if (evbuffer_add(hop->control, encoded, FRAME_HEADER_SIZE) ||
	    evbuffer_add(hop->control, payload, length) || evbuffer_add(hop->control, zeros, -length & 7u))
		return -ENOMEM;
	hop_mark_dirty(hop);
	return 0;
}

void hop_farewell(struct hop *hop, const void *payload, uint32_t length)
{
	if (space_for(hop, &hop->out[OUTLET_MAIN], frame_size(length)))
		put_frame(hop, FRAME_GOODBYE, 0, 0, payload, length);
	publish_all(hop);
}

static bool emit_control(struct hop *hop)
{
	uint8_t encoded[FRAME_HEADER_SIZE], payload[FRAME_PAYLOAD_MAX + 8];
	struct frame_header header;

	while (evbuffer_get_length(hop->control)) {
		uint32_t padded;

		evbuffer_copyout(hop->control, encoded, FRAME_HEADER_SIZE);
		if (frame_header_decode(encoded, &header) < 0) {
			hop_fail(hop, -EIO, "internal: bad frame in the queue");
			return false;
		}
		if (!space_for(hop, &hop->out[OUTLET_MAIN], frame_size(header.length)))
			return false;
		padded = frame_size(header.length) - FRAME_HEADER_SIZE;
		evbuffer_drain(hop->control, FRAME_HEADER_SIZE);
		evbuffer_remove(hop->control, payload, padded);
		put_frame(hop, header.type, header.flags, header.channel, payload, header.length);
	}
	return true;
}

static bool emit_urgent(struct hop *hop)
{
	struct channel_end *end;

	while ((end = hop->urgent)) {
		struct channel_frame frame;

		for (;;) {
			if (!space_for(hop, &hop->out[OUTLET_MAIN], EMIT_FRAME_MAX))
				return false;
			if (!channel_next_control(end, &frame))
				break;
			put_frame(hop, frame.type, 0, end->number, frame.payload, frame.length);
		}
		end->in_urgent = false;
		DL_DELETE2(hop->urgent, end, urgent_prev, urgent_next);
		channel_check_ended(end);
	}
	return true;
}

static struct outlet *outlet_of(struct hop *hop, const struct channel_end *end)
{
	return &hop->out[hop->outlets > 1 && !end->is_opener ? OUTLET_DELIVERIES : OUTLET_MAIN];
}

/* Puts bytes of a stream out as far as there is space, filling up the DATA frame that is open if it is this channel's. */
static uint32_t write_pieces(struct hop *hop, struct channel_end *end, const struct iovec *pieces, unsigned count,
			     uint32_t length, uint32_t messages)
{
	struct outlet *outlet = outlet_of(hop, end);
	uint32_t smallest = length < PIECE_MIN ? length : PIECE_MIN;
	uint32_t done = 0, piece_done = 0;
	unsigned piece = 0;

	while (done < length) {
		uint32_t left = length - done, size, room;
		int space;

		if (outlet->filling != end || (outlet->filling_length & 7) || outlet->filling_length >= FRAME_PAYLOAD_MAX) {
			close_frame(hop, outlet);
			if (left < smallest)
				smallest = left;
			if (!space_for(hop, outlet, FRAME_HEADER_SIZE + ((smallest + 7u) & ~7u)))
				break;
			outlet->filling = end;
			outlet->filling_at = outlet->writer.head;
			outlet->filling_length = 0;
			outlet->filling_messages = 0;
			ring_writer_advance(&outlet->writer, FRAME_HEADER_SIZE);
		}
		space = ring_writer_space(&outlet->writer, (left + 7u) & ~7u);
		if (space < 0) {
			hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
			break;
		}
		room = FRAME_PAYLOAD_MAX - outlet->filling_length;
		/* An odd consumer index leaves an odd space: the padding has to fit as well. */
		size = ((left + 7u) & ~7u) <= (uint32_t)space ? left : (uint32_t)space & ~7u;
		if (size > room)
			size = room;
		if (size == 0) {
			if (outlet->filling_length == FRAME_PAYLOAD_MAX)
				continue;
			outlet->wanted = FRAME_HEADER_SIZE + PIECE_MIN;
			break;
		}
		for (uint32_t put = 0; put < size;) {
			uint32_t here = (uint32_t)pieces[piece].iov_len - piece_done;

			if (here > size - put)
				here = size - put;
			ring_writer_put(&outlet->writer, (uint8_t *)pieces[piece].iov_base + piece_done, here);
			put += here;
			piece_done += here;
			if (piece_done == pieces[piece].iov_len && piece + 1 < count) {
				piece++;
				piece_done = 0;
			}
		}
		done += size;
		end->sent += size;
		outlet->filling_length += size;
		hop->relay->moved += size;
		if (done == length)
			outlet->filling_messages += messages;
		if (outlet->writer.head - outlet->writer.published >= CHUNK)
			publish_all(hop);
	}
	return done;
}

uint32_t hop_write(struct hop *hop, struct channel_end *end, const struct iovec *pieces, unsigned count, uint32_t length,
		   uint32_t messages)
{
	if (!hop->attached || hop->has_failed)
		return 0;
	hop_mark_dirty(hop);
	if (end->want_open && !emit_urgent(hop))
		return 0;
	if (hop->backlog || (hop->waiters && !hop->resuming))
		return 0;
	return write_pieces(hop, end, pieces, count, length, messages);
}

uint32_t hop_write_backlog(struct hop *hop, struct channel_end *end, const struct iovec *pieces, unsigned count,
			   uint32_t length, uint32_t messages)
{
	return end->want_open ? 0 : write_pieces(hop, end, pieces, count, length, messages);
}

/* Round robin over the channels with a backlog; false if one of them still has something that didn't fit. */
static bool emit_backlog(struct hop *hop)
{
	bool all = true, progress = true;

	while (progress && hop->backlog && !hop->has_failed) {
		struct channel_end *last = hop->backlog->backlog_prev, *end, *next;

		progress = false;
		all = true;
		for (end = hop->backlog; end; end = next) {
			next = end == last ? NULL : end->backlog_next;
			if (channel_send_backlog(end, QUANTUM))
				progress = true;
			if (channel_has_backlog(end)) {
				all = false;
				continue;
			}
			end->in_backlog = false;
			DL_DELETE2(hop->backlog, end, backlog_prev, backlog_next);
		}
	}
	return all;
}

/* Asks to be woken when the program has taken something. True: it has meanwhile. */
static bool arm_taken(struct hop *hop)
{
	bool moved = false;

	/* While the last snapshot waits for the input that it came with, another one is of no use. */
	if (!hop->release_means_taken || hop->taken_pending)
		return false;
	for (unsigned i = 0; i < hop->outlets; i++) {
		struct outlet *outlet = &hop->out[i];

		if (!outlet->handed_count)
			continue;
		if (ring_writer_arm(&outlet->writer, outlet->writer.ring.size) < 0) {
			hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
			return false;
		}
		moved |= outlet->writer.tail != outlet->taken_upto;
		start_timer(hop->poll_timer, hop->poll_ms);
	}
	return moved;
}

static void take_in(struct hop *hop);
static void hop_input(struct hop *hop);

/* One after the other takes what room there is. Who got some goes to the end of the line, who got none stays its head. */
static void resume_waiters(struct hop *hop)
{
	struct hop *waiter;
	unsigned count = 0;

	DL_FOREACH2(hop->waiters, waiter, waiter_next)
		count++;
	hop->resuming = true;
	while (count-- && (waiter = hop->waiters)) {
		uint64_t before = waiter->in_position + waiter->in_progress;

		DL_DELETE2(hop->waiters, waiter, waiter_prev, waiter_next);
		waiter->blocked_on = NULL;
		hop_input(waiter);
		if (waiter->blocked_on == hop && before == waiter->in_position + waiter->in_progress) {
			DL_DELETE2(hop->waiters, waiter, waiter_prev, waiter_next);
			DL_PREPEND2(hop->waiters, waiter, waiter_prev, waiter_next);
			break;
		}
	}
	hop->resuming = false;
	if (!hop->waiters)
		evtimer_del(hop->stuck_timer);
}

static bool has_output(const struct hop *hop)
{
	return hop->urgent || hop->backlog || evbuffer_get_length(hop->control);
}

/* What is worth waking up for. At most the ring, so that a reader who has read it all has made it so. */
static int arm_space(struct hop *hop, struct outlet *outlet, uint32_t wanted)
{
	uint32_t size = outlet->writer.ring.size, want = wanted > size / 4 ? wanted : size / 4;
	int r = ring_writer_arm(&outlet->writer, want < size ? want : size);

	if (r < 0)
		hop_fail(hop, -EPROTO, "impossible consumer index in the ring");
	return r;
}

/* Writes what there is to write, and asks to be woken for what is left. Goes on only where that makes progress: for something
 * that the space is there for now, or something that was taken just now. True: ended early, there is more to do. */
static bool emit_turns(struct hop *hop)
{
	for (int turns = 0; turns < EMIT_TURNS; turns++) {
		bool progress = false;

		for (unsigned i = 0; i < hop->outlets; i++)
			hop->out[i].wanted = 0;
		if (emit_control(hop) && emit_urgent(hop)) {
			emit_backlog(hop);
			emit_urgent(hop); /* what comes behind the backlog */
		}
		if (!has_output(hop) && !hop->waiters)
			hop->stuck = false;
		publish_all(hop);
		if (hop->has_failed)
			return false;
		if (arm_taken(hop)) {
			take_in(hop);
			progress = true;
		}
		for (unsigned i = 0; i < hop->outlets; i++)
			if (hop->out[i].wanted && arm_space(hop, &hop->out[i], hop->out[i].wanted) > 0)
				progress = true;
		if (hop->waiters && !has_output(hop) &&
		    arm_space(hop, &hop->out[OUTLET_MAIN], FRAME_HEADER_SIZE + PIECE_MIN) > 0) {
			resume_waiters(hop);
			progress = true;
		}
		if (!progress || !hop->attached || hop->has_failed)
			return false;
	}
	return true;
}

static void hop_emit(struct hop *hop)
{
	if (hop->attached && !hop->has_failed && emit_turns(hop))
		mark_unfinished(hop);
}

void relay_flush(struct relay *relay)
{
	struct channel *channel;
	struct hop *hop;
	unsigned emits = 0;

	if (relay->flushing)
		return;
	relay->flushing = true;
	relay->moved = 0;
	for (;;) {
		while ((hop = relay->dirty) && emits < FLUSH_EMITS && relay->moved < FLUSH_BYTES) {
			DL_DELETE2(relay->dirty, hop, dirty_prev, dirty_next);
			hop->is_dirty = false;
			hop_emit(hop);
			emits++;
		}
		hop = relay->failed;
		if (!hop)
			break;
		LL_DELETE2(relay->failed, hop, failed_next);
		hop->has_failed = false;
		hop->ops->failed(hop->owner, hop->error, hop->why);
	}
	while ((channel = relay->ended)) {
		relay->ended = channel->ended_next;
		channel_free(channel);
	}
	if (relay->unfinished || relay->dirty)
		call_again(relay);
	relay->flushing = false;
}

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
		hop->poll_ms = POLL_FIRST_MS;
}

/* Input, and with it what the program had released before. */
static void take_in(struct hop *hop)
{
	snapshot_taken(hop);
	hop_input(hop);
}

static void on_poll(int fd, short what, void *userdata)
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
	struct outlet *outlet = outlet_of(hop, end);

	if (!hop->attached || hop->has_failed)
		return -ENOENT;
	close_frame(hop, outlet);
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
			close_frame(hop, outlet);
		for (uint32_t k = 0; k < outlet->handed_count; k++) {
			struct handed *handed =
				&outlet->handed[(outlet->handed_first + k) & (outlet->handed_room - 1)];

			if (handed->end == end)
				handed->end = NULL;
		}
	}
}

/* --- input ---------------------------------------------------------------------------------------------------------- */

static void watch_stuck(struct hop *hop)
{
	if (evtimer_pending(hop->stuck_timer, NULL))
		return;
	hop->stuck_from = hop->out_position;
	start_timer(hop->stuck_timer, STUCK_MS);
}

static void on_stuck(int fd, short what, void *userdata)
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
	resume_waiters(hop);
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

static void stop_waiting(struct hop *hop)
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

static int take_open(struct hop *hop, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_open open;
	struct channel *channel;
	int r = frame_open_decode(payload, header->length, &open);

	if (r < 0)
		return r;
	if (header->channel >= CHANNEL_NUMBERS || (header->channel & 1) == hop->parity)
		return -EPROTO;
	if (open.kind < CHANNEL_MESSAGE || open.kind > CHANNEL_STREAM)
		return -EPROTO;
	if (hop->release_means_taken && hop_find(hop, header->channel))
		count_released(hop, hop_find(hop, header->channel));
	r = channel_new(hop, header->channel, open.kind, &open.identity, &channel);
	if (r < 0)
		return r;
	if (hop->channels > hop->channels_max) {
		channel_refuse(channel, ENOBUFS);
		return 0;
	}
	return hop->ops->open(hop->owner, channel, &open);
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
		/* The channel has ended here while this was on its way. Who sends a RESET waits for the answer. */
		return header->type == FRAME_RESET ? answer_reset(hop, header, payload) : 0;
	default:
		if (header->type >= FRAME_OPTIONAL)
			return 0;
		return hop->ops->control(hop->owner, header, payload);
	}
}

/* How much of the DATA frame at the head of the ring has been dealt with, or below zero. */
static int take_data(struct hop *hop, const struct frame_header *header)
{
	struct channel_end *end = hop_find(hop, header->channel);
	int r;

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
	if (ring_reader_release(&hop->in)) {
		hop->tx.notifications++;
		hop->ops->notify(hop->owner);
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
	ring_reader_consume(&hop->in, total);
	hop->in_sequence++;
	hop->in_position += total;
	hop->unreleased += total;
	hop->rx.frames++;
	hop->rx.bytes += total;
	if (header.type == FRAME_DATA)
		hop->rx.messages += header.messages;
	return 1;
}

static void read_frames(struct hop *hop)
{
	uint64_t start = hop->in_position;
	uint32_t missing = 1;
	int r;

	while (hop->attached && !hop->has_failed && !hop->blocked_on) {
		r = take_next(hop, &missing);
		if (r < 0)
			break;
		if (hop->unreleased >= CHUNK)
			give_back(hop);
		if (r > 0 && hop->in_position - start >= INPUT_BUDGET) {
			mark_unfinished(hop);
			break;
		}
		if (r > 0 || hop->blocked_on || !hop->attached)
			continue;
		give_back(hop);
		r = ring_reader_arm(&hop->in, missing);
		if (r < 0)
			hop_fail(hop, -EPROTO, "impossible producer index in the ring");
		if (r <= 0)
			return;
	}
	if (hop->attached && !hop->has_failed)
		give_back(hop);
}

static void hop_input(struct hop *hop)
{
	read_frames(hop);
	if (!hop->attached || hop->has_failed || !hop->taken_pending || (int32_t)(hop->in.tail - hop->taken_mark) < 0)
		return;
	apply_taken(hop);
	hop_mark_dirty(hop); /* it may have taken more since */
}

void hop_event(struct hop *hop)
{
	if (!hop->attached || hop->has_failed)
		return;
	hop->rx.notifications++;
	take_in(hop);
	hop_mark_dirty(hop);
}

void hop_finish(struct hop *hop)
{
	hop->finishing = true;
	/* Twice: the snapshot of an earlier turn may be pending, and a new one can only be made behind it. */
	for (int i = 0; i < 2 && hop->attached && !hop->has_failed; i++) {
		uint32_t mark, before;

		stop_waiting(hop);
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

/* --- life ----------------------------------------------------------------------------------------------------------- */

int hop_init(struct hop *hop, struct relay *relay, enum hop_kind kind, const struct hop_ops *ops, void *owner,
	     uint32_t parity, uint32_t channels_max)
{
	*hop = (struct hop){
		.relay = relay,
		.kind = kind,
		.ops = ops,
		.owner = owner,
		.parity = parity,
		.next_number = parity,
		.channels_max = channels_max,
		.poll_ms = POLL_FIRST_MS,
		.stuck = true, /* detached: nothing may wait for it */
	};
	hop->control = evbuffer_new();
	hop->stuck_timer = evtimer_new(relay->base, on_stuck, hop);
	hop->poll_timer = evtimer_new(relay->base, on_poll, hop);
	if (hop->control && hop->stuck_timer && hop->poll_timer)
		return 0;
	hop_cleanup(hop);
	return -ENOMEM;
}

int hop_attach(struct hop *hop, const struct hop_rings *rings)
{
	int r = ring_reader_init(&hop->in, &rings->in, rings->adopt);

	for (unsigned i = 0; i < rings->outlets && r == 0; i++) {
		struct outlet *outlet = &hop->out[i];

		*outlet = (struct outlet){0};
		r = ring_writer_init(&outlet->writer, &rings->out[i], rings->adopt);
		outlet->taken_upto = outlet->writer.tail;
	}
	if (r < 0)
		return r;
	hop->outlets = rings->outlets;
	hop->whole_frames = rings->whole_frames;
	hop->release_means_taken = rings->release_means_taken;
	hop->in_progress = 0;
	hop->in_sequence = hop->out_sequence = 0;
	hop->in_position = hop->out_position = 0;
	hop->unreleased = 0;
	hop->stuck = hop->finishing = hop->taken_pending = false;
	hop->attached = true;
	hop_mark_dirty(hop);
	return 0;
}

void hop_detach(struct hop *hop)
{
	if (!hop->attached)
		return;
	if (hop->has_failed)
		LL_DELETE2(hop->relay->failed, hop, failed_next);
	hop->has_failed = false; /* the session that it was about is over */
	hop->attached = false;
	hop->stuck = true;
	for (unsigned i = 0; i < hop->outlets; i++) {
		free(hop->out[i].handed);
		hop->out[i] = (struct outlet){0};
	}
	hop->outlets = 0;
	stop_waiting(hop);
	if (hop->is_unfinished) {
		hop->is_unfinished = false;
		DL_DELETE2(hop->relay->unfinished, hop, unfinished_prev, unfinished_next);
	}
	evbuffer_drain(hop->control, evbuffer_get_length(hop->control));
	evtimer_del(hop->poll_timer);
	resume_waiters(hop);
}

void hop_reset_channels(struct hop *hop, int error)
{
	bool certain = hop->kind == HOP_LOCAL && hop->said_goodbye && (!hop->error || hop->error == -ECONNRESET);

	for (uint32_t i = 0; i < hop->table_size; i++)
		if (hop->table[i])
			channel_lost(hop->table[i], error, !certain);
}

void hop_cleanup(struct hop *hop)
{
	hop_detach(hop);
	hop_reset_channels(hop, ECONNRESET);
	if (hop->is_dirty)
		DL_DELETE2(hop->relay->dirty, hop, dirty_prev, dirty_next);
	hop->is_dirty = false;
	if (hop->has_failed)
		LL_DELETE2(hop->relay->failed, hop, failed_next);
	hop->has_failed = false;
	if (hop->control)
		evbuffer_free(hop->control);
	if (hop->stuck_timer)
		event_free(hop->stuck_timer);
	if (hop->poll_timer)
		event_free(hop->poll_timer);
	account_unref(hop->account);
	hop->account = NULL;
	free(hop->table);
	hop->control = NULL;
	hop->stuck_timer = hop->poll_timer = NULL;
	hop->table = NULL;
	hop->table_size = 0;
}

uint32_t hop_unacknowledged(struct hop *hop)
{
	int unread = hop->attached ? ring_writer_unread(&hop->out[OUTLET_MAIN].writer) : 0;

	return unread < 0 ? 0 : (uint32_t)unread;
}

/* --- the table of channels ------------------------------------------------------------------------------------------ */

struct channel_end *hop_find(struct hop *hop, uint32_t number)
{
	return number < hop->table_size ? hop->table[number] : NULL;
}

int hop_enter(struct hop *hop, uint32_t number, struct channel_end *end)
{
	if (number >= hop->table_size) {
		uint32_t size = hop->table_size ? hop->table_size : 16;
		struct channel_end **grown;

		while (size <= number)
			size *= 2;
		grown = realloc(hop->table, size * sizeof(struct channel_end *));
		if (!grown)
			return -ENOMEM;
		memset(grown + hop->table_size, 0, (size - hop->table_size) * sizeof(struct channel_end *));
		hop->table = grown;
		hop->table_size = size;
	}
	if (hop->table[number])
		return -EPROTO;
	hop->table[number] = end;
	hop->channels++;
	return 0;
}

int hop_number(struct hop *hop, uint32_t *number)
{
	if (hop->channels >= hop->channels_max)
		return -ENOBUFS;
	for (uint32_t tries = 0; tries < CHANNEL_NUMBERS / 2; tries++) {
		uint32_t candidate = hop->next_number;

		/* Low numbers first, so that tables stay small; a freed one isn't taken again at once. */
		hop->next_number += 2;
		if (hop->next_number >= CHANNEL_NUMBERS ||
		    (hop->next_number >= hop->table_size && hop->channels < hop->table_size / 4))
			hop->next_number = hop->parity;
		if (!hop_find(hop, candidate)) {
			*number = candidate;
			return 0;
		}
	}
	return -ENOBUFS;
}

void hop_remove(struct hop *hop, uint32_t number)
{
	if (hop_find(hop, number)) {
		hop->table[number] = NULL;
		hop->channels--;
	}
}
