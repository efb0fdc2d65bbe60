/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/top.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cli/fields.h"
#include "cli/terminal.h"
#include "wire/text.h"

#define WORK_UNIT_S 1e-8 /* about: of what status counts as work */

/* ---- the numbers ----------------------------------------------------------------------------- */

/* Returns the element of a list with the same `key` as `like`. */
static struct json_object *same(struct json_object *list, const char *key, struct json_object *like)
{
	for (size_t i = 0; i < length_of(list); i++) {
		struct json_object *each = json_object_array_get_idx(list, i);

		if (number_at(each, key) == number_at(like, key))
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

const char *top_number(double value, char *buffer, size_t size)
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

void top_add_line(struct top *top, bool is_title, const char *format, ...)
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

/* A column may have been too narrow for what the filter looks for. */
void top_weigh(struct top *top, struct json_object *about, double traffic, double queued)
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

void top_sort(struct top *top, size_t first)
{
	static int (*const orders[])(const void *, const void *) = {by_traffic, by_queued, by_first_column};

	qsort(top->lines + first, top->count - first, sizeof(*top->lines), orders[top->sort]);
}

/* Sorts the rows of a table, which begin with this one, and adds a line for what was left out of the list. */
static void end_table(struct top *top, size_t first, const char *list)
{
	size_t more = total_of(top->now, list) - listed_in(top->now, list);

	top_sort(top, first);
	if (more > 0)
		top_add_line(top, false, "and %zu more %s", more, list);
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
	top_add_line(top, false, "xenmsgd %s  domain %s%s%s  up %s%s%s", text_at(top->now, "version"),
		     text_at(top->now, "domid"), *name ? " " : "", name, uptime,
		     is_partial(top->now) ? "  ONLY YOURS" : "", top->paused ? "  PAUSED" : "");
	if (top->trouble[0])
		top_add_line(top, true, "%s", top->trouble);
	else
		top_add_line(top, false, "XenStore %s  pages %s/%s  waiting links %s  peers %zu%s%s",
			     !json_object_get_boolean(at(store, "connected"))	  ? "LOST"
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
	top_add_line(top, false, "%-6s %-14.14s %s, channels %s", number_of(peer), name_of(peer), away,
		     text_at(link, "channels"));
}

static void add_links(struct top *top)
{
	struct json_object *links = at(top->now, "links");
	size_t first;

	top_add_line(top, true, "%-6s %-14s %-9s %-6s %5s %9s %7s %7s %7s", "LINK", "NAME", "STATE", "ROLE",
		     "CHANS", "RTT us", "SENT/s", "RECV/s", "BYTES/s");
	first = top->count;
	for (size_t i = 0; i < length_of(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i), *peer = at(link, "peer");
		struct json_object *before = link_before(top, peer);
		struct json_object *tx = at(link, "tx"), *rx = at(link, "rx"), *tx_before = at(before, "tx"),
				   *rx_before = at(before, "rx");
		double traffic = rate(top, tx, tx_before, "bytes") + rate(top, rx, rx_before, "bytes");
		char sent[16], received[16], bytes[16];

		top_number(rate(top, tx, tx_before, "messages"), sent, sizeof(sent));
		top_number(rate(top, rx, rx_before, "messages"), received, sizeof(received));
		top_number(traffic, bytes, sizeof(bytes));
		if (!strcmp(text_at(link, "state"), "away"))
			add_away(top, link, peer);
		else
			top_add_line(top, false, "%-6s %-14.14s %-9.9s %-6.6s %5s %9.9s %7s %7s %7s",
				     number_of(peer), name_of(peer), text_at(link, "state"),
				     at(link, "via") ? "via 0" : text_at(link, "role"),
				     text_at(link, "channels"), text_at(link, "rtt_us"), sent, received,
				     bytes);
		top_weigh(top, link, traffic, (double)number_at(link, "unacked"));
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
	struct json_object *before = same(at(top->before, "streams"), "number", stream);

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
	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-8s %-14s %-24s %-7s %7s %7s %7s", "PID", "STREAM OF", "TO OR FROM",
		     "STATE", "QUEUED", "IN B/s", "OUT B/s");
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
		top_number(carried.queued, queued, sizeof(queued));
		top_number(carried.in, in, sizeof(in));
		top_number(carried.out, out, sizeof(out));
		top_add_line(top, false, "%-8s %-14.14s %-24.24s %-7.7s %7s %7s %7s", text_at(each, "pid"),
			     text_at(each, "comm"), where, text_at(each, "state"), queued, in, out);
		top_weigh(top, each, carried.in + carried.out, carried.queued);
	}
	end_table(top, first, "streams");
}

/* ---- endpoints and programs ------------------------------------------------------------------ */

static void add_endpoints(struct top *top)
{
	struct json_object *endpoints = at(top->now, "endpoints");
	size_t first;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-24s %-8s %7s %8s %8s %8s %8s", "ENDPOINT", "KIND", "UID", "PID", "QUEUED",
		     "STREAMS", "BYTES/s");
	first = top->count;
	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *each = json_object_array_get_idx(endpoints, i);
		struct carried_sum carried = of_streams(top, 0, text_at(each, "name"));
		double waiting = (double)number_at(each, "queued") + carried.queued;
		char queued[16], bytes[16];

		top_number(waiting, queued, sizeof(queued));
		top_number(carried.in + carried.out, bytes, sizeof(bytes));
		top_add_line(top, false, "%-24.24s %-8.8s %7s %8s %8s %8zu %8s", text_at(each, "name"),
			     text_at(each, "kind"), text_at(each, "uid"), text_at(each, "pid"), queued,
			     carried.count, bytes);
		top_weigh(top, each, carried.in + carried.out, waiting);
	}
	end_table(top, first, "endpoints");
}

/* A program's row has its connection to the daemon and all its streams. */
static void add_program(struct top *top, struct json_object *program, struct json_object *client)
{
	struct json_object *usage = at(client, "usage");
	struct json_object *before = at(same(at(top->before, "clients"), "pid", program), "usage");
	struct carried_sum carried = of_streams(top, number_at(program, "pid"), NULL);
	double waiting = (double)number_at(client, "bytes_queued") + carried.queued;
	double in = rate(top, usage, before, "bytes_in") + carried.in;
	double out = rate(top, usage, before, "bytes_out") + carried.out;
	char queued[16], in_text[16], out_text[16];

	top_number(waiting, queued, sizeof(queued));
	top_number(in, in_text, sizeof(in_text));
	top_number(out, out_text, sizeof(out_text));
	top_add_line(top, false, "%-8s %-16.16s %7s %6s %8zu %9s %9s %9s", text_at(program, "pid"),
		     text_at(program, "comm"), text_at(program, "uid"), text_at(client, "channels"),
		     carried.count, queued, in_text, out_text);
	top_weigh(top, program, in + out, waiting);
}

/* Returns whether an earlier entry of the list is of the same program. */
static bool came_before(struct json_object *list, size_t index)
{
	struct json_object *each = json_object_array_get_idx(list, index);

	return same(list, "pid", each) != each;
}

static void add_programs(struct top *top)
{
	struct json_object *clients = at(top->now, "clients"), *streams = at(top->now, "streams");
	size_t first;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-8s %-16s %7s %6s %8s %9s %9s %9s", "PID", "PROGRAM", "UID", "CHANS",
		     "STREAMS", "QUEUED", "IN B/s", "OUT B/s");
	first = top->count;
	for (size_t i = 0; i < length_of(clients); i++) {
		struct json_object *each = json_object_array_get_idx(clients, i);

		if (number_at(each, "pid") != getpid())
			add_program(top, each, each);
	}
	/* A stream lives without a connection of its program to the daemon. */
	for (size_t i = 0; i < length_of(streams); i++) {
		struct json_object *each = json_object_array_get_idx(streams, i);

		if (!same(clients, "pid", each) && !came_before(streams, i))
			add_program(top, each, NULL);
	}
	end_table(top, first, "clients");
}

/* ---- topics ---------------------------------------------------------------------------------- */

/* Returns the element of a list with the same text as `like`, and the same user. */
static struct json_object *same_text(struct json_object *list, const char *key, struct json_object *like)
{
	for (size_t i = 0; i < length_of(list); i++) {
		struct json_object *each = json_object_array_get_idx(list, i);

		if (!strcmp(text_at(each, key), text_at(like, key)) &&
		    number_at(each, "uid") == number_at(like, "uid"))
			return each;
	}
	return NULL;
}

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

	top_number(published, published_text, sizeof(published_text));
	top_number(delivered, delivered_text, sizeof(delivered_text));
	top_number(waiting, waiting_text, sizeof(waiting_text));
	top_number((double)number_at(topic, "missed"), missed, sizeof(missed));
	top_add_line(top, false, "%-19.19s %-11.11s %7s %6s %7s %8s %7s %7s", name, state,
		     text_at(about, "uid"), text_at(topic, "count"), published_text, delivered_text,
		     waiting_text, missed);
	top_weigh(top, about, published + delivered, waiting);
}

static void add_topics(struct top *top)
{
	struct json_object *endpoints = at(top->now, "endpoints"),
			   *subscriptions = at(top->now, "subscriptions");
	size_t first, title = top->count;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-19s %-11s %7s %6s %7s %8s %7s %7s", "TOPIC", "STATE", "UID", "SUBS",
		     "PUBL/s", "DELIV/s", "WAITING", "MISSED");
	first = top->count;
	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *each = json_object_array_get_idx(endpoints, i);

		if (at(each, "topic"))
			add_topic(top, each, text_at(each, "name"), "here", at(each, "topic"),
				  at(same_text(at(top->before, "endpoints"), "name", each), "topic"));
	}
	for (size_t i = 0; i < length_of(subscriptions); i++) {
		struct json_object *each = json_object_array_get_idx(subscriptions, i);

		add_topic(top, each, text_at(each, "address"), text_at(each, "state"), each,
			  same_text(at(top->before, "subscriptions"), "address", each));
	}
	if (top->count == first && total_of(top->now, "subscriptions") == 0)
		top->count = title;
	else
		end_table(top, first, "subscriptions");
}

/* ---- accounts -------------------------------------------------------------------------------- */

static struct json_object *account_before(const struct top *top, struct json_object *account)
{
	struct json_object *accounts = at(top->before, "accounts");

	for (size_t i = 0; i < length_of(accounts); i++) {
		struct json_object *each = json_object_array_get_idx(accounts, i);

		if (number_at(each, "id") == number_at(account, "id") &&
		    !strcmp(text_at(each, "kind"), text_at(account, "kind")))
			return each;
	}
	return NULL;
}

static void add_accounts(struct top *top)
{
	struct json_object *accounts = at(top->now, "accounts");
	size_t first;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-24s %7s %7s %7s %8s %8s", "ACCOUNT", "SENT/s", "BYTES/s", "WORK %",
		     "RESTS", "CUT OFF");
	first = top->count;
	for (size_t i = 0; i < length_of(accounts); i++) {
		struct json_object *each = json_object_array_get_idx(accounts, i), *time = at(each, "time");
		struct json_object *before = account_before(top, each);
		double bytes = rate(top, at(each, "sent"), at(before, "sent"), "bytes");
		double work = rate(top, time, at(before, "time"), "units");
		char who[80], messages_text[16], bytes_text[16];

		snprintf(who, sizeof(who), "%s %s",
			 at(each, "host")			? "host"
			 : strcmp(text_at(each, "kind"), "uid") ? "domain"
								: "uid",
			 text_at(each, at(each, "host") ? "host" : "id"));
		top_number(rate(top, at(each, "sent"), at(before, "sent"), "messages"), messages_text,
			   sizeof(messages_text));
		top_number(bytes, bytes_text, sizeof(bytes_text));
		top_add_line(top, false, "%-24.24s %7s %7s %7.1f %8s %8s%s", who, messages_text, bytes_text,
			     work * WORK_UNIT_S * 100, text_at(time, "rests"), text_at(each, "cut_off"),
			     json_object_get_boolean(at(time, "resting")) ? "  resting" : "");
		top_weigh(top, each, bytes, (double)number_at(at(each, "queued_bytes"), "used"));
	}
	end_table(top, first, "accounts");
}

void top_make_lines(struct top *top)
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
