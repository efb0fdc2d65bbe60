/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REPORT_H
#define XENMSG_DAEMON_REPORT_H

/*
 * The answer to a question about the daemon, a JSON text that is made in pieces: it may be of any size, and
 * neither its making holds the event loop for longer than a piece, nor does it take more memory than that.
 *
 *   head ──▶ for each list: ranking ──▶ listing ──▶ end
 *
 * Each list is walked twice. The first walk counts how many entries of which rank there are (status.h), the
 * second lists the first REPORT_ENTRIES by rank; of a report of everything all are listed, and there is no
 * first walk.
 *
 * So it is no picture of one moment: each entry is true of the moment when it was written. One that is there
 * from the first piece to the last is listed once; one that comes or goes meanwhile, once or not at all.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/viewer.h"

struct evbuffer;
struct report;
struct status_sources;

#define REPORT_ENTRIES 100u /* of each list, unless everything is wanted */

enum report_kind {
	REPORT_STATUS,
	REPORT_PEERS,
	REPORT_ENDPOINTS,
};

struct report_question {
	enum report_kind kind;
	bool all;      /* REPORT_STATUS: every entry */
	int64_t domid; /* REPORT_ENDPOINTS: of this domain; below zero: of all */
	struct viewer viewer;
};

/* NULL: out of memory. */
struct report *report_new(const struct report_question *question);
void report_free(struct report *report);
/* Adds a piece to `text`; the sources are those of now. 1: there is more to come; 0: that was all; -ENOMEM.
 * *units: what it cost, as in turns.h. */
int report_more(struct report *report, const struct status_sources *sources, struct evbuffer *text,
		uint64_t *units);

#endif
