/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_LOG_H
#define XENMSG_BASE_LOG_H

/*
 * The daemon's log: lines on stderr, or to syslog or the journal, where the settings say so. On stderr each
 * has, if it leads to the journal (JOURNAL_STREAM), the priority prefix that journald reads (sd-daemon(3)),
 * else the time (UTC) and the level in words. The level, the target and the limits are the process's, as
 * stderr is. A line says what failed, for which peer, endpoint or path, and what happens next; errors that a
 * peer or program can cause at will go through log_limited().
 *
 * No line waits for its reader, since the event loop would wait along: while the journal is stalled or a pipe
 * is full, lines are lost, and their number is logged when there is room again. stderr's description is
 * shared with others, so it isn't made non-blocking:
 *
 *   a socket (journald's)   send(MSG_DONTWAIT)
 *   a pipe, a terminal      is opened once more, by /proc/self/fd, for a non-blocking description of our own
 *   one that we may not     poll() without waiting, and a write of less than PIPE_BUF: it waits only if
 *   open (another user's)   another process that has the same pipe fills it in between
 *   a file                  write()
 *
 * Syslog (/dev/log) and the journal (systemd's native protocol) are sockets of datagrams, one for each line;
 * while nobody listens there, lines go to stderr.
 */

#include <stddef.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

void log_set_level(enum log_level level);
/* Parses "error", "warning", "info" or "debug"; -EINVAL for anything else. */
int log_level_parse(const char *text, enum log_level *level);

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_JOURNAL };

/* Parses "stderr", "syslog" or "journal"; -EINVAL for anything else. */
int log_target_parse(const char *text, enum log_target *target);
/* Lets lines go there from now on. `path`: the socket of syslog or the journal, which must stay valid; NULL:
 * the one that all programs use. */
void log_set_target(enum log_target target, const char *path);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The cause of a line, and its source: each has a limit of its own (log_limit.h). */
enum log_cause {
	LOG_ACCEPTING, /* of programs */
	LOG_BAD_VALUE, /* in XenStore */
	LOG_BINDING,
	LOG_CUT_OFF,
	LOG_DENIED,
	LOG_LINK,
	LOG_LIMIT,
	LOG_PAGES,
	LOG_PRESENCE,
	LOG_STORE,
	LOG_UNDECIDED,
	LOG_UNREACHABLE,
	LOG_CAUSES,
};

struct log_source {
	enum log_source_kind {
		LOG_OURSELVES,
		LOG_UID,
		LOG_DOMAIN,
		LOG_HOST, /* by its number; in the gateway gateway/log_host.h */
	} kind;
	uint32_t id;
};
#define LOG_BY_US	     ((struct log_source){LOG_OURSELVES, 0})
#define LOG_BY_UID(uid)	     ((struct log_source){LOG_UID, (uid)})
#define LOG_BY_DOMAIN(domid) ((struct log_source){LOG_DOMAIN, (domid)})
#define LOG_BY_HOST(number)  ((struct log_source){LOG_HOST, (number)})

/* Has the log name the hosts: `name` returns that of the one with this number, "" if there is none. NULL:
 * none has one. */
void log_name_hosts(const char *(*name)(const void *userdata, uint32_t number), const void *userdata);

/* Logs a line unless its source's limit is reached. For the event loop's thread only. */
void log_limited(enum log_cause cause, struct log_source source, enum log_level level, const char *format,
		 ...) __attribute__((format(printf, 4, 5)));

/* Writes whom a source means, for people. */
void log_source_text(const struct log_source *source, char *text, size_t size);

#define log_error(...)	 log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
