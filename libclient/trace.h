/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_LIBCLIENT_TRACE_H
#define XENMSG_LIBCLIENT_TRACE_H

/* With XENMSG_DEBUG=1 in its environment a program tells on stderr what becomes of its messages. */

#include <stdbool.h>

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
