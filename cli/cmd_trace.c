/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* trace: prints the steps of messages, calls and streams as they happen. Each daemon that tells them is a
 * source, which is asked again as soon as it has answered. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/far_status.h"
#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg trace [OPTIONS] WHAT\n"
	"\n"
	"Prints what becomes of messages, calls and streams here, step by step as it\n"
	"happens, until it is interrupted. WHAT is an address (5:inbox), an endpoint, a\n"
	"domain (what it sends and receives), the name of a channel or message as this\n"
	"and 'send --trace' print it (3.4711.1, 3.4711.1@120), or '*'. It is for root,\n"
	"the user that the daemon runs as, and members of its admin-group.\n"
	"\n"
	"      --domains LIST  in domain 0: also what the daemons of these domains see,\n"
	"                      parted by commas, where host-sight is full\n"
	"  -n, --count N       end after so many steps\n"
	"      --json          one JSON object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg trace inbox\n"
	"  xenmsg trace --json 5:inbox\n";

#define QUESTION_SIZE	512
#define SOURCES_MAX	33u /* this domain's daemon, and others */
#define AHEAD_MAX	16  /* so many channels, or more */
#define REMOTE_PAUSE_MS 200 /* after another domain has told nothing: it may do so at once, without end */

struct source {
	struct tracing *tracing;
	char question[QUESTION_SIZE];
	char domain[DOMAIN_NAME_MAX + 1]; /* "": this one */
	struct json_object *known;	  /* of another one */
	bool has_begun;			  /* it has answered once, so from then on nothing is missing */
	int64_t due; /* when it is to be asked, as deadline_in(); negative: it is being asked */
};

struct tracing {
	struct cli *cli;
	struct xenmsg *conn;
	const char *what;
	bool json;
	uint64_t count; /* 0: no end */
	uint64_t printed;
	int code;
	bool is_over;
	struct source sources[SOURCES_MAX];
	size_t source_count, begun;
};

/* ---- a step in words ------------------------------------------------------------------------- */

/* Returns what a step is called, and what stands before the place where it happens. */
static const char *relation_to(const char *step)
{
	static const char *const before[][2] = {
		{"opened", "to"},  {"came", "from"},	 {"sent", "to"},
		{"queued", "for"}, {"taken", "by"},	 {"finished", "by"},
		{"ended", "for"},  {"cancelled", "for"}, {"refused", "for"},
	};

	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
		if (!strcmp(step, before[i][0]))
			return before[i][1];
	return "at";
}

static void add_time(struct json_object *step)
{
	const char *text = text_or(step, "time", "0"), *point = strchr(text, '.');
	time_t seconds = (time_t)strtoll(text, NULL, 10);
	struct tm local;
	char when[16] = "?";

	if (localtime_r(&seconds, &local))
		strftime(when, sizeof(when), "%H:%M:%S", &local);
	fields_add(step, "when", "%s%s", when, point ? point : "");
}

/* Adds behind whom the bytes wait. */
static void add_ahead(struct json_object *step)
{
	int64_t count = number_at(step, "channels_ahead"),
		others = count - (int64_t)length_of(at(step, "behind"));
	char *names = fields_joined(at(step, "behind"), ", "), more[48] = "";

	if (others > 0)
		snprintf(more, sizeof(more), " and %" PRId64 "%s other%s", others,
			 count == AHEAD_MAX ? " or more" : "", plural(others));
	if (count > 0)
		fields_add(step, "ahead", "%s%s%s", *names ? ", behind " : "", names, more);
	free(names);
}

static void print_step(struct json_object *step)
{
	static const char
		missed[] = "{when} domain {domid}: {count} steps were missed",
		happened[] =
			"{when} domain {domid}: {id}{@|end} {arrow} {address} {kind} {step} {relation} "
			"{where}{, |bytes}{, |carried}{, |queued}{ahead}{, |error}"
			"{, by the rule in |file}{, line |line}";
	const char *word = text_at(step, "step");
	int64_t messages = number_at(step, "messages"), queued = number_at(step, "bytes_queued");
	char *text;

	add_time(step);
	add_ahead(step);
	fields_add(step, "arrow", "%s", json_object_get_boolean(at(step, "back")) ? "<-" : "->");
	fields_add(step, "relation", "%s", relation_to(word));
	if (at(step, "begin"))
		fields_add(step, "bytes", "%" PRId64 " bytes%s",
			   number_at(step, "end") - number_at(step, "begin"),
			   strcmp(text_at(step, "kind"), "stream") ? " with headers" : "");
	if (messages > 0)
		fields_add(step, "carried", "%" PRId64 " message%s", messages, plural(messages));
	if (queued > 0)
		fields_add(step, "queued", "%" PRId64 " bytes wait there", queued);
	text = fields_words(step, strcmp(word, "missed") ? happened : missed);
	cli_print_words(4, "%s", text);
	free(text);
}

/* ---- the sources ----------------------------------------------------------------------------- */

static void print_steps(struct tracing *tracing, struct json_object *steps)
{
	for (size_t i = 0; i < length_of(steps) && !tracing->is_over; i++) {
		struct json_object *step = json_object_array_get_idx(steps, i);

		if (tracing->json)
			cli_print_line("%s", json_line(step));
		else
			print_step(step);
		tracing->is_over = ++tracing->printed == tracing->count;
	}
	tracing->code = cli_flush();
}

/* Returns the steps of an answer. NULL: *why says why there are none. */
static struct json_object *steps_of(const struct source *source, const char *json, const char **why)
{
	*why = "the daemon's answer can't be read";
	return *source->domain ? remote_steps_read(json, source->known, why) : json_tokener_parse(json);
}

static void note_begun(struct source *source)
{
	struct tracing *tracing = source->tracing;

	if (!source->has_begun && ++tracing->begun == tracing->source_count)
		cli_note(tracing->cli, "trace: what happens from now on is printed; Ctrl-C ends it");
	source->has_begun = true;
}

static void take_answer(struct source *source, const char *json)
{
	struct tracing *tracing = source->tracing;
	const char *why;
	struct json_object *steps = steps_of(source, json, &why);

	if (!steps) {
		cli_complain("trace %s: %s", tracing->what, why);
		tracing->code = EXIT_OTHER;
		return;
	}
	note_begun(source);
	source->due = deadline_in(*source->domain && !length_of(steps) ? REMOTE_PAUSE_MS : 0);
	print_steps(tracing, steps);
	json_object_put(steps);
}

static void trace_on_answer(void *userdata, const struct xenmsg_result *result)
{
	struct source *source = userdata;
	struct tracing *tracing = source->tracing;

	if (result->error == 0 && !tracing->code && !tracing->is_over)
		take_answer(source, result->json);
	else if (result->error == -EINVAL && !tracing->code)
		tracing->code = cli_usage("trace", "%s", result->reason);
	else if (result->error < 0 && !tracing->code && !tracing->is_over)
		tracing->code = cli_error_because(result->reason, "trace", tracing->what, result->error);
	free(result->json);
}

static int ask(struct source *source)
{
	struct tracing *tracing = source->tracing;
	int r;

	source->due = -1;
	if (*source->domain && !source->known)
		source->known = cli_find_domain(tracing->conn, source->domain);
	if (at(source->known, "links"))
		return cli_usage("trace", "--domains names other domains than this one");
	r = xenmsg_begin_query(tracing->conn, source->question, XENMSG_WITHIN(-1), trace_on_answer, source,
			       NULL);
	return r < 0 ? cli_error(tracing->conn, "trace", tracing->what, r) : EXIT_DONE;
}

/* Asks those that are to be asked now. Returns when the next one is; negative: none is. */
static int64_t ask_due(struct tracing *tracing)
{
	int64_t next = -1;

	for (size_t i = 0; i < tracing->source_count && !tracing->code; i++) {
		struct source *source = &tracing->sources[i];

		if (source->due >= 0 && source->due <= deadline_in(0))
			tracing->code = ask(source);
		if (source->due >= 0 && (next < 0 || source->due < next))
			next = source->due;
	}
	return next;
}

static int trace(struct tracing *tracing)
{
	int code = cli_open(tracing->cli, &tracing->conn), r;

	if (code)
		return code;
	interrupt_catch();
	while (!tracing->is_over && !interrupt_came()) {
		int64_t next = ask_due(tracing);

		if (tracing->code)
			break;
		r = interrupt_wait_for_reader(tracing->conn, next);
		if (r == -EPIPE && !tracing->code)
			tracing->code = EXIT_OTHER;
		else if (r < 0 && r != -EINTR && !tracing->code)
			tracing->code = cli_error(tracing->conn, "trace", tracing->what, r);
	}
	code = tracing->code;
	tracing->is_over = true;
	xenmsg_close(tracing->conn);
	for (size_t i = 0; i < tracing->source_count; i++)
		json_object_put(tracing->sources[i].known);
	interrupt_die();
	return code;
}

/* Adds a source, of another domain unless it is NULL. Returns whether it can be asked. */
static bool add_source(struct tracing *tracing, const char *domain, size_t size)
{
	struct source *source = &tracing->sources[tracing->source_count];
	int written;

	if (tracing->source_count == SOURCES_MAX || size > DOMAIN_NAME_MAX)
		return false;
	tracing->source_count++;
	*source = (struct source){.tracing = tracing};
	if (domain)
		memcpy(source->domain, domain, size);
	written = domain ? snprintf(source->question, QUESTION_SIZE, "trace of %.*s %s", (int)size, domain,
				    tracing->what)
			 : snprintf(source->question, QUESTION_SIZE, "trace %s", tracing->what);
	return written < QUESTION_SIZE;
}

static int add_domains(struct tracing *tracing, const char *list)
{
	for (size_t size;; list += size + 1) {
		size = strcspn(list, ",");
		if (!size || memchr(list, ' ', size) || !add_source(tracing, list, size))
			return cli_usage("trace", "--domains takes at most %u domains, parted by commas",
					 SOURCES_MAX - 1);
		if (!list[size])
			return EXIT_DONE;
	}
}

int cmd_trace(struct cli *cli, int argc, char **argv)
{
	struct tracing tracing = {.cli = cli};
	const char *domains = NULL;
	const struct cli_option options[] = {{"json", .flag = &tracing.json},
					     {"count", .count = &tracing.count},
					     {"domains", .text = &domains},
					     {0}};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind != 1)
		return cli_usage("trace", "what to trace? One ADDRESS, endpoint or domain; quote a *");
	tracing.what = argv[optind];
	if (strpbrk(tracing.what, " \t\n") || !*tracing.what || *tracing.what == ':' ||
	    !add_source(&tracing, NULL, 0))
		return cli_usage("trace", "'%s' is no ADDRESS, endpoint or domain", tracing.what);
	code = domains ? add_domains(&tracing, domains) : EXIT_DONE;
	return code ? code : trace(&tracing);
}
