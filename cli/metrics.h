/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_METRICS_H
#define XENMSG_CLI_METRICS_H

/*
 * The daemon's status as Prometheus text (exposition format 0.0.4), by one table of metrics, which
 * doc/metrics.md shows. Labels are what there is little of: domids, uids, names of endpoints that are bound
 * here, and addresses of topics to which programs here subscribe. What a peer or a sender chooses freely,
 * pids and programs' names are no labels.
 */

#include <stddef.h>
#include <stdio.h>

struct json_object;

/* A daemon whose metrics are written. */
struct metrics_source {
	/* of each of its metrics the labels, since two domains may have one name; NULL: it is the only one,
	 * and has none */
	const char *domain, *domid;
	struct json_object *status; /* NULL: it doesn't answer */
};

/* Writes all metrics that the status has. NULL: the daemon doesn't answer, which is all that is written. */
void metrics_write(struct json_object *status, FILE *out);
/* Writes those of several daemons, each metric together. */
void metrics_write_host(const struct metrics_source *sources, size_t count, FILE *out);

#endif
