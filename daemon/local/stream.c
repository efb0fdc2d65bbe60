/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/stream.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/relay/channel.h"
#include "base/cost.h"
#include "base/log.h"
#include "daemon/relay/private_ring.h"
#include "daemon/relay/program_socket.h"
#include "base/quota.h"
#include "base/timer.h"
#include "wire/frame_ring.h"

#define PIECE_MAX   32768u
#define CALLS_MAX   16	  /* of the socket in a turn */
#define CREDIT_STEP 8192u /* bytes: an eighth of the smallest window; fewer aren't worth a frame */
/* what may lie unread at a clean end: the guard byte, and what came behind a refused handshake */
#define DRAIN_BYTES 4096u
#define DRAIN_CALLS 8

/* From the hop, without DATA: a few small frames. */
#define CONTROL_RING_SIZE 8192u

struct control_ring {
	struct ring_words words;
	uint8_t data[CONTROL_RING_SIZE];
};

/* All of a stream's rings. They are mapped, not allocated: the pages that an idle stream never touches cost
 * nothing, and those of one that has ended go back to the kernel. */
struct stream_rings {
	struct private_ring to_hop, data_from_hop;
	struct control_ring from_hop;
};

enum stream_stage {
	CALLING,
	WAITING,
	FLOWING,
	OVER,
};

struct stream {
	struct hop hop;
	struct relay *relay;
	const struct stream_callbacks *callbacks;
	void *userdata;
	enum stream_stage state;
	struct frame_identity identity;
	uint64_t token;
	int fd;
	struct charge charge; /* for the descriptor and the memory */
	/* The opener pays for the time, too, but not for what the program that holds an accepted stream's socket makes dear: from its
	 * first long call on (relay/call.h) `turn` is in the line of that program's account, and rests with it. */
	struct account *program, *payer;
	/* Tells of what comes, and of the end; edge-triggered, since a byte always lies unread. */
	struct event *socket_event;
	struct event *writable; /* tells of room in the socket, once there was none */
	struct task turn;
	/* The hop's DATA has a ring of its own, so that CREDIT and RESET overtake what the program doesn't
	 * read. */
	struct stream_rings *rings;
	struct ring_writer writer; /* frames that we write for the hop to read */
	struct ring_reader reader, data_reader;
	uint32_t number; /* of the channel */

	uint64_t sent, limit; /* of the stream from the program */
	uint64_t taken;	      /* of the stream to the program: written to its socket */
	uint64_t told;	      /* of `taken`, by CREDIT */
	uint32_t written;     /* of the DATA frame at the head of data_reader */
	uint64_t total;	      /* with fin_came: the size of the stream to the program */
	bool fin_came;
	bool readable;	/* an event has come since all was read */
	bool has_news;	/* one has come since it was asked whether the caller has left */
	bool tells_all; /* also what isn't worth a frame is told by CREDIT */
	bool end_read;	/* the program has shut down, and FIN is sent */
	bool end_written;
};

static void on_turn(struct task *task);

static void spend(struct stream *stream, uint64_t units)
{
	relay_spend(stream->relay, stream->payer, units);
}

static void set_payer(struct stream *stream, struct account *account)
{
	bool is_due = stream->turn.is_due;

	task_cancel(&stream->turn);
	stream->payer = account;
	task_init(&stream->turn, &stream->relay->turns, account_line(account), on_turn);
	if (is_due)
		task_due(&stream->turn);
}

/* Whoever makes calls about the stream's socket long is not who has opened it. */
static void let_program_pay(struct stream *stream)
{
	if (stream->program && stream->payer != stream->program)
		set_payer(stream, stream->program);
}

static void spend_call(struct stream *stream, const struct kernel_call *call, uint64_t units)
{
	uint64_t cost = call_end(call, units);

	if (hop_calls_are_long(&stream->hop))
		let_program_pay(stream);
	relay_spend(stream->relay, stream->payer, units);
	hop_spend_long(&stream->hop, stream->payer, cost - units);
}

static bool put_frame(struct stream *stream, uint8_t type, const void *payload, uint32_t length)
{
	const struct frame_header header = {.length = length, .type = type, .channel = stream->number};

	if (ring_writer_space(&stream->writer, frame_size(length)) < (int)frame_size(length))
		return false;
	frame_put(&stream->writer, &header, payload);
	ring_writer_publish(&stream->writer);
	return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Closes the socket. `clean`: the program sees the end of the stream; else ECONNRESET, by the byte that is
 * left unread. */
static void close_socket(struct stream *stream, bool clean)
{
	uint8_t bytes[DRAIN_BYTES];
	struct iovec piece = {bytes, sizeof(bytes)};
	struct span span;

	if (stream->fd < 0)
		return;
	/* A program that writes on all the same gets ECONNRESET. */
	for (int i = 0; clean && i < DRAIN_CALLS; i++) {
		spend(stream, 2 * COST_SYSCALL);
		if (program_socket_read(stream->fd, &piece, 1) < (ssize_t)sizeof(bytes))
			break;
	}
	free_event(stream->socket_event);
	free_event(stream->writable);
	stream->socket_event = stream->writable = NULL;
	span_begin(&span, stream->relay);
	program_socket_close(stream->relay, stream->fd, &stream->charge);
	stream->fd = -1;
	if (span_units(&span) * TURNS_UNIT_NS >= CALL_LONG_NS)
		let_program_pay(stream);
	span_end(&span, stream->payer);
}

static void finish(struct stream *stream, bool clean)
{
	if (stream->state == OVER)
		return;
	stream->state = OVER;
	close_socket(stream, clean);
	task_due(&stream->turn); /* the owner is told when nothing on the stack uses the stream */
}

/* --- from the program ------------------------------------------------------------------------- */

/* Returns 0, 1: the program has shut down or closed its end, or -ECONNRESET: it has gone without reading what
 * was there for it. */
static int program_has_ended(struct stream *stream)
{
	struct pollfd poll_fd = {.fd = stream->fd, .events = POLLRDHUP};
	socklen_t size = sizeof(int);
	int error = 0;

	if (poll(&poll_fd, 1, 0) <= 0 || !(poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)))
		return 0;
	if ((poll_fd.revents & POLLERR) && getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
	    error)
		return -ECONNRESET;
	return 1;
}

/* Returns whether the program has closed its socket, or shut it down both ways. One that only has nothing
 * more to send may still wait for its call. */
static bool caller_has_left(struct stream *stream)
{
	struct pollfd poll_fd = {.fd = stream->fd};

	if (stream->state != CALLING || !stream->has_news)
		return false;
	stream->has_news = false;
	return poll(&poll_fd, 1, 0) > 0;
}

/* Moves up to `size` bytes behind the guard into the ring, leaving the last of them unread. Returns how many, or
 * -ECONNRESET. */
static int read_piece(struct stream *stream, uint32_t size)
{
	struct frame_header header = {.type = FRAME_DATA, .channel = stream->number};
	struct ring_writer behind_header = stream->writer;
	static const uint8_t zeros[8];
	uint8_t encoded[FRAME_HEADER_SIZE], guard;
	struct iovec pieces[PROGRAM_SOCKET_PIECES] = {{&guard, 1}};
	struct kernel_call call;
	unsigned count;
	ssize_t there;

	ring_writer_advance(&behind_header, FRAME_HEADER_SIZE);
	count = 1 + (unsigned)ring_writer_reserve(&behind_header, size, pieces + 1);
	there = program_socket_peek(stream->fd, pieces, count);
	if (there == 1 || there == 0 || there == -EAGAIN)
		return 0;
	if (there < 0)
		return -ECONNRESET; /* a descriptor that came with the bytes breaks the stream */
	header.length = (uint32_t)there - 1;
	hop_begin_call(&stream->hop, &call);
	there = program_socket_take(stream->fd, pieces, count, header.length);
	spend_call(stream, &call, COST_BYTES(header.length));
	if (there != (ssize_t)header.length)
		return -ECONNRESET;
	frame_header_encode(&header, encoded);
	ring_writer_put(&stream->writer, encoded, FRAME_HEADER_SIZE);
	ring_writer_advance(&stream->writer, header.length);
	ring_writer_put(&stream->writer, zeros, -header.length & 7u);
	ring_writer_publish(&stream->writer);
	stream->sent += header.length;
	return (int)header.length;
}

/* Returns whether the program has sent something that wasn't read. */
static bool has_more(const struct stream *stream)
{
	int available = 0;

	return ioctl(stream->fd, FIONREAD, &available) == 0 && available > 1;
}

/* Reads while an event has told that there may be something. Whatever comes after the read that found nothing more
 * is told by another event. */
static int read_program(struct stream *stream)
{
	uint8_t payload[8];
	int ended = 0;

	for (int calls = 0; !stream->end_read && stream->readable; calls++) {
		uint64_t size = stream->limit - stream->sent;
		int r = 0;

		if (calls == CALLS_MAX) {
			task_due(&stream->turn);
			return 0;
		}
		spend(stream, 3 * COST_SYSCALL);
		if (size > PIECE_MAX)
			size = PIECE_MAX;
		if (ring_writer_space(&stream->writer, PRIVATE_RING_SIZE) < (int)frame_size(PIECE_MAX) ||
		    (size == 0 && has_more(stream))) {
			r = program_has_ended(stream);
			return r < 0 ? r : 0;
		}
		if (size > 0)
			r = read_piece(stream, (uint32_t)size);
		if (r < 0)
			return r;
		if (r > 0 && (ended || (uint64_t)r == size))
			continue;
		if (ended) {
			if (put_frame(stream, FRAME_FIN, payload, frame_u64_encode(stream->sent, payload)))
				stream->end_read = true;
			return 0;
		}
		/* What it sent before its end is then there to be read. */
		ended = program_has_ended(stream);
		if (ended < 0)
			return ended;
		if (!ended)
			stream->readable = false;
	}
	return 0;
}

/* --- to the program --------------------------------------------------------------------------- */

/* Writes the rest of the DATA frame at the head of the ring. Returns 1 if all of it was written, 0 if not, or
 * -ECONNRESET. */
static int write_frame(struct stream *stream, uint32_t length, int *calls)
{
	while (stream->written < length) {
		struct iovec pieces[2];
		struct msghdr message = {.msg_iov = pieces};
		struct kernel_call call;
		ssize_t size;

		if (++*calls > CALLS_MAX) {
			task_due(&stream->turn);
			return 0;
		}
		message.msg_iovlen =
			(size_t)ring_reader_peek(&stream->data_reader, FRAME_HEADER_SIZE + stream->written,
						 length - stream->written, pieces);
		hop_begin_call(&stream->hop, &call);
		size = sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		spend_call(stream, &call, COST_SYSCALL + (size > 0 ? COST_BYTES((uint64_t)size) : 0));
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0 && errno == EAGAIN)
			return event_add(stream->writable, NULL) == 0 ? 0 : -ECONNRESET;
		if (size < 0)
			return -ECONNRESET;
		stream->written += (uint32_t)size;
		stream->taken += (uint64_t)size;
	}
	stream->written = 0;
	return 1;
}

/* Writes what there is for the program, as far as its socket takes it, and the end behind it. */
static int write_data(struct stream *stream)
{
	struct frame_header header;
	struct kernel_call call;
	uint32_t ready;
	int r = 1, calls = 0;

	while (r > 0 && (r = frame_next(&stream->data_reader, &header, &ready)) > 0) {
		if (header.type != FRAME_DATA)
			return -EPROTO;
		r = write_frame(stream, header.length, &calls);
		if (r > 0)
			ring_reader_consume(&stream->data_reader, frame_size(header.length));
	}
	ring_reader_release(&stream->data_reader);
	if (r >= 0 && stream->fin_came && !stream->end_written && stream->taken == stream->total) {
		hop_begin_call(&stream->hop, &call);
		shutdown(stream->fd, SHUT_WR);
		spend_call(stream, &call, COST_SYSCALL);
		stream->end_written = true;
	}
	return r < 0 ? r : 0;
}

static void answer_caller(struct stream *stream, int error)
{
	struct kernel_call call;

	hop_begin_call(&stream->hop, &call);
	program_socket_reply(stream->fd, error, "");
	spend_call(stream, &call, COST_SYSCALL);
}

static void reset_came(struct stream *stream, const uint8_t *payload, uint32_t length)
{
	struct frame_reset reset = {.error = ECONNRESET};

	frame_reset_decode(payload, length, &reset);
	if (stream->state == FLOWING)
		write_data(stream); /* what came before, as far as the socket takes it */
	put_frame(stream, FRAME_RESET, payload, length);
	hop_event(&stream->hop);
	if (stream->state == CALLING) {
		answer_caller(stream, (int)reset.error);
		finish(stream, true);
	} else {
		finish(stream, false);
	}
}

/* Takes one frame of the hop's that isn't DATA. */
static int take_frame(struct stream *stream, const struct frame_header *header)
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
		if (stream->state == CALLING) {
			answer_caller(stream, 0);
			stream->state = FLOWING;
		}
		return 0;
	case FRAME_CREDIT:
		if (frame_credit_decode(payload, header->length, &credit) < 0)
			return -EPROTO;
		if (credit.limit > stream->limit)
			stream->limit = credit.limit;
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

/* Tells the sender how far the stream to the program was taken. A frame each time would go all the way back for
 * each small piece, and wake two daemons. */
static void tell_taken(struct stream *stream)
{
	const struct frame_credit credit = {.consumed = stream->taken};
	uint8_t payload[FRAME_SMALL_MAX];

	if (stream->taken - stream->told < (stream->fin_came || stream->tells_all ? 1 : CREDIT_STEP))
		return;
	stream->told = stream->taken;
	/* There is always room for it: the reading side stops early (PIECE_MAX). */
	put_frame(stream, FRAME_CREDIT, payload, frame_credit_encode(&credit, payload));
}

static int take_frames(struct stream *stream)
{
	struct frame_header header;
	uint32_t ready;
	int r = 0, next = 0;

	while (r == 0 && stream->state != OVER && (next = frame_next(&stream->reader, &header, &ready)) > 0) {
		r = take_frame(stream, &header);
		spend(stream, COST_CONTROL);
		ring_reader_consume(&stream->reader, frame_size(header.length));
	}
	ring_reader_release(&stream->reader);
	if (next < 0)
		return next;
	if (r == 0 && stream->state == FLOWING)
		r = write_data(stream);
	if (stream->state != OVER)
		tell_taken(stream);
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
		finish(stream, true);
}

static void run(struct stream *stream)
{
	uint32_t before = progress(stream);
	int r = take_frames(stream);

	if (stream->state == OVER)
		return;
	if (r == 0 && stream->state == FLOWING)
		r = read_program(stream);
	else if (r == 0 && caller_has_left(stream))
		r = -ECONNRESET;
	if (r < 0) {
		hop_fail(&stream->hop, r, "the program has gone");
		return;
	}
	if (progress(stream) != before)
		hop_event(&stream->hop);
	ring_reader_arm(&stream->reader, CONTROL_RING_SIZE + 1);
	ring_reader_arm(&stream->data_reader, PRIVATE_RING_SIZE + 1);
	ring_writer_arm(&stream->writer, PRIVATE_RING_SIZE + 1);
	finish_if_done(stream);
}

static void on_turn(struct task *task)
{
	struct stream *stream = (struct stream *)((char *)task - offsetof(struct stream, turn));

	if (stream->state == OVER)
		stream->callbacks->gone(stream->userdata, stream);
	else
		run(stream);
}

static void on_socket(int fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	stream->readable = stream->has_news = true;
	task_due(&stream->turn);
}

static void on_writable(int fd, short what, void *userdata)
{
	struct stream *stream = userdata;

	task_due(&stream->turn);
}

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct stream *stream = owner;

	channel->identity = stream->identity;
	return stream->callbacks->open(stream->userdata, stream, channel, open);
}

static void on_notify(void *owner)
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

static void on_failed(void *owner, int error, const char *why)
{
	struct stream *stream = owner;

	log_debug("a stream has failed: %s: %s", why, strerror(-error));
	finish(stream, false);
}

static const struct hop_callbacks hop_callbacks = {
	.control = on_control,
	.open = on_open,
	.notify = on_notify,
	.after_turn = after_turn,
	.tell_taken = on_tell_taken,
	.failed = on_failed,
};

/* Sets the account that pays, in memory and in time. */
static void set_account(struct stream *stream, struct account *account)
{
	hop_set_account(&stream->hop, account_ref(account));
	set_payer(stream, account);
}

/* --- life ------------------------------------------------------------------------------------- */

static int watch_socket(struct stream *stream, int fd)
{
	struct event_base *base = stream->relay->base;

	stream->fd = fd;
	stream->readable = true;
	stream->socket_event =
		event_new(base, fd, EV_READ | EV_CLOSED | EV_PERSIST | EV_ET, on_socket, stream);
	/* Most streams never fill their socket; each read of the program would wake us. */
	stream->writable = event_new(base, fd, EV_WRITE | EV_PERSIST | EV_ET, on_writable, stream);
	if (!stream->socket_event || !stream->writable)
		return -ENOMEM;
	return event_add(stream->socket_event, NULL) == 0 ? 0 : -ENOMEM;
}

_Static_assert(sizeof(struct stream) + sizeof(struct stream_rings) < STREAM_MEMORY,
	       "that is what is charged");
_Static_assert(CONTROL_RING_SIZE >= 8 * FRAME_SMALL_MAX, "the hop goes on while we take them");

static int stream_new(struct stream **out, struct relay *relay, const struct stream_callbacks *callbacks,
		      void *userdata)
{
	struct stream *stream = calloc(1, sizeof(*stream));
	struct hop_rings rings = {0};
	void *memory;

	if (!stream)
		return -ENOMEM;
	stream->relay = relay;
	stream->callbacks = callbacks;
	stream->userdata = userdata;
	stream->fd = -1;
	if (hop_init(&stream->hop, relay, HOP_STREAM, &hop_callbacks, stream, 1, 1) < 0) {
		free(stream);
		return -ENOMEM;
	}
	memory = mmap(NULL, sizeof(*stream->rings), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		stream_free(stream);
		return -ENOMEM;
	}
	stream->rings = memory;
	rings.in = private_ring_view(&stream->rings->to_hop);
	rings.out[OUTLET_MAIN] = ring_words_view(&stream->rings->from_hop.words, stream->rings->from_hop.data,
						 CONTROL_RING_SIZE);
	rings.out[OUTLET_DELIVERIES] = private_ring_view(&stream->rings->data_from_hop);
	ring_writer_init(&stream->writer, &rings.in, false);
	ring_reader_init(&stream->reader, &rings.out[OUTLET_MAIN], false);
	ring_reader_init(&stream->data_reader, &rings.out[OUTLET_DELIVERIES], false);
	ring_reader_arm(&stream->reader, 1);
	ring_reader_arm(&stream->data_reader, 1);
	hop_attach(&stream->hop, &rings);
	*out = stream;
	return 0;
}

int stream_connect(struct stream **out, struct relay *relay, int fd, const struct frame_identity *identity,
		   struct charge *charge, const char *address, const struct stream_callbacks *callbacks,
		   void *userdata)
{
	struct frame_open open = {.kind = CHANNEL_STREAM, .name = {address, strlen(address)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct stream *stream;
	int r = stream_new(&stream, relay, callbacks, userdata);

	if (r < 0) {
		program_socket_close(relay, fd, charge);
		charge_end(charge);
		return r;
	}
	stream->state = CALLING;
	stream->identity = *identity;
	charge_move(&stream->charge, charge);
	set_account(stream, stream->charge.account);
	r = watch_socket(stream, fd);
	if (r == 0 && !put_frame(stream, FRAME_OPEN, payload, frame_open_encode(&open, payload)))
		r = -EMSGSIZE;
	if (r < 0) {
		stream_free(stream);
		return r;
	}
	task_due(&stream->turn);
	*out = stream;
	return 0;
}

int stream_wait(struct stream **out, struct relay *relay, struct channel *channel, const char *endpoint,
		struct account *program, const struct stream_callbacks *callbacks, void *userdata)
{
	struct stream *stream;
	int r = stream_new(&stream, relay, callbacks, userdata);

	if (r < 0)
		return r;
	stream->state = WAITING;
	stream->identity = channel->identity;
	stream->program = account_ref(program);
	stream->limit = 0;
	charge_init(&stream->charge, channel->charge.account);
	set_account(stream, channel->charge.account);
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
	*out = stream;
	return 0;
}

int stream_take_socket(struct stream *stream, int fd)
{
	int r;

	if (stream->state != WAITING) {
		program_socket_close(stream->relay, fd, NULL);
		return -ENOENT;
	}
	r = program_socket_reply(fd, 0, "");
	if (r < 0) {
		program_socket_close(stream->relay, fd, NULL);
		return r;
	}
	r = watch_socket(stream, fd);
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
	span_begin(&span, stream->relay);
	stream->state = OVER;
	close_socket(stream, false);
	task_cancel(&stream->turn);
	hop_detach(&stream->hop);
	hop_reset_channels(&stream->hop, ECONNRESET);
	hop_cleanup(&stream->hop);
	if (stream->rings)
		munmap(stream->rings, sizeof(*stream->rings));
	span_end(&span, stream->payer);
	charge_end(&stream->charge);
	account_unref(stream->program);
	free(stream);
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

const char *stream_state(const struct stream *stream)
{
	static const char *const names[] = {
		[CALLING] = "calling",
		[WAITING] = "waiting",
		[FLOWING] = "flowing",
		[OVER] = "over",
	};

	return names[stream->state];
}
