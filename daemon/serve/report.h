/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REPORT_H
#define XENMSG_DAEMON_REPORT_H

/*
 * The answer to a question about the daemon, a JSON text of any size. It is made in pieces, so that making it
 * neither holds the event loop nor uses memory for more than one piece.
 *
 *   head ──▶ for each list: ranking ──▶ listing ──▶ end
 *
 * Each list is walked twice. The first walk counts how many entries of which rank there are (status.h), the
 * second lists the first REPORT_ENTRIES by rank; of a report of everything all are listed, and there is no
 * first walk.
 *
 * So it doesn't show one moment: each entry is true of the moment when it was written. One that is there from
 * the first piece to the last is listed once; one that comes or goes meanwhile, once or not at all.
 */

#include <stdbool.h>
#include <stdint.h>

#include "daemon/serve/viewer.h"

struct evbuffer;
struct report;
struct status_sources;

#define REPORT_ENTRIES 100u /* of each list, unless everything is wanted */

enum report_kind {
	REPORT_STATUS,
	REPORT_PEERS,
	REPORT_ENDPOINTS,
	REPORT_HOSTS,
	REPORT_RULES,
	REPORT_RULES_OF, /* in domain 0: a domain's tags, and the rules of the host's policy about it */
	REPORT_DENIED,
	REPORT_SEEN_DOMAINS, /* what a stranger may see */
	REPORT_SEEN_ENDPOINTS,
	REPORT_SEEN_HOSTS,
};

struct report_question {
	enum report_kind kind;
	bool all;      /* REPORT_STATUS: list every entry */
	int64_t domid; /* REPORT_ENDPOINTS, REPORT_RULES_OF: of this domain; below zero: of all */
	struct viewer viewer;
};

/* Returns the report, which the caller frees, or NULL: out of memory. */
struct report *report_new(const struct report_question *question);
void report_free(struct report *report);
/* Adds a piece to `text`, from what the sources hold now. Returns 1: there is more to come, 0: that was all,
 * or -ENOMEM. *units: what it cost, as in turns.h. */
int report_more(struct report *report, const struct status_sources *sources, struct evbuffer *text,
		uint64_t *units);

#endif
