/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "cli/interrupt.h"
#include "xenmsg-stream.h"

#define BUFFER_SIZE 65536
#define LINGER_S    5	/* for which a socket that nobody wants to hear is read, when all else is over */
#define LOOK_MS	    100 /* between looks whether a right end that nobody reads any more still takes something */

struct side;

/* What goes from one side to the other. */
struct direction {
	struct pump *pump;
	struct side *from, *to;
	size_t start, size; /* the part of the buffer with data: nothing is read while there is some */
	bool closed;	    /* the end was passed on */
	bool used;	    /* it has carried something */
	bool dropped;	    /* the output takes no more: what still comes is dropped */
	char *buffer;	    /* what the output hasn't taken */
};

struct side {
	struct pump_end end;
	bool to_socket;			       /* its output */
	bool was_reset;			       /* of which writing has told */
	struct event *readable, *writable;     /* not of a stream */
	struct direction *incoming, *outgoing; /* what comes from it, what goes to it */
};

struct pump {
	struct direction there, back; /* left to right, right to left */
	struct side left, right;
	pump_done_fn done;
	void *userdata;
	bool is_done, broken;
	int error; /* 0, or the errno of what broke it */
	bool ends_with_right;
	bool (*refuses)(const char *bytes, size_t size); /* what comes first from the right; NULL: nothing */
	struct event *later; /* LINGER_S or LOOK_MS, once a direction is dropped */
};

static void stop(struct side *side)
{
	if (side->end.stream)
		return;
	event_del(side->readable);
	event_del(side->writable);
}

static void pump_finish(struct pump *pump, int error, const struct side *at)
{
	if (pump->is_done)
		return;
	pump->is_done = true;
	/* The reader at the right must not take a part for the whole. */
	pump->error = error;
	pump->broken = error != 0 || !(pump->there.closed || pump->there.dropped);
	stop(&pump->left);
	stop(&pump->right);
	event_del(pump->later);
	pump->done(pump->userdata, pump, error, at == &pump->left);
}

/* Ends a pump whose right end has ended, unless there is more to be read at the left now, or its end: that is
 * carried as ever. Returns whether it has ended. */
static bool look_left(struct pump *pump)
{
	struct pollfd left = {.fd = pump->left.end.in, .events = POLLIN};

	/* A right end that has sent nothing may only take, without any input: `listen >FILE </dev/null`. */
	if (!pump->back.used || pump->there.size > 0 || poll(&left, 1, 0) != 0)
		return false;
	pump_finish(pump, 0, &pump->right);
	return true;
}

static void end_output(struct side *side)
{
	if (side->end.stream) {
		xenmsg_stream_end(side->end.stream);
	} else if (side->to_socket) {
		shutdown(side->end.out, SHUT_WR);
	} else {
		close(side->end.out);
		side->end.out = -1;
	}
}

/* Whether more is to be carried. */
static bool is_wanted(const struct direction *direction)
{
	return !direction->closed && !direction->dropped;
}

/* Whether nothing more is to be read, either. A stream that is closed lets its writer know by itself. */
static bool pump_is_over(const struct direction *direction)
{
	return direction->closed || (direction->dropped && direction->from->end.stream);
}

static void wait_until(struct pump *pump, int ms)
{
	const struct timeval time = {ms / 1000, ms % 1000 * 1000};

	event_add(pump->later, &time);
}

/* Returns whether the pump has ended, and may be gone. */
static bool look_at_end(struct pump *pump)
{
	struct direction *there = &pump->there, *back = &pump->back;

	if (pump_is_over(there) && pump_is_over(back)) {
		pump_finish(pump, 0, &pump->right);
		return true;
	}
	if (is_wanted(there) || is_wanted(back)) {
		if (pump->ends_with_right && back->closed && !back->dropped)
			return look_left(pump);
	} else {
		wait_until(pump, LINGER_S * 1000);
	}
	return false;
}

static void pass_on_end(struct direction *direction)
{
	direction->closed = true;
	if (!direction->dropped)
		end_output(direction->to);
	look_at_end(direction->pump);
}

bool pump_is_hung_up(int fd)
{
	struct pollfd at = {.fd = fd};

	return poll(&at, 1, 0) > 0 && (at.revents & (POLLHUP | POLLERR));
}

static bool is_unix(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &size) == 0 && address.ss_family == AF_UNIX;
}

/* Reads nothing more of what nobody wants. Its writer is told if this is a socket of ours, which is read
 * to its end: to close one of TCP's with bytes unread would cost what it hasn't read of the other direction.
 */
static void stop_input(struct direction *direction)
{
	struct side *from = direction->from;

	if (from->end.stream)
		return;
	if (from->end.in == from->end.out && from->to_socket) {
		if (is_unix(from->end.in)) /* TCP would only read no more */
			shutdown(from->end.in, SHUT_RD);
		if (!direction->closed)
			event_add(from->readable, NULL);
	} else {
		event_del(from->readable);
		direction->closed = true;
	}
}

/* The output has taken no more. */
static void pump_drop(struct direction *direction)
{
	struct xenmsg_stream *from = direction->from->end.stream;
	struct pump *pump = direction->pump;

	if (direction->dropped)
		return;
	direction->dropped = true;
	direction->size = 0;
	free(direction->buffer);
	direction->buffer = NULL;
	if (!direction->to->end.stream)
		event_del(direction->to->writable);
	stop_input(direction);
	if (direction == &pump->back && !pump->right.end.stream)
		wait_until(pump, LOOK_MS);
	if (!look_at_end(pump) && from)
		xenmsg_stream_stop(from);
}

/* What is left is only read, and was for long enough; or the right end, which nobody reads, takes no more,
 * either. */
static void on_later(evutil_socket_t fd, short what, void *userdata)
{
	struct pump *pump = userdata;

	if (!is_wanted(&pump->there) && !is_wanted(&pump->back))
		pump_finish(pump, 0, &pump->right);
	else if (pump_is_hung_up(pump->right.end.in))
		pump_drop(&pump->there);
	else
		wait_until(pump, LOOK_MS);
}

static void on_write_failed(struct direction *direction, int error)
{
	direction->to->was_reset |= error == ECONNRESET;
	if (error == EPIPE || error == ECONNRESET)
		pump_drop(direction);
	else
		pump_finish(direction->pump, error, direction->to);
}

/* Writes what the output takes; at most PIPE_BUF to a pipe, since a larger write may block although the pipe
 * is writable. Returns how much that is, or a negative errno. */
static ssize_t write_some(const struct side *side, const char *at, size_t size)
{
	ssize_t written;

	if (side->end.stream)
		return xenmsg_stream_write(side->end.stream, at, size);
	if (side->to_socket)
		written = send(side->end.out, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		written = write(side->end.out, at, size < PIPE_BUF ? size : PIPE_BUF);
	if (written < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return written;
}

/* Lets us know when there is room again: a stream does that anyway. Returns 0 or -ENOMEM. */
static int pump_await_room(struct side *side)
{
	return side->end.stream || event_add(side->writable, NULL) == 0 ? 0 : -ENOMEM;
}

static void await_no_room(struct side *side)
{
	if (!side->end.stream)
		event_del(side->writable);
}

/* Keeps what the output didn't take, and reads no more before it did. Returns 0 or -ENOMEM. */
static int pump_keep(struct direction *direction, const char *at, size_t size)
{
	direction->buffer = malloc(size);
	if (!direction->buffer)
		return -ENOMEM;
	memcpy(direction->buffer, at, size);
	direction->start = 0;
	direction->size = size;
	event_del(direction->from->readable);
	return pump_await_room(direction->to);
}

static void look_left_at_the_end(struct pump *pump)
{
	if (pump->ends_with_right && pump->back.closed && !pump->back.dropped)
		look_left(pump);
}

/* Writes what was kept, and then reads on. */
static void pump_on_room(struct direction *direction)
{
	ssize_t size = 0;

	if (direction->from->end.stream) {
		await_no_room(direction->to);
		xenmsg_stream_resume(direction->from->end.stream);
		return;
	}
	if (direction->size > 0)
		size = write_some(direction->to, direction->buffer + direction->start, direction->size);
	if (size < 0) {
		on_write_failed(direction, (int)-size);
		return;
	}
	direction->start += (size_t)size;
	direction->size -= (size_t)size;
	if (direction->size > 0)
		return;
	free(direction->buffer); /* there may be thousands of pumps */
	direction->buffer = NULL;
	await_no_room(direction->to);
	if (!direction->closed && event_add(direction->from->readable, NULL) == 0)
		look_left_at_the_end(direction->pump);
}

static void pump_on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct side *side = userdata;

	pump_on_room(side->outgoing);
}

static void pump_on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct direction *direction = ((struct side *)userdata)->incoming;
	char bytes[BUFFER_SIZE];
	ssize_t size = read(fd, bytes, sizeof(bytes)), written;
	int r;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size < 0 && errno == ECONNRESET && direction->from->end.may_leave_unread)
		size = 0;
	if (size < 0 || (size == 0 && direction->from->was_reset && !direction->from->end.may_leave_unread)) {
		pump_finish(direction->pump, size < 0 ? errno : ECONNRESET, direction->from);
		return;
	}
	if (size == 0) {
		event_del(direction->from->readable);
		pass_on_end(direction);
		return;
	}
	if (!direction->used && direction == &direction->pump->back && direction->pump->refuses &&
	    direction->pump->refuses(bytes, (size_t)size)) {
		pump_finish(direction->pump, EPROTO, direction->from);
		return;
	}
	direction->used = true;
	if (direction->dropped)
		return;
	written = write_some(direction->to, bytes, (size_t)size);
	if (written < 0) {
		on_write_failed(direction, (int)-written);
		return;
	}
	r = written < size ? pump_keep(direction, bytes + written, (size_t)(size - written)) : 0;
	if (r < 0)
		pump_finish(direction->pump, -r, direction->from);
	else if (written == size)
		look_left_at_the_end(direction->pump);
}

/* ---- streams --------------------------------------------------------------------------------- */

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct direction *direction = ((struct side *)userdata)->incoming;
	ssize_t written = direction->dropped ? (ssize_t)size : write_some(direction->to, data, size);

	direction->used = true;
	if (written >= 0 && (size_t)written < size && pump_await_room(direction->to) < 0)
		written = -ENOMEM;
	if (written < 0) {
		on_write_failed(direction, (int)-written);
		return size;
	}
	return (size_t)written;
}

static void pump_on_ended(void *userdata, struct xenmsg_stream *stream)
{
	pass_on_end(((struct side *)userdata)->incoming);
}

static void on_stream_room(void *userdata, struct xenmsg_stream *stream)
{
	pump_on_room(((struct side *)userdata)->outgoing);
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct side *side = userdata;

	pump_finish(side->incoming->pump, -error, side);
}

static const struct xenmsg_stream_callbacks stream_callbacks = {
	.size = sizeof(struct xenmsg_stream_callbacks),
	.data = on_data,
	.ended = pump_on_ended,
	.room = on_stream_room,
	.broken = on_broken,
};

/* ---- life ------------------------------------------------------------------------------------ */

/* A pipe or a terminal that others have, too, may block though it was ready. Whether it does belongs to what
 * all of them share, so we take one of our own, if that is let. */
static void never_block(int fd, int mode)
{
	char path[32];
	struct stat status;
	int own;

	if (fstat(fd, &status) < 0 || !(S_ISFIFO(status.st_mode) || isatty(fd)))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return;
	dup3(own, fd, O_CLOEXEC);
	close(own);
}

static int pump_start(struct side *side, struct event_base *base)
{
	struct stat status;

	if (side->end.stream)
		return 0;
	side->to_socket = fstat(side->end.out, &status) == 0 && S_ISSOCK(status.st_mode);
	if (side->end.in != side->end.out) {
		never_block(side->end.in, O_RDONLY);
		never_block(side->end.out, O_WRONLY);
	}
	side->readable = event_new(base, side->end.in, EV_READ | EV_PERSIST, pump_on_readable, side);
	side->writable = event_new(base, side->end.out, EV_WRITE | EV_PERSIST, pump_on_writable, side);
	if (!side->readable || !side->writable)
		return -ENOMEM;
	return event_add(side->readable, NULL);
}

static void init_side(struct side *side, const struct pump_end *end, struct direction *incoming,
		      struct direction *outgoing)
{
	side->end = *end;
	side->incoming = incoming;
	side->outgoing = outgoing;
	incoming->from = outgoing->to = side;
	if (end->stream)
		xenmsg_stream_set_callbacks(end->stream, &stream_callbacks, side);
}

static void close_end(struct pump_end *end, bool broken, bool ended, int error)
{
	if (end->stream) {
		xenmsg_stream_break(end->stream, -error); /* unless both directions have ended */
		return;
	}
	if (broken && end->break_socket) {
		end->break_socket(end->userdata, end->in, ended);
		return;
	}
	if (end->in >= 0)
		close(end->in);
	if (end->out >= 0 && end->out != end->in)
		close(end->out);
}

struct pump *pump_new(struct event_base *base, struct pump_end left, struct pump_end right, pump_done_fn done,
		      void *userdata)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	if (!pump) {
		close_end(&left, false, false, ENOMEM);
		close_end(&right, false, false, ENOMEM);
		return NULL;
	}
	pump->there.pump = pump->back.pump = pump;
	pump->done = done;
	pump->userdata = userdata;
	init_side(&pump->left, &left, &pump->there, &pump->back);
	init_side(&pump->right, &right, &pump->back, &pump->there);
	pump->later = evtimer_new(base, on_later, pump);
	if (!pump->later || pump_start(&pump->left, base) < 0 || pump_start(&pump->right, base) < 0) {
		pump_free(pump);
		return NULL;
	}
	return pump;
}

void pump_catch_up(struct pump *pump)
{
	if (pump->left.end.stream)
		xenmsg_stream_resume(pump->left.end.stream);
}

void pump_ends_with_right(struct pump *pump)
{
	pump->ends_with_right = true;
}

void pump_refuse(struct pump *pump, bool (*refuses)(const char *bytes, size_t size))
{
	pump->refuses = refuses;
}

bool pump_has_brought(const struct pump *pump)
{
	return pump->back.used;
}

bool pump_is_cut(const struct pump *pump)
{
	return pump->there.dropped;
}

void pump_break(struct pump *pump)
{
	pump->broken = true;
	pump_free(pump);
}

void pump_free(struct pump *pump)
{
	if (!pump)
		return;
	pump->is_done = true;
	loop_event_free(pump->later);
	loop_event_free(pump->left.readable);
	loop_event_free(pump->left.writable);
	loop_event_free(pump->right.readable);
	loop_event_free(pump->right.writable);
	close_end(&pump->left.end, pump->broken, pump->back.closed, pump->error);
	close_end(&pump->right.end, pump->broken, pump->there.closed, pump->error);
	free(pump->there.buffer);
	free(pump->back.buffer);
	free(pump);
}
