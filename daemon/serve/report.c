/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "daemon/serve/status.h"
#include "wire/json.h"

#define PIECE_UNITS 4096u /* a piece ends after so many */
#define STEP_UNITS  5u	  /* of one entry, listed or not */
/* For each byte of JSON: the objects of it, its text, and its way to the program. Measured: 8 to 12 ns. */
#define TEXT_UNITS(bytes) (bytes)

enum phase {
	HEAD,
	RANKING,
	LISTING,
	END,
};

struct report {
	struct report_question question;
	enum phase phase;
	const struct status_list *list;
	struct status_walk walk;
	struct json totals;	      /* an object that isn't ended */
	uint64_t ranks[STATUS_RANKS]; /* of the list: how many entries have each rank */
	unsigned lowest;	      /* rank that is listed */
	uint64_t room;		      /* for entries of the lowest rank */
	uint64_t total, listed;	      /* of the list, so far */
	bool any;		      /* the array isn't empty */
};

struct report *report_new(const struct report_question *question)
{
	static const struct status_list *const lists[] = {
		[REPORT_STATUS] = status_lists,
		[REPORT_PEERS] = status_peers_lists,
		[REPORT_ENDPOINTS] = status_endpoints_lists,
		[REPORT_HOSTS] = status_hosts_lists,
		[REPORT_RULES] = status_rules_lists,
		[REPORT_RULES_OF] = status_rules_of_lists,
		[REPORT_DENIED] = status_denied_lists,
		[REPORT_SEEN_DOMAINS] = status_seen_domains_lists,
		[REPORT_SEEN_ENDPOINTS] = status_seen_endpoints_lists,
		[REPORT_SEEN_HOSTS] = status_seen_hosts_lists,
	};
	struct report *report = calloc(1, sizeof(*report));

	if (!report)
		return NULL;
	report->question = *question;
	report->list = lists[question->kind];
	json_begin(&report->totals, "totals", '{');
	return report;
}

void report_free(struct report *report)
{
	if (!report)
		return;
	json_free(&report->totals);
	free(report->walk.tags);
	free(report);
}

/* --- text ------------------------------------------------------------------------------------- */

static int report_add_text(struct evbuffer *text, const char *words)
{
	return evbuffer_add(text, words, strlen(words)) ? -ENOMEM : 0;
}

/* Adds the text and frees it. */
static int add_json(struct report *report, struct evbuffer *text, struct json *json)
{
	int r = json->failed || evbuffer_add(text, json->text, json->size) ? -ENOMEM : 0;

	report->walk.units += TEXT_UNITS(json->size);
	json_free(json);
	return r;
}

static bool is_status(const struct report *report)
{
	return report->question.kind == REPORT_STATUS;
}

/* --- lists ------------------------------------------------------------------------------------ */

/* Puts the walk before the first entry. */
static void rewind_walk(struct report *report)
{
	report->walk = (struct status_walk){
		.sources = report->walk.sources,
		.viewer = report->question.viewer,
		.only = report->question.domid,
		.domid = -1,
		.units = report->walk.units,
		.tags = report->walk.tags,
	};
}

/* Whether the viewer may see nothing of the list. */
static bool is_hidden(const struct report *report)
{
	const struct viewer *viewer = &report->question.viewer;
	const struct status_list *list = report->list;

	return list->name && !viewer->sees_all && (list->of_others || (list->of_users && viewer->is_host));
}

/* Says so to domain 0, which is no user with none. */
static int add_hidden(struct report *report, struct evbuffer *text)
{
	json_null(&report->totals, report->list->name);
	return evbuffer_add_printf(text, ",\"%s\":null", report->list->name) < 0 ? -ENOMEM : 0;
}

static int begin_list(struct report *report, struct evbuffer *text)
{
	bool ranks = is_status(report) && !report->question.all;

	while (is_hidden(report)) {
		if (report->question.viewer.is_host && add_hidden(report, text) < 0)
			return -ENOMEM;
		report->list++;
	}
	rewind_walk(report);
	memset(report->ranks, 0, sizeof(report->ranks));
	report->lowest = 0;
	report->room = UINT64_MAX;
	report->total = report->listed = 0;
	if (!report->list->name) {
		report->phase = END;
		return 0;
	}
	report->phase = ranks && report->list->rank ? RANKING : LISTING;
	if (!is_status(report))
		return 0;
	report->any = false;
	if (report_add_text(text, ",\"") < 0 || report_add_text(text, report->list->name) < 0)
		return -ENOMEM;
	return report_add_text(text, "\":[");
}

static int end_list(struct report *report, struct evbuffer *text)
{
	if (is_status(report)) {
		json_number(&report->totals, report->list->name, report->total);
		if (report_add_text(text, "]") < 0)
			return -ENOMEM;
	}
	report->list++;
	return begin_list(report, text);
}

static int report_begin_report(struct report *report, struct evbuffer *text)
{
	struct json head = {0};
	int r;

	if (is_status(report)) {
		json_begin(&head, NULL, '{'); /* end_report() ends it */
		status_head(report->walk.sources, &report->question.viewer, &head);
		r = add_json(report, text, &head);
	} else {
		r = report_add_text(text, "[");
	}
	return r < 0 ? r : begin_list(report, text);
}

static int end_report(struct report *report, struct evbuffer *text)
{
	int r;

	if (!is_status(report))
		return report_add_text(text, "]");
	r = report_add_text(text, ",");
	if (r == 0)
		r = add_json(report, text, &report->totals);
	return r < 0 ? r : report_add_text(text, "}}");
}

/* Chooses the ranks of the first REPORT_ENTRIES entries. */
static void report_choose(struct report *report)
{
	uint64_t left = REPORT_ENTRIES;
	unsigned rank = STATUS_RANKS - 1;

	for (; rank > 0 && report->ranks[rank] <= left; rank--)
		left -= report->ranks[rank];
	report->lowest = rank;
	report->room = left;
}

static bool is_chosen(struct report *report)
{
	unsigned rank;

	if (report->room == UINT64_MAX)
		return true;
	rank = report->list->rank(&report->walk);
	if (rank < report->lowest || report->listed >= REPORT_ENTRIES)
		return false;
	if (rank > report->lowest)
		return true;
	if (report->room == 0)
		return false;
	report->room--;
	return true;
}

static int list_entry(struct report *report, struct evbuffer *text)
{
	struct json entry = {0};

	report->total++;
	if (!is_chosen(report))
		return 0;
	/* The lists of a report that is one array follow one another. */
	if (report->any && report_add_text(text, ",") < 0)
		return -ENOMEM;
	report->any = true;
	report->listed++;
	json_begin(&entry, NULL, '{');
	report->list->describe(&report->walk, &entry);
	json_end(&entry, '}');
	return add_json(report, text, &entry);
}

static int report_step(struct report *report, struct evbuffer *text)
{
	struct status_walk *walk = &report->walk;

	if (report->phase == HEAD)
		return report_begin_report(report, text);
	walk->units += STEP_UNITS;
	if (report->list->next(walk)) {
		if (report->list->is_visible && !report->list->is_visible(walk))
			return 0;
		if (report->phase == LISTING)
			return list_entry(report, text);
		report->ranks[report->list->rank(walk)]++;
		return 0;
	}
	if (report->phase == LISTING)
		return end_list(report, text);
	report_choose(report);
	rewind_walk(report);
	report->phase = LISTING;
	return 0;
}

int report_more(struct report *report, const struct status_sources *sources, struct evbuffer *text,
		uint64_t *units)
{
	int r = 0;

	report->walk.sources = sources;
	report->walk.units = 0;
	while (r == 0 && report->phase != END && report->walk.units < PIECE_UNITS)
		r = report_step(report, text);
	if (r == 0)
		r = report->phase != END ? 1 : end_report(report, text);
	*units = report->walk.units;
	return r;
}
