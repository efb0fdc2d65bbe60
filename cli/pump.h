/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_PUMP_H
#define XENMSG_CLI_PUMP_H

/*
 * Carries two byte streams between two ends, each independently, with half-close: when one direction ends,
 * that is passed on and the other continues. An end is a socket, a pair of descriptors (standard input and
 * output), or a stream of a connection that carries many (xenmsg-stream.h). A direction holds at most a
 * buffer's worth, so a slow reader slows its writer. Descriptors may be files if the loop is one for files
 * (interrupt.h).
 *
 * An output that takes no more (EPIPE, ECONNRESET) ends only that direction: what still comes for it is
 * dropped, and its sender is told, as far as that can be. The other direction goes on to its end.
 */

#include <stdbool.h>
#include <stddef.h>

struct event_base;
struct xenmsg_stream;
struct pump;

/* Where to read (`in`) and write (`out`); both are the same for a socket. With a stream there is none of
 * them: -1. */
struct pump_end {
	int in, out;
	/* Closes a socket so that the other side sees a broken stream; `ended`: it has seen its end. NULL:
	 * close(). */
	void (*break_socket)(void *userdata, int fd, bool ended);
	void *userdata;
	struct xenmsg_stream *stream;
	/* ECONNRESET in reading only says that the other side has closed the socket without having read all:
	 * it has ended its direction. */
	bool may_leave_unread;
};

/* `error` is 0 when both directions have ended, else the errno of what broke; `at_left` says at which end. */
typedef void (*pump_done_fn)(void *userdata, struct pump *pump, int error, bool at_left);

/* Starts a pump, which owns the ends until pump_free() closes them. Returns NULL if memory has run out (they
 * are closed). */
struct pump *pump_new(struct event_base *base, struct pump_end left, struct pump_end right, pump_done_fn done,
		      void *userdata);
/* Takes what a stream at the left has brought before the pump was there. May call `done`. */
void pump_catch_up(struct pump *pump);
/* Makes the pump end once the right end, which has sent something, has ended and nothing more
 * can be read at the left without waiting.
 * Unless the left end has ended, too, pump_free() then breaks what leads to the right. */
void pump_ends_with_right(struct pump *pump);
/* Ends the pump with EPROTO if what comes first from the right end is refused; it isn't carried then. */
void pump_refuse(struct pump *pump, bool (*refuses)(const char *bytes, size_t size));
/* Returns whether anything has come from the right end. */
bool pump_has_brought(const struct pump *pump);
/* Returns whether the right end has taken no more before the left one has ended. */
bool pump_is_cut(const struct pump *pump);
/* Closes the ends, both of which see a broken stream, without `done`. */
void pump_break(struct pump *pump);
/* Whether the other end of a socket or pipe is closed, so that nobody is there. */
bool pump_is_hung_up(int fd);
/* Closes the ends; after an error, both ends see a broken stream. May be called from `done`. */
void pump_free(struct pump *pump);

#endif
