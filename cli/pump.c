/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/pump.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "cli/loop.h"

#define BUFFER_SIZE 65536

struct direction {
	struct pump *pump;
	int to;
	bool from_left;
	bool to_is_socket;
	struct event *readable, *writable;
	size_t start, size; /* the part of the buffer with data: nothing is read while there is some */
	bool closed;	    /* the end was passed on */
	bool used;	    /* it has carried something */
	char *buffer;	    /* what the output hasn't taken; NULL: it never refused anything */
};

struct pump {
	struct direction there, back; /* left to right, right to left */
	struct pump_end left, right;
	pump_done_fn done;
	void *userdata;
	bool is_done, broken;
	bool ends_with_right;
};

struct event_base *pump_base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config && event_config_avoid_method(config, "epoll") == 0)
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	return base;
}

static void finish(struct pump *pump, int error, bool at_left)
{
	if (pump->is_done)
		return;
	pump->is_done = true;
	/* The reader at the right must not take a part for the whole. */
	pump->broken = error != 0 || !pump->there.closed;
	event_del(pump->there.readable);
	event_del(pump->there.writable);
	event_del(pump->back.readable);
	event_del(pump->back.writable);
	pump->done(pump->userdata, pump, error, at_left);
}

static void close_output(struct pump_end *end)
{
	close(end->out);
	end->out = -1;
}

/* Ends a pump whose right end has ended, unless there is more to be read at the left now, or its end: that is
 * carried as ever. */
static void look_left(struct pump *pump)
{
	struct pollfd left = {.fd = pump->left.in, .events = POLLIN};

	/* A right end that has sent nothing may only take, without any input: `listen >FILE </dev/null`. */
	if (pump->back.used && pump->there.size == 0 && poll(&left, 1, 0) == 0)
		finish(pump, 0, false);
}

static void pass_on_end(struct direction *direction)
{
	struct pump *pump = direction->pump;

	direction->closed = true;
	if (direction->to_is_socket)
		shutdown(direction->to, SHUT_WR);
	else
		close_output(direction->from_left ? &pump->right : &pump->left);
	if (pump->there.closed && pump->back.closed)
		finish(pump, 0, false);
	else if (pump->ends_with_right && pump->back.closed)
		look_left(pump);
}

/* Writes what the output takes; at most PIPE_BUF to a pipe, since a larger write may block although the pipe
 * is writable. Returns how much that is, or a negative errno. */
static ssize_t write_some(const struct direction *direction, const char *at, size_t size)
{
	ssize_t written;

	if (direction->to_is_socket)
		written = send(direction->to, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		written = write(direction->to, at, size < PIPE_BUF ? size : PIPE_BUF);
	if (written < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return written;
}

/* Keeps what the output didn't take, and reads no more before it did. Returns 0 or -ENOMEM. */
static int keep(struct direction *direction, const char *at, size_t size)
{
	if (!direction->buffer)
		direction->buffer = malloc(BUFFER_SIZE);
	if (!direction->buffer)
		return -ENOMEM;
	memcpy(direction->buffer, at, size);
	direction->start = 0;
	direction->size = size;
	event_del(direction->readable);
	return event_add(direction->writable, NULL) == 0 ? 0 : -ENOMEM;
}

static void look_left_at_the_end(struct pump *pump)
{
	if (pump->ends_with_right && pump->back.closed)
		look_left(pump);
}

static void on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct direction *direction = userdata;
	ssize_t size = write_some(direction, direction->buffer + direction->start, direction->size);

	if (size < 0) {
		finish(direction->pump, (int)-size, !direction->from_left);
		return;
	}
	direction->start += (size_t)size;
	direction->size -= (size_t)size;
	if (direction->size > 0)
		return;
	event_del(direction->writable);
	if (event_add(direction->readable, NULL) == 0)
		look_left_at_the_end(direction->pump);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct direction *direction = userdata;
	char bytes[BUFFER_SIZE];
	ssize_t size = read(fd, bytes, sizeof(bytes)), written;
	int r;

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (size < 0) {
		finish(direction->pump, errno, direction->from_left);
		return;
	}
	if (size == 0) {
		event_del(direction->readable);
		pass_on_end(direction);
		return;
	}
	direction->used = true;
	written = write_some(direction, bytes, (size_t)size);
	if (written < 0) {
		finish(direction->pump, (int)-written, !direction->from_left);
		return;
	}
	r = written < size ? keep(direction, bytes + written, (size_t)(size - written)) : 0;
	if (r < 0)
		finish(direction->pump, -r, !direction->from_left);
	else if (written == size)
		look_left_at_the_end(direction->pump);
}

static int start(struct direction *direction, struct event_base *base, struct pump *pump, int from, int to)
{
	struct stat status;

	direction->pump = pump;
	direction->to = to;
	direction->from_left = from == pump->left.in;
	direction->to_is_socket = fstat(to, &status) == 0 && S_ISSOCK(status.st_mode);
	direction->readable = event_new(base, from, EV_READ | EV_PERSIST, on_readable, direction);
	direction->writable = event_new(base, to, EV_WRITE | EV_PERSIST, on_writable, direction);
	if (!direction->readable || !direction->writable)
		return -ENOMEM;
	return event_add(direction->readable, NULL);
}

struct pump *pump_new(struct event_base *base, struct pump_end left, struct pump_end right, pump_done_fn done,
		      void *userdata)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	if (!pump) {
		close(left.in);
		close(right.in);
		return NULL;
	}
	pump->left = left;
	pump->right = right;
	pump->done = done;
	pump->userdata = userdata;
	if (start(&pump->there, base, pump, left.in, right.out) < 0 ||
	    start(&pump->back, base, pump, right.in, left.out) < 0) {
		pump_free(pump);
		return NULL;
	}
	return pump;
}

void pump_ends_with_right(struct pump *pump)
{
	pump->ends_with_right = true;
}

static void close_end(struct pump_end *end, bool broken)
{
	if (broken && end->break_socket) {
		end->break_socket(end->in);
		return;
	}
	if (end->in >= 0)
		close(end->in);
	if (end->out >= 0 && end->out != end->in)
		close(end->out);
}

static void free_direction(struct direction *direction)
{
	loop_event_free(direction->readable);
	loop_event_free(direction->writable);
	free(direction->buffer);
}

void pump_free(struct pump *pump)
{
	if (!pump)
		return;
	pump->is_done = true;
	free_direction(&pump->there);
	free_direction(&pump->back);
	close_end(&pump->left, pump->broken);
	close_end(&pump->right, pump->broken);
	free(pump);
}
