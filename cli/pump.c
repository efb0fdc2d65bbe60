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
	size_t start, size; /* the part of the buffer with data */
	bool ended;	    /* the input has ended */
	bool closed;	    /* the end was passed on */
	bool used;	    /* it has carried something */
	char buffer[BUFFER_SIZE];
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
 * is writable. */
static ssize_t write_some(struct direction *direction)
{
	const char *at = direction->buffer + direction->start;

	if (direction->to_is_socket)
		return send(direction->to, at, direction->size, MSG_DONTWAIT | MSG_NOSIGNAL);
	return write(direction->to, at, direction->size < PIPE_BUF ? direction->size : PIPE_BUF);
}

static void on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct direction *direction = userdata;
	ssize_t size = write_some(direction);

	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		size = 0;
	if (size < 0) {
		finish(direction->pump, errno, !direction->from_left);
		return;
	}
	direction->start += (size_t)size;
	direction->size -= (size_t)size;
	if (direction->size > 0)
		event_add(direction->writable, NULL);
	else if (direction->ended)
		pass_on_end(direction);
	else if (event_add(direction->readable, NULL) == 0 && direction->pump->ends_with_right &&
		 direction->pump->back.closed)
		look_left(direction->pump);
}

static void on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct direction *direction = userdata;
	ssize_t size = read(fd, direction->buffer, BUFFER_SIZE);

	if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
		event_add(direction->readable, NULL);
		return;
	}
	if (size < 0) {
		finish(direction->pump, errno, direction->from_left);
		return;
	}
	if (size == 0) {
		direction->ended = true;
		pass_on_end(direction);
		return;
	}
	direction->start = 0;
	direction->size = (size_t)size;
	direction->used = true;
	on_writable(direction->to, 0, direction);
}

static int start(struct direction *direction, struct event_base *base, struct pump *pump, int from, int to)
{
	struct stat status;

	direction->pump = pump;
	direction->to = to;
	direction->from_left = from == pump->left.in;
	direction->to_is_socket = fstat(to, &status) == 0 && S_ISSOCK(status.st_mode);
	direction->readable = event_new(base, from, EV_READ, on_readable, direction);
	direction->writable = event_new(base, to, EV_WRITE, on_writable, direction);
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
