/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_BASE_LOG_LIMIT_H
#define XENMSG_BASE_LOG_LIMIT_H

/*
 * Limits how many lines of the log others may cause: in each window of 30 s
 *
 *   10      of one source for one cause, so that what it does all the time doesn't hide what else it does;
 *   200     of one source for all causes, and 400 of all sources: a source may take no more than its share of
 *           what is left, by the rule of quota.h. So one source doesn't hide another's lines, nor do many
 *           together fill the disk.
 *
 * Lines that were held back are counted for each source, and reported when the window is over and the next
 * line is written. Of more sources than LOG_SOURCES in one window no lines are written; those are counted
 * together.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

#define LOG_WINDOW_MS 30000u
#define LOG_BURST     10u
#define LOG_POOL      400u
#define LOG_SOURCES   512u
#define LOG_REPORTS   16u /* sources that are named after a window */

struct log_speaker;

struct log_limits {
	uint64_t since_ms;
	uint64_t written; /* lines written in this window */
	uint64_t writers; /* sources that wrote some of them */
	uint64_t others;  /* lines held back of sources for which there was no room */
	struct log_speaker *speakers;
};

/* Whether the line may be written. It is counted either way. */
bool log_limits_allow(struct log_limits *limits, enum log_cause cause, struct log_source source);
/* If the window is over, calls `report` for each source that had lines held back, and with a NULL source for
 * those of all others, and begins a new window. */
void log_limits_turn(struct log_limits *limits, uint64_t now_ms,
		     void (*report)(const struct log_source *source, uint64_t held_back));
/* Frees what the limits hold, without reporting. */
void log_limits_clear(struct log_limits *limits);

/* Whether an error that says the same as the error before isn't written: for attempts that are made again and
 * again. */
void log_skip_repeats(bool skip);

#endif
