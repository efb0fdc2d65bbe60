/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/reconnecting.h"
#include "cli/writer.h"
#include "xenmsg.h"

static const char help[] =
	"Usage: xenmsg watch [OPTIONS] [PATTERN]\n"
	"\n"
	"Prints what is there, and then comings and goings as they happen, until it is\n"
	"interrupted: of domains and their endpoints for a PATTERN like '3', 'work' or\n"
	"'*' (the default), only of endpoints for one like '3:print' or '*:scan*'. With\n"
	"HOST/ before it, PATTERN is about another host, as far as its policy lets this\n"
	"program know, and about the host itself. A domain that gets another name is\n"
	"printed as up once more; one whose link is lost and may be resumed is away, and\n"
	"then up once more. What is there comes first, each domain before its endpoints.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      event, kind, address (as send takes it), host, domid,\n"
	"                      domain, name\n"
	"      --format TEXT   TEXT for each event, with %{FIELD} for their values\n"
	"      --json          one JSON object a line with these fields: event is up,\n"
	"                      down or away, kind domain, endpoint or host; behind what\n"
	"                      was there comes one whose event is listed, with the name\n"
	"                      more if there is more, and anew when that changes\n"
	"  -n, --count N       end after N events\n"
	"      --once          end when the xenmsgd of this domain ends; else it begins\n"
	"                      anew with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg watch\n"
	"  xenmsg watch '*:print'\n"
	"  xenmsg watch --format '%{event} %{address}' 'hostb/*'\n";

/*
 * What is there when it begins comes as the daemon finds it, domains and endpoints mixed, so its rows are
 * kept until XENMSG_LISTED says that they were all, and then printed, each domain before its endpoints. Of a
 * host that is slow, nothing is kept for longer than 5 s.
 */
#define KEEP_MS 5000

struct watching {
	struct cli *cli;
	const char *pattern;
	struct writer *writer;
	struct output_fields output_fields;
	struct json_object *kept; /* rows by key_of(); NULL: each is printed as it comes */
	int64_t keeps_until;	  /* as deadline_in() */
	bool json, has_printed, is_cut;
	uint64_t left; /* events until it ends; 0: it goes on */
	bool done;
	int code;
};

static const char *kind_of(const struct xenmsg_event *event)
{
	switch (event->kind) {
	case XENMSG_ENDPOINT_UP:
	case XENMSG_ENDPOINT_DOWN:
		return "endpoint";
	case XENMSG_HOST_UP:
	case XENMSG_HOST_DOWN:
		return "host";
	default:
		return "domain";
	}
}

static const char *what_of(const struct xenmsg_event *event)
{
	switch (event->kind) {
	case XENMSG_DOMAIN_AWAY:
		return "away";
	case XENMSG_DOMAIN_UP:
	case XENMSG_ENDPOINT_UP:
	case XENMSG_HOST_UP:
		return "up";
	default:
		return "down";
	}
}

/* Writes the key of a host, a domain or an endpoint. Sorted, a domain is before its endpoints. */
static void key_of(const struct xenmsg_event *event, const char *kind, char *key, size_t size)
{
	char domid[16] = "";

	if (strcmp(kind, "host") != 0)
		snprintf(domid, sizeof(domid), "%u", event->domid);
	snprintf(key, size, "%s/%6s%s%s", event->host, domid, strcmp(kind, "endpoint") ? "" : ":",
		 strcmp(kind, "endpoint") ? "" : event->name);
}

static void add_known(struct json_object *row, const char *name, const char *text)
{
	json_object_object_add(row, name, *text ? json_object_new_string(text) : NULL);
}

/* Returns an event as a row: all that can be chosen, or the event and where it is, in words. */
static struct json_object *row_of(const struct watching *watching, const struct xenmsg_event *event,
				  const char *kind)
{
	bool is_endpoint = !strcmp(kind, "endpoint"), is_host = !strcmp(kind, "host");
	const char *slash = *event->host ? "/" : "", *domain = event->domain_name;
	struct json_object *row = json_object_new_object();
	char address[500] = ""; /* as `xenmsg send` takes it */

	if (is_endpoint)
		snprintf(address, sizeof(address), "%.100s%s%u:%.100s", event->host, slash, event->domid,
			 event->name);
	fields_add(row, "event", "%s", what_of(event));
	fields_add(row, "kind", "%s", kind);
	if (watching->json || output_fields_are_chosen(&watching->output_fields)) {
		add_known(row, "address", address);
		add_known(row, "host", event->host);
		json_object_object_add(row, "domid", is_host ? NULL : json_object_new_int64(event->domid));
		add_known(row, "domain", domain);
		add_known(row, "name", event->name);
	} else if (is_host) {
		fields_add(row, "place", "%s", event->host);
	} else {
		fields_add(row, "place", "%s%s%u%s%s%s%s", event->host, slash, event->domid,
			   is_endpoint ? ":" : "", is_endpoint ? event->name : "", *domain ? " " : "",
			   domain);
	}
	return row;
}

static void print_row(struct watching *watching, struct json_object *row)
{
	if (watching->code || watching->done) {
		json_object_put(row);
		return;
	}
	watching->has_printed = true;
	watching->code = writer_row(watching->writer, row);
	watching->done = watching->left > 0 && --watching->left == 0;
}

static int watch_compare_keys(const void *one, const void *other)
{
	return strcmp(json_object_get_string(*(struct json_object *const *)one),
		      json_object_get_string(*(struct json_object *const *)other));
}

/* Prints what was kept, and from now on everything at once. */
static void hand_on(struct watching *watching)
{
	struct json_object *keys = json_object_new_array();

	json_object_object_foreach(watching->kept, name, row) {
		(void)row;
		json_object_array_add(keys, json_object_new_string(name));
	}
	json_object_array_sort(keys, watch_compare_keys);
	fields_foreach(keys, key)
		print_row(watching, json_object_get(at(watching->kept, json_object_get_string(key))));
	json_object_put(keys);
	json_object_put(watching->kept);
	watching->kept = NULL;
}

/* Says that all was printed that was there. */
static void print_listed(struct watching *watching, const char *more)
{
	static const char *const others[] = {"kind", "address", "host", "domid", "domain", "name"};
	struct json_object *row;

	if (watching->code || watching->done)
		return;
	if (!watching->has_printed && cli_is_watched(watching->cli))
		cli_note(watching->cli, "watch %s: nothing that this program may see is there yet",
			 watching->pattern);
	watching->has_printed = true;
	if (!watching->json)
		return;
	row = json_object_new_object();
	fields_add(row, "event", "listed");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		json_object_object_add(row, others[i], NULL);
	if (*more) /* than was told */
		fields_add(row, "name", "%s", more);
	watching->code = writer_row(watching->writer, row);
}

static void watch_on_event(void *userdata, const struct xenmsg_event *event)
{
	struct watching *watching = userdata;
	const char *kind = kind_of(event);
	char key[500];

	if (event->kind == XENMSG_LISTED) {
		if (watching->kept)
			hand_on(watching);
		if (*event->name)
			cli_complain("watch %s: there is more than a domain or host can tell at once",
				     watching->pattern);
		else if (watching->is_cut)
			cli_note(watching->cli, "watch %s: now all is told that is there", watching->pattern);
		watching->is_cut = *event->name;
		print_listed(watching, event->name);
		return;
	}
	key_of(event, kind, key, sizeof(key));
	if (!watching->kept)
		print_row(watching, row_of(watching, event, kind));
	else if (!strcmp(what_of(event), "down")) /* it has gone meanwhile */
		json_object_object_del(watching->kept, key);
	else
		json_object_object_add(watching->kept, key, row_of(watching, event, kind));
}

static int add_watch(struct xenmsg *conn, const char *pattern, struct watching *watching)
{
	int r = xenmsg_watch(conn, pattern, NULL, watch_on_event, watching);

	if (r == -EINVAL && *xenmsg_reason(conn, 0))
		return cli_usage("watch", "bad pattern '%s': %s", pattern, xenmsg_reason(conn, r));
	if (r == -EINVAL)
		return cli_usage(
			"watch",
			"bad pattern '%s': write DOMAIN or DOMAIN:ENDPOINT, each may have * and ?, or HOST/ before it",
			pattern);
	return r < 0 ? cli_error(conn, "watch", pattern, r) : EXIT_DONE;
}

int cmd_watch(struct cli *cli, int argc, char **argv)
{
	struct watching watching = {.cli = cli};
	struct reconnecting reconnecting = {.cli = cli, .what = "watch"};
	struct xenmsg *conn;
	const struct cli_option options[] = {{"json", .flag = &watching.json},
					     {"once", .flag = &reconnecting.once},
					     {"count", .count = &watching.left},
					     OUTPUT_FIELDS_OPTIONS(watching.output_fields),
					     {0}};
	int code, r;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind > 1)
		return cli_usage("watch", "one pattern at most; quote it");
	code = output_fields_check(&watching.output_fields, "watch", watching.json,
				   "event,kind,address,host,domid,domain,name");
	if (code)
		return code;
	reconnecting.subject = watching.pattern = optind < argc ? argv[optind] : "*";
	code = reconnecting_open(&reconnecting, &conn);
	if (code)
		return code;
	watching.writer =
		writer_new_for(watching.json ? WRITER_JSON_LINES : WRITER_LINES, &watching.output_fields);
	watching.kept = json_object_new_object();
	watching.keeps_until = deadline_in(KEEP_MS);
	code = add_watch(conn, watching.pattern, &watching);
	interrupt_catch();
	while (code == 0 && watching.code == 0 && reconnecting.code == 0 && !watching.done &&
	       !interrupt_came()) {
		if (watching.kept && interrupt_left(watching.keeps_until) <= 1)
			hand_on(&watching);
		if (watching.code || watching.done)
			break;
		r = interrupt_wait_for_reader(conn, watching.kept ? watching.keeps_until : -1);
		if (r == -EPIPE)
			code = EXIT_OTHER;
		else if (r < 0 && r != -EINTR)
			code = cli_error(conn, "watch", optind < argc ? watching.pattern : "", r);
	}
	xenmsg_close(conn);
	json_object_put(watching.kept);
	writer_free(watching.writer);
	interrupt_die();
	return code ? code : watching.code ? watching.code : reconnecting.code;
}
