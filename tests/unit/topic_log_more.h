/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_TOPIC_LOG_MORE_H
#define XENMSG_TESTS_TOPIC_LOG_MORE_H

#include "daemon/topic/topic_log.h"

/* Whether there is something for the reader: an entry, or that he has missed some. */
static inline bool topic_log_has_more(const struct topic_log *log, const struct topic_position *position)
{
	return position->index < log->next || position->count < log->count ||
	       position->unknown < log->unknown;
}

#endif
