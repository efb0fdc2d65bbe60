/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/map_dot.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/fields.h"
#include "cli/host_view.h"

#define ENDPOINTS_SHOWN 12u  /* of a domain */
#define ARROWS_MAX	500u /* dot takes minutes for thousands */
#define TEXT_SHOWN	40u  /* bytes */

static const char head[] =
	"digraph host {\n"
	"\tgraph [rankdir=LR, fontname=\"sans-serif\", bgcolor=\"white\", nodesep=0.5, ranksep=1.2]\n"
	"\tnode [shape=box, style=\"rounded,filled\", fillcolor=\"#eef3fa\", color=\"#4a6fa5\", fontname=\"sans-serif\", fontsize=11]\n"
	"\tedge [fontname=\"sans-serif\", fontsize=9, color=\"#4a6fa5\", arrowsize=0.7]\n";

/* Writes a text so that it stands for itself between the quotes of a label: neither a quote nor one of dot's
 * escapes, nor an entity. It has no control characters. */
static void write_text(const char *text, FILE *out)
{
	size_t size = strlen(text);
	bool is_cut = size > TEXT_SHOWN;

	if (is_cut) {
		size = TEXT_SHOWN;
		while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
			size--;
	}
	for (size_t i = 0; i < size; i++) {
		if (text[i] == '&') {
			fputs("&amp;", out);
			continue;
		}
		if (text[i] == '"' || text[i] == '\\')
			fputc('\\', out);
		fputc(text[i], out);
	}
	if (is_cut)
		fputs("...", out);
}

/* ---- boxes ------------------------------------------------------------------------------------ */

static void write_endpoints(struct json_object *domain, FILE *out)
{
	struct json_object *endpoints = at(domain, "endpoints");
	size_t shown = length_of(endpoints);
	int64_t total = number_at(domain, "endpoints_total");

	shown = shown < ENDPOINTS_SHOWN ? shown : ENDPOINTS_SHOWN;
	for (size_t i = 0; i < shown; i++) {
		struct json_object *endpoint = json_object_array_get_idx(endpoints, i);

		write_text(text_at(endpoint, "name"), out);
		fputs(" (", out);
		write_text(text_at(endpoint, "kind"), out);
		fputs(")\\l", out);
	}
	if (total > (int64_t)shown)
		fprintf(out, "and %" PRId64 " more\\l", total - (int64_t)shown);
}

static void write_domain(struct json_object *domain, FILE *out)
{
	bool is_silent = number_at(domain, "error") != 0;

	fprintf(out, "\td%" PRId64 " [label=\"", number_at(domain, "domid"));
	if (at(domain, "name"))
		write_text(text_at(domain, "name"), out);
	else
		fputs("domain", out);
	fprintf(out, " (%" PRId64 ")\\n", number_at(domain, "domid"));
	if (is_silent)
		fputs("tells nothing\\n", out);
	else
		write_endpoints(domain, out);
	fprintf(out, "\"%s]\n", is_silent ? ", fillcolor=\"#f2f2f2\", color=\"#999999\"" : "");
}

/* ---- arrows ----------------------------------------------------------------------------------- */

/* Two that talk, each way or one. */
struct talkers {
	struct json_object *ways[2]; /* the second from the end of the first; NULL: none */
	double bytes;		     /* each second, or in all if nobody knows that */
};

static double amount(struct json_object *direction)
{
	struct json_object *rate = at(direction, "bytes_per_s");

	return json_object_get_double(rate ? rate : at(direction, "bytes"));
}

static int by_amount(const void *one, const void *other)
{
	const struct talkers *a = one, *b = other;

	return a->bytes > b->bytes ? -1 : a->bytes < b->bytes;
}

/* By what two ends are in order: hosts have no number. */
static int64_t order(struct json_object *end)
{
	return at(end, "host") ? -1 : number_at(end, "domid");
}

/* Joins the two directions between each two. Returns their pairs, which the caller frees, the busiest
 * first. */
static struct talkers *make_pairs(const struct host_view *view, size_t *count)
{
	struct json_object *traffic = at(view->shown, "traffic");
	struct talkers *pairs = calloc(length_of(traffic) + 1, sizeof(*pairs));

	*count = 0;
	for (size_t i = 0; pairs && i < length_of(traffic); i++) {
		struct json_object *each = json_object_array_get_idx(traffic, i);
		struct json_object *from = at(each, "from"), *to = at(each, "to");
		struct json_object *back = host_view_direction(view, to, from);

		if (back && order(from) > order(to))
			continue;
		pairs[(*count)++] = (struct talkers){{each, back}, amount(each) + amount(back)};
	}
	if (pairs)
		qsort(pairs, *count, sizeof(*pairs), by_amount);
	return pairs;
}

/* Writes what names an end, and nothing that somebody chose. */
static void write_end(struct json_object *end, FILE *out)
{
	if (at(end, "host")) {
		fputs("\"host ", out);
		write_text(text_at(end, "host"), out);
		fputc('"', out);
	} else {
		fprintf(out, "d%" PRId64, number_at(end, "domid"));
	}
}

static void write_amount(const char *way, struct json_object *direction, FILE *out)
{
	char text[32];

	if (!at(direction, "bytes"))
		return;
	size_text((int64_t)amount(direction), text, sizeof(text));
	fprintf(out, "%s%s%s", way, text, at(direction, "bytes_per_s") ? "/s" : "");
}

static void write_arrow(const struct talkers *talkers, FILE *out)
{
	struct json_object *there = talkers->ways[0], *back = talkers->ways[1];
	const char *state = text_at(there, "state");
	bool is_relayed = !at(there, "bytes");

	fputc('\t', out);
	write_end(at(there, "from"), out);
	fputs(" -> ", out);
	write_end(at(there, "to"), out);
	fprintf(out, " [dir=%s, penwidth=%.1f", back ? "both" : "forward",
		0.6 + log10(1 + talkers->bytes) * 0.7);
	if (is_relayed)
		fputs(", style=dashed, label=\"via domain 0\"", out);
	else {
		fputs(", label=\"", out);
		write_amount("\xe2\x86\x92 ", there, out);
		write_amount("\\n\xe2\x86\x90 ", back, out);
		fprintf(out, "%s\"", strcmp(state, "away") ? "" : "\\naway");
		if (!strcmp(state, "away"))
			fputs(", style=dotted", out);
	}
	fputs("]\n", out);
}

void map_write_dot(const struct host_view *view, FILE *out)
{
	struct json_object *domains = at(view->shown, "domains");
	size_t count, shown;
	struct talkers *pairs = make_pairs(view, &count);

	shown = count < ARROWS_MAX ? count : ARROWS_MAX;
	fputs(head, out);
	for (size_t i = 0; i < length_of(domains); i++)
		write_domain(json_object_array_get_idx(domains, i), out);
	for (size_t i = 0; pairs && i < shown; i++)
		write_arrow(&pairs[i], out);
	if (count > shown)
		fprintf(out, "\tlabel=\"and %zu more pairs that talk, less than these\"\n", count - shown);
	fputs("}\n", out);
	free(pairs);
}
