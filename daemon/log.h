/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LOG_H
#define XENMSG_DAEMON_LOG_H

/*
 * The daemon's log: lines on stderr, each with the priority prefix that journald reads (sd-daemon(3)) when stderr is not a
 * terminal. The level is the process's, as stderr is. A line says what failed, for which peer, endpoint or path, and what
 * happens next; errors that a peer or program can cause at will go through log_limited().
 */

#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

void log_set_level(enum log_level level);
/* "error", "warning", "info", "debug"; -EINVAL for anything else. */
int log_level_parse(const char *text, enum log_level *level);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Lets at most 10 lines in 30 s through and then says how many it held back. One for each origin, zero-initialised. */
struct log_limit {
	uint64_t since_ms;
	unsigned seen;
};
void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(...)	 log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
