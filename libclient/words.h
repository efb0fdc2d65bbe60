/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_WORDS_H
#define XENMSG_LIBCLIENT_WORDS_H

/* What errors mean, in words for people, where the daemon has said nothing more, and what notices, changes
 * and events are called. All texts are static, but for those of strerror(3). xenmsg.h declares the others. */

#include <stdbool.h>
#include <stdint.h>

#include "xenmsg.h"

/* The same of an error of xenmsg_open(): what isn't found then is the daemon, and no endpoint. */
const char *words_of_opening(int error);

/* Which side has ended a channel, by the flags of its RESET (RESET_BY), so that an outcome can't be known.
 * NULL: nobody knows. */
const char *words_of_reset(uint32_t flags);

/* ---- with XENMSG_DEBUG=1 in its environment a program tells on stderr what becomes of its messages */

/* Returns whether the environment asks for it; not in a program that runs with more rights than its user. */
bool trace_is_wanted(void);
/* Writes a line with the time (UTC) and the pid. */
void trace_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Returns an outcome in words: "delivered", or what the errno says. */
const char *trace_outcome(int result);

/* Writes a line if the connection of this transport is traced. */
#define TRACE(transport, ...)                                                                                \
	do {                                                                                                 \
		if (__builtin_expect((transport)->is_traced, 0))                                             \
			trace_line(__VA_ARGS__);                                                             \
	} while (0)

#endif
