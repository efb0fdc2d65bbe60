/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/stream_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cost.h"
#include "base/descriptors.h"
#include "base/timer.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/program_socket.h"

#define CALLS_MAX 16 /* of the socket in a turn */
/* what may lie unread at a clean end: the guard byte, and what came behind a refused handshake */
#define DRAIN_BYTES 4096u
#define DRAIN_CALLS 8
/* A buffer with fewer bytes than this is less than a quarter of the smallest SO_SNDBUF. */
#define SMALL_BUFFER 64u
/* SO_SNDBUF of which a quarter is more than any buffer: 17 pages, as sendfile(2) fills one. (The kernel
 * doubles it.) */
#define SOCKET_ROOM 140800

static void stream_socket_spend(struct stream *stream, uint64_t units)
{
	switch_spend(stream->board, stream->payer, units);
}

/* The program that has the stream's socket can make calls about it take long, and its opener can't. */
static void let_program_pay(struct stream *stream)
{
	if (stream->program && stream->payer != stream->program)
		stream_set_payer(stream, stream->program);
}

/* Whether a call was so long that nothing more is done in this turn. */
static bool payer_rests(const struct stream *stream)
{
	struct line *line = account_line(stream->payer);

	return line && line_rests(line);
}

static void spend_call(struct stream *stream, const struct kernel_call *call, uint64_t units)
{
	uint64_t cost = call_end(call, clock_ns(), units);

	if (hop_calls_are_long(&stream->hop))
		let_program_pay(stream);
	switch_spend(stream->board, stream->payer, units);
	switch_spend_long(stream->board, stream->payer, cost - units);
}

/* --- from the program ------------------------------------------------------------------------- */

/* Returns 0, 1: the program has shut down its direction, 2: it takes nothing more either, as a rule since it
 * has closed its end, or -ECONNRESET: it has closed it without reading what was there for it. */
static int program_has_ended(struct stream *stream)
{
	struct pollfd poll_fd = {.fd = stream->fd, .events = POLLRDHUP | POLLPRI};
	socklen_t size = sizeof(int);
	int error = 0;

	poll(&poll_fd, 1, 0);
	stream->has_urgent = poll_fd.revents & POLLPRI;
	if (!(poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)))
		return 0;
	if ((poll_fd.revents & POLLERR) && getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 &&
	    error)
		return -ECONNRESET;
	return poll_fd.revents & POLLHUP ? 2 : 1;
}

bool stream_caller_has_left(struct stream *stream)
{
	struct pollfd poll_fd = {.fd = stream->fd};

	if (stream->state != CALLING || !stream->has_news)
		return false;
	stream->has_news = false;
	return poll(&poll_fd, 1, 0) > 0;
}

/* Makes a frame of the bytes that were put behind the place for its header. */
static void put_data(struct stream *stream, uint32_t length)
{
	const struct frame_header header = {.type = FRAME_DATA, .channel = stream->number, .length = length};
	static const uint8_t zeros[8];
	uint8_t encoded[FRAME_HEADER_SIZE];

	frame_header_encode(&header, encoded);
	ring_writer_put(&stream->writer, encoded, FRAME_HEADER_SIZE);
	ring_writer_advance(&stream->writer, length);
	ring_writer_put(&stream->writer, zeros, -length & 7u);
	ring_writer_publish(&stream->writer);
	stream->sent += length;
}

/* Returns where up to `size` bytes go into the ring. */
static unsigned reserve(const struct stream *stream, uint32_t size, struct iovec pieces[2])
{
	struct ring_writer behind_header = stream->writer;

	ring_writer_advance(&behind_header, FRAME_HEADER_SIZE);
	return (unsigned)ring_writer_reserve(&behind_header, size, pieces);
}

int stream_try_later(struct stream *stream)
{
	return timer_set(stream->writable, LACK_MS) == 0 ? 0 : -ECONNRESET;
}

/* Copies up to `size` bytes that came before the one that breaks the stream into the ring. Returns how many,
 * or -ECONNRESET. */
static int copy_before_break(struct stream *stream, uint32_t size)
{
	struct iovec pieces[2];
	struct kernel_call call;
	ssize_t there;

	hop_begin_call(&stream->hop, &call);
	there = program_socket_peek_before(stream->fd, !stream->is_unguarded + stream->copied, pieces,
					   reserve(stream, size + 1, pieces));
	spend_call(stream, &call, COST_BYTES(size));
	if (there == 0)
		stream->mark = *(const uint8_t *)pieces[0].iov_base;
	if (there <= 0)
		return there == -ENOBUFS ? -ENOBUFS : -ECONNRESET;
	stream->copied += (uint32_t)there;
	put_data(stream, (uint32_t)there);
	return (int)there;
}

/* Returns whether the program has sent something that wasn't read. */
static bool has_more(const struct stream *stream)
{
	int available = 0;

	return ioctl(stream->fd, FIONREAD, &available) == 0 && available > !stream->is_unguarded;
}

/* Moves up to `size` bytes behind the guard into the ring, leaving the last of them unread. Returns how many,
 * -ECONNRESET, or -ENOBUFS: it is to be tried later. */
static int read_piece(struct stream *stream, uint32_t size)
{
	uint8_t guard;
	struct iovec pieces[PROGRAM_SOCKET_PIECES] = {{&guard, 1}};
	const unsigned guards = !stream->is_unguarded;
	struct kernel_call call;
	uint32_t length;
	unsigned count;
	ssize_t there, taken;

	if (stream->breaks)
		return copy_before_break(stream, size);
	count = guards + reserve(stream, size, pieces + guards);
	there = program_socket_peek(stream->fd, pieces, count);
	/* The kernel ends what it gives before an urgent byte, unless that is the first. */
	if (there == 1 && guards && has_more(stream)) {
		stream->is_unguarded = program_socket_take(stream->fd, 1) == 1;
		return stream->is_unguarded ? read_piece(stream, size) : -ENOBUFS;
	}
	if (there == (ssize_t)guards || there == 0 || there == -EAGAIN)
		return 0;
	stream->breaks = there == -EBADMSG;
	if (stream->breaks)
		return copy_before_break(stream, size);
	if (there < 0)
		return there == -ENOBUFS ? -ENOBUFS : -ECONNRESET;
	hop_begin_call(&stream->hop, &call);
	taken = there > 1 ? program_socket_take(stream->fd, (size_t)there - 1) : 0;
	if (taken < 0)
		return taken == -ENOBUFS ? -ENOBUFS : -ECONNRESET;
	stream->has_rest = taken < there - 1;
	length = (uint32_t)taken + 1 - guards; /* the last one is still there */
	spend_call(stream, &call, COST_BYTES(length));
	put_data(stream, length);
	stream->is_unguarded = false;
	stream->in_doubt |= length > SMALL_BUFFER || length == size;
	return (int)length;
}

/* Whether the program's end would take bytes from it, or can't be asked. */
static bool end_is_writable(const struct stream *stream)
{
	struct epoll_event event;

	return stream->end_epoll < 0 || epoll_wait(stream->end_epoll, &event, 1, 0) != 0;
}

/* All was read, and the program may still be kept from writing, by the guard. */
static void let_program_write(struct stream *stream)
{
	if (!stream->in_doubt || stream->end_epoll < 0)
		return;
	stream->in_doubt = false;
	stream_socket_spend(stream, COST_SYSCALL);
	if (end_is_writable(stream) || stream->is_unguarded)
		return;
	stream->is_unguarded = program_socket_take(stream->fd, 1) == 1;
	if (!stream->is_unguarded) {
		stream->in_doubt = stream->readable = true;
		stream_try_later(stream);
	}
}

bool stream_wants_to_move(struct stream *stream)
{
	struct pollfd program = {.fd = stream->fd, .events = POLLOUT};

	if (!stream->end_read && stream->limit > stream->sent &&
	    (has_more(stream) || !end_is_writable(stream)))
		return true;
	return !stream->is_deaf && ring_reader_ready(&stream->data_reader, 1) > 0 && poll(&program, 1, 0) > 0;
}

/* Asks whether the program has ended, and keeps the answer, which comes once. */
static bool look_for_end(struct stream *stream)
{
	if (!stream->ended)
		stream->ended = program_has_ended(stream);
	if (stream->ended < 0 && !stream->is_deaf)
		task_due(&stream->turn); /* what came for it is dropped */
	stream->is_deaf |= stream->ended < 0;
	return stream->ended;
}

void stream_look_for_close(struct stream *stream)
{
	int ended = stream->ended;

	if (!stream->end_read || stream->is_deaf || !stream->has_news)
		return;
	stream->has_news = false;
	if (ended == 2 && stream->sent == 0)
		return; /* whether it has left something, what still comes for it will tell */
	if (ended != 2)
		ended = program_has_ended(stream);
	stream_socket_spend(stream, COST_SYSCALL);
	stream->is_deaf = ended < 0 || ended == 2;
	if (stream->is_deaf)
		task_due(&stream->turn); /* what came for it is dropped */
}

/* Whether the program has closed its end without having taken all, and hasn't said anything: nobody can take
 * that for an answer. One that has said something has had enough. */
static bool has_left_without_a_word(const struct stream *stream)
{
	return stream->is_deaf && stream->sent == 0 && (stream->ended < 0 || stream->ended == 2);
}

int stream_read(struct stream *stream)
{
	uint8_t payload[8];

	for (int calls = 0; !stream->end_read && stream->readable; calls++) {
		uint64_t size = stream->limit - stream->sent;
		bool looked = stream->ended;
		int r = 0;

		if (calls == CALLS_MAX || payer_rests(stream)) {
			task_due(&stream->turn);
			return 0;
		}
		stream_socket_spend(stream, 3 * COST_SYSCALL);
		if (size > PIECE_MAX)
			size = PIECE_MAX;
		if (ring_writer_space(&stream->writer, PRIVATE_RING_SIZE) < (int)frame_size(PIECE_MAX + 1) ||
		    (size == 0 && has_more(stream))) {
			look_for_end(stream);
			return 0;
		}
		if (size > 0)
			r = read_piece(stream, (uint32_t)size);
		if (r < 0)
			return r == -ENOBUFS ? stream_try_later(stream) : r;
		if (r > 0 && (looked || stream->breaks || stream->has_rest || (uint64_t)r == size))
			continue;
		if (looked && has_left_without_a_word(stream))
			return -ECONNRESET;
		if (looked) {
			if (stream_put_frame(stream, FRAME_FIN, payload,
					     frame_u64_encode(stream->sent, payload)))
				stream->end_read = true;
			return 0;
		}
		if (!look_for_end(stream)) {
			/* The kernel ends what it gives before an urgent byte, and tells of more once. */
			if (stream->has_urgent && size > 0 && has_more(stream))
				continue;
			stream->readable = false;
			let_program_write(stream);
		}
	}
	return 0;
}

void stream_refuse(struct stream *stream)
{
	uint8_t bytes[PIECE_MAX];
	struct iovec piece = {bytes, sizeof(bytes)};
	struct kernel_call call;
	bool has_rest = false;

	hop_begin_call(&stream->hop, &call);
	if (!stream->end_read)
		shutdown(stream->fd, SHUT_RD);
	stream->end_read = true;
	for (int calls = 0; calls < CALLS_MAX && !stream->refused && !has_rest; calls++) {
		ssize_t there = stream->breaks ? 0 : program_socket_peek(stream->fd, &piece, 1), taken = 0;

		if (there > 1)
			taken = program_socket_take(stream->fd, (size_t)there - 1);
		stream->refused = there <= 1 || taken < 0;
		has_rest = taken < there - 1;
	}
	spend_call(stream, &call, COST_SYSCALL + COST_BYTES(sizeof(bytes)));
	if (!stream->refused)
		task_due(&stream->turn);
}

/* --- to the program --------------------------------------------------------------------------- */

/* The program takes no more. What it has sent is still read, up to its end. */
static void go_deaf(struct stream *stream)
{
	stream->is_deaf = true;
	stream->readable = true;
}

/* Writes the rest of the DATA frame at the head of the ring. Returns 1 if all of it was written or dropped,
 * 0 if not. */
static int write_frame(struct stream *stream, uint32_t length, int *calls)
{
	while (!stream->is_deaf && stream->written < length) {
		struct iovec pieces[2];
		struct msghdr message = {.msg_iov = pieces};
		struct kernel_call call;
		ssize_t size;

		if (++*calls > CALLS_MAX || payer_rests(stream)) {
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
		if (size < 0 && lack_passes(errno))
			return stream_try_later(stream);
		if (size < 0 && errno != EPIPE && errno != ECONNRESET)
			return -ECONNRESET; /* the program would take more */
		if (size < 0) {
			go_deaf(stream);
			break;
		}
		stream->written += (uint32_t)size;
		stream->taken += (uint64_t)size;
	}
	/* What is dropped costs no call, and was paid for as it came; there is no more than the ring
	 * holds. */
	stream->taken += length - stream->written;
	stream->written = 0;
	return 1;
}

int stream_write(struct stream *stream)
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
	if (r >= 0 && stream->end_read && has_left_without_a_word(stream))
		return -ECONNRESET;
	return r < 0 ? r : 0;
}

void stream_answer_caller(struct stream *stream, int error, const char *why)
{
	struct kernel_call call;

	hop_begin_call(&stream->hop, &call);
	program_socket_reply(stream->fd, error, frame_text_of(why), -1);
	spend_call(stream, &call, COST_SYSCALL);
}

/* A socket's own default may be far below what a program needs that fills large buffers. */
static void give_room(int fd)
{
	const int room = SOCKET_ROOM;
	int now = 0;
	socklen_t size = sizeof(now);

	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &now, &size) == 0 && now < 2 * room &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

/* Makes the stream's socket, with a guard in it, and the epoll that has the program's end. 0, or -1: there is
 * no room for them. */
static int make_pair(struct stream *stream, int pair[2])
{
	struct epoll_event event = {.events = EPOLLOUT};
	int epoll;

	if (charge_add(&stream->charge, QUOTA_DESCRIPTORS, 1) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		goto no_pair;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, pair[1], &event) < 0 ||
	    program_socket_init(pair[0]) < 0 || send(pair[1], "", 1, MSG_NOSIGNAL) != 1)
		goto no_epoll;
	give_room(pair[0]);
	give_room(pair[1]);
	stream->end_epoll = epoll;
	return 0;
no_epoll:
	if (epoll >= 0)
		close(epoll);
	close(pair[0]);
	close(pair[1]);
no_pair:
	charge_release(&stream->charge, QUOTA_DESCRIPTORS, 1);
	return -1;
}

static void forget_end(struct stream *stream)
{
	if (stream->end_epoll < 0)
		return;
	close(stream->end_epoll);
	stream->end_epoll = -1;
	charge_release(&stream->charge, QUOTA_DESCRIPTORS, 1);
}

/* Writes who has opened a stream that waits, as SENDER has it: INCOMING may have told another number or name.
 * Returns the size, 0 of a call. */
static uint32_t tell_opener(const struct stream *stream, uint8_t *out)
{
	uint32_t number = 0;
	const struct channel_end *end = hop_next_channel(&stream->hop, &number);
	struct frame_sender sender;

	if (!end || end->is_opener)
		return 0;
	sender = (struct frame_sender){end->channel->identity.domid,
				       frame_text_of(channel_from_domain(end->channel))};
	return frame_sender_encode(&sender, out);
}

int stream_answer(struct stream *stream, int fd)
{
	uint8_t opener[FRAME_PAYLOAD_MAX];
	struct frame_text body = {(const char *)opener, tell_opener(stream, opener)};
	struct kernel_call call;
	char guard;
	struct iovec piece = {&guard, 1};
	int pair[2], r;
	bool has_pair = stream->takes_socket && make_pair(stream, pair) == 0;

	hop_begin_call(&stream->hop, &call);
	r = program_socket_reply(fd, 0, body, has_pair ? pair[1] : -1);
	spend_call(stream, &call, COST_SYSCALL);
	if (!has_pair)
		return r < 0 ? r : fd;
	close(pair[1]); /* nothing lies in it but what we have written */
	if (r < 0) {
		close(pair[0]);
		forget_end(stream);
		return r;
	}
	program_socket_read(fd, &piece, 1); /* so that the close doesn't look like a break */
	return pair[0];
}

/* --- the end ---------------------------------------------------------------------------------- */

void stream_note_break(struct stream *stream, uint32_t flags)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	bool has_come = stream->taken > 0 || stream->number & 1; /* or the program hasn't opened it */
	uint64_t random;
	int size;

	if (stream->fd < 0 || getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		return;
	/* Two can't have one name. getpeername(2) tells it also once this end is closed. An end that
	 * isn't of a pair has a name already. */
	size = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, BREAK_NAME "%08x/%d/%016" PRIx64, flags,
			has_come, random);
	bind(stream->fd, (struct sockaddr *)&name,
	     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size));
	stream_socket_spend(stream, 2 * COST_SYSCALL);
}

bool stream_can_tell_break(struct stream *stream)
{
	int ended;

	if (stream->fd < 0 || !stream->is_unguarded || has_more(stream))
		return true;
	ended = program_has_ended(stream);
	return ended < 0 || ended == 2;
}

void stream_unwatch_socket(struct stream *stream)
{
	free_event(stream->socket_event);
	free_event(stream->writable);
	stream->socket_event = stream->writable = NULL;
}

void stream_close_socket(struct stream *stream, bool clean)
{
	uint8_t bytes[DRAIN_BYTES];
	struct iovec piece = {bytes, sizeof(bytes)};
	struct span span;

	if (stream->fd < 0)
		return;
	/* A program that writes on all the same gets ECONNRESET. */
	for (int i = 0; clean && i < DRAIN_CALLS; i++) {
		stream_socket_spend(stream, 2 * COST_SYSCALL);
		if (program_socket_read(stream->fd, &piece, 1) < (ssize_t)sizeof(bytes))
			break;
	}
	stream_unwatch_socket(stream);
	forget_end(stream);
	span_begin(&span, stream->board);
	program_socket_close(stream->board, stream->fd, &stream->charge);
	stream->fd = -1;
	if (span_units(&span) * TURNS_UNIT_NS >= CALL_LONG_NS)
		let_program_pay(stream);
	span_end(&span, stream->payer);
}
