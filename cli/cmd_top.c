/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* top: shows the daemon's status live in a terminal, or with --host that of all daemons of the host. Each
 * round asks for it; rates are the differences between rounds. */

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/host_view.h"
#include "cli/interrupt.h"
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

#define WORK_UNIT_S 1e-8 /* about: of what status counts as work */

/* ---- the numbers ----------------------------------------------------------------------------- */

/* Returns the element of a list in which two members (or one, and NULL) are as those of `like`. */
static struct json_object *same(struct json_object *list, const char *key, const char *other,
				struct json_object *like)
{
	for (size_t i = 0; i < length_of(list); i++) {
		struct json_object *each = json_object_array_get_idx(list, i);

		if (!strcmp(text_at(each, key), text_at(like, key)) &&
		    (!other || !strcmp(text_at(each, other), text_at(like, other))))
			return each;
	}
	return NULL;
}

/* Returns the rate per second since the last round; 0 for what wasn't there then. */
static double rate(const struct top *top, struct json_object *now, struct json_object *before,
		   const char *name)
{
	double seconds = top->now_s - top->before_s;
	int64_t more = number_at(now, name) - number_at(before, name);

	return before && seconds > 0 && more > 0 ? (double)more / seconds : 0;
}

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

	line->weight = (struct weight){traffic, queued};
	if (top->filter[0] && !strcasestr(line->text, top->filter) && !some_text_has(about, top->filter))
		top->count--;
}

static int compare(double one, double other, const struct top_line *a, const struct top_line *b)
{
	if (one != other)
		return one > other ? -1 : 1;
	return a->index < b->index ? -1 : 1;
}

static int by_traffic(const void *one, const void *other)
{
	const struct top_line *a = one, *b = other;

	return compare(a->weight.traffic, b->weight.traffic, a, b);
}

static int by_queued(const void *one, const void *other)
{
	const struct top_line *a = one, *b = other;

	return compare(a->weight.queued, b->weight.queued, a, b);
}

/* Compares numbers by their value: `strverscmp` puts 9 before 10. */
static int by_first_column(const void *one, const void *other)
{
	const struct top_line *a = one, *b = other;
	int order = strverscmp(a->text, b->text);

	return order ? order : a->index < b->index ? -1 : 1;
}

static void sort_rows(struct top *top, size_t first)
{
	static int (*const orders[])(const void *, const void *) = {by_traffic, by_queued, by_first_column};

	qsort(top->lines + first, top->count - first, sizeof(*top->lines), orders[top->sort]);
}

/* Sorts the rows of a table, which begin with this one, and adds a line for what was left out of the list. */
static void end_table(struct top *top, size_t first, const char *list)
{
	size_t more = total_of(top->now, list) - listed_in(top->now, list);

	sort_rows(top, first);
	if (more > 0)
		add_line(top, false, "and %zu more %s", more, list);
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

static struct json_object *link_before(struct top *top, struct json_object *peer)
{
	struct json_object *links = at(top->before, "links");

	for (size_t i = 0; i < length_of(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i);

		if (number_at(at(link, "peer"), "domid") == number_at(peer, "domid"))
			return link;
	}
	return NULL;
}

/* The number of a host means something to its daemon alone. */
static const char *number_of(struct json_object *peer)
{
	return at(peer, "host") ? "host" : text_at(peer, "domid");
}

static const char *name_of(struct json_object *peer)
{
	return text_or(peer, "host", text_at(peer, "name"));
}

/* Adds a row for a link that is away, of which there are no rates. */
static void add_away(struct top *top, struct json_object *link, struct json_object *peer)
{
	char away[80];

	away_text(link, away, sizeof(away));
	add_line(top, false, "%-6s %-14.14s %s, channels %s", number_of(peer), name_of(peer), away,
		 text_at(link, "channels"));
}

static void add_links(struct top *top)
{
	struct json_object *links = at(top->now, "links");
	size_t first;

	add_line(top, true, "%-6s %-14s %-9s %-6s %5s %9s %7s %7s %7s", "LINK", "NAME", "STATE", "ROLE",
		 "CHANS", "RTT_US", "SENT/s", "RECV/s", "BYTES/s");
	first = top->count;
	for (size_t i = 0; i < length_of(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i), *peer = at(link, "peer");
		struct json_object *before = link_before(top, peer);
		struct json_object *tx = at(link, "tx"), *rx = at(link, "rx"), *tx_before = at(before, "tx"),
				   *rx_before = at(before, "rx");
		double traffic = rate(top, tx, tx_before, "bytes") + rate(top, rx, rx_before, "bytes");
		char sent[16], received[16], bytes[16];

		number_text(rate(top, tx, tx_before, "messages"), sent, sizeof(sent));
		number_text(rate(top, rx, rx_before, "messages"), received, sizeof(received));
		number_text(traffic, bytes, sizeof(bytes));
		if (!strcmp(text_at(link, "state"), "away"))
			add_away(top, link, peer);
		else
			add_line(top, false, "%-6s %-14.14s %-9.9s %-6.6s %5s %9.9s %7s %7s %7s",
				 number_of(peer), name_of(peer), text_at(link, "state"),
				 at(link, "via") ? "via 0" : text_at(link, "role"), text_at(link, "channels"),
				 text_at(link, "rtt_us"), sent, received, bytes);
		weigh(top, link, traffic, (double)number_at(link, "unacked"));
	}
	end_table(top, first, "links");
}

/* ---- streams --------------------------------------------------------------------------------- */

/* What the streams of one owner carry, in bytes a second. */
struct carried_sum {
	size_t count;
	double in, out, queued;
};

static struct carried_sum of_stream(const struct top *top, struct json_object *stream)
{
	struct json_object *before = same(at(top->before, "streams"), "number", NULL, stream);

	return (struct carried_sum){1, rate(top, stream, before, "bytes_in"),
				    rate(top, stream, before, "bytes_out"),
				    (double)number_at(stream, "bytes_queued")};
}

/* Adds up the streams of a program, or (`endpoint`) those that have come in to an endpoint. */
static struct carried_sum of_streams(const struct top *top, int64_t pid, const char *endpoint)
{
	struct json_object *streams = at(top->now, "streams");
	struct carried_sum sum = {0};

	for (size_t i = 0; i < length_of(streams); i++) {
		struct json_object *stream = json_object_array_get_idx(streams, i);
		struct carried_sum one;

		if (endpoint ? strcmp(text_or(stream, "endpoint", ""), endpoint) != 0
			     : number_at(stream, "pid") != pid)
			continue;
		one = of_stream(top, stream);
		sum = (struct carried_sum){sum.count + 1, sum.in + one.in, sum.out + one.out,
					   sum.queued + one.queued};
	}
	return sum;
}

static void add_streams(struct top *top)
{
	struct json_object *streams = at(top->now, "streams");
	size_t first;

	if (length_of(streams) == 0)
		return;
	add_line(top, false, "%s", "");
	add_line(top, true, "%-8s %-14s %-24s %-7s %7s %7s %7s", "PID", "STREAM_OF", "TO OR FROM", "STATE",
		 "QUEUED", "IN_B/s", "OUT_B/s");
	first = top->count;
	for (size_t i = 0; i < length_of(streams); i++) {
		struct json_object *each = json_object_array_get_idx(streams, i);
		struct carried_sum carried = of_stream(top, each);
		char queued[16], in[16], out[16], where[96];

		if (at(each, "address"))
			snprintf(where, sizeof(where), "to %s", text_at(each, "address"));
		else
			snprintf(where, sizeof(where), "from %s%s%s to %s", text_or(each, "host", ""),
				 at(each, "host") ? "/" : "", text_at(each, "from"),
				 text_at(each, "endpoint"));
		number_text(carried.queued, queued, sizeof(queued));
		number_text(carried.in, in, sizeof(in));
		number_text(carried.out, out, sizeof(out));
		add_line(top, false, "%-8s %-14.14s %-24.24s %-7.7s %7s %7s %7s", text_at(each, "pid"),
			 text_at(each, "comm"), where, text_at(each, "state"), queued, in, out);
		weigh(top, each, carried.in + carried.out, carried.queued);
	}
	end_table(top, first, "streams");
}

/* ---- endpoints and programs ------------------------------------------------------------------ */

static void add_endpoints(struct top *top)
{
	struct json_object *endpoints = at(top->now, "endpoints");
	size_t first;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-24s %-8s %7s %8s %8s %8s %8s", "ENDPOINT", "KIND", "UID", "PID", "QUEUED",
		 "STREAMS", "BYTES/s");
	first = top->count;
	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *each = json_object_array_get_idx(endpoints, i);
		struct carried_sum carried = of_streams(top, 0, text_at(each, "name"));
		double waiting = (double)number_at(each, "queued") + carried.queued;
		char queued[16], bytes[16];

		number_text(waiting, queued, sizeof(queued));
		number_text(carried.in + carried.out, bytes, sizeof(bytes));
		add_line(top, false, "%-24.24s %-8.8s %7s %8s %8s %8zu %8s", text_at(each, "name"),
			 text_at(each, "kind"), text_at(each, "uid"), text_at(each, "pid"), queued,
			 carried.count, bytes);
		weigh(top, each, carried.in + carried.out, waiting);
	}
	end_table(top, first, "endpoints");
}

/* A program's row has its connection to the daemon and all its streams. */
static void add_program(struct top *top, struct json_object *program, struct json_object *client)
{
	struct json_object *usage = at(client, "usage");
	struct json_object *before = at(same(at(top->before, "clients"), "pid", NULL, program), "usage");
	struct carried_sum carried = of_streams(top, number_at(program, "pid"), NULL);
	double waiting = (double)number_at(client, "bytes_queued") + carried.queued;
	double in = rate(top, usage, before, "bytes_in") + carried.in;
	double out = rate(top, usage, before, "bytes_out") + carried.out;
	char queued[16], in_text[16], out_text[16];

	number_text(waiting, queued, sizeof(queued));
	number_text(in, in_text, sizeof(in_text));
	number_text(out, out_text, sizeof(out_text));
	add_line(top, false, "%-8s %-16.16s %7s %6s %8zu %9s %9s %9s", text_at(program, "pid"),
		 text_at(program, "comm"), text_at(program, "uid"), text_at(client, "channels"),
		 carried.count, queued, in_text, out_text);
	weigh(top, program, in + out, waiting);
}

/* Returns whether an earlier entry of the list is of the same program. */
static bool came_before(struct json_object *list, size_t index)
{
	struct json_object *each = json_object_array_get_idx(list, index);

	return same(list, "pid", NULL, each) != each;
}

static void add_programs(struct top *top)
{
	struct json_object *clients = at(top->now, "clients"), *streams = at(top->now, "streams");
	size_t first;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-8s %-16s %7s %6s %8s %9s %9s %9s", "PID", "PROGRAM", "UID", "CHANS", "STREAMS",
		 "QUEUED", "IN_B/s", "OUT_B/s");
	first = top->count;
	for (size_t i = 0; i < length_of(clients); i++) {
		struct json_object *each = json_object_array_get_idx(clients, i);

		if (number_at(each, "pid") != getpid())
			add_program(top, each, each);
	}
	/* A stream lives without a connection of its program to the daemon. */
	for (size_t i = 0; i < length_of(streams); i++) {
		struct json_object *each = json_object_array_get_idx(streams, i);

		if (!same(clients, "pid", NULL, each) && !came_before(streams, i))
			add_program(top, each, NULL);
	}
	end_table(top, first, "clients");
}

/* ---- topics ---------------------------------------------------------------------------------- */

/* Returns how many messages wait for those who subscribe, as far as they are listed. */
static double waiting_of(struct json_object *topic)
{
	struct json_object *subscribers = at(topic, "subscribers");
	double waiting = 0;

	for (size_t i = 0; i < length_of(subscribers); i++)
		waiting += (double)number_at(json_object_array_get_idx(subscribers, i), "waiting");
	return waiting;
}

/* Adds a row for a topic of this domain, or for what its programs subscribe to. */
static void add_topic(struct top *top, struct json_object *about, const char *name, const char *state,
		      struct json_object *topic, struct json_object *before)
{
	double published = rate(top, topic, before, "published"),
	       delivered = rate(top, topic, before, "delivered"), waiting = waiting_of(topic);
	char published_text[16], delivered_text[16], waiting_text[16], missed[16];

	number_text(published, published_text, sizeof(published_text));
	number_text(delivered, delivered_text, sizeof(delivered_text));
	number_text(waiting, waiting_text, sizeof(waiting_text));
	number_text((double)number_at(topic, "missed"), missed, sizeof(missed));
	add_line(top, false, "%-19.19s %-11.11s %7s %6s %7s %8s %7s %7s", name, state, text_at(about, "uid"),
		 text_at(topic, "count"), published_text, delivered_text, waiting_text, missed);
	weigh(top, about, published + delivered, waiting);
}

static void add_topics(struct top *top)
{
	struct json_object *endpoints = at(top->now, "endpoints"),
			   *subscriptions = at(top->now, "subscriptions");
	size_t first, title = top->count;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-19s %-11s %7s %6s %7s %8s %7s %7s", "TOPIC", "STATE", "UID", "SUBS", "PUBL/s",
		 "DELIV/s", "WAITING", "MISSED");
	first = top->count;
	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *each = json_object_array_get_idx(endpoints, i);

		if (at(each, "topic"))
			add_topic(top, each, text_at(each, "name"), "here", at(each, "topic"),
				  at(same(at(top->before, "endpoints"), "name", "uid", each), "topic"));
	}
	for (size_t i = 0; i < length_of(subscriptions); i++) {
		struct json_object *each = json_object_array_get_idx(subscriptions, i);

		add_topic(top, each, text_at(each, "address"), text_at(each, "state"), each,
			  same(at(top->before, "subscriptions"), "address", "uid", each));
	}
	if (top->count == first && total_of(top->now, "subscriptions") == 0)
		top->count = title;
	else
		end_table(top, first, "subscriptions");
}

/* ---- accounts -------------------------------------------------------------------------------- */

static void add_accounts(struct top *top)
{
	struct json_object *accounts = at(top->now, "accounts");
	size_t first;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-24s %7s %7s %7s %8s %8s", "ACCOUNT", "SENT/s", "BYTES/s", "WORK%", "RESTS",
		 "CUT_OFF");
	first = top->count;
	for (size_t i = 0; i < length_of(accounts); i++) {
		struct json_object *each = json_object_array_get_idx(accounts, i), *time = at(each, "time");
		struct json_object *before = same(at(top->before, "accounts"), "id", "kind", each);
		double bytes = rate(top, at(each, "sent"), at(before, "sent"), "bytes");
		double work = rate(top, time, at(before, "time"), "units");
		char who[80], messages_text[16], bytes_text[16];

		account_text(each, who, sizeof(who));
		number_text(rate(top, at(each, "sent"), at(before, "sent"), "messages"), messages_text,
			    sizeof(messages_text));
		number_text(bytes, bytes_text, sizeof(bytes_text));
		add_line(top, false, "%-24.24s %7s %7s %7.1f %8s %8s%s", who, messages_text, bytes_text,
			 work * WORK_UNIT_S * 100, text_at(time, "rests"), text_at(each, "cut_off"),
			 json_object_get_boolean(at(time, "resting")) ? "  resting" : "");
		weigh(top, each, bytes, (double)number_at(at(each, "queued_bytes"), "used"));
	}
	end_table(top, first, "accounts");
}

/* Makes the lines anew from `now` and `before`, as they are sorted and filtered. */
static void top_make_lines(struct top *top)
{
	top->count = 0;
	add_head(top);
	add_links(top);
	add_endpoints(top);
	add_programs(top);
	add_streams(top);
	add_topics(top);
	add_accounts(top);
}

/* ---- the lines of a host -------------------------------------------------------------------- */

/* The lines of `top --host`: the domains, the flows between them, as a list and as a matrix, what is away,
 * and the endpoints. */

#define MATRIX_MAX 64u /* domains; a line has room for no more */
#define ROWS_MAX   2000u

static double rate_at(struct json_object *object, const char *name)
{
	return json_object_get_double(at(object, name));
}

/* Writes a number that may not be known as a column has it. */
static const char *column(struct json_object *object, const char *name, char *text, size_t size)
{
	if (!at(object, name))
		snprintf(text, size, "-");
	else
		number_text(rate_at(object, name), text, size);
	return text;
}

static void host_add_head(struct top *top, struct json_object *domains, struct json_object *traffic)
{
	size_t silent = 0;
	double messages = 0, bytes = 0;
	char messages_text[16], bytes_text[16];

	for (size_t i = 0; i < length_of(domains); i++)
		silent += number_at(json_object_array_get_idx(domains, i), "error") != 0;
	for (size_t i = 0; i < length_of(traffic); i++) {
		messages += rate_at(json_object_array_get_idx(traffic, i), "messages_per_s");
		bytes += rate_at(json_object_array_get_idx(traffic, i), "bytes_per_s");
	}
	add_line(top, false, "this host  domains %zu, of which %zu tell nothing  messages/s %s  bytes/s %s",
		 length_of(domains), silent, number_text(messages, messages_text, sizeof(messages_text)),
		 number_text(bytes, bytes_text, sizeof(bytes_text)));
	if (top->trouble[0])
		add_line(top, true, "%s", top->trouble);
	else
		add_line(top, false,
			 "bytes to domain 0 include what guests answer here; its own word goes first");
}

/* ---- domains ---------------------------------------------------------------------------------- */

static void add_domain(struct top *top, struct json_object *domain)
{
	char links[32], queued[16], refused[16], endpoints[16];

	if (number_at(domain, "error")) {
		add_line(top, false, "%-6s %-14.14s tells nothing: %s", text_at(domain, "domid"),
			 text_at(domain, "name"), text_at(domain, "why"));
		weigh(top, domain, -1, -1);
		return;
	}
	snprintf(links, sizeof(links), "%.5s/%.5s", text_at(domain, "links_up"), text_at(domain, "links"));
	add_line(top, false, "%-6s %-14.14s %-9.9s %-5.5s %7s %6s %7s %7s %-7.7s", text_at(domain, "domid"),
		 text_at(domain, "name"), text_at(domain, "version"),
		 number_at(domain, "domid") == 0 ? "all" : text_at(domain, "host_sight"), links,
		 column(domain, "endpoints_total", endpoints, sizeof(endpoints)),
		 column(domain, "queued_bytes", queued, sizeof(queued)),
		 column(domain, "refused", refused, sizeof(refused)), text_at(domain, "host_policy"));
	weigh(top, domain, 0, rate_at(domain, "queued_bytes"));
}

static void add_domains(struct top *top, struct json_object *domains)
{
	size_t first;

	add_line(top, true, "%-6s %-14s %-9s %-5s %7s %6s %7s %7s %-7s", "DOMAIN", "NAME", "VERSION", "SIGHT",
		 "LINKS", "ENDPTS", "QUEUED", "REFUSED", "POLICY");
	first = top->count;
	for (size_t i = 0; i < length_of(domains); i++)
		add_domain(top, json_object_array_get_idx(domains, i));
	sort_rows(top, first);
}

/* Lists the links that are away, each as one of its ends tells. */
static void host_add_away(struct top *top, struct json_object *domains)
{
	size_t title = top->count, first;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-14s %-14s %-20s %7s", "LINK_OF", "WITH", "AWAY_SINCE", "RESUMES");
	first = top->count;
	for (size_t i = 0; i < length_of(domains); i++) {
		struct json_object *domain = json_object_array_get_idx(domains, i),
				   *away = at(domain, "away");

		for (size_t j = 0; j < length_of(away) && top->count < first + ROWS_MAX; j++) {
			struct json_object *link = json_object_array_get_idx(away, j);
			char since[32];

			since_text(link, true, since, sizeof(since));
			add_line(top, false, "%-14.14s %-14.14s %-20s %7s", host_view_name(domain),
				 host_view_name(at(link, "peer")), since, text_at(link, "resumes"));
			weigh(top, link, 0, 0);
		}
	}
	if (top->count == first)
		top->count = title;
}

/* ---- who talks to whom ------------------------------------------------------------------------ */

static void add_directions(struct top *top, struct json_object *traffic)
{
	size_t first;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-14s %-14s %-9s %7s %7s %8s %7s", "FROM", "TO", "LINK", "MSGS/s", "BYTES/s",
		 "MESSAGES", "BYTES");
	first = top->count;
	for (size_t i = 0; i < length_of(traffic) && top->count < first + ROWS_MAX; i++) {
		struct json_object *each = json_object_array_get_idx(traffic, i);
		char rates[2][16], sums[2][16];

		add_line(top, false, "%-14.14s %-14.14s %-9.9s %7s %7s %8s %7s",
			 host_view_name(at(each, "from")), host_view_name(at(each, "to")),
			 text_at(each, "state"), column(each, "messages_per_s", rates[0], sizeof(rates[0])),
			 column(each, "bytes_per_s", rates[1], sizeof(rates[1])),
			 column(each, "messages", sums[0], sizeof(sums[0])),
			 column(each, "bytes", sums[1], sizeof(sums[1])));
		weigh(top, each, rate_at(each, "bytes_per_s"), 0);
	}
	sort_rows(top, first);
}

/* Writes the bytes a second of a direction as the matrix has them. */
static const char *cell(struct json_object *direction, char *text, size_t size)
{
	if (!direction)
		return ".";
	return at(direction, "bytes") ? column(direction, "bytes_per_s", text, size) : "via 0";
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

/* ---- endpoints -------------------------------------------------------------------------------- */

static void add_endpoint(struct top *top, struct json_object *domain, struct json_object *endpoint)
{
	char texts[5][16];

	add_line(top, false, "%-14.14s %-16.16s %-8.8s %7s %7s %7s %7s %7s", host_view_name(domain),
		 text_at(endpoint, "name"), text_at(endpoint, "kind"),
		 column(endpoint, "queued", texts[0], sizeof(texts[0])),
		 column(endpoint, "opened", texts[1], sizeof(texts[1])),
		 column(endpoint, "refused", texts[2], sizeof(texts[2])),
		 column(endpoint, "messages_per_s", texts[3], sizeof(texts[3])),
		 column(endpoint, "bytes_per_s", texts[4], sizeof(texts[4])));
	weigh(top, endpoint, rate_at(endpoint, "bytes_per_s"), rate_at(endpoint, "queued"));
}

static void host_add_endpoints(struct top *top, struct json_object *domains)
{
	size_t title = top->count, first;

	add_line(top, false, "%s", "");
	add_line(top, true, "%-14s %-16s %-8s %7s %7s %7s %7s %7s", "DOMAIN", "ENDPOINT", "KIND", "QUEUED",
		 "OPENED", "REFUSED", "MSGS/s", "BYTES/s");
	first = top->count;
	for (size_t i = 0; i < length_of(domains); i++) {
		struct json_object *domain = json_object_array_get_idx(domains, i);
		struct json_object *endpoints = at(domain, "endpoints");

		for (size_t j = 0; j < length_of(endpoints) && top->count < first + ROWS_MAX; j++)
			add_endpoint(top, domain, json_object_array_get_idx(endpoints, j));
	}
	sort_rows(top, first);
	if (top->count == first)
		top->count = title;
}

/* Does the same for a host, from `view`. */
static void top_make_host_lines(struct top *top)
{
	struct json_object *shown = top->view ? top->view->shown : NULL;
	struct json_object *domains = at(shown, "domains"), *traffic = at(shown, "traffic");

	top->count = 0;
	host_add_head(top, domains, traffic);
	add_domains(top, domains);
	add_directions(top, traffic);
	add_matrix(top, domains);
	host_add_away(top, domains);
	host_add_endpoints(top, domains);
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
	struct json_object *all;
	struct host_view *seen;
	int r = host_statuses_ask(conn, HOST_ANSWER_MS, &all, why);

	if (r < 0)
		return r;
	seen = host_view_new(all, *view, seconds);
	json_object_put(all);
	if (!seen)
		return -ENOMEM;
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
static int cut(char *text, int columns, const char *gap)
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
			columns = cut(head, COLS, " ");
	}
	scroll_aside(top, line->text, fixed, text, sizeof(text));
	cut(text, columns, title || !strstr(text, "  ") ? " " : "  ");
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
	cut(text, COLS, "  ");
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

/* Keeps an answer, which has taken the place of the one before. */
static void keep(struct top *top, struct json_object *status)
{
	json_object_put(top->before);
	top->before = top->now;
	top->now = status;
}

/* Asks the local daemon. Returns a negative errno if there was no answer. */
static int look_here(struct top *top)
{
	int r;
	struct json_object *status = cli_query(top->conn, "status", NULL, &r);

	if (status)
		keep(top, status);
	return r;
}

/* Looks. If the daemon is gone, its last answer stays on the screen. */
static void look(struct top *top)
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
static bool on_key(struct top *top, int key)
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
				look(top);
			next = seconds_now() + delay_ms / 1000.0;
			left_ms = delay_ms;
		}
		if (top->is_host)
			top_make_host_lines(top);
		else
			top_make_lines(top);
		draw(top);
		interrupt_sleep(STDIN_FILENO, (int)left_ms + 1);
		if (is_terminal_gone())
			return EXIT_OTHER;
		/* All that was typed before it is drawn again: with thousands of lines that takes longer than
		 * a key does. */
		while (more && (key = getch()) != ERR)
			more = on_key(top, key);
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

static int run(struct top *top, int delay_ms)
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
	top_make_host_lines(top);
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
	code = once || json ? print(&top, delay_ms, json) : run(&top, delay_ms);
	xenmsg_close(top.conn);
	json_object_put(top.now);
	json_object_put(top.before);
	host_view_free(top.view);
	free(top.lines);
	return code;
}
