/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/stream_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/switch/channel.h"
#include "base/clock.h"
#include "base/cost.h"
#include "base/log.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/inner.h"
#include "daemon/switch/program_socket.h"
#include "wire/advice.h"

#define STUCK_NS    60000000000u /* without a byte, though both sides want some to move */
#define IDLE_NS	    10000000000u /* without a byte: the memory of its rings is given back */
#define CREDIT_STEP 8192u	 /* bytes: an eighth of the smallest window; fewer aren't worth a frame */

static void stream_on_turn(struct task *task);

void stream_set_payer(struct stream *stream, struct account *account)
{
	bool is_due = stream->turn.is_due;

	task_cancel(&stream->turn);
	stream->payer = account;
	task_init(&stream->turn, &stream->board->turns, account_line(account), stream_on_turn);
	if (is_due)
		task_due(&stream->turn);
}

bool stream_put_frame(struct stream *stream, uint8_t type, const void *payload, uint32_t length)
{
	const struct frame_header header = {.length = length, .type = type, .channel = stream->number};

	if (ring_writer_space(&stream->writer, frame_size(length)) < (int)frame_size(length))
		return false;
	frame_put(&stream->writer, &header, payload);
	ring_writer_publish(&stream->writer);
	return true;
}

/* --- from the hop ----------------------------------------------------------------------------- */

static void stream_finish(struct stream *stream, bool clean)
{
	if (stream->state == OVER || stream->state == UNTOLD)
		return;
	if (clean || stream_can_tell_break(stream)) {
		stream->state = OVER;
		stream_close_socket(stream, clean);
	} else {
		stream->state = UNTOLD;
		log_limited(
			LOG_CUT_OFF, account_source(stream->payer), LOG_LEVEL_WARNING,
			"a stream stays open though it has broken: its program has lowered its SO_SNDBUF, "
			"and can't be told before it writes ('xenmsg status': untold)");
	}
	task_due(&stream->turn); /* the owner is told when nothing on the stack uses the stream */
}

static void reset_came(struct stream *stream, const uint8_t *payload, uint32_t length)
{
	struct frame_reset reset = {.error = ECONNRESET};

	frame_reset_decode(payload, length, &reset);
	if (stream->state == FLOWING)
		stream_write(stream); /* what came before, as far as the socket takes it */
	stream_put_frame(stream, FRAME_RESET, payload, length);
	hop_event(&stream->hop);
	if (stream->state == CALLING) {
		stream_answer_caller(stream, (int)reset.error,
				     reset.error == ECONNRESET ? advice_of_break(reset.flags, false) : "");
		stream_finish(stream, true);
	} else {
		stream_note_break(stream, reset.flags);
		stream_finish(stream, false);
	}
}

/* The call was accepted. */
static int answer_caller(struct stream *stream)
{
	int fd = stream_answer(stream, stream->fd);

	stream->was_accepted = fd == -ENOBUFS;
	if (stream->was_accepted)
		return stream_try_later(stream);
	stream->state = FLOWING;
	if (fd < 0 || fd == stream->fd)
		return 0;
	stream_unwatch_socket(stream);
	program_socket_close(stream->board, stream->fd, NULL);
	return stream_watch_socket(stream, fd);
}

/* Takes one frame of the hop's that isn't DATA. */
static int stream_take_frame(struct stream *stream, const struct frame_header *header)
{
	uint8_t payload[FRAME_SMALL_MAX];
	struct frame_opened opened;
	struct frame_credit credit;

	ring_reader_copy(&stream->reader, FRAME_HEADER_SIZE, payload,
			 header->length < sizeof(payload) ? header->length : (uint32_t)sizeof(payload));
	switch (header->type) {
	case FRAME_OPEN:
		stream->number = header->channel;
		return 0;
	case FRAME_OPENED:
		if (frame_opened_decode(payload, header->length, &opened) < 0)
			return -EPROTO;
		stream->limit = opened.limit;
		return stream->state == CALLING ? answer_caller(stream) : 0;
	case FRAME_CREDIT:
		if (frame_credit_decode(payload, header->length, &credit) < 0)
			return -EPROTO;
		if (credit.limit > stream->limit)
			stream->limit = credit.limit;
		stream->stopped |= credit.flags & CREDIT_STOP;
		return 0;
	case FRAME_FIN:
		if (frame_u64_decode(payload, header->length, &stream->total) < 0)
			return -EPROTO;
		stream->fin_came = true;
		return 0;
	case FRAME_RESET:
		reset_came(stream, payload, header->length);
		return 0;
	default:
		return 0;
	}
}

/* Tells the sender how far the stream to the program was taken. A frame each time would go all the way back
 * for each small piece, and wake two daemons. */
static void tell_taken(struct stream *stream)
{
	const struct frame_credit credit = {.consumed = stream->taken,
					    .flags = stream->is_deaf ? CREDIT_STOP : 0};
	uint8_t payload[FRAME_SMALL_MAX];

	if (stream->is_deaf == stream->told_deaf &&
	    stream->taken - stream->told < (stream->fin_came || stream->tells_all ? 1 : CREDIT_STEP))
		return;
	/* Without room for it now, there will be another turn when there is. */
	if (!stream_put_frame(stream, FRAME_CREDIT, payload, frame_credit_encode(&credit, payload)))
		return;
	stream->told = stream->taken;
	stream->told_deaf = stream->is_deaf;
}

/* What the program sends is wanted no more: that is the end of its direction, if the stream isn't broken. */
static void refuse(struct stream *stream)
{
	uint8_t payload[8];

	/* Its next write is by what it can be told of a break. */
	if (!stream->end_read && !stream_can_tell_break(stream))
		return;
	if (!stream->tells_all && !stream->end_read &&
	    !stream_put_frame(stream, FRAME_FIN, payload, frame_u64_encode(stream->sent, payload)))
		return; /* there will be another turn when there is room */
	stream_refuse(stream);
}

static int take_frames(struct stream *stream)
{
	struct frame_header header;
	uint32_t ready;
	int r = 0, next = 0;

	while (r == 0 && stream->state < UNTOLD &&
	       (next = frame_next(&stream->reader, &header, &ready)) > 0) {
		r = stream_take_frame(stream, &header);
		switch_spend(stream->board, stream->payer, COST_CONTROL);
		ring_reader_consume(&stream->reader, frame_size(header.length));
	}
	ring_reader_release(&stream->reader);
	if (next < 0)
		return next;
	if (r == 0 && stream->state == CALLING && stream->was_accepted)
		r = answer_caller(stream);
	if (r == 0 && stream->state == FLOWING)
		r = stream_write(stream);
	return r;
}

/* --- turns ------------------------------------------------------------------------------------ */

/* Returns a counter of what the hop must look at: frames that we wrote, and room that we made. */
static uint32_t progress(const struct stream *stream)
{
	return stream->writer.published + stream->reader.released + stream->data_reader.released;
}

/* Ends the stream if both directions have ended and everything was delivered. */
static void finish_if_done(struct stream *stream)
{
	if (stream->end_read && stream->end_written && !hop_channel_count(&stream->hop))
		stream_finish(stream, true);
}

void stream_leave(struct stream *stream)
{
	if (stream->breaks) /* by its program's own word */
		hop_note_goodbye(&stream->hop, stream->mark);
	hop_finish(&stream->hop, -ECONNRESET, "the program has gone");
}

static void stream_run(struct stream *stream)
{
	uint64_t moved = stream->sent + stream->taken;
	uint32_t before = progress(stream);
	int r = take_frames(stream);

	if (stream->state >= UNTOLD)
		return;
	if (r == 0 && stream->state == FLOWING && (stream->tells_all || stream->stopped)) {
		if (!stream->refused)
			refuse(stream);
	} else if (r == 0 && stream->state == FLOWING)
		r = stream_read(stream);
	else if (r == 0 && stream_caller_has_left(stream))
		r = -ECONNRESET;
	if (r == -ECONNRESET && stream->state == FLOWING) {
		stream->state = BREAKING;
		stream_leave(stream);
		return;
	}
	if (r < 0) {
		hop_fail(&stream->hop, r, "the program has gone");
		return;
	}
	if (stream->state == FLOWING)
		stream_look_for_close(stream);
	tell_taken(stream);
	if (stream->sent + stream->taken != moved) {
		stream->moved_ns = clock_ns();
		stream->has_memory = true;
	}
	if (progress(stream) != before)
		hop_event(&stream->hop);
	ring_reader_arm(&stream->reader, CONTROL_RING_SIZE + 1);
	ring_reader_arm(&stream->data_reader, PRIVATE_RING_SIZE + 1);
	ring_writer_arm(&stream->writer, PRIVATE_RING_SIZE + 1);
	finish_if_done(stream);
}

/* Looks whether the program can be told that the stream has broken. */
static void tell_break(struct stream *stream)
{
	hop_detach(&stream->hop);
	hop_reset_channels(&stream->hop, ECONNRESET);
	if (!stream_can_tell_break(stream))
		return;
	stream->state = OVER;
	stream_close_socket(stream, false);
	task_due(&stream->turn);
}

static void stream_on_turn(struct task *task)
{
	struct stream *stream = (struct stream *)((char *)task - offsetof(struct stream, turn));

	if (stream->state == OVER)
		stream->callbacks->gone(stream->userdata, stream);
	else if (stream->state == UNTOLD)
		tell_break(stream);
	else if (stream->state != BREAKING)
		stream_run(stream);
}

static void stream_on_socket(int fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	stream->readable = stream->has_news = true;
	task_due(&stream->turn);
}

static void stream_on_writable(int fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	if (what & EV_TIMEOUT)
		event_remove_timer(stream->writable);

	task_due(&stream->turn);
}

static int stream_on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static int stream_on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct stream *stream = owner;

	channel->identity = stream->identity;
	return stream->callbacks->open(stream->userdata, stream, channel, open);
}

static void stream_on_notify(void *owner)
{
	struct stream *stream = owner;

	task_due(&stream->turn);
}

static void on_tell_taken(void *owner)
{
	struct stream *stream = owner;

	stream->tells_all = true;
	task_due(&stream->turn);
}

static void after_turn(void *owner, bool took_in, bool more)
{
	finish_if_done(owner);
}

static void stream_on_failed(void *owner, int error, const char *why)
{
	struct stream *stream = owner;

	uint32_t first = 0;
	const struct channel_end *end = hop_next_channel(&stream->hop, &first);
	const struct channel *channel = end ? end->channel : NULL;

	if (error != -ECONNRESET)
		log_limited(LOG_CUT_OFF, account_source(stream->payer), LOG_LEVEL_WARNING,
			    "a stream is cut off: %s: %s", why, strerror(-error));
	if (channel) /* by its name in traces */
		log_debug("stream %u.%u.%u has failed: %s: %s", channel->identity.domid,
			  channel->identity.pid, channel->serial, why, strerror(-error));
	stream_finish(stream, false);
}

static const struct hop_callbacks hop_callbacks = {
	.control = stream_on_control,
	.open = stream_on_open,
	.notify = stream_on_notify,
	.after_turn = after_turn,
	.tell_taken = on_tell_taken,
	.failed = stream_on_failed,
};

void stream_set_account(struct stream *stream, struct account *account)
{
	hop_set_account(&stream->hop, account_ref(account));
	stream_set_payer(stream, account);
}

/* --- life ------------------------------------------------------------------------------------- */

int stream_watch_socket(struct stream *stream, int fd)
{
	struct event_base *base = stream->board->base;

	stream->fd = fd;
	stream->readable = true;
	stream->socket_event =
		event_new(base, fd, EV_READ | EV_CLOSED | EV_PERSIST | EV_ET, stream_on_socket, stream);
	/* Most streams never fill their socket; each read of the program would wake us. */
	stream->writable = event_new(base, fd, EV_WRITE | EV_PERSIST | EV_ET, stream_on_writable, stream);
	if (!stream->socket_event || !stream->writable)
		return -ENOMEM;
	return event_add(stream->socket_event, NULL) == 0 ? 0 : -ENOMEM;
}

_Static_assert(sizeof(struct stream) + sizeof(struct private_rings) < STREAM_MEMORY,
	       "that is what is charged");
_Static_assert(CONTROL_RING_SIZE >= 8 * FRAME_SMALL_MAX, "the hop goes on while we take them");

int stream_make(struct stream **out, struct switchboard *board, const struct stream_callbacks *callbacks,
		void *userdata)
{
	struct stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return -ENOMEM;
	stream->board = board;
	stream->callbacks = callbacks;
	stream->userdata = userdata;
	stream->fd = stream->end_epoll = -1;
	stream->moved_ns = clock_ns();
	stream->has_memory = true;
	if (hop_init(&stream->hop, board, HOP_STREAM, &hop_callbacks, stream, 1, 1) < 0) {
		free(stream);
		return -ENOMEM;
	}
	hop_set_image_number(&stream->hop, 0); /* it is in every image, unless it is ended before */
	*out = stream;
	return 0;
}

int stream_attach(struct stream *stream, bool again)
{
	struct hop_rings rings = {.in = stream_to_hop(stream), .adopt = again};
	int r;

	rings.out[OUTLET_MAIN] = stream_from_hop(stream);
	rings.out[OUTLET_DELIVERIES] = stream_data_from_hop(stream);
	r = ring_writer_init(&stream->writer, &rings.in, again);
	if (r == 0)
		r = ring_reader_init(&stream->reader, &rings.out[OUTLET_MAIN], again);
	if (r == 0)
		r = ring_reader_init(&stream->data_reader, &rings.out[OUTLET_DELIVERIES], again);
	if (r < 0)
		return r;
	ring_reader_arm(&stream->reader, 1);
	ring_reader_arm(&stream->data_reader, 1);
	return again ? hop_attach_again(&stream->hop, &rings) : hop_attach(&stream->hop, &rings);
}

static int stream_new(struct stream **out, struct switchboard *board,
		      const struct stream_callbacks *callbacks, void *userdata)
{
	int r = stream_make(out, board, callbacks, userdata);

	if (r < 0)
		return r;
	r = carried_take(board->rings, &(*out)->rings) < 0 ? -ENOMEM : stream_attach(*out, false);
	if (r < 0)
		stream_free(*out);
	return r;
}

int stream_connect(struct stream **out, struct switchboard *board, int fd, bool takes_socket,
		   const struct frame_identity *identity, struct charge *charge, const char *address,
		   const struct stream_callbacks *callbacks, void *userdata)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {address, strlen(address)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct stream *stream;
	int r = stream_new(&stream, board, callbacks, userdata);

	if (r < 0) {
		program_socket_close(board, fd, charge);
		charge_end(charge);
		return r;
	}
	stream->state = CALLING;
	stream->takes_socket = takes_socket;
	stream->identity = *identity;
	charge_move(&stream->charge, charge);
	stream_set_account(stream, stream->charge.account);
	r = stream_watch_socket(stream, fd);
	if (r == 0 && !stream_put_frame(stream, FRAME_OPEN, payload, frame_open_encode(&open, payload)))
		r = -EMSGSIZE;
	if (r < 0) {
		stream_free(stream);
		return r;
	}
	task_due(&stream->turn);
	*out = stream;
	return 0;
}

int stream_wait(struct stream **out, struct switchboard *board, struct channel *channel, const char *endpoint,
		struct account *program, const struct stream_callbacks *callbacks, void *userdata)
{
	struct stream *stream;
	int r = stream_new(&stream, board, callbacks, userdata);

	if (r < 0)
		return r;
	stream->state = WAITING;
	stream->identity = channel->identity;
	stream->program = account_ref(program);
	stream->limit = 0;
	charge_init(&stream->charge, channel->charge.account);
	stream_set_account(stream, channel->charge.account);
	r = charge_all(&stream->charge,
		       (uint64_t[QUOTA_RESOURCES]){[QUOTA_DESCRIPTORS] = 1, [QUOTA_MEMORY] = STREAM_MEMORY});
	if (r == 0)
		r = getrandom(&stream->token, sizeof(stream->token), 0) == sizeof(stream->token) ? 0 : -EIO;
	if (r == 0)
		r = channel_accept(channel, &stream->hop, endpoint);
	if (r < 0) {
		stream_free(stream);
		return r;
	}
	stream->number = channel->acceptor.number;
	inner_has(&channel->acceptor);
	*out = stream;
	return 0;
}

int stream_take_socket(struct stream *stream, int fd, bool takes_socket)
{
	int r;

	if (stream->state != WAITING) {
		program_socket_close(stream->board, fd, NULL);
		return -ENOENT;
	}
	stream->takes_socket = takes_socket;
	r = stream_answer(stream, fd);
	if (r != fd)
		program_socket_close(stream->board, fd, NULL);
	if (r < 0) /* a program that is there asks again */
		return -ECONNRESET;
	r = stream_watch_socket(stream, r);
	if (r < 0) {
		hop_fail(&stream->hop, r, "out of memory");
		return r;
	}
	stream->state = FLOWING;
	task_due(&stream->turn);
	return 0;
}

void stream_free(struct stream *stream)
{
	struct span span;

	if (!stream)
		return;
	span_begin(&span, stream->board);
	stream->state = OVER;
	stream_close_socket(stream, false);
	task_cancel(&stream->turn);
	hop_detach(&stream->hop);
	hop_reset_channels(&stream->hop, ECONNRESET);
	hop_cleanup(&stream->hop);
	carried_give_back(stream->board->rings, &stream->rings);
	span_end(&span, stream->payer);
	charge_end(&stream->charge);
	account_unref(stream->program);
	free(stream);
}

/* Whether nothing lies in the rings for bytes, nor was written into them that the reader doesn't see yet. */
static bool rings_are_empty(struct stream *stream)
{
	return !hop_has_unpublished(&stream->hop) && ring_reader_ready(&stream->data_reader, 1) == 0 &&
	       stream->data_reader.tail == stream->data_reader.released &&
	       !ring_writer_is_ahead(&stream->writer) &&
	       ring_writer_space(&stream->writer, PRIVATE_RING_SIZE) == (int)PRIVATE_RING_SIZE;
}

bool stream_tidy(struct stream *stream)
{
	if (!stream->has_memory || stream->state != FLOWING || clock_ns() - stream->moved_ns < IDLE_NS ||
	    !rings_are_empty(stream))
		return false;
	stream->has_memory = false;
	carried_clear(stream->board->rings, &stream->rings, offsetof(struct private_rings, control));
	switch_spend(stream->board, stream->payer, COST_SYSCALL + COST_BYTES(PRIVATE_RING_SIZE));
	return true;
}

uint64_t stream_token(const struct stream *stream)
{
	return stream->token;
}

bool stream_is_waiting(const struct stream *stream)
{
	return stream->state == WAITING;
}

struct hop *stream_hop(struct stream *stream)
{
	return &stream->hop;
}

const struct account *stream_account(const struct stream *stream)
{
	return stream->charge.account;
}

struct stream_traffic stream_traffic(const struct stream *stream)
{
	return (struct stream_traffic){.in = stream->sent, .out = stream->taken};
}

const char *stream_state(struct stream *stream)
{
	static const char *const names[] = {
		[CALLING] = "calling", [WAITING] = "waiting", [FLOWING] = "flowing",
		[BREAKING] = "over",   [UNTOLD] = "untold",   [OVER] = "over",
	};

	if (stream->state == FLOWING && clock_ns() - stream->moved_ns >= STUCK_NS &&
	    stream_wants_to_move(stream))
		return "stuck";
	return names[stream->state];
}
