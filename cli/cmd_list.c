/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* peers, endpoints and hosts: print the daemon's JSON answer as a table, or as it is. */

#include <errno.h>
#include <json-c/json.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/choice.h"
#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/writer.h"
#include "wire/address.h"

static const char peers_help[] =
	"Usage: xenmsg peers [OPTIONS] [HOST|DOMID]\n"
	"\n"
	"Lists the domains that the local daemon knows of: domid, name, UUID, version of their daemon, state of the link,\n"
	"and its last round-trip time in microseconds. VIA: the domain whose daemon relays, where there can be no link.\n"
	"Of another HOST: domid and name of those that its policy lets this domain know. A number is a domain here: it alone.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      host, domid, name, uuid, version, link, via, rtt_us\n"
	"      --format TEXT   TEXT for each, with %{FIELD} for their values\n"
	"      --json          the same as JSON, one object a line\n";

static const char endpoints_help[] =
	"Usage: xenmsg endpoints [OPTIONS] [[HOST/]DOMAIN]\n"
	"\n"
	"Lists the endpoints that can be reached from here, in all domains or in DOMAIN (domid, name, UUID or self).\n"
	"KIND: what it takes, messages, calls, streams, or any of them, where that is known.\n"
	"VISIBLE_TO: of those here, which other domains may reach them by policy; !DOMAIN before * is left out.\n"
	"STARTED: of those here that are started on demand, activatable, starting, running, lingering or failed.\n"
	"USER, PID, PROGRAM: who has bound those here, as far as this user may know: his own, and root all.\n"
	"Of a domain of another HOST: those that its policy lets this domain and user reach.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      address (as send takes it), host, domid, domain, name,\n"
	"                      kind, visible_to, started, user, uid, pid, program\n"
	"      --format TEXT   TEXT for each, with %{FIELD} for their values\n"
	"      --json          the same as JSON, one object a line\n";

static const char hosts_help[] =
	"Usage: xenmsg hosts [OPTIONS]\n"
	"\n"
	"Lists this host and the others that the daemon of domain 0 knows of. STATE: of this host the gateway's, connected (to\n"
	"a server), waiting (for one) or missing; of others whether their daemon is up or down; both since when. LINK: of the\n"
	"link between the two daemons; it is made when it is needed. INSTANCE: of the daemon. LAST_ERROR: what was wrong last.\n"
	"In other domains it lists those hosts that policy lets the domain reach, with STATE, and LINK if that is away.\n"
	"\n"
	"  -o, --fields LIST   only these fields, parted by commas, in their order:\n"
	"                      host, state, link, rtt_us, instance, last_error\n"
	"      --format TEXT   TEXT for each, with %{FIELD} for their values\n"
	"      --json          the same as JSON, one object a line\n";

/* Returns the list in an answer, which is the answer itself or the only member of an object. */
static struct json_object *list_in(struct json_object *answer)
{
	if (json_object_is_type(answer, json_type_array))
		return answer;
	if (json_object_is_type(answer, json_type_object)) {
		json_object_object_foreach(answer, name, value) {
			(void)name;
			if (json_object_is_type(value, json_type_array))
				return value;
		}
	}
	return NULL;
}

/* Makes a list of names one text, which the caller puts; returns other values as they are. */
static struct json_object *text_for_table(struct json_object *value)
{
	struct json_object *text;
	char *joined = NULL;
	size_t size = 0;
	FILE *stream;

	if (!json_object_is_type(value, json_type_array))
		return json_object_get(value);
	if (json_object_array_length(value) == 0)
		return json_object_new_string("nobody");
	stream = open_memstream(&joined, &size);
	if (!stream)
		return NULL;
	for (size_t i = 0; i < json_object_array_length(value); i++)
		fprintf(stream, "%s%s", i ? "," : "",
			json_object_get_string(json_object_array_get_idx(value, i)));
	text = fclose(stream) == 0 ? json_object_new_string(joined) : NULL;
	free(joined);
	return text;
}

/* Makes the state of a link a text, likewise. */
static struct json_object *link_for_table(struct json_object *link, const char *state)
{
	char text[80];

	if (strcmp(state, "away") != 0 ||
	    !at(link, "since")) /* other domains than 0 aren't told since when */
		return json_object_new_string(state);
	away_text(link, text, sizeof(text));
	return json_object_new_string(text);
}

static void shape_peer(struct json_object *peer)
{
	if (at(peer, "link")) /* else it is of another host */
		json_object_object_add(peer, "link", link_for_table(peer, text_at(peer, "link")));
}

/* Writes since when the host is as it is, if that is told: not in other domains than 0. */
static void since_words(struct json_object *host, char *text, size_t size)
{
	static const char head[] = " since ";

	text[0] = '\0';
	if (!at(host, "since"))
		return;
	snprintf(text, size, "%s", head);
	since_text(host, true, text + strlen(head), size - strlen(head));
}

static void shape_host(struct json_object *host)
{
	struct json_object *link = at(host, "link"), *rtt;
	const char *server = text_or(host, "server", "");
	char state[300], since[40];

	since_words(host, since, sizeof(since));
	if (json_object_get_boolean(at(host, "own")))
		snprintf(state, sizeof(state), "gateway %s%s%.160s%s", text_at(host, "gateway"),
			 *server ? " to " : "", server, since);
	else
		snprintf(state, sizeof(state), "%s%s",
			 json_object_get_boolean(at(host, "up")) ? "up" : "down", since);
	json_object_object_add(host, "state", json_object_new_string(state));
	if (!link)
		return;
	if (json_object_object_get_ex(link, "rtt_us", &rtt))
		json_object_object_add(host, "rtt_us", json_object_get(rtt));
	if (!*text_at(host, "last_error"))
		json_object_object_add(host, "last_error", json_object_get(at(link, "last_error")));
	json_object_object_add(host, "link", link_for_table(link, text_at(link, "state")));
}

/* Adds what `xenmsg send` takes to reach it. */
static void add_address(struct json_object *endpoint)
{
	const char *host = text_or(endpoint, "host", "");
	char *address = NULL;

	if (asprintf(&address, "%s%s%s:%s", host, *host ? "/" : "", text_at(endpoint, "domid"),
		     text_at(endpoint, "name")) < 0)
		abort();
	json_object_object_add(endpoint, "address", json_object_new_string(address));
	free(address);
}

/* Puts who has bound it in words, or leaves that out. */
static void shape_endpoint(struct json_object *endpoint)
{
	const struct passwd *user = at(endpoint, "uid") ? getpwuid((uid_t)number_at(endpoint, "uid")) : NULL;

	if (!at(endpoint, "pid")) {
		json_object_object_del(endpoint, "pid");
		return;
	}
	json_object_object_add(endpoint, "user",
			       user ? json_object_new_string(user->pw_name)
				    : json_object_get(at(endpoint, "uid")));
	json_object_object_add(endpoint, "program", json_object_get(at(endpoint, "comm")));
}

static bool some_have(struct json_object *list, const char *column)
{
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (json_object_object_get_ex(json_object_array_get_idx(list, i), column, NULL))
			return true;
	return false;
}

/* A command that lists. */
struct listing {
	const char *subject, *question;
	const char *domid;			     /* list it alone; NULL: all */
	const char *const *columns;		     /* of its table, but for those that no entry has */
	const char *const *fields;		     /* what can be chosen */
	void (*complete)(struct json_object *entry); /* adds what the daemon doesn't say; NULL: nothing */
	void (*shape)(struct json_object *entry);    /* makes an entry what people read */
	struct choice choice;
	bool json;
};

/* Prints a table of the entries, or what is chosen of each. */
static int print_entries(const struct listing *listing, struct json_object *entries)
{
	struct writer *writer = writer_new_for(WRITER_TABLE, &listing->choice);
	bool chosen = choice_is_made(&listing->choice);
	size_t count = json_object_array_length(entries);
	int code = EXIT_DONE;

	for (size_t i = 0; code == EXIT_DONE && i < count; i++) {
		struct json_object *entry = json_object_array_get_idx(entries, i);
		const char *const *name = chosen ? listing->fields : listing->columns;

		for (; *name; name++)
			if (chosen || some_have(entries, *name))
				writer_json(writer, *name, text_for_table(at(entry, *name)));
		code = writer_end_row(writer);
	}
	if (code == EXIT_DONE)
		code = writer_finish(writer);
	writer_free(writer);
	return code;
}

static int print_json(struct json_object *entries)
{
	for (size_t i = 0; i < json_object_array_length(entries); i++)
		cli_print_line("%s", json_line(json_object_array_get_idx(entries, i)));
	return cli_flush();
}

static void for_each(struct json_object *entries, void (*change)(struct json_object *entry))
{
	for (size_t i = 0; change && i < json_object_array_length(entries); i++)
		change(json_object_array_get_idx(entries, i));
}

/* Leaves those entries whose domid is this one, or all. Returns whether there are any. */
static bool keep_only(struct json_object *entries, const char *domid)
{
	size_t i = 0;

	while (domid && i < json_object_array_length(entries))
		if (number_at(json_object_array_get_idx(entries, i), "domid") == strtoll(domid, NULL, 10))
			i++;
		else
			json_object_array_del_idx(entries, i, 1);
	return !domid || i > 0;
}

/* Asks and prints. */
static int list(struct cli *cli, const struct listing *listing)
{
	struct json_object *answer, *entries;
	int code = cli_ask(cli, listing->question, listing->subject, -1, &answer);

	if (code)
		return code;
	entries = list_in(answer);
	if (!entries) {
		cli_complain("%s: the daemon's answer is no JSON list", cli->command);
		code = EXIT_OTHER;
	} else if (!keep_only(entries, listing->domid)) {
		code = cli_error_because("", cli->command, listing->subject, -EHOSTDOWN);
	} else {
		for_each(entries, listing->complete);
		if (!listing->json && !json_object_array_length(entries))
			cli_note(cli, "%s: there are none that this program may see", cli->command);
		if (!listing->json)
			for_each(entries, listing->shape);
		code = listing->json ? print_json(entries) : print_entries(listing, entries);
	}
	json_object_put(answer);
	return code;
}

/* Takes the options of a listing. Returns whether to go on, else an exit code in *code. */
static bool take_options(struct cli *cli, int argc, char **argv, const char *help, struct listing *listing,
			 int *code)
{
	const struct cli_option options[] = {
		{"json", .flag = &listing->json}, CHOICE_OPTIONS(listing->choice), {0}};

	if (!cli_options(cli, argc, argv, help, options, code))
		return false;
	*code = choice_check(&listing->choice, cli->command, listing->json, listing->fields);
	return *code == EXIT_DONE;
}

int cmd_peers(struct cli *cli, int argc, char **argv)
{
	static const char *const columns[] = {"host", "domid", "name",	 "uuid", "version",
					      "link", "via",   "rtt_us", NULL};
	char question[sizeof("peers ") + HOST_NAME_SIZE] = "peers";
	struct listing listing = {.subject = "",
				  .question = question,
				  .columns = columns,
				  .fields = columns,
				  .shape = shape_peer};
	const char *host;
	int code;

	if (!take_options(cli, argc, argv, peers_help, &listing, &code))
		return code;
	if (argc - optind > 1)
		return cli_usage("peers", "one host or domain at most");
	if (optind < argc) {
		host = listing.subject = argv[optind];
		if (!host_name_is_valid(host, strlen(host)))
			return cli_usage("peers", "'%s' can't be a host: write 1 to 63 of a-z, 0-9 and -",
					 host);
		if (host[strspn(host, "0123456789")] == '\0')
			listing.domid = host;
		else
			snprintf(question, sizeof(question), "peers %s", host);
	}
	return list(cli, &listing);
}

int cmd_endpoints(struct cli *cli, int argc, char **argv)
{
	static const char *const columns[] = {"host",	 "domid", "domain", "name",    "kind", "visible_to",
					      "started", "user",  "pid",    "program", NULL};
	static const char *const fields[] = {"address", "host",	      "domid",	 "domain", "name",
					     "kind",	"visible_to", "started", "user",   "uid",
					     "pid",	"program",    NULL};
	char question[sizeof("endpoints ") + HOST_NAME_SIZE + 1 + DOMAIN_NAME_MAX] = "endpoints";
	struct listing listing = {.subject = "",
				  .question = question,
				  .columns = columns,
				  .fields = fields,
				  .complete = add_address,
				  .shape = shape_endpoint};
	struct address parsed;
	const char *domain;
	int code;

	if (!take_options(cli, argc, argv, endpoints_help, &listing, &code))
		return code;
	if (argc - optind > 1)
		return cli_usage("endpoints", "one domain at most");
	if (optind < argc) {
		domain = listing.subject = argv[optind];
		if (address_parse_domain(domain, strlen(domain), &parsed) < 0)
			return cli_usage(
				"endpoints",
				"'%s' can't be a domain; write a domid, a name, a UUID or self, or HOST/DOMAIN",
				domain);
		snprintf(question, sizeof(question), "endpoints %s", domain);
	}
	return list(cli, &listing);
}

int cmd_hosts(struct cli *cli, int argc, char **argv)
{
	static const char *const columns[] = {"host",	  "state",	"link", "rtt_us",
					      "instance", "last_error", NULL};
	struct listing listing = {.subject = "",
				  .question = "hosts",
				  .columns = columns,
				  .fields = columns,
				  .shape = shape_host};
	int code;

	if (!take_options(cli, argc, argv, hosts_help, &listing, &code))
		return code;
	if (optind < argc)
		return cli_usage("hosts", "it takes no arguments");
	return list(cli, &listing);
}
