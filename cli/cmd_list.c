/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* peers, endpoints and hosts: print the daemon's JSON answer as a table, or as it is. */

#include <errno.h>
#include <fnmatch.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/json.h"
#include "cli/nearest.h"
#include "cli/writer.h"
#include "wire/address.h"

static const char peers_help[] =
	"Usage: xenmsg peers [OPTIONS] [HOST|[HOST/]DOMAIN]\n"
	"\n"
	"Lists the domains that the local daemon knows of: domid, name, UUID, version of\n"
	"their daemon, state of the link, and its last round-trip time in microseconds.\n"
	"VIA: the domain whose daemon relays, where there can be no link. Another HOST\n"
	"has domid and name of those that its policy lets this domain know. A number,\n"
	"and the name or UUID of a domain here, is that domain. DOMAIN may also be a\n"
	"pattern of domids, names and UUIDs: 'web*', 'hostb/*'.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      host, domid, name, uuid, version, link, via, why,\n"
	"                      rtt_us\n"
	"      --format TEXT   TEXT for each, with %{FIELD} for their values\n"
	"      --json          the same as JSON, one object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg peers\n"
	"  xenmsg peers -o domid,name 'web*'\n"
	"  xenmsg peers hostb\n";

static const char endpoints_help[] =
	"Usage: xenmsg endpoints [OPTIONS] [[HOST/]DOMAIN[:ENDPOINT]]\n"
	"\n"
	"Lists the endpoints that can be reached from here, in all domains or in DOMAIN\n"
	"(domid, name, UUID or self). Both may be patterns, as for 'xenmsg watch'.\n"
	"KIND: what it takes, messages, calls, streams, or any of them, where that is\n"
	"known.\n"
	"VISIBLE_TO: of those here, which other domains may reach them by policy; !DOMAIN\n"
	"before * is left out.\n"
	"STARTED: of those here that are started on demand, activatable, starting,\n"
	"running, lingering or failed.\n"
	"USER, PID, PROGRAM: who has bound those here, as far as this user may know: his\n"
	"own, and root all.\n"
	"Of a domain of another HOST: those that its policy lets this domain and user\n"
	"reach.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      address (as send takes it), host, domid, domain, name,\n"
	"                      kind, visible_to, started, user, uid, pid, program\n"
	"      --format TEXT   TEXT for each, with %{FIELD} for their values\n"
	"      --json          the same as JSON, one object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg endpoints self\n"
	"  xenmsg endpoints '*:print'\n"
	"  xenmsg endpoints --format '%{address} %{kind}' 'web*'\n";

static const char hosts_help[] =
	"Usage: xenmsg hosts [OPTIONS]\n"
	"\n"
	"Lists this host and the others that the daemon of domain 0 knows of.\n"
	"STATE: of this host the gateway's, connected (to a server), waiting (for one) or\n"
	"missing; of others whether their daemon is up or down; both since when.\n"
	"LINK: of the link between the two daemons; it is made when it is needed.\n"
	"INSTANCE: of the daemon. LAST_ERROR: what was wrong last.\n"
	"In other domains it lists those hosts that policy lets the domain reach, with\n"
	"STATE, and LINK if that is away.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      host, state, link, rtt_us, instance, last_error\n"
	"      --format TEXT   TEXT for each, with %{FIELD} for their values\n"
	"      --json          the same as JSON, one object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg hosts\n"
	"  xenmsg hosts -o host,state\n";

static void shape_peer(struct json_object *peer)
{
	static const char *const rare[] = {"host", "via", "why"}; /* no columns where none has them */

	for (size_t i = 0; i < sizeof(rare) / sizeof(rare[0]); i++)
		if (!at(peer, rare[i]))
			json_object_object_del(peer, rare[i]);
	fields_tell_away(peer, "link");
}

static void shape_host(struct json_object *host)
{
	struct json_object *link = at(host, "link"), *rtt;
	char since[32], *state;

	/* In other domains than 0 it isn't told. */
	if (at(host, "since")) {
		since_text(host, false, since, sizeof(since));
		fields_add(host, "when", "%s", since);
	}
	state = fields_words(host, json_object_get_boolean(at(host, "own"))
					   ? "gateway {gateway}{ to |server}{ since |when}"
				   : json_object_get_boolean(at(host, "up")) ? "up{ since |when}"
									     : "down{ since |when}");
	json_object_object_add(host, "state", json_object_new_string(state));
	free(state);
	if (!link)
		return;
	if (json_object_object_get_ex(link, "rtt_us", &rtt))
		json_object_object_add(host, "rtt_us", json_object_get(rtt));
	if (!at(host, "last_error") && at(link, "last_error"))
		json_object_object_add(host, "last_error", json_object_get(at(link, "last_error")));
	fields_tell_away(link, "state");
	json_object_object_add(host, "link", json_object_get(at(link, "state")));
}

/* Makes an entry have all of these members, which may be objects with some more: null is what isn't known,
 * and what only others have. A text that says nothing, and a time at which nothing was, are unknown, too. */
static void add_unknown(struct json_object *entry, const char *members)
{
	struct column member;

	if (!json_object_is_type(entry, json_type_object))
		return; /* another version's */
	while (column_next(&members, &member)) {
		struct json_object *value = at(entry, member.path);
		bool is_empty =
			json_object_is_type(value, json_type_string) && !json_object_get_string_len(value);

		if (!value || is_empty || (!strcmp(member.path, "since") && !number_at(entry, "since")))
			json_object_object_add(entry, member.path, NULL);
	}
}

/* Adds what `xenmsg send` takes to reach it. */
static void add_address(struct json_object *endpoint)
{
	const char *host = text_or(endpoint, "host", "");

	fields_add(endpoint, "address", "%s%s%s:%s", host, *host ? "/" : "", text_at(endpoint, "domid"),
		   text_at(endpoint, "name"));
}

/* Returns the name of the program that has bound it, with how many do if they share it. */
static struct json_object *program_of(struct json_object *endpoint)
{
	struct json_object *programs = at(endpoint, "programs");
	size_t count = programs ? length_of(programs) : 1;
	char text[96];

	if (count == 1)
		return json_object_get(at(endpoint, "comm"));
	snprintf(text, sizeof(text), "%s, %zu programs", text_at(endpoint, "comm"), count);
	return json_object_new_string(text);
}

/* Puts who has bound it in words, or leaves that out. */
static void list_shape_endpoint(struct json_object *endpoint)
{
	const struct passwd *user = at(endpoint, "uid") ? getpwuid((uid_t)number_at(endpoint, "uid")) : NULL;

	add_address(endpoint);
	if (!at(endpoint, "pid")) {
		json_object_object_del(endpoint, "pid");
		return;
	}
	json_object_object_add(endpoint, "user",
			       user ? json_object_new_string(user->pw_name)
				    : json_object_get(at(endpoint, "uid")));
	json_object_object_add(endpoint, "program", program_of(endpoint));
}

static bool some_have(struct json_object *list, const char *column)
{
	fields_foreach(list, entry)
		if (json_object_object_get_ex(entry, column, NULL))
			return true;
	return false;
}

/* A command that lists. */
struct listing {
	const char *subject; /* as it was typed */
	char question[HOST_NAME_SIZE + DOMAIN_NAME_MAX + 16];
	char domain[DOMAIN_NAME_MAX + 1]; /* a pattern of which domains are meant; "": all that are told */
	char endpoint[ENDPOINT_NAME_MAX + 1]; /* likewise of endpoints */
	const char *domain_name;	      /* the member that has the domain's name */
	const char *columns;		      /* of its table, but for those that no entry has */
	const char *fields;		      /* what can be chosen */
	const char *members, *of_link; /* that an entry has for programs, and those of its link; or NULL */
	void (*shape)(struct json_object *entry); /* makes an entry what people read */
	struct output_fields output_fields;
	bool json;
};

/* Prints a table of the entries, or what is chosen of each. */
static int print_entries(const struct listing *listing, struct json_object *entries)
{
	char shown[256] = "";
	const char *columns = listing->columns;
	struct column column;

	if (output_fields_are_chosen(&listing->output_fields))
		return write_list(entries, listing->fields, NULL, &listing->output_fields);
	while (column_next(&columns, &column)) {
		size_t used = strlen(shown);

		if (some_have(entries, column.path))
			snprintf(shown + used, sizeof(shown) - used, "%s,", column.title);
	}
	return write_list(entries, shown, NULL, NULL);
}

/* Makes an entry what programs read. */
static void complete(const struct listing *listing, struct json_object *entry)
{
	if (!strcmp(listing->domain_name, "domain"))
		add_address(entry);
	add_unknown(entry, listing->members);
	if (listing->of_link && at(entry, "link"))
		add_unknown(at(entry, "link"), listing->of_link);
}

static bool fits(const char *pattern, const char *text)
{
	return text && fnmatch(pattern, text, 0) == 0;
}

/* Returns whether a pattern is of one domain. */
static bool is_one(const char *pattern)
{
	return !strpbrk(pattern, "*?[");
}

/* Returns whether the entry is of such a domain, by its domid, name or UUID. */
static bool domain_is_meant(const struct listing *listing, struct json_object *entry)
{
	const char *uuid = text_or(entry, "uuid", "");

	return !*listing->domain || fits(listing->domain, text_or(entry, "domid", NULL)) ||
	       fits(listing->domain, text_or(entry, listing->domain_name, NULL)) ||
	       (*uuid && fnmatch(listing->domain, uuid, FNM_CASEFOLD) == 0);
}

/* Returns whether it is also of such an endpoint. */
static bool is_meant(const struct listing *listing, struct json_object *entry)
{
	return domain_is_meant(listing, entry) &&
	       (!*listing->endpoint || fits(listing->endpoint, text_or(entry, "name", NULL)));
}

/* Whether a domain that is meant has more than it tells. */
static bool is_cut(const struct listing *listing, struct json_object *all)
{
	fields_foreach(all, entry) {
		if (domain_is_meant(listing, entry) && at(entry, "whole") &&
		    !json_object_get_boolean(at(entry, "whole")))
			return true;
	}
	return false;
}

/* Returns a list, which the caller puts, of those entries that are meant. */
static struct json_object *meant(const struct listing *listing, struct json_object *entries)
{
	struct json_object *left = json_object_new_array();

	fields_foreach(entries, entry) {
		if (is_meant(listing, entry))
			json_object_array_add(left, json_object_get(entry));
	}
	return left;
}

/* Complains that there is no such endpoint, and names the nearest of those that are listed. */
static int no_endpoint(struct cli *cli, const struct listing *listing, struct json_object *all)
{
	const char *endpoint = address_split(listing->subject, strlen(listing->subject)).endpoint.data;
	struct nearest nearest = nearest_to(listing->endpoint);
	char reason[DOMAIN_NAME_MAX + HOST_NAME_SIZE + ENDPOINT_NAME_MAX + 64] = "";

	fields_foreach(all, entry)
		nearest_try(&nearest, text_or(entry, "name", ""));
	if (nearest.meant && endpoint)
		snprintf(reason, sizeof(reason), "no such endpoint there; did you mean %.*s%.64s?",
			 (int)(endpoint - listing->subject), listing->subject, nearest.meant);
	return cli_error_because(reason, cli->command, listing->subject, -ENOENT);
}

/* Prints the entries that are meant, of which there may be none, of all. */
static int print_all(struct cli *cli, const struct listing *listing, struct json_object *entries,
		     struct json_object *all)
{
	if (!json_object_array_length(entries) && !is_cut(listing, all)) {
		if (*listing->endpoint && is_one(listing->endpoint) && is_one(listing->subject))
			return no_endpoint(cli, listing, all);
		if (*listing->domain && is_one(listing->domain))
			return cli_error_because("", cli->command, listing->subject, -EHOSTDOWN);
		if (!listing->json)
			cli_note(cli, "%s%s%s: there are none that this program may see", cli->command,
				 *listing->subject ? " " : "", listing->subject);
	}
	fields_foreach(entries, entry) {
		if (listing->json)
			complete(listing, entry);
		else
			listing->shape(entry);
	}
	return listing->json ? write_json_lines(entries) : print_entries(listing, entries);
}

static int complain_of_cut(const struct cli *cli, const struct listing *listing)
{
	cli_complain("%s%s%s: the list isn't whole: there is more than a domain can tell at once",
		     cli->command, *listing->subject ? " " : "", listing->subject);
	return EXIT_LIMIT;
}

/* Compares two entries by where they are, and then by name. */
static int compare_places(const void *one, const void *other)
{
	struct json_object *first = *(struct json_object *const *)one,
			   *second = *(struct json_object *const *)other;
	int64_t domids[] = {number_at(first, "domid"), number_at(second, "domid")};

	if (domids[0] != domids[1])
		return domids[0] < domids[1] ? -1 : 1;
	return strcmp(text_or(first, "name", ""), text_or(second, "name", ""));
}

/* Another host's daemon has made it, perhaps. */
static bool is_list_of_objects(struct json_object *entries)
{
	bool are_objects = json_object_is_type(entries, json_type_array);

	fields_foreach(entries, entry)
		are_objects = are_objects && json_object_is_type(entry, json_type_object);
	return are_objects;
}

/* Asks and prints. */
static int list(struct cli *cli, const struct listing *listing)
{
	struct json_object *entries, *left;
	int code = cli_ask(cli, listing->question, listing->subject, -1, &entries);

	if (code)
		return code;
	if (is_list_of_objects(entries)) {
		left = meant(listing, entries);
		if (!strncmp(listing->question, "endpoints", strlen("endpoints"))) /* told in any order */
			json_object_array_sort(left, compare_places);
		code = print_all(cli, listing, left, entries);
		if (!code && is_cut(listing, entries))
			code = complain_of_cut(cli, listing);
		json_object_put(left);
	} else {
		cli_complain("%s: the daemon's answer is no JSON list of objects", cli->command);
		code = EXIT_OTHER;
	}
	json_object_put(entries);
	return code;
}

/* Takes the options of a listing. Returns whether to go on, else an exit code in *code. */
static bool take_options(struct cli *cli, int argc, char **argv, const char *help, struct listing *listing,
			 int *code)
{
	const struct cli_option options[] = {
		{"json", .flag = &listing->json}, OUTPUT_FIELDS_OPTIONS(listing->output_fields), {0}};

	if (!cli_options(cli, argc, argv, help, options, code))
		return false;
	*code = output_fields_check(&listing->output_fields, cli->command, listing->json, listing->fields);
	return *code == EXIT_DONE;
}

/* Returns whether a domain here has this name or UUID. If none has, `nearest` has the nearest name, which the
 * answer keeps. */
static bool is_domain_here(struct json_object *peers, const char *typed, struct nearest *nearest)
{
	fields_foreach(peers, peer) {
		if (cli_is_domain(peer, address_part_of(typed)))
			return true;
		nearest_try(nearest, text_or(peer, "name", ""));
	}
	return false;
}

/* Takes HOST, HOST/DOMAIN, or DOMAIN. A number, a pattern and the name or UUID of a domain here can't be a
 * host. Returns whether that may be. */
static bool take_domains(struct listing *listing, const char *typed, bool is_here)
{
	struct address_parts parts = address_split_domain(typed, strlen(typed));
	bool is_number = strspn(typed, "0123456789") == strlen(typed);
	char host[HOST_NAME_SIZE];

	if (!parts.host.data && !is_number && !is_here && is_one(typed)) {
		parts.host = parts.domain;
	} else if (!domain_name_is_valid(parts.domain.data, parts.domain.size) ||
		   !address_part_copy(parts.domain, listing->domain, sizeof(listing->domain))) {
		return false;
	}
	if (!parts.host.data)
		return true;
	snprintf(listing->question, sizeof(listing->question), "peers %.*s", (int)parts.host.size,
		 parts.host.data);
	return address_part_copy(parts.host, host, sizeof(host)) && host_name_is_valid(host, strlen(host));
}

/* Returns whether the daemon knows of a host of this name. It knows of none where nothing leads to others. */
static bool is_host(struct cli *cli, const char *name)
{
	struct json_object *hosts;
	struct xenmsg *conn;
	bool is;
	int r;

	if (cli_open(cli, &conn))
		return false;
	hosts = cli_query(conn, "hosts", NULL, &r);
	/* To ask that host says what is wrong. */
	is = r < 0 ? r != -EHOSTUNREACH : find_in(hosts, "host", name) != NULL;
	json_object_put(hosts);
	xenmsg_close(conn);
	return is;
}

/* Lists what is typed: one word may be a domain here, of which the daemon knows the names, or a host. */
static int list_peers_of(struct cli *cli, struct listing *listing)
{
	struct nearest nearest = nearest_to(listing->subject);
	struct json_object *peers = NULL;
	bool is_word = is_one(listing->subject) && !strchr(listing->subject, '/');
	char reason[DOMAIN_NAME_MAX + 64] = "";
	bool is_here = false;
	int code = EXIT_DONE;

	if (is_word && take_domains(listing, listing->subject, true)) {
		code = cli_ask(cli, "peers", listing->subject, -1, &peers);
		is_here = peers && is_domain_here(peers, listing->subject, &nearest);
		*listing->domain = '\0';
	}
	if (code)
		return code;
	if (!take_domains(listing, listing->subject, is_here) && !peers)
		code = cli_usage("peers",
				 "'%s' can't be a host, which has 1 to 63 of a-z, 0-9 and -, nor a domid, or "
				 "a pattern of domains",
				 listing->subject);
	else if (is_word && !*listing->domain && !is_host(cli, listing->subject)) {
		if (nearest.meant)
			snprintf(reason, sizeof(reason), "no domain or host of that name; did you mean %.*s?",
				 DOMAIN_NAME_MAX, nearest.meant);
		code = cli_error_because(*reason ? reason : "no domain or host of that name", "peers",
					 listing->subject, -EHOSTDOWN);
	} else {
		code = list(cli, listing);
	}
	json_object_put(peers);
	return code;
}

int cmd_peers(struct cli *cli, int argc, char **argv)
{
	static const char columns[] = "host,domid,name,uuid,version,link,via,why,rtt_us";
	struct listing listing = {.subject = "",
				  .question = "peers",
				  .domain_name = "name",
				  .columns = columns,
				  .fields = columns,
				  .members =
					  "host,domid,name,uuid,version,up,link,since,resumes,via,why,rtt_us",
				  .shape = shape_peer};
	int code;

	if (!take_options(cli, argc, argv, peers_help, &listing, &code))
		return code;
	if (argc - optind > 1)
		return cli_usage("peers", "one host, domain or pattern at most; quote it");
	if (optind < argc)
		listing.subject = argv[optind];
	return optind < argc ? list_peers_of(cli, &listing) : list(cli, &listing);
}

/* Takes [HOST/]DOMAIN[:ENDPOINT]. Returns whether that may be. */
static bool take_endpoints(struct listing *listing, const char *typed)
{
	struct address_parts parts = address_split(typed, strlen(typed));
	size_t size = parts.endpoint.data ? (size_t)(parts.endpoint.data - 1 - typed) : strlen(typed);
	struct address parsed;

	if (address_parse_domain(typed, size, &parsed) < 0)
		return false;
	if (parts.endpoint.data &&
	    (!endpoint_pattern_is_valid(parts.endpoint.data, parts.endpoint.size) ||
	     !address_part_copy(parts.endpoint, listing->endpoint, sizeof(listing->endpoint))))
		return false;
	if (is_one(parsed.domain)) {
		snprintf(listing->question, sizeof(listing->question), "endpoints %.*s", (int)size, typed);
		return true;
	}
	snprintf(listing->domain, sizeof(listing->domain), "%s", parsed.domain);
	return !parts.host.data; /* another host tells of one domain at a time */
}

int cmd_endpoints(struct cli *cli, int argc, char **argv)
{
	struct listing listing = {
		.subject = "",
		.question = "endpoints",
		.domain_name = "domain",
		.columns = "host,domid,domain,name,kind,visible_to,started,user,pid,program",
		.fields =
			"address,host,domid,domain,name,kind,visible_to,started,user,uid,pid,"
			"program",
		.members =
			"host,domid,domain,name,kind,visible_to,uid,pid,comm,programs,"
			"started",
		.shape = list_shape_endpoint};
	int code;

	if (!take_options(cli, argc, argv, endpoints_help, &listing, &code))
		return code;
	if (argc - optind > 1)
		return cli_usage("endpoints", "one domain or pattern at most; quote it");
	if (optind < argc)
		listing.subject = argv[optind];
	if (optind < argc && !take_endpoints(&listing, listing.subject))
		return cli_usage(
			"endpoints",
			"'%s' can't be a domain; write a domid, a name, a UUID or self, or HOST/DOMAIN, or "
			"a pattern of domains, or :ENDPOINT or a pattern of endpoints behind one",
			listing.subject);
	return list(cli, &listing);
}

int cmd_hosts(struct cli *cli, int argc, char **argv)
{
	static const char columns[] = "host,state,link,rtt_us,instance,last_error";
	struct listing listing = {.subject = "",
				  .question = "hosts",
				  .domain_name = "host",
				  .columns = columns,
				  .fields = columns,
				  .members = "host,own,instance,gateway,server,up,link,since,last_error",
				  .of_link = "state,version,rtt_us,resumes,since,last_error",
				  .shape = shape_host};
	int code;

	if (!take_options(cli, argc, argv, hosts_help, &listing, &code))
		return code;
	if (optind < argc)
		return cli_usage("hosts", "hosts takes no arguments");
	return list(cli, &listing);
}
