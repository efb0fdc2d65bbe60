/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_PUMP_H
#define XENMSG_CLI_PUMP_H

/*
 * Two byte streams carried between two ends, each on its own, with half-close: the end of one direction is
 * passed on and the other goes on. An end is a socket, or a pair of descriptors (standard input and output).
 * A direction holds at most a buffer's worth, so who reads slowly slows who writes. Descriptors may be files:
 * the loop must be one of pump_base_new().
 */

#include <stdbool.h>

struct event_base;
struct pump;

/* An event loop that takes any descriptor (epoll refuses regular files). */
struct event_base *pump_base_new(void);

/* `in` is read, `out` is written; the same for a socket. */
struct pump_end {
	int in, out;
	void (*break_socket)(int fd); /* closes it so that the other side sees that it broke; NULL: close() */
};

/* `error` is 0 when both directions have come to their end, else the errno of what broke; `at_left` at which
 * end. */
typedef void (*pump_done_fn)(void *userdata, struct pump *pump, int error, bool at_left);

/* Takes over the descriptors, which are closed by pump_free(). NULL: out of memory (they are closed). */
struct pump *pump_new(struct event_base *base, struct pump_end left, struct pump_end right, pump_done_fn done,
		      void *userdata);
/* Closes the descriptors; after an error, both ends break. May be called from `done`. */
void pump_free(struct pump *pump);

#endif
