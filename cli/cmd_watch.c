/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/writer.h"
#include "wire/hash.h"
#include "xenmsg.h"

/* ---- what is there when it begins ----------------------------------------------------------- */

/*
 * What is there when a watch begins. Its first events come as the daemon finds them, domains and endpoints
 * mixed, so they are kept until XENMSG_LISTED says that they were all, and then handed on, each domain before
 * its endpoints. Of a host that is slow, nothing is kept for longer than 5 s.
 */

struct first_list {
	struct first_entry *entries; /* by key */
	int64_t keeps_until;	     /* as interrupt_deadline() */
	bool passes;		     /* nothing is kept any more */
	xenmsg_event_handler print;
	void *userdata;
};

#define KEEP_MS 5000

/* A host, a domain or an endpoint: is it there? */
struct first_entry {
	char *key;
	bool is_there;
	enum xenmsg_event_kind kind;
	uint32_t domid;
	char *name, *domain_name, *host;
	UT_hash_handle hh;
};

static void *or_abort(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

/* Makes the key of a host, a domain or an endpoint, which the caller frees. Sorted, a domain is before its
 * endpoints. */
static char *key_of(const struct xenmsg_event *event)
{
	bool is_endpoint = event->kind == XENMSG_ENDPOINT_UP || event->kind == XENMSG_ENDPOINT_DOWN;
	bool is_host = event->kind == XENMSG_HOST_UP || event->kind == XENMSG_HOST_DOWN;
	char domid[16] = "", *key;

	if (!is_host)
		snprintf(domid, sizeof(domid), "%u", event->domid);
	if (asprintf(&key, "%s/%6s%s%s", event->host, domid, is_endpoint ? ":" : "",
		     is_endpoint ? event->name : "") < 0)
		abort();
	return key;
}

/* Returns the entry with this key, which it takes; a new one if there is none. */
static struct first_entry *entry_of(struct first_list *list, char *key)
{
	struct first_entry *entry;

	HASH_FIND_STR(list->entries, key, entry);
	if (entry) {
		free(key);
		return entry;
	}
	entry = or_abort(calloc(1, sizeof(*entry)));
	entry->key = key;
	HASH_ADD_KEYPTR(hh, list->entries, entry->key, strlen(entry->key), entry);
	return entry;
}

static void forget_texts(struct first_entry *entry)
{
	free(entry->name);
	free(entry->domain_name);
	free(entry->host);
	entry->name = entry->domain_name = entry->host = NULL;
}

/* Keeps what is there now, and nothing of what has gone meanwhile. */
static void cmd_watch_keep(struct first_list *list, const struct xenmsg_event *event)
{
	struct first_entry *entry = entry_of(list, key_of(event));

	forget_texts(entry);
	entry->is_there = event->kind != XENMSG_DOMAIN_DOWN && event->kind != XENMSG_ENDPOINT_DOWN &&
			  event->kind != XENMSG_HOST_DOWN;
	entry->kind = event->kind;
	entry->domid = event->domid;
	entry->name = or_abort(strdup(event->name));
	entry->domain_name = or_abort(strdup(event->domain_name));
	entry->host = or_abort(strdup(event->host));
}

static int cmd_watch_compare(const struct first_entry *one, const struct first_entry *other)
{
	return strcmp(one->key, other->key);
}

/* Prints what was kept, and from now on everything at once. */
static void hand_on(struct first_list *list)
{
	list->passes = true;
	HASH_SRT(hh, list->entries, cmd_watch_compare);
	for (const struct first_entry *entry = list->entries; entry; entry = entry->hh.next) {
		const struct xenmsg_event event = {.kind = entry->kind,
						   .domid = entry->domid,
						   .name = entry->name,
						   .domain_name = entry->domain_name,
						   .host = entry->host};

		if (entry->is_there)
			list->print(list->userdata, &event);
	}
}

static void first_list_begin(struct first_list *list, xenmsg_event_handler print, void *userdata)
{
	*list = (struct first_list){.print = print, .userdata = userdata};
	list->keeps_until = interrupt_deadline(KEEP_MS);
}

/* Takes an event: keeps it, or prints it. */
static void first_list_take(struct first_list *list, const struct xenmsg_event *event)
{
	if (event->kind == XENMSG_LISTED && !list->passes)
		hand_on(list);
	if (list->passes)
		list->print(list->userdata, event);
	else
		cmd_watch_keep(list, event);
}

/* Prints what was kept for too long. */
static void first_list_look(struct first_list *list)
{
	if (!list->passes && interrupt_left(list->keeps_until) <= 1)
		hand_on(list);
}

/* Returns until when that is to be called again, as interrupt_deadline(); -1: it needn't. */
static int64_t first_list_deadline(const struct first_list *list)
{
	return list->passes ? -1 : list->keeps_until;
}

static void first_list_free(struct first_list *list)
{
	struct first_entry *entry, *next;

	HASH_ITER(hh, list->entries, entry, next) {
		HASH_DEL(list->entries, entry);
		forget_texts(entry);
		free(entry->key);
		free(entry);
	}
}

/* ---------------------------------------------------------------------------------------------- */

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
	"                      was there comes one whose event is listed\n"
	"  -n, --count N       end after N events\n"
	"      --once          end when the xenmsgd of this domain ends; else it begins\n"
	"                      anew with the next one\n"
	"\n"
	"Examples:\n"
	"  xenmsg watch\n"
	"  xenmsg watch '*:print'\n"
	"  xenmsg watch --format '%{event} %{address}' 'hostb/*'\n";

struct watching {
	struct cli *cli;
	const char *pattern;
	struct writer *writer;
	struct output_fields output_fields;
	struct first_list first;
	bool json, has_printed;
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

/* Adds what can be chosen; the address is what `xenmsg send` takes. */
static void add_fields(struct writer *writer, const struct xenmsg_event *event, const char *kind)
{
	bool is_endpoint = !strcmp(kind, "endpoint"), is_host = !strcmp(kind, "host");
	char address[500];

	snprintf(address, sizeof(address), "%.100s%s%u:%.100s", event->host, *event->host ? "/" : "",
		 event->domid, event->name);
	writer_text(writer, "address", is_endpoint ? address : NULL);
	writer_text(writer, "host", *event->host ? event->host : NULL);
	if (is_host)
		writer_json(writer, "domid", NULL);
	else
		writer_number(writer, "domid", event->domid);
	writer_text(writer, "domain", *event->domain_name ? event->domain_name : NULL);
	writer_text(writer, "name", *event->name ? event->name : NULL);
}

/* Adds where it is, in words. */
static void add_place(struct writer *writer, const struct xenmsg_event *event, const char *kind)
{
	bool endpoint = !strcmp(kind, "endpoint");
	char place[500];
	int size = snprintf(place, sizeof(place), "%.100s", event->host);

	if (strcmp(kind, "host") != 0)
		snprintf(place + size, sizeof(place) - (size_t)size, "%s%u%s%.100s%s%.200s", size ? "/" : "",
			 event->domid, endpoint ? ":" : "", endpoint ? event->name : "",
			 *event->domain_name ? " " : "", event->domain_name);
	writer_text(writer, "place", place);
}

/* Says that all was printed that was there. */
static void print_listed(struct watching *watching)
{
	static const char *const others[] = {"kind", "address", "host", "domid", "domain", "name"};

	if (!watching->has_printed && cli_is_watched(watching->cli))
		cli_note(watching->cli, "watch %s: nothing that this program may see is there yet",
			 watching->pattern);
	watching->has_printed = true;
	if (!watching->json)
		return;
	writer_text(watching->writer, "event", "listed");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		writer_json(watching->writer, others[i], NULL);
	watching->code = writer_end_row(watching->writer);
}

static void print_event(void *userdata, const struct xenmsg_event *event)
{
	struct watching *watching = userdata;
	const char *kind = kind_of(event);

	if (watching->code || watching->done)
		return;
	if (event->kind == XENMSG_LISTED) {
		print_listed(watching);
		return;
	}
	watching->has_printed = true;
	writer_text(watching->writer, "event", what_of(event));
	writer_text(watching->writer, "kind", kind);
	if (watching->json || output_fields_are_chosen(&watching->output_fields))
		add_fields(watching->writer, event, kind);
	else
		add_place(watching->writer, event, kind);
	watching->code = writer_end_row(watching->writer);
	watching->done = watching->left > 0 && --watching->left == 0;
}

static void watch_on_event(void *userdata, const struct xenmsg_event *event)
{
	struct watching *watching = userdata;

	first_list_take(&watching->first, event);
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
	first_list_begin(&watching.first, print_event, &watching);
	code = add_watch(conn, watching.pattern, &watching);
	interrupt_catch();
	while (code == 0 && watching.code == 0 && reconnecting.code == 0 && !watching.done &&
	       !interrupt_came()) {
		first_list_look(&watching.first);
		if (watching.code || watching.done)
			break;
		r = interrupt_wait_for_reader(conn, first_list_deadline(&watching.first));
		if (r == -EPIPE)
			code = EXIT_OTHER;
		else if (r < 0 && r != -EINTR)
			code = cli_error(conn, "watch", optind < argc ? watching.pattern : "", r);
	}
	xenmsg_close(conn);
	first_list_free(&watching.first);
	writer_free(watching.writer);
	if (interrupt_came())
		interrupt_die();
	return code ? code : watching.code ? watching.code : reconnecting.code;
}
