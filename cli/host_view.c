/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/host_view.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/fields.h"
#include "cli/json.h"
#include "cli/terminal.h"

#define LINKS_MAX     1024u /* of one domain; a status has 100 */
#define ENDPOINTS_MAX 100u  /* likewise */
#define TEXT_MAX      128u
#define COUNT_MAX     (INT64_C(1) << 52) /* a thousand of them can be added up */

/* One look while it is taken. */
struct look {
	struct host_view *view;
	struct json_object *domains, *traffic;
	const struct host_view *before;
	double seconds;
};

/* ---- what others say -------------------------------------------------------------------------- */

/* Returns a number as one that can be counted with. */
static int64_t count_of(struct json_object *number)
{
	int64_t count = json_object_get_int64(number);

	return count < 0 ? 0 : count > COUNT_MAX ? COUNT_MAX : count;
}

static int64_t count_at(struct json_object *object, const char *name)
{
	return count_of(at(object, name));
}

static void add_count(struct json_object *to, const char *name, int64_t count)
{
	json_object_object_add(to, name, json_object_new_int64(count));
}

static void host_view_add_text(struct json_object *to, const char *name, const char *text)
{
	char short_text[TEXT_MAX];
	size_t size =
		text ? terminal_escape(&text, text + strlen(text), true, short_text, sizeof(short_text)) : 0;

	json_object_object_add(to, name, text ? json_object_new_string_len(short_text, (int)size) : NULL);
}

/* Adds what was told of these members (column_next()): as texts, whatever their types are there, or as
 * numbers. null: nothing was. */
static void copy(struct json_object *to, struct json_object *from, const char *texts, const char *counts)
{
	struct column column;

	while (column_next(&texts, &column))
		host_view_add_text(to, column.title, json_object_get_string(field(from, column.path)));
	while (column_next(&counts, &column))
		json_object_object_add(to, column.title,
				       field(from, column.path)
					       ? json_object_new_int64(count_of(field(from, column.path)))
					       : NULL);
}

/* ---- rates ------------------------------------------------------------------------------------ */

/* Adds by how much a count of this element grew each second, as NAME_per_s. null: nobody knows. */
static void host_view_add_rate(const struct look *look, struct json_object *element,
			       struct json_object *before, const char *name)
{
	struct json_object *now = at(element, name), *then = at(before, name), *rate = NULL;
	char key[32];

	if (now && then && look->seconds > 0) {
		int64_t more = json_object_get_int64(now) - json_object_get_int64(then);

		rate = json_object_new_double(more > 0 ? (double)more / look->seconds : 0);
		json_object_set_serializer(rate, json_object_double_to_json_string, (void *)"%.1f", NULL);
	}
	snprintf(key, sizeof(key), "%s_per_s", name);
	json_object_object_add(element, key, rate);
}

/* Remembers an element by its key, and returns what the look before had there. */
static struct json_object *remember(const struct look *look, const char *key, struct json_object *element)
{
	json_object_object_add(look->view->index, key, json_object_get(element));
	return look->before ? at(look->before->index, key) : NULL;
}

static struct json_object *host_view_find(const struct look *look, const char *key)
{
	return at(look->view->index, key);
}

/* ---- domains ---------------------------------------------------------------------------------- */

static struct json_object *domain_by_number(const struct look *look, int64_t domid)
{
	char key[32];

	snprintf(key, sizeof(key), "d%" PRId64, domid);
	return host_view_find(look, key);
}

/* Adds an endpoint, with what of its use the domain shows. Returns how many refusals it has had. */
static int64_t add_endpoint(const struct look *look, struct json_object *list, int64_t domid,
			    struct json_object *told)
{
	struct json_object *endpoint = json_object_new_object(), *before;
	char key[TEXT_MAX + 64];

	copy(endpoint, told, "name,kind", "queued,opened,refused,messages");
	json_object_object_add(endpoint, "bytes",
			       at(told, "bytes_to") ? json_object_new_int64(count_at(told, "bytes_to") +
									    count_at(told, "bytes_from"))
						    : NULL);
	snprintf(key, sizeof(key), "e%" PRId64 ":%s", domid, text_at(endpoint, "name"));
	before = remember(look, key, endpoint);
	host_view_add_rate(look, endpoint, before, "messages");
	host_view_add_rate(look, endpoint, before, "bytes");
	json_object_array_add(list, endpoint);
	return count_at(told, "refused");
}

static void add_endpoints(const struct look *look, struct json_object *domain, struct json_object *status)
{
	struct json_object *told = at(status, "endpoints"), *list = json_object_new_array();
	int64_t queued = 0, refused = 0;

	for (size_t i = 0; i < length_of(told) && i < ENDPOINTS_MAX; i++) {
		struct json_object *each = json_object_array_get_idx(told, i);

		refused += add_endpoint(look, list, number_at(domain, "domid"), each);
		queued += count_at(each, "queued");
	}
	json_object_object_add(domain, "endpoints", list);
	add_count(domain, "endpoints_total", (int64_t)total_of(status, "endpoints"));
	add_count(domain, "queued_bytes", queued);
	/* The list of refusals is for those that see all there; then its length is the number. */
	add_count(domain, "refused", refused);
}

/* Adds what is always there, null until it is told. */
static void add_domain(const struct look *look, struct json_object *entry)
{
	struct json_object *domain = json_object_new_object(), *status = at(entry, "status");
	char key[32];

	copy(domain, entry, "", "domid");
	copy(domain, entry, "name", "error");
	copy(domain, entry, "why", "");
	copy(domain, status, "version,host_sight",
	     "uptime_s,pages=grants.used_pages,limit_pages=grants.limit_pages");
	copy(domain, NULL, "host_policy", "links,links_up");
	json_object_object_add(domain, "away", json_object_new_array());
	add_endpoints(look, domain, status);
	snprintf(key, sizeof(key), "d%" PRId64, number_at(entry, "domid"));
	remember(look, key, domain);
	json_object_array_add(look->domains, domain);
}

/* ---- who talks to whom ------------------------------------------------------------------------ */

/* An end of a direction: a domain of this host, or a host. */
static struct json_object *end_of(struct json_object *domain, const char *host)
{
	struct json_object *end = json_object_new_object();

	json_object_object_add(end, "domid", domain ? json_object_get(at(domain, "domid")) : NULL);
	json_object_object_add(end, "name", domain ? json_object_get(at(domain, "name")) : NULL);
	host_view_add_text(end, "host", host);
	return end;
}

/* Writes what stands for a direction. */
static void key_of_direction(struct json_object *from, struct json_object *to, char *key, size_t size)
{
	snprintf(key, size, "%s/%s>%s/%s", text_or(from, "host", ""), text_or(from, "domid", ""),
		 text_or(to, "host", ""), text_or(to, "domid", ""));
}

static bool is_domain_0(struct json_object *end)
{
	return at(end, "domid") && number_at(end, "domid") == 0;
}

/* The count of a direction, once all were asked, is remembered by this. */
static void key_of_asked(const char *key, char *asked, size_t size)
{
	snprintf(asked, size, "asked %s", key);
}

/* Adds its rates, without what was moved by the questions of the look before. */
static void add_direction_rates(const struct look *look, const char *key, struct json_object *direction,
				struct json_object *before)
{
	char asked[2 * TEXT_MAX + 72];
	struct json_object *then;
	struct look since = *look;

	key_of_asked(key, asked, sizeof(asked));
	then = look->before && number_at(direction, "told_by") == 0 ? at(look->before->index, asked) : NULL;
	if (then)
		since.seconds -= look->before->asking_s;
	host_view_add_rate(&since, direction, then ? then : before, "messages");
	host_view_add_rate(&since, direction, then ? then : before, "bytes");
}

/* Adds one direction as one of its ends tells it. The end that has told it first is believed. */
static void add_direction(const struct look *look, struct json_object *from, struct json_object *to,
			  struct json_object *teller, struct json_object *link, const char *way)
{
	/* What is relayed is in the links with domain 0. */
	bool is_relayed = !strcmp(text_or(link, "state", ""), "relayed");
	struct json_object *direction, *traffic = is_relayed ? NULL : at(link, way), *before;
	char key[2 * TEXT_MAX + 64];

	key_of_direction(from, to, key, sizeof(key));
	if (host_view_find(look, key))
		return;
	/* Of itself domain 0 knows what others say. */
	if (number_at(teller, "domid") != 0 && (is_domain_0(from) || is_domain_0(to)))
		return;
	if (!is_relayed && count_at(traffic, "bytes") == 0) {
		/* Nobody who is believed less says otherwise. */
		json_object_object_add(look->view->index, key, json_object_new_boolean(false));
		return;
	}
	direction = json_object_new_object();
	json_object_object_add(direction, "from", json_object_get(from));
	json_object_object_add(direction, "to", json_object_get(to));
	json_object_object_add(direction, "told_by", json_object_get(at(teller, "domid")));
	copy(direction, link, "state", "since");
	copy(direction, traffic, "", "messages,bytes");
	before = remember(look, key, direction);
	if (before && number_at(before, "told_by") != number_at(direction, "told_by"))
		before = NULL;
	add_direction_rates(look, key, direction, before);
	json_object_array_add(look->traffic, direction);
}

/* Returns the other end of a link; NULL: nobody that domain 0 knows. */
static struct json_object *other_end(const struct look *look, struct json_object *teller,
				     struct json_object *link)
{
	struct json_object *peer = at(link, "peer"), *domain;

	/* All that goes to other hosts goes through domain 0, which names them. */
	if (at(peer, "host"))
		return number_at(teller, "domid") == 0 ? end_of(NULL, text_at(peer, "host")) : NULL;
	if (!json_object_is_type(at(peer, "domid"), json_type_int))
		return NULL;
	domain = domain_by_number(look, number_at(peer, "domid"));
	return domain && domain != teller ? end_of(domain, NULL) : NULL;
}

/* Adds a link that is away to those of the domain. */
static void add_away(struct json_object *domain, struct json_object *link, struct json_object *other)
{
	struct json_object *away = json_object_new_object();

	json_object_object_add(away, "peer", json_object_get(other));
	copy(away, link, "", "since,resumes");
	json_object_array_add(at(domain, "away"), away);
}

/* Adds what an end of each link tells of what it has sent, or (`received`) has got. */
static void add_links(const struct look *look, struct json_object *domain, struct json_object *status,
		      bool received)
{
	struct json_object *links = at(status, "links"), *self = end_of(domain, NULL);

	for (size_t i = 0; i < length_of(links) && i < LINKS_MAX; i++) {
		struct json_object *link = json_object_array_get_idx(links, i);
		struct json_object *other = other_end(look, domain, link);

		if (other && received)
			add_direction(look, other, self, domain, link, "rx");
		else if (other)
			add_direction(look, self, other, domain, link, "tx");
		json_object_put(other);
	}
	json_object_put(self);
}

/* Counts a domain's links and what waits in them, and has domain 0 say what guests do with its policy. */
static void host_view_count_links(const struct look *look, struct json_object *domain,
				  struct json_object *status)
{
	struct json_object *links = at(status, "links");
	int64_t up = 0, queued = number_at(domain, "queued_bytes");

	for (size_t i = 0; i < length_of(links) && i < LINKS_MAX; i++) {
		struct json_object *link = json_object_array_get_idx(links, i);
		struct json_object *other = other_end(look, domain, link);
		const char *state = text_or(link, "state", "");

		up += !strcmp(state, "up");
		queued += count_at(link, "unacked");
		if (other && !strcmp(state, "away"))
			add_away(domain, link, other);
		if (other && number_at(domain, "domid") == 0 && !at(other, "host"))
			host_view_add_text(domain_by_number(look, number_at(other, "domid")), "host_policy",
					   text_or(link, "host_policy", NULL));
		json_object_put(other);
	}
	add_count(domain, "links", (int64_t)total_of(status, "links"));
	add_count(domain, "links_up", up);
	add_count(domain, "queued_bytes", queued);
}

/* ---- a look ----------------------------------------------------------------------------------- */

/* Adds links in the order in which their tellers are believed: domain 0, the sender, the one that has
 * received. */
static void add_traffic(const struct look *look, struct json_object *statuses)
{
	size_t count = length_of(statuses);

	for (size_t pass = 0; pass < 4; pass++)
		for (size_t i = 0; i < count; i++) {
			struct json_object *status = at(json_object_array_get_idx(statuses, i), "status");
			struct json_object *domain = json_object_array_get_idx(look->domains, i);

			if (status && (number_at(domain, "domid") == 0) == (pass < 2))
				add_links(look, domain, status, pass % 2);
		}
}

static void note_asked(struct host_view *view, struct json_object *from, struct json_object *to,
		       struct json_object *traffic)
{
	struct json_object *counts = json_object_new_object();
	char key[2 * TEXT_MAX + 64], asked[2 * TEXT_MAX + 72];

	key_of_direction(from, to, key, sizeof(key));
	key_of_asked(key, asked, sizeof(asked));
	copy(counts, traffic, "", "messages,bytes");
	json_object_object_add(view->index, asked, counts);
}

void host_view_note_asked(struct host_view *view, struct json_object *status, double seconds)
{
	const struct look look = {.view = view};
	struct json_object *domain = domain_by_number(&look, 0), *self = end_of(domain, NULL);

	view->asking_s = seconds;
	fields_foreach(at(status, "links"), link) {
		struct json_object *other = other_end(&look, domain, link);

		if (other) {
			note_asked(view, self, other, at(link, "tx"));
			note_asked(view, other, self, at(link, "rx"));
		}
		json_object_put(other);
	}
	json_object_put(self);
}

struct host_view *host_view_new(struct json_object *statuses, const struct host_view *before, double seconds)
{
	struct host_view *view = cli_made(malloc(sizeof(*view)));
	struct look look = {.view = view, .before = before, .seconds = seconds};

	view->shown = json_object_new_object();
	view->index = json_object_new_object();
	view->asking_s = 0;
	look.domains = json_object_new_array();
	look.traffic = json_object_new_array();
	json_object_object_add(view->shown, "domains", look.domains);
	json_object_object_add(view->shown, "traffic", look.traffic);
	fields_foreach(statuses, entry)
		add_domain(&look, entry);
	fields_foreach(statuses, told)
		if (at(told, "status"))
			host_view_count_links(&look, json_object_array_get_idx(look.domains, told_at),
					      at(told, "status"));
	add_traffic(&look, statuses);
	return view;
}

void host_view_free(struct host_view *view)
{
	if (!view)
		return;
	json_object_put(view->shown);
	json_object_put(view->index);
	free(view);
}

struct json_object *host_view_direction(const struct host_view *view, struct json_object *from,
					struct json_object *to)
{
	char key[2 * TEXT_MAX + 64];
	struct json_object *found;

	key_of_direction(from, to, key, sizeof(key));
	found = at(view->index, key);
	return json_object_is_type(found, json_type_object) ? found : NULL;
}

const char *host_view_name(struct json_object *end)
{
	if (at(end, "host"))
		return text_at(end, "host");
	return text_or(end, "name", text_at(end, "domid"));
}
