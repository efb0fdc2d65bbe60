/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* top: shows the daemon's status live in a terminal, or with --host that of all daemons of the host. Each
 * round asks for it; rates are the differences between rounds. */

#include <errno.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/cli.h"
#include "cli/more/more.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/host_view.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/terminal.h"
#include "wire/text.h"

static const char help[] =
	"Usage: xenmsg top [OPTIONS]\n"
	"       xenmsg top --host [--once | --json] [OPTIONS]\n"
	"\n"
	"Shows links, endpoints, programs, streams, topics and accounts of the daemon,\n"
	"live. Keys: arrows and page up and down scroll, also sideways where the\n"
	"terminal is narrow, s sorts by traffic, by what is queued, or by the first\n"
	"column, / shows only lines with a text (escape: all again), space stops and\n"
	"goes on, q ends.\n"
	"\n"
	"      --delay S       look every S seconds (1); at least 0.1\n"
	"      --host          in domain 0, for its administrators: all domains of this\n"
	"                      host, who talks to whom and how much, what is away, and\n"
	"                      endpoints, as far as their host-sight lets domain 0 see\n"
	"      --once          look twice, so that there are rates, print that and end\n"
	"      --json          the same as a JSON object\n"
	"\n"
	"Examples:\n"
	"  xenmsg top\n"
	"  xenmsg top --delay 5s\n"
	"  xenmsg top --host\n";

#define LINE_MAX_BYTES 512
#define HEAD_LINES     2 /* lines that don't scroll */
#define FILTER_MAX     40
#define ROWS_MAX       2000u /* of a table of a host */

enum sort {
	BY_TRAFFIC,
	BY_QUEUED,
	BY_FIRST_COLUMN,
	SORTS,
};

struct top_line {
	char text[LINE_MAX_BYTES];
	bool is_title;
	double traffic, queued; /* what it weighs: bytes a second, bytes */
	size_t index;		/* so that rows that are alike stay where they are */
};

struct top {
	struct cli *cli;
	struct xenmsg *conn; /* NULL: the daemon is gone, and each round looks for it */
	struct json_object *now, *before;
	double now_s, before_s;
	bool is_host;		   /* all of a host's daemons are shown, not the local one */
	struct host_view *view;	   /* then; NULL: there was no answer yet */
	struct json_object *shown; /* the lists of tables, made of these */
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

#define WORK_UNIT_S 1e-8 /* about: of what status counts as work */

/* ---- the numbers ----------------------------------------------------------------------------- */

/* Formats a number in at most 6 characters: 999, 9.99k, 123M. */
static const char *number_text(double value, char *buffer, size_t size)
{
	static const char units[] = " kMGTPE";
	unsigned unit = 0;

	while (value >= 1000 && units[unit + 1]) {
		value /= 1000;
		unit++;
	}
	if (unit == 0)
		snprintf(buffer, size, "%.0f", value);
	else
		snprintf(buffer, size, "%.*f%c", value < 10 ? 2 : value < 100 ? 1 : 0, value, units[unit]);
	return buffer;
}

/* ---- lines ----------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void add_line(struct top *top, bool is_title, const char *format,
							   ...)
{
	char text[LINE_MAX_BYTES];
	const char *at;
	struct top_line *line;
	va_list args;

	if (top->count == top->room) {
		size_t room = top->room ? 2 * top->room : 64;
		struct top_line *grown = realloc(top->lines, room * sizeof(*grown));

		if (!grown)
			return;
		top->lines = grown;
		top->room = room;
	}
	line = &top->lines[top->count++];
	*line = (struct top_line){.is_title = is_title, .index = top->count};
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	for (size_t size = strlen(text); size && text[size - 1] == ' ';)
		text[--size] = '\0';
	/* Programs choose their names: no control character in them may reach the terminal. */
	text_make_line(text);
	at = text;
	line->text[terminal_escape(&at, text + strlen(text), true, line->text, sizeof(line->text) - 1)] =
		'\0';
}

/* Returns whether a text that belongs to what the row is about has another text in it. */
static bool some_text_has(struct json_object *value, const char *text)
{
	if (json_object_is_type(value, json_type_string))
		return strcasestr(json_object_get_string(value), text);
	if (!json_object_is_type(value, json_type_object))
		return false;
	json_object_object_foreach(value, name, member) {
		(void)name;
		if (some_text_has(member, text))
			return true;
	}
	return false;
}

/* Says what the row that was just added is about, and its weight; it goes if the filter hides it. A column
 * may have been too narrow for what the filter looks for. */
static void weigh(struct top *top, struct json_object *about, double traffic, double queued)
{
	struct top_line *line = &top->lines[top->count - 1];

	line->traffic = traffic;
	line->queued = queued;
	if (top->filter[0] && !strcasestr(line->text, top->filter) && !some_text_has(about, top->filter))
		top->count--;
}

/* Compares by weight, or by the first column: `strverscmp` compares numbers by their value. */
static int cmd_top_compare(const void *one, const void *other, void *order)
{
	const struct top_line *a = one, *b = other;
	enum sort sort = *(enum sort *)order;
	double x = sort == BY_TRAFFIC ? a->traffic : a->queued,
	       y = sort == BY_TRAFFIC ? b->traffic : b->queued;
	int by_text = sort == BY_FIRST_COLUMN ? strverscmp(a->text, b->text) : 0;

	if (by_text)
		return by_text;
	if (sort != BY_FIRST_COLUMN && x != y)
		return x > y ? -1 : 1;
	return a->index < b->index ? -1 : 1;
}

/* A table of what one list has. */
struct top_table {
	const char *list;	      /* in `shown` */
	const char *rest;	      /* the list of the status of which the rest is told; NULL: none */
	bool hides;		      /* it is left out without a row, also if the filter hides them all */
	const char *traffic, *queued; /* what its rows weigh */
	const char *columns;	      /* column_next() */
};

#define NOTE_AT 2 /* in place of this column and those behind it stands the "note" of a row that has one */

static double real_at(struct json_object *object, const char *path)
{
	return json_object_get_double(field(object, path));
}

/* Adds a row of a table; NULL: its titles. */
static void add_row(struct top *top, const struct top_table *table, struct json_object *row)
{
	const char *note = text_or(row, "note", NULL), *columns = table->columns, *text;
	char line[LINE_MAX_BYTES] = "", number[16];
	struct column column;

	for (int i = 0; column_next(&columns, &column); i++) {
		struct json_object *value = field(row, column.path);
		size_t used = strlen(line);

		if (note && i == NOTE_AT) {
			snprintf(line + used, sizeof(line) - used, "%s", note);
			break;
		}
		text = !row ? column.title : value ? json_object_get_string(value) : "-";
		if (column.is_short && value)
			text = number_text(json_object_get_double(value), number, sizeof(number));
		snprintf(line + used, sizeof(line) - used, "%*.*s ", column.width,
			 column.width < 0 ? -column.width : LINE_MAX_BYTES, text);
	}
	add_line(top, !row, "%s", line);
}

/* Returns how many entries there are besides those that the list has. */
static size_t unlisted(const struct top *top, const struct top_table *table)
{
	size_t more = table->rest ? total_of(top->now, table->rest) - listed_in(top->now, table->rest) : 0;

	if (top->is_host && !strcmp(table->list, "endpoints"))
		fields_foreach(at(top->shown, "domains"), domain)
			more += (size_t)number_at(domain, "endpoints_total") - listed_in(domain, "endpoints");
	return more;
}

/* Adds a table of what is shown, sorted, and a line for what was left out of it. */
static void add_table(struct top *top, const struct top_table *table)
{
	struct json_object *rows = at(top->shown, table->list);
	size_t begin = top->count, first, i, more = unlisted(top, table);

	if (begin > HEAD_LINES)
		add_line(top, false, "%s", "");
	add_row(top, table, NULL);
	first = top->count;
	for (i = 0; i < length_of(rows) && (table->rest || top->count < first + ROWS_MAX); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);

		add_row(top, table, row);
		weigh(top, row, real_at(row, table->traffic), real_at(row, table->queued));
	}
	qsort_r(top->lines + first, top->count - first, sizeof(*top->lines), cmd_top_compare, &top->sort);
	more += length_of(rows) - i;
	if (more > 0)
		add_line(top, false, "and %zu more %s", more, table->rest ? table->rest : table->list);
	else if (table->hides && top->count == first)
		top->count = begin;
}

/* ---- the local daemon ------------------------------------------------------------------------- */

static const struct top_table tables[] = {
	{"links", "links", false, "traffic", "unacked",
	 "LINK=number:-6,NAME=called:-14,STATE=state:-9,ROLE=role:-6,CHANS=channels:5,RTT_US=rtt:9,"
	 "SENT/s=tx.messages_per_s:7k,RECV/s=rx.messages_per_s:7k,BYTES/s=traffic:7k"},
	{"endpoints", "endpoints", false, "traffic", "waiting",
	 "ENDPOINT=name:-24,KIND=kind:-8,UID=uid:7,PID=pid:8,QUEUED=waiting:8k,STREAMS=carried:8,"
	 "BYTES/s=traffic:8k"},
	{"programs", "clients", false, "traffic", "waiting",
	 "PID=pid:-8,PROGRAM=comm:-16,UID=uid:7,CHANS=channels:6,STREAMS=carried:8,QUEUED=waiting:9k,"
	 "IN_B/s=in:9k,OUT_B/s=out:9k"},
	{"streams", "streams", true, "traffic", "bytes_queued",
	 "PID=pid:-8,STREAM_OF=comm:-14,TO OR FROM=where:-24,STATE=state:-7,QUEUED=bytes_queued:7k,"
	 "IN_B/s=bytes_in_per_s:7k,OUT_B/s=bytes_out_per_s:7k"},
	{"topics", "subscriptions", true, "traffic", "waiting",
	 "TOPIC=name:-19,STATE=state:-11,UID=about.uid:7,SUBS=topic.count:6,"
	 "PUBL/s=topic.published_per_s:7k,DELIV/s=topic.delivered_per_s:8k,WAITING=waiting:7k,"
	 "MISSED=missed:7k"},
	{"accounts", "accounts", false, "sent.bytes_per_s", "queued_bytes.used",
	 "ACCOUNT=who:-24,SENT/s=sent.messages_per_s:7k,BYTES/s=sent.bytes_per_s:7k,WORK%=work:7,"
	 "RESTS=time.rests:8,CUT_OFF=cut:8"},
	{0},
};

/* Returns the element of a list in which what is at these paths (NULL: at one) is as in `like`. */
static struct json_object *same(struct json_object *list, const char *key, const char *other,
				struct json_object *like)
{
	fields_foreach(list, each) {
		if (json_object_equal(field(each, key), field(like, key)) &&
		    (!other || json_object_equal(field(each, other), field(like, other))))
			return each;
	}
	return NULL;
}

/* Adds by how much a count has grown each second since the last look, as NAME_per_s behind it; 0 for what
 * wasn't there then. */
static void top_add_rate(const struct top *top, struct json_object *now, struct json_object *before,
			 const char *path)
{
	const char *dot = strrchr(path, '.'), *name = dot ? dot + 1 : path;
	struct json_object *of = fields_at(now, path, (size_t)(name - path));
	double seconds = top->now_s - top->before_s;
	int64_t more = json_object_get_int64(field(now, path)) - json_object_get_int64(field(before, path));
	char key[32];

	snprintf(key, sizeof(key), "%s_per_s", name);
	if (of)
		json_object_object_add(of, key,
				       json_object_new_double(before && seconds > 0 && more > 0
								      ? (double)more / seconds
								      : 0));
}

static void add_rates(struct top *top)
{
	static const struct {
		const char *list, *key, *other, *counts[4];
	} counted[] = {
		{"links", "peer.domid", NULL, {"tx.messages", "tx.bytes", "rx.messages", "rx.bytes"}},
		{"endpoints", "name", "uid", {"topic.published", "topic.delivered"}},
		{"clients", "pid", NULL, {"usage.bytes_in", "usage.bytes_out"}},
		{"streams", "number", NULL, {"bytes_in", "bytes_out"}},
		{"subscriptions", "address", "uid", {"published", "delivered"}},
		{"accounts", "id", "kind", {"sent.messages", "sent.bytes", "time.units"}},
	};

	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
		struct json_object *now = at(top->now, counted[i].list),
				   *before = at(top->before, counted[i].list);

		for (size_t k = 0; k < length_of(now); k++) {
			struct json_object *each = json_object_array_get_idx(now, k),
					   *then = same(before, counted[i].key, counted[i].other, each);

			for (size_t c = 0; c < 4 && counted[i].counts[c]; c++)
				top_add_rate(top, each, then, counted[i].counts[c]);
		}
	}
}

static void add_real(struct json_object *object, const char *name, double value)
{
	json_object_object_add(object, name, json_object_new_double(value));
}

/* ---- what each row has besides ---- */

static void top_shape_link(struct top *top, struct json_object *link)
{
	double rtt = real_at(link, "rtt_us");

	fields_name_link(link);
	if (rtt > 0)
		fields_add(link, "rtt", "%.*f", rtt < 10 ? 1 : 0, rtt);
	else
		fields_add(link, "rtt", "-");
	add_real(link, "traffic", real_at(link, "tx.bytes_per_s") + real_at(link, "rx.bytes_per_s"));
	if (strcmp(text_at(link, "state"), "away") != 0)
		return;
	fields_tell_away(link, "state"); /* there are no rates of it */
	fields_add(link, "note", "%s, channels %s", text_at(link, "state"), text_at(link, "channels"));
}

static void shape_stream(struct top *top, struct json_object *stream)
{
	if (at(stream, "address"))
		fields_add(stream, "where", "to %s", text_at(stream, "address"));
	else
		fields_add(stream, "where", "from %s%s%s to %s", text_or(stream, "host", ""),
			   at(stream, "host") ? "/" : "", text_at(stream, "from"),
			   text_at(stream, "endpoint"));
	add_real(stream, "traffic", real_at(stream, "bytes_in_per_s") + real_at(stream, "bytes_out_per_s"));
}

/* Adds what the streams carry in which this member is as in the row, and what it carries and has waiting
 * itself. */
static void add_carried(struct top *top, struct json_object *row, const char *member, const char *as,
			double in, double out, double waiting)
{
	struct json_object *streams = at(top->now, "streams");
	int count = 0;

	fields_foreach(streams, stream) {
		if (strcmp(text_or(stream, member, ""), as) != 0)
			continue;
		count++;
		in += real_at(stream, "bytes_in_per_s");
		out += real_at(stream, "bytes_out_per_s");
		waiting += real_at(stream, "bytes_queued");
	}
	json_object_object_add(row, "carried", json_object_new_int(count));
	add_real(row, "in", in);
	add_real(row, "out", out);
	add_real(row, "traffic", in + out);
	add_real(row, "waiting", waiting);
}

/* Adds a row for a topic of this domain, or for what its programs subscribe to. */
static void show_topic(struct top *top, struct json_object *about, const char *name, const char *state,
		       struct json_object *topic)
{
	struct json_object *row = json_object_new_object(), *subscribers = at(topic, "subscribers");
	double waiting = 0;

	/* As far as they are listed. */
	fields_foreach(subscribers, subscriber)
		waiting += real_at(subscriber, "waiting");
	json_object_object_add(row, "about", json_object_get(about));
	json_object_object_add(row, "topic", json_object_get(topic));
	fields_add(row, "name", "%s", name);
	fields_add(row, "state", "%s", state);
	add_real(row, "traffic", real_at(topic, "published_per_s") + real_at(topic, "delivered_per_s"));
	add_real(row, "waiting", waiting);
	add_real(row, "missed", real_at(topic, "missed"));
	json_object_array_add(at(top->shown, "topics"), row);
}

static void top_shape_endpoint(struct top *top, struct json_object *endpoint)
{
	const char *name = text_at(endpoint, "name");

	add_carried(top, endpoint, "endpoint", name, 0, 0, real_at(endpoint, "queued"));
	if (at(endpoint, "topic"))
		show_topic(top, endpoint, name, "here", at(endpoint, "topic"));
}

static void shape_subscription(struct top *top, struct json_object *subscription)
{
	show_topic(top, subscription, text_at(subscription, "address"), text_at(subscription, "state"),
		   subscription);
}

/* A program's row has its connection to the daemon and all its streams. */
static void shape_client(struct top *top, struct json_object *client)
{
	if (number_at(client, "pid") == getpid())
		return;
	add_carried(top, client, "pid", text_at(client, "pid"), real_at(client, "usage.bytes_in_per_s"),
		    real_at(client, "usage.bytes_out_per_s"), real_at(client, "bytes_queued"));
	json_object_array_add(at(top->shown, "programs"), json_object_get(client));
}

/* A stream lives without a connection of its program to the daemon. */
static void show_others(struct top *top, struct json_object *stream)
{
	struct json_object *row;

	if (same(at(top->now, "clients"), "pid", NULL, stream) ||
	    same(at(top->shown, "programs"), "pid", NULL, stream))
		return;
	row = json_object_new_object();
	json_object_object_add(row, "pid", json_object_get(at(stream, "pid")));
	json_object_object_add(row, "uid", json_object_get(at(stream, "uid")));
	json_object_object_add(row, "comm", json_object_get(at(stream, "comm")));
	json_object_object_add(row, "about", json_object_get(stream));
	add_carried(top, row, "pid", text_at(stream, "pid"), 0, 0, 0);
	json_object_array_add(at(top->shown, "programs"), row);
}

static void top_shape_account(struct top *top, struct json_object *account)
{
	bool is_resting = json_object_get_boolean(field(account, "time.resting"));

	fields_name_account(account);
	fields_add(account, "work", "%.1f", real_at(account, "time.units_per_s") * WORK_UNIT_S * 100);
	fields_add(account, "cut", is_resting ? "%8s  resting" : "%s", text_at(account, "cut_off"));
}

static void add_head(struct top *top)
{
	struct json_object *grants = at(top->now, "grants"), *store = at(top->now, "store");
	const char *name = text_at(top->now, "name");
	char denied[32] = "", cut_off[32] = "", uptime[32];

	if (number_at(top->now, "cut_off") > 0)
		snprintf(cut_off, sizeof(cut_off), "  cut off %s", text_at(top->now, "cut_off"));
	if (!is_partial(top->now))
		snprintf(denied, sizeof(denied), "  denied %zu", total_of(top->now, "denied"));
	duration_text(number_at(top->now, "uptime_s"), uptime, sizeof(uptime));
	add_line(top, false, "xenmsgd %s  domain %s%s%s  up %s%s", text_at(top->now, "version"),
		 text_at(top->now, "domid"), *name ? " " : "", name, uptime,
		 is_partial(top->now) ? "  ONLY YOURS" : "");
	if (top->trouble[0])
		add_line(top, true, "%s", top->trouble);
	else
		add_line(top, false, "XenStore %s  pages %s/%s  waiting links %s  peers %zu%s%s",
			 !json_object_get_boolean(at(store, "connected"))     ? "LOST"
			 : json_object_get_double(at(store, "stalled_s")) > 1 ? "STALLED"
									      : "ok",
			 text_at(grants, "used_pages"), text_at(grants, "limit_pages"),
			 text_at(grants, "waiting_links"), total_of(top->now, "peers"), denied, cut_off);
}

/* ---- a host ----------------------------------------------------------------------------------- */

#define MATRIX_MAX 64u /* domains; a line has room for no more */

static const struct top_table host_tables[] = {
	{"domains", NULL, false, "order", "weight",
	 "DOMAIN=domid:-6,NAME=name:-14,VERSION=version:-9,SIGHT=sight:-5,LINKS=links_text:7,"
	 "ENDPTS=endpoints_total:6k,QUEUED=queued_bytes:7k,REFUSED=refused:7k,POLICY=host_policy:-7"},
	{"traffic", NULL, false, "bytes_per_s", "none",
	 "FROM=from_name:-14,TO=to_name:-14,LINK=state:-9,MSGS/s=messages_per_s:7k,"
	 "BYTES/s=bytes_per_s:7k,MESSAGES=messages:8k,BYTES=bytes:7k"},
	{"away", NULL, true, "none", "none",
	 "LINK_OF=of_name:-14,WITH=with_name:-14,AWAY_SINCE=since_text:-20,RESUMES=resumes:7"},
	{"endpoints", NULL, true, "bytes_per_s", "queued",
	 "DOMAIN=of_name:-14,ENDPOINT=name:-16,KIND=kind:-8,QUEUED=queued:7k,OPENED=opened:7k,"
	 "REFUSED=refused:7k,MSGS/s=messages_per_s:7k,BYTES/s=bytes_per_s:7k"},
	{0},
};

static void host_add_head(struct top *top)
{
	struct json_object *domains = at(top->shown, "domains"), *traffic = at(top->shown, "traffic");
	size_t silent = 0;
	double messages = 0, bytes = 0;
	char messages_text[16], bytes_text[16];

	fields_foreach(domains, domain)
		silent += number_at(domain, "error") != 0;
	fields_foreach(traffic, direction) {
		messages += real_at(direction, "messages_per_s");
		bytes += real_at(direction, "bytes_per_s");
	}
	add_line(top, false, "this host  domains %zu, of which %zu tell nothing  messages/s %s  bytes/s %s",
		 length_of(domains), silent, number_text(messages, messages_text, sizeof(messages_text)),
		 number_text(bytes, bytes_text, sizeof(bytes_text)));
	if (top->trouble[0])
		add_line(top, true, "%s", top->trouble);
	else
		add_line(top, false,
			 "rates leave out the questions of this command; a domain's own figures come first");
}

static void shape_domain(struct top *top, struct json_object *domain)
{
	struct json_object *away = at(domain, "away"), *endpoints = at(domain, "endpoints");
	bool is_silent = number_at(domain, "error") != 0;

	fields_add(domain, "sight", "%s",
		   number_at(domain, "domid") == 0 ? "all" : text_at(domain, "host_sight"));
	fields_add(domain, "links_text", "%.5s/%.5s", text_at(domain, "links_up"), text_at(domain, "links"));
	if (is_silent)
		fields_add(domain, "note", "tells nothing: %s", text_at(domain, "why"));
	add_real(domain, "order", is_silent ? -1 : 0);
	add_real(domain, "weight", is_silent ? -1 : real_at(domain, "queued_bytes"));
	/* Each link that is away, as one of its ends tells. */
	fields_foreach(away, link) {
		char since[32];

		since_text(link, true, since, sizeof(since));
		fields_add(link, "since_text", "%s", since);
		fields_add(link, "of_name", "%s", host_view_name(domain));
		fields_add(link, "with_name", "%s", host_view_name(at(link, "peer")));
		json_object_array_add(at(top->shown, "away"), json_object_get(link));
	}
	fields_foreach(endpoints, endpoint) {
		fields_add(endpoint, "of_name", "%s", host_view_name(domain));
		json_object_array_add(at(top->shown, "endpoints"), json_object_get(endpoint));
	}
}

static void shape_direction(struct top *top, struct json_object *direction)
{
	fields_add(direction, "from_name", "%s", host_view_name(at(direction, "from")));
	fields_add(direction, "to_name", "%s", host_view_name(at(direction, "to")));
}

/* Writes the bytes a second of a direction as the matrix has them. */
static const char *cell(struct json_object *direction, char *text, size_t size)
{
	if (!direction)
		return ".";
	if (!at(direction, "bytes"))
		return "via 0";
	return at(direction, "bytes_per_s") ? number_text(real_at(direction, "bytes_per_s"), text, size)
					    : "-";
}

static void add_matrix(struct top *top, struct json_object *domains)
{
	size_t count = length_of(domains), shown = count < MATRIX_MAX ? count : MATRIX_MAX, used;
	char line[LINE_MAX_BYTES], text[16];

	add_line(top, false, "%s", "");
	used = (size_t)snprintf(line, sizeof(line), "%-14s", "BYTES/s_TO");
	for (size_t i = 0; i < shown; i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, " %-6.6s",
					 text_at(json_object_array_get_idx(domains, i), "domid"));
	add_line(top, true, "%s", line);
	for (size_t i = 0; i < shown; i++) {
		struct json_object *from = json_object_array_get_idx(domains, i);

		used = (size_t)snprintf(line, sizeof(line), "%-14.14s", host_view_name(from));
		for (size_t j = 0; j < shown; j++) {
			struct json_object *to = json_object_array_get_idx(domains, j);

			used += (size_t)snprintf(
				line + used, sizeof(line) - used, " %-6.6s",
				i == j ? ""
				       : cell(host_view_direction(top->view, from, to), text, sizeof(text)));
		}
		add_line(top, false, "%s", line);
	}
	if (count > shown)
		add_line(top, false, "and %zu more domains", count - shown);
}

/* ---- both ------------------------------------------------------------------------------------ */

/* Makes of what was told what is shown. */
static void top_show(struct top *top)
{
	struct shaped_list {
		const char *list;
		void (*shape)(struct top *top, struct json_object *entry);
	};
	static const struct shaped_list here[] = {
		{"links", top_shape_link},	   {"streams", shape_stream},
		{"endpoints", top_shape_endpoint}, {"subscriptions", shape_subscription},
		{"clients", shape_client},	   {"streams", show_others},
		{"accounts", top_shape_account},   {0}};
	static const struct shaped_list host[] = {
		{"domains", shape_domain}, {"traffic", shape_direction}, {0}};
	static const char *const made[] = {"programs", "topics", "away", "endpoints"};
	struct json_object *told = top->is_host ? top->view->shown : top->now;

	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		json_object_object_add(top->shown, made[i], json_object_new_array());
	if (!top->is_host)
		add_rates(top);
	for (const struct shaped_list *each = top->is_host ? host : here; each->list; each++) {
		fields_foreach(at(told, each->list), entry)
			each->shape(top, entry);
		json_object_object_add(top->shown, each->list, json_object_get(at(told, each->list)));
	}
}

/* Makes the lines anew, as they are sorted and filtered. The matrix of a host stands between the lists of
 * directions and of links that are away. */
static void make_lines(struct top *top)
{
	const struct top_table *table = top->is_host ? host_tables : tables;

	top->count = 0;
	(top->is_host ? host_add_head : add_head)(top);
	for (; table->list; table++) {
		if (!strcmp(table->list, "away"))
			add_matrix(top, at(top->shown, "domains"));
		add_table(top, table);
	}
}

/* ---- the table of a host, once -------------------------------------------------------------- */

/*
 * One picture of the host, for commands that end then: two looks (host_view.h), some time apart.
 */

#define HOST_ANSWER_MS 3000 /* who says nothing for so long isn't waited for */

/* Looks once, so many seconds after *view was seen (NULL: nothing was), and replaces that. Returns 0 or a
 * negative errno, with *why as host_statuses_ask(). */
static int look_once(struct xenmsg *conn, double seconds, struct host_view **view, const char **why)
{
	struct json_object *all, *asked;
	struct host_view *seen;
	uint64_t begun = clock_ns();
	int r = host_statuses_ask(conn, HOST_ANSWER_MS, &all, why);

	if (r < 0)
		return r;
	seen = host_view_new(all, *view, seconds);
	json_object_put(all);
	if (!seen)
		return -ENOMEM;
	asked = cli_query(conn, "status all", NULL, NULL);
	host_view_note_asked(seen, asked, (double)(clock_ns() - begun) / 1e9);
	json_object_put(asked);
	host_view_free(*view);
	*view = seen;
	return 0;
}

/* Looks twice, delay_ms apart (0: once, and there are no rates). Returns 0, or an exit code after a
 * complaint; the caller frees what was seen. */
static int host_look(struct cli *cli, int delay_ms, struct host_view **view)
{
	struct xenmsg *conn;
	const char *why = NULL;
	uint64_t begun;
	int code = cli_open(cli, &conn), r;

	if (code)
		return code;
	begun = clock_ns();
	r = look_once(conn, 0, view, &why);
	if (r == 0 && delay_ms > 0) {
		poll(NULL, 0, delay_ms);
		r = look_once(conn, (double)(clock_ns() - begun) / 1e9, view, &why);
	}
	code = r < 0 ? host_statuses_complain(cli, conn, r, why) : EXIT_DONE;
	xenmsg_close(conn);
	return code;
}

/* ---- the screen -------------------------------------------------------------------------------- */

#define DELAY_MIN_MS 100
#define ESCAPE	     27

static const char *const sort_names[] = {"traffic", "queued", "first column"};

#define SIDE_STEP 8

/* Returns how many bytes the first letter of a text has, and how many columns it takes. */
static size_t letter(const char *text, int *columns)
{
	mbstate_t state = {0};
	wchar_t wide;
	size_t size = mbrtowc(&wide, text, MB_CUR_MAX, &state);
	bool is_odd = size == 0 || size == (size_t)-1 || size == (size_t)-2;
	int width = is_odd ? 1 : wcwidth(wide);

	*columns = width > 0 ? width : 0;
	return is_odd ? 1 : size;
}

/* Returns where a text has so many columns before it, or its end. */
static char *behind_columns(const char *text, int columns)
{
	int taken;

	while (*text && columns > 0) {
		text += letter(text, &taken);
		columns -= taken;
	}
	return (char *)text;
}

static int columns_of(const char *text)
{
	int columns = 0, taken;

	while (*text) {
		text += letter(text, &taken);
		columns += taken;
	}
	return columns;
}

/* Draws a line over the whole width, reversed. */
static void draw_bar(int row, const char *text)
{
	attron(A_REVERSE);
	mvhline(row, 0, ' ', COLS);
	mvaddnstr(row, 0, text, -1);
	attroff(A_REVERSE);
}

/* Returns the title of a line's table, NULL if it is in none. */
static const char *title_of(const struct top *top, size_t index)
{
	while (index > 0 && !top->lines[index].is_title)
		index--;
	return top->lines[index].is_title ? top->lines[index].text : NULL;
}

/* Cuts a text before a gap so that it has so many columns at most. Returns how many it has. */
static int cmd_top_cut(char *text, int columns, const char *gap)
{
	char *end = behind_columns(text, columns), *at = end;

	while (at > text && *end && strncmp(at, gap, strlen(gap)) != 0)
		at--;
	*(at > text ? at : end) = '\0';
	return columns_of(text);
}

/* Puts what is seen of a line into `text`: the first columns stay where they are, and the rest is scrolled
 * sideways, without the word that is only half seen. */
static void scroll_aside(const struct top *top, const char *line, int fixed, char *text, size_t size)
{
	const char *rest = behind_columns(line, fixed), *seen = behind_columns(rest, top->left);
	size_t half = seen > rest && seen[-1] != ' ' ? strcspn(seen, " ") : 0;

	snprintf(text, size, "%.*s%*s%s", (int)(rest - line), line, (int)half, "", seen + half);
}

/* Draws a line, of which whole words are seen, and of a table whole columns. The first column is that up to
 * the title's second word. */
static void draw_line(const struct top *top, int row, size_t index)
{
	const struct top_line *line = &top->lines[index];
	const char *title = title_of(top, index);
	char head[2 * LINE_MAX_BYTES], text[2 * LINE_MAX_BYTES];
	int fixed = 0, columns = COLS;

	if (title) {
		fixed = (int)(strcspn(title, " ") + strspn(title + strcspn(title, " "), " "));
		scroll_aside(top, title, fixed, head, sizeof(head));
		if (columns_of(head) > COLS)
			columns = cmd_top_cut(head, COLS, " ");
	}
	scroll_aside(top, line->text, fixed, text, sizeof(text));
	cmd_top_cut(text, columns, title || !strstr(text, "  ") ? " " : "  ");
	if (line->is_title)
		draw_bar(row, text);
	else
		mvaddnstr(row, 0, text, -1);
}

static void draw_help(const struct top *top)
{
	const char *filter = top->filter;
	char text[160];

	if (top->typing)
		snprintf(text, sizeof(text), "/%s_  enter: done  escape: all", filter);
	else
		snprintf(text, sizeof(text), "%sq quit  arrows scroll  / filter%s%s  s sort: %s  space pause",
			 top->paused ? "PAUSED  " : "", filter[0] ? ": " : "", filter, sort_names[top->sort]);
	cmd_top_cut(text, COLS, "  ");
	draw_bar(LINES - 1, text);
}

/* Returns how many lines scroll: those between the head and the help. */
static size_t body_lines(void)
{
	return (size_t)(LINES > HEAD_LINES + 2 ? LINES - HEAD_LINES - 1 : 1);
}

/* Returns how many columns can be scrolled sideways until the end of the longest line is seen. */
static int columns_aside(const struct top *top)
{
	int most = 0;

	for (size_t i = 0; i < top->count; i++) {
		int columns = columns_of(top->lines[i].text);

		most = columns > most ? columns : most;
	}
	return most > COLS ? most - COLS : 0;
}

static void draw(struct top *top)
{
	size_t height = body_lines();
	size_t below = top->count > HEAD_LINES ? top->count - HEAD_LINES : 0;
	int aside = columns_aside(top);

	if (top->first + height > below)
		top->first = below > height ? below - height : 0;
	if (top->left > aside)
		top->left = aside;
	erase();
	for (int row = 0; row < LINES - 1; row++) {
		size_t index = (size_t)row < HEAD_LINES ? (size_t)row : (size_t)row + top->first;

		if (index >= top->count)
			break;
		draw_line(top, row, index);
	}
	draw_help(top);
	refresh();
}

static double seconds_now(void)
{
	return (double)clock_ns() / 1e9;
}

/* Asks the local daemon. Returns a negative errno if there was no answer. */
static int look_here(struct top *top)
{
	int r;
	struct json_object *status = cli_query(top->conn, "status", NULL, &r);

	if (status) {
		json_object_put(top->before);
		top->before = top->now;
		top->now = status;
	}
	return r;
}

/* Looks. If the daemon is gone, its last answer stays on the screen. */
static void top_look(struct top *top)
{
	const char *why;
	double now;
	int r;

	interrupt_allow(NULL);
	r = top->conn ? 0 : xenmsg_open(&top->conn, top->cli->socket, NULL);
	now = seconds_now();
	if (r == 0)
		r = top->is_host ? look_once(top->conn, now - top->now_s, &top->view, &why) : look_here(top);
	interrupt_forbid();
	if (r < 0) {
		snprintf(top->trouble, sizeof(top->trouble), "no answer from xenmsgd: %s", strerror(-r));
		xenmsg_close(top->conn);
		top->conn = NULL;
		return;
	}
	top->trouble[0] = '\0';
	top->before_s = top->now_s;
	top->now_s = now;
	top_show(top);
}

static void type(struct top *top, int key)
{
	size_t length = strlen(top->filter);

	if (key == '\n' || key == '\r' || key == KEY_ENTER || key == ESCAPE)
		top->typing = false;
	if (key == ESCAPE)
		memset(top->filter, 0, sizeof(top->filter));
	else if ((key == KEY_BACKSPACE || key == '\b' || key == 0x7f) && length > 0)
		top->filter[length - 1] = '\0';
	else if (key >= ' ' && key < 0x7f && length + 1 < sizeof(top->filter))
		top->filter[length] = (char)key; /* the rest is zero */
}

/* Returns false if the user wants to quit. */
static bool top_on_key(struct top *top, int key)
{
	size_t page = body_lines() > 1 ? body_lines() - 1 : 1;

	if (top->typing) {
		type(top, key);
		return true;
	}

	if (key == KEY_UP && top->first > 0)
		top->first--;
	else if (key == KEY_DOWN)
		top->first++;
	else if (key == KEY_PPAGE)
		top->first = top->first > page ? top->first - page : 0;
	else if (key == KEY_NPAGE)
		top->first += page;
	else if (key == KEY_LEFT)
		top->left = top->left > SIDE_STEP ? top->left - SIDE_STEP : 0;
	else if (key == KEY_RIGHT)
		top->left += SIDE_STEP;
	else if (key == ' ')
		top->paused = !top->paused;
	else if (key == 's')
		top->sort = (top->sort + 1) % SORTS;
	else if (key == '/')
		top->typing = true;
	else if (key == ESCAPE)
		memset(top->filter, 0, sizeof(top->filter));
	return key != 'q' && key != 'Q';
}

/* Nothing says so where this process isn't told by SIGHUP. */
static bool is_terminal_gone(void)
{
	struct pollfd terminal = {.fd = STDIN_FILENO};

	return poll(&terminal, 1, 0) > 0;
}

static int watch_it(struct top *top, int delay_ms)
{
	double next = 0;
	bool more = true;
	int key;

	while (more && !interrupt_came()) {
		double left_ms = (next - seconds_now()) * 1000;

		if (left_ms <= 0) {
			if (!top->paused)
				top_look(top);
			next = seconds_now() + delay_ms / 1000.0;
			left_ms = delay_ms;
		}
		make_lines(top);
		draw(top);
		interrupt_sleep(STDIN_FILENO, (int)left_ms + 1);
		if (is_terminal_gone())
			return EXIT_OTHER;
		/* All that was typed before it is drawn again: with thousands of lines that takes longer than
		 * a key does. */
		while (more && (key = getch()) != ERR)
			more = top_on_key(top, key);
	}
	return EXIT_DONE;
}

/* Draws on the terminal from now on. NULL: it can't. */
static SCREEN *open_screen(void)
{
	SCREEN *screen;

	/* The terminal's own size, whatever COLUMNS and LINES say: they may be of another one. */
	use_tioctl(TRUE);
	screen = newterm(NULL, stdout, stdin);
	if (screen && !tigetstr("cup")) { /* it can't put text in its place */
		endwin();
		delscreen(screen);
		screen = NULL;
	}
	if (!screen)
		return NULL;
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	timeout(0); /* don't wait here: poll() sleeps */
	return screen;
}

static int top_run(struct top *top, int delay_ms)
{
	SCREEN *screen;
	int code;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return cli_usage("top", top->is_host ? "top needs a terminal, or --once"
						     : "top needs a terminal; 'xenmsg status' needs none");
	/* What is wrong is said before the screen is taken. */
	code = top->is_host ? host_look(top->cli, 0, &top->view) : cli_open(top->cli, &top->conn);
	if (code)
		return code;
	if (top->is_host)
		top_show(top);
	setlocale(LC_ALL, "");
	interrupt_catch();
	screen = open_screen();
	if (!screen)
		return cli_usage("top", "a terminal of the kind '%s' can't show it",
				 getenv("TERM") ? getenv("TERM") : "");
	code = watch_it(top, delay_ms);
	endwin();
	delscreen(screen);
	return code;
}

/* Prints what a screen of the host would show, or the same as JSON. */
static int print(struct top *top, int delay_ms, bool json)
{
	int code = host_look(top->cli, delay_ms, &top->view);

	if (code)
		return code;
	if (json) {
		cli_print_line("%s", json_line(top->view->shown));
		return cli_flush();
	}
	top_show(top);
	make_lines(top);
	for (size_t i = 0; i < top->count; i++)
		cli_print_line("%s", top->lines[i].text);
	return cli_flush();
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
	struct top top = {.cli = cli};
	int code, delay_ms = 1000;
	bool once = false, json = false;
	const struct cli_option options[] = {{"delay", .ms = &delay_ms, .least_ms = DELAY_MIN_MS},
					     {"host", .flag = &top.is_host},
					     {"once", .flag = &once},
					     {"json", .flag = &json},
					     {0}};

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc)
		return cli_usage("top", "top takes no arguments");
	if ((once || json) && !top.is_host)
		return cli_usage("top", "--once and --json go with --host; else 'xenmsg status' does that");
	top.shown = json_object_new_object();
	code = once || json ? print(&top, delay_ms, json) : top_run(&top, delay_ms);
	xenmsg_close(top.conn);
	json_object_put(top.shown);
	json_object_put(top.now);
	json_object_put(top.before);
	host_view_free(top.view);
	free(top.lines);
	return code;
}
