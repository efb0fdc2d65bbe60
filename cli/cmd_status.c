/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/far_status.h"
#include "cli/fields.h"
#include "cli/json.h"
#include "cli/metrics.h"
#include "cli/writer.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg status [OPTIONS]\n"
	"\n"
	"Shows the local daemon's account of itself: links, endpoints, clients, limits.\n"
	"In domain 0 its administrators also see that of another domain's daemon, in\n"
	"its own words, as far as host-sight in its xenmsgd.conf lets them.\n"
	"\n"
	"      --domain DOMAIN the daemon of DOMAIN\n"
	"      --json          the same and more as JSON (doc/status.schema.json)\n"
	"      --metrics       its numbers as Prometheus text\n"
	"      --all           every entry of each list, not only the 100 that matter\n"
	"                      most\n"
	"\n"
	"Examples:\n"
	"  xenmsg status\n"
	"  xenmsg status --json --all\n"
	"  xenmsg status --domain work\n";

static void write_rest(struct json_object *status, const char *list)
{
	size_t listed = listed_in(status, list), total = total_of(status, list);

	if (total > listed)
		printf("and %zu more %s, which 'xenmsg status --all' shows\n", total - listed, list);
}

static void status_shape_link(struct json_object *link)
{
	fields_name_link(link);
	/* Why a link that nobody needs was closed last is no error. */
	if (!strcmp(text_at(link, "state"), "idle"))
		json_object_object_del(link, "last_error");
	fields_tell_away(link, "state");
}

/* Puts in words how much of each resource the account uses, and the most that it may have. */
static void status_shape_account(struct json_object *account)
{
	static const struct {
		const char *name;
		bool is_size;
	} uses[] = {{"clients", false},	    {"endpoints", false},   {"channels", false},
		    {"queued_bytes", true}, {"descriptors", false}, {"memory", true}};
	int64_t refused = 0;

	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++) {
		struct json_object *resource = at(account, uses[i].name);
		int64_t used = number_at(resource, "used"), most = number_at(resource, "max");
		char has[24], may_have[24];

		if (!resource)
			continue;
		refused += number_at(resource, "refused");
		size_text(used, has, sizeof(has));
		size_text(most, may_have, sizeof(may_have));
		if (uses[i].is_size)
			fields_add(account, uses[i].name, "%s/%s", has, may_have);
		else
			fields_add(account, uses[i].name, "%" PRId64 "/%" PRId64, used, most);
	}
	fields_name_account(account);
	fields_add(account, "refused", "%" PRId64, refused);
	/* How often it got no turns for a while, and whether that is so now. */
	fields_add(account, "rests", "%s%s", text_at(at(account, "time"), "rests"),
		   json_object_get_boolean(field(account, "time.resting")) ? " (now)" : "");
}

static const struct {
	const char *list, *columns;
	void (*shape)(struct json_object *entry);
} tables[] = {
	{"links",
	 "link=number,name=called,state,role,channels,rtt_us,sent=tx.messages,received=rx.messages,last_error",
	 status_shape_link},
	{"endpoints", "endpoint=name,uid,pid,queued", NULL},
	{"accounts",
	 "account=who,clients,endpoints,channels,queued_bytes,descriptors,memory,refused,rests,cut_off",
	 status_shape_account},
};

/* The lines before the tables, each if this holds (fields_hold()), of the status and what is added to it. */
static const struct {
	const char *when, *text;
} summary[] = {
	{"", "xenmsgd {version} in domain {domid}{ (|name|)}, up {uptime}"},
	{"renewed!=", "took over from xenmsgd {renewed.from} then, hand-overs so far: {renewed.times}"},
	{"store.connected=true", "XenStore connected"},
	{"store.connected=false", "XenStore not connected"},
	{"grants!=",
	 "granted pages {grants.used_pages} of {grants.limit_pages}, links waiting for pages {grants.waiting_links}"},
	{"", "{counted}"},
	{"cut_off=1", "1 session was cut off; the log says which, and why"},
	{"cut_off>1", "{cut_off} sessions were cut off; the log says which, and why"},
	{"policy.rules=1", "policy: 1 rule is in force"},
	{"policy.rules!= policy.rules!=1", "policy: {policy.rules} rules are in force"},
	{"denied.0.count!=",
	 "policy: refused last domain {denied.0.from}, uid {denied.0.uid}, to {denied.0.to}, {denied_times}, last {denied_last}; 'xenmsg policy denied' lists all"},
	{"policy.error!=", "policy: older rules are in force: {policy.error}"},
	{"partial=true host_sight!=",
	 "only what host-sight = links in its xenmsgd.conf lets domain 0 see: no programs, users and refusals"},
	{"partial=true host_sight=",
	 "only what is yours, and what isn't about anybody: the rest is for " WHO_SEES_ALL},
};

/* Adds to the status what its lines say in other words. */
static void add_words(struct json_object *status)
{
	static const char *const counted[] = {"peers", "links", "endpoints", "clients"};
	struct json_object *last = field(status, "denied.0");
	char when[32], counts[160] = "";

	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++) {
		size_t count = total_of(status, counted[i]), used = strlen(counts);

		if (at(status, counted[i]))
			snprintf(counts + used, sizeof(counts) - used, "%s%zu %.*s", i ? ", " : "", count,
				 (int)strlen(counted[i]) - (count == 1), counted[i]);
	}
	fields_add(status, "counted", "%s", counts);
	duration_text(number_at(status, "uptime_s"), when, sizeof(when));
	fields_add(status, "uptime", "%s", when);
	time_text((time_t)number_at(last, "last"), false, when, sizeof(when));
	fields_add(status, "denied_last", "%s", when);
	fields_add(status, "denied_times", "%s time%s", text_at(last, "count"),
		   plural(number_at(last, "count")));
}

/* Returns whether an account has something, or had trouble: the others are in the JSON. */
static bool is_in_use(struct json_object *account)
{
	json_object_object_foreach(account, name, resource) {
		(void)name;
		if (number_at(resource, "used") || number_at(resource, "refused") ||
		    number_at(resource, "rests"))
			return true;
	}
	return number_at(account, "cut_off") != 0;
}

static void leave_out_idle(struct json_object *status)
{
	struct json_object *accounts = at(status, "accounts"), *used = json_object_new_array();
	size_t left;

	fields_foreach(accounts, account)
		if (is_in_use(account))
			json_object_array_add(used, json_object_get(account));
	left = length_of(accounts) - length_of(used);
	if (at(status, "totals"))
		json_object_object_add(at(status, "totals"), "accounts",
				       json_object_new_int64((int64_t)(total_of(status, "accounts") - left)));
	json_object_object_add(status, "accounts", used);
}

static int write_summary(struct json_object *status)
{
	int code = EXIT_DONE;

	add_words(status);
	if (at(status, "accounts"))
		leave_out_idle(status);
	for (size_t i = 0; i < sizeof(summary) / sizeof(summary[0]); i++) {
		char *words = fields_words(status, summary[i].text);

		if (fields_hold(status, summary[i].when))
			cli_print_words(2, "%s", words);
		free(words);
	}
	for (size_t i = 0; code == EXIT_DONE && i < sizeof(tables) / sizeof(tables[0]); i++) {
		if (listed_in(status, tables[i].list) == 0)
			continue;
		putchar('\n');
		code = write_list(at(status, tables[i].list), tables[i].columns, tables[i].shape, NULL);
		write_rest(status, tables[i].list);
	}
	return code ? code : cli_flush();
}

static int show_json(struct json_object *status)
{
	const char *text = cli_made((void *)json_object_to_json_string_ext(
		status, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	struct json_object *again = cli_made(json_tokener_parse(text));
	int code;

	if (!json_object_equal(status, again)) /* it has left out what it had no memory for */
		cli_no_memory();
	json_object_put(again);
	code = cli_show(text, strlen(text));
	putchar('\n');
	return code ? code : cli_flush();
}

static int show_metrics(struct json_object *status)
{
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);
	int code = EXIT_OTHER;

	if (stream)
		metrics_write(status, stream);
	if (stream && fclose(stream) == 0)
		code = cli_show(text, size);
	else
		cli_complain("status: %s", strerror(ENOMEM));
	free(text);
	return code;
}

/* Asks the daemon of another domain, or for this one's own status. */
static int ask_domain(struct cli *cli, struct xenmsg *conn, const char *domain, struct json_object **status)
{
	char question[sizeof("status of ") + DOMAIN_NAME_MAX], *text;
	struct json_object *known = cli_find_domain(conn, domain);
	const char *why;
	int r;

	if (at(known, "links")) {
		*status = known;
		return EXIT_DONE;
	}
	snprintf(question, sizeof(question), "status of %s", domain);
	r = xenmsg_query(conn, question, NULL, &text);
	if (r < 0) {
		json_object_put(known);
		return cli_error(conn, "status", domain, r);
	}
	*status = remote_status_read(text, known, FAR_STATUS_MOST, &why);
	json_object_put(known);
	free(text);
	if (*status)
		return EXIT_DONE;
	cli_complain("status %s: %s", domain, why);
	return EXIT_OTHER;
}

static int ask_by_connection(struct cli *cli, const char *domain, struct json_object **status)
{
	struct xenmsg *conn;
	int code = cli_open(cli, &conn);

	if (code)
		return code;
	code = ask_domain(cli, conn, domain, status);
	xenmsg_close(conn);
	return code;
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
	bool json = false, metrics = false, all = false;
	const char *domain = NULL;
	const struct cli_option options[] = {{"json", .flag = &json},
					     {"metrics", .flag = &metrics},
					     {"all", .flag = &all},
					     {"domain", .text = &domain},
					     {0}};
	struct json_object *status;
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc)
		return cli_usage("status", "'%s' is too much; for another domain's: status --domain %s",
				 argv[optind], argv[optind]);
	if (json && metrics)
		return cli_usage("status", "--json and --metrics exclude each other");
	if (domain && all)
		return cli_usage(
			"status",
			"--domain and --all exclude each other: another domain tells the most important");
	if (domain && !domain_name_is_valid(domain, strlen(domain)))
		return cli_usage("status", "--domain '%s' can't be a domain; write a domid or a name",
				 domain);
	code = domain ? ask_by_connection(cli, domain, &status)
		      : cli_ask(cli, all ? "status all" : "status", "", -1, &status);
	if (code)
		return code;
	if (json) {
		code = show_json(status);
	} else if (metrics) {
		code = show_metrics(status);
	} else {
		code = write_summary(status);
	}
	json_object_put(status);
	return code;
}
