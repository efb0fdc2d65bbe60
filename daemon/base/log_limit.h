/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_LOG_LIMIT_H
#define XENMSG_DAEMON_LOG_LIMIT_H

/*
 * How many lines of the log others may cause: in each window of 30 s
 *
 *   10      of one source for one cause, so that what it does all the time doesn't hide what else it does;
 *   200     of one source for all causes, and 400 of all sources: it may take no more than its share of what is left, by the rule
 *           of quota.h. So one source doesn't hide another's lines, nor do many together fill the disk.
 *
 * What was held back is counted for each source and told when the window is over and there is a line to
 * write. Of more sources than LOG_SOURCES in one window no lines are written; they are counted together.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/log.h"

#define LOG_WINDOW_MS 30000u
#define LOG_BURST     10u
#define LOG_POOL      400u
#define LOG_SOURCES   512u
#define LOG_REPORTS   16u /* sources that are named after a window */

struct log_speaker;

struct log_limits {
	uint64_t since_ms;
	uint64_t written; /* lines of this window */
	uint64_t writers; /* sources of which there are some */
	uint64_t others;  /* held back of sources that there was no room for */
	struct log_speaker *speakers;
};

/* May it be written? Counts it either way. */
bool log_limits_allow(struct log_limits *limits, enum log_cause cause, struct log_source source);
/* If the window is over: calls `report` for what was held back in it, with a NULL source for what no source
 * is named for, and begins a new one. */
void log_limits_turn(struct log_limits *limits, uint64_t now_ms,
		     void (*report)(const struct log_source *source, uint64_t held_back));
void log_limits_clear(struct log_limits *limits);

#endif
