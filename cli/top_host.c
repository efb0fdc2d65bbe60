/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The lines of `top --host`: the domains, the flows between them, as a list and as a matrix, what is away,
 * and the endpoints. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/fields.h"
#include "cli/host_view.h"
#include "cli/top.h"

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
		top_number(rate_at(object, name), text, size);
	return text;
}

static void add_head(struct top *top, struct json_object *domains, struct json_object *traffic)
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
	top_add_line(top, false,
		     "this host  domains %zu, of which %zu tell nothing  messages/s %s  bytes/s %s%s",
		     length_of(domains), silent, top_number(messages, messages_text, sizeof(messages_text)),
		     top_number(bytes, bytes_text, sizeof(bytes_text)), top->paused ? "  PAUSED" : "");
	if (top->trouble[0])
		top_add_line(top, true, "%s", top->trouble);
	else
		top_add_line(top, false,
			     "bytes to domain 0 include what guests answer here; its own word goes first");
}

/* ---- domains ---------------------------------------------------------------------------------- */

static void add_domain(struct top *top, struct json_object *domain)
{
	char links[32], queued[16], refused[16], endpoints[16];

	if (number_at(domain, "error")) {
		top_add_line(top, false, "%-6s %-14.14s tells nothing: %s", text_at(domain, "domid"),
			     text_at(domain, "name"), text_at(domain, "why"));
		top_weigh(top, domain, -1, -1);
		return;
	}
	snprintf(links, sizeof(links), "%.5s/%.5s", text_at(domain, "links_up"), text_at(domain, "links"));
	top_add_line(top, false, "%-6s %-14.14s %-9.9s %-5.5s %7s %6s %7s %7s %-7.7s",
		     text_at(domain, "domid"), text_at(domain, "name"), text_at(domain, "version"),
		     number_at(domain, "domid") == 0 ? "all" : text_at(domain, "host_sight"), links,
		     column(domain, "endpoints_total", endpoints, sizeof(endpoints)),
		     column(domain, "queued_bytes", queued, sizeof(queued)),
		     column(domain, "refused", refused, sizeof(refused)), text_at(domain, "host_policy"));
	top_weigh(top, domain, 0, rate_at(domain, "queued_bytes"));
}

static void add_domains(struct top *top, struct json_object *domains)
{
	size_t first;

	top_add_line(top, true, "%-6s %-14s %-9s %-5s %7s %6s %7s %7s %-7s", "DOMAIN", "NAME", "VERSION",
		     "SIGHT", "LINKS", "ENDPTS", "QUEUED", "REFUSED", "POLICY");
	first = top->count;
	for (size_t i = 0; i < length_of(domains); i++)
		add_domain(top, json_object_array_get_idx(domains, i));
	top_sort(top, first);
}

/* Lists the links that are away, each as one of its ends tells. */
static void add_away(struct top *top, struct json_object *domains)
{
	size_t title = top->count, first;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-14s %-14s %-20s %7s", "LINK OF", "WITH", "AWAY SINCE", "RESUMES");
	first = top->count;
	for (size_t i = 0; i < length_of(domains); i++) {
		struct json_object *domain = json_object_array_get_idx(domains, i),
				   *away = at(domain, "away");

		for (size_t j = 0; j < length_of(away) && top->count < first + ROWS_MAX; j++) {
			struct json_object *link = json_object_array_get_idx(away, j);
			char since[32];

			since_text(link, true, since, sizeof(since));
			top_add_line(top, false, "%-14.14s %-14.14s %-20s %7s", host_view_name(domain),
				     host_view_name(at(link, "peer")), since, text_at(link, "resumes"));
			top_weigh(top, link, 0, 0);
		}
	}
	if (top->count == first)
		top->count = title;
}

/* ---- who talks to whom ------------------------------------------------------------------------ */

static void add_directions(struct top *top, struct json_object *traffic)
{
	size_t first;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-14s %-14s %-9s %7s %7s %8s %7s", "FROM", "TO", "LINK", "MSGS/s", "BYTES/s",
		     "MESSAGES", "BYTES");
	first = top->count;
	for (size_t i = 0; i < length_of(traffic) && top->count < first + ROWS_MAX; i++) {
		struct json_object *each = json_object_array_get_idx(traffic, i);
		char rates[2][16], sums[2][16];

		top_add_line(top, false, "%-14.14s %-14.14s %-9.9s %7s %7s %8s %7s",
			     host_view_name(at(each, "from")), host_view_name(at(each, "to")),
			     text_at(each, "state"),
			     column(each, "messages_per_s", rates[0], sizeof(rates[0])),
			     column(each, "bytes_per_s", rates[1], sizeof(rates[1])),
			     column(each, "messages", sums[0], sizeof(sums[0])),
			     column(each, "bytes", sums[1], sizeof(sums[1])));
		top_weigh(top, each, rate_at(each, "bytes_per_s"), 0);
	}
	top_sort(top, first);
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

	top_add_line(top, false, "%s", "");
	used = (size_t)snprintf(line, sizeof(line), "%-14s", "BYTES/s TO");
	for (size_t i = 0; i < shown; i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, " %6.6s",
					 text_at(json_object_array_get_idx(domains, i), "domid"));
	top_add_line(top, true, "%s", line);
	for (size_t i = 0; i < shown; i++) {
		struct json_object *from = json_object_array_get_idx(domains, i);

		used = (size_t)snprintf(line, sizeof(line), "%-14.14s", host_view_name(from));
		for (size_t j = 0; j < shown; j++) {
			struct json_object *to = json_object_array_get_idx(domains, j);

			used += (size_t)snprintf(
				line + used, sizeof(line) - used, " %6.6s",
				i == j ? ""
				       : cell(host_view_direction(top->view, from, to), text, sizeof(text)));
		}
		top_add_line(top, false, "%s", line);
	}
	if (count > shown)
		top_add_line(top, false, "and %zu more domains", count - shown);
}

/* ---- endpoints -------------------------------------------------------------------------------- */

static void add_endpoint(struct top *top, struct json_object *domain, struct json_object *endpoint)
{
	char texts[5][16];

	top_add_line(top, false, "%-14.14s %-16.16s %-8.8s %7s %7s %7s %7s %7s", host_view_name(domain),
		     text_at(endpoint, "name"), text_at(endpoint, "kind"),
		     column(endpoint, "queued", texts[0], sizeof(texts[0])),
		     column(endpoint, "opened", texts[1], sizeof(texts[1])),
		     column(endpoint, "refused", texts[2], sizeof(texts[2])),
		     column(endpoint, "messages_per_s", texts[3], sizeof(texts[3])),
		     column(endpoint, "bytes_per_s", texts[4], sizeof(texts[4])));
	top_weigh(top, endpoint, rate_at(endpoint, "bytes_per_s"), rate_at(endpoint, "queued"));
}

static void add_endpoints(struct top *top, struct json_object *domains)
{
	size_t first;

	top_add_line(top, false, "%s", "");
	top_add_line(top, true, "%-14s %-16s %-8s %7s %7s %7s %7s %7s", "DOMAIN", "ENDPOINT", "KIND",
		     "QUEUED", "OPENED", "REFUSED", "MSGS/s", "BYTES/s");
	first = top->count;
	for (size_t i = 0; i < length_of(domains); i++) {
		struct json_object *domain = json_object_array_get_idx(domains, i);
		struct json_object *endpoints = at(domain, "endpoints");

		for (size_t j = 0; j < length_of(endpoints) && top->count < first + ROWS_MAX; j++)
			add_endpoint(top, domain, json_object_array_get_idx(endpoints, j));
	}
	top_sort(top, first);
}

void top_make_host_lines(struct top *top)
{
	struct json_object *shown = top->view ? top->view->shown : NULL;
	struct json_object *domains = at(shown, "domains"), *traffic = at(shown, "traffic");

	top->count = 0;
	add_head(top, domains, traffic);
	add_domains(top, domains);
	add_directions(top, traffic);
	add_matrix(top, domains);
	add_away(top, domains);
	add_endpoints(top, domains);
}
