/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_TOP_H
#define XENMSG_CLI_TOP_H

/*
 * The lines that `xenmsg top` shows of two answers of the daemon, one after the other.
 */

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"

struct host_view;
struct json_object;

#define LINE_MAX_BYTES 512
#define HEAD_LINES     2 /* lines that don't scroll */
#define FILTER_MAX     40

enum sort {
	BY_TRAFFIC,
	BY_QUEUED,
	BY_FIRST_COLUMN,
	SORTS,
};

/* What a row of a table is sorted by. */
struct weight {
	double traffic, queued; /* bytes a second, bytes */
};

struct top_line {
	char text[LINE_MAX_BYTES];
	bool is_title;
	struct weight weight;
	size_t index; /* so that rows that are alike stay where they are */
};

struct top {
	struct cli *cli;
	struct xenmsg *conn; /* NULL: the daemon is gone, and each round looks for it */
	struct json_object *now, *before;
	double now_s, before_s;
	bool is_host;		/* all of a host's daemons are shown, not the local one */
	struct host_view *view; /* then; NULL: there was no answer yet */
	struct top_line *lines;
	size_t count, room;
	size_t first; /* the first line shown below the head */
	int left;     /* how many columns are scrolled out of sight, behind the first one of each table */
	bool paused;
	enum sort sort;
	char filter[FILTER_MAX]; /* "": every row is shown */
	bool typing;		 /* the filter */
	char trouble[LINE_MAX_BYTES];
};

/* Makes the lines anew from `now` and `before`, as they are sorted and filtered. */
void top_make_lines(struct top *top);
/* Does the same for a host, from `view`. */
void top_make_host_lines(struct top *top);

#endif
