/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sessions with the daemon, and errors in words, with their exit codes. What an error means is said by the
 * library (xenmsg_error_text()); what the daemon said of this one is better (xenmsg_reason()). The rest is
 * asked for here, since those that may know it aren't those that are told the error: what hinders a program
 * from reaching another host may be its own host's matter, and what hinders an endpoint from being started is
 * this domain's.
 */

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/nearest.h"
#include "wire/address.h"
#include "wire/outcomes.h"

struct json_object *cli_query(struct xenmsg *conn, const char *question, const struct xenmsg_options *options,
			      int *error)
{
	struct json_object *answer = NULL;
	char *text;
	int r = xenmsg_query(conn, question, options, &text);

	if (r == 0) {
		answer = json_tokener_parse(text);
		free(text);
		r = answer ? 0 : -EPROTO;
	}
	if (error)
		*error = r;
	return answer;
}

static const char *text_of(struct json_object *object, const char *key)
{
	return text_or(object, key, "");
}

/* ---- what is asked besides ------------------------------------------------------------------- */

/* An address that something went wrong with. */
struct refused_address {
	struct xenmsg *conn;
	char address[2 * ADDRESS_MAX]; /* as it was typed, without words of whoever complains behind it */
	char place[2 * ADDRESS_MAX];   /* [HOST/]DOMAIN of it */
	char host[ADDRESS_MAX + 1], *domain; /* "": none is named */
	char endpoint[ADDRESS_MAX + 1];	     /* likewise */
	int error;
};

static struct json_object *ask_beside(const struct refused_address *refused, const char *question,
				      const char *about)
{
	struct json_object *answer;
	char *text = fields_printed("%s%s", question, about);

	answer = cli_query(refused->conn, text, NULL, NULL);
	free(text);
	return answer;
}

/* Says why policy denies it: here, where domain 0 lets it leave the host, or there. Guests are told only of
 * the hosts to which an [out] lets them go, and domain 0 of all that it has heard of. */
static char *why_denied(const struct refused_address *refused, struct json_object *hosts)
{
	uint32_t domid = xenmsg_domid(refused->conn);
	/* What would let it out, by the policy of domain 0, in which we are. */
	struct json_object *answer = domid ? NULL : ask_beside(refused, "policy 0 ", refused->address),
			   *cure = at(answer, "cure");
	const char *line = text_of(cure, "line");
	char *why;

	if (cure)
		why = fields_printed(
			"no [out] lets it leave this host: add one to %s%s%s, with from = 0, to = %s, "
			"action = allow, as 'xenmsg policy check 0 %s' prints it",
			text_of(cure, "file"), *line ? ", before line " : "", line, refused->host,
			refused->address);
	else if (find_in(hosts, "host", refused->host))
		why = fields_printed(
			"denied by policy; an [out] in /etc/xenmsg/policy.d of domain 0 here must let it "
			"leave this host, and there a [rule] of the receiving domain let it in");
	else
		why = fields_printed(
			"nothing leads to that host: an [out] in /etc/xenmsg/policy.d of domain 0 here must "
			"let it leave this host, with from = %u, to = %s, action = allow (there 'xenmsg "
			"policy check %u %s' prints it), and 'xenmsg hosts' list that one",
			domid, refused->host, domid, refused->address);
	json_object_put(answer);
	return why;
}

/* Where nothing leads to any host, the daemon's own words say so. */
static char *ask_about_host(const struct refused_address *refused)
{
	struct json_object *hosts = cli_query(refused->conn, "hosts", NULL, NULL);
	const char *reason = hosts ? "" : xenmsg_reason(refused->conn, 0);
	char *why = NULL;

	if (refused->error == -EACCES && json_object_is_type(hosts, json_type_array))
		why = why_denied(refused, hosts);
	else if (*reason)
		why = strdup(reason);
	json_object_put(hosts);
	return why;
}

bool cli_is_domain(struct json_object *entry, struct address_part domain)
{
	const char *uuid = text_of(entry, "uuid");

	return domain.size && (address_part_is(domain, text_of(entry, "domid")) ||
			       address_part_is(domain, text_of(entry, "name")) ||
			       (strlen(uuid) == domain.size && !strncasecmp(uuid, domain.data, domain.size)));
}

/* Returns whether a peer in the daemon's status is the domain before the colon of an address, or the host
 * before its slash. */
static bool link_is_meant(struct json_object *peer, const char *address)
{
	struct address_parts parts = address_split(address, strlen(address));

	return parts.host.data ? address_part_is(parts.host, text_of(peer, "host"))
			       : cli_is_domain(peer, parts.domain);
}

/* Returns whether what is for that domain goes through domain 0. */
static bool is_relayed(const struct refused_address *refused)
{
	struct json_object *peers = ask_beside(refused, "peers", "");
	bool is_relayed = false;

	fields_foreach(peers, peer)
		is_relayed = is_relayed || (at(peer, "via") && link_is_meant(peer, refused->address));
	json_object_put(peers);
	return is_relayed;
}

/* Tells where to ask which rule of the policy it is. */
static char *ask_there(const struct refused_address *refused)
{
	char own[16], *between = NULL, *why;
	bool is_here;

	if (!*refused->endpoint)
		return NULL;
	snprintf(own, sizeof(own), "%u", xenmsg_domid(refused->conn));
	is_here = !strcmp(refused->domain, "self") || !strcmp(refused->domain, own);
	if (!is_here && is_relayed(refused))
		between = fields_printed(
			"; if that allows it, in domain 0, which passes it on: xenmsg "
			"policy check %s %s",
			own, refused->address);
	why = fields_printed("denied by policy. Ask %s%s: xenmsg policy check %s %s%s",
			     is_here ? "" : "in domain ", is_here ? "here" : refused->domain,
			     is_here ? "self" : own, refused->endpoint, between ? between : "");
	free(between);
	return why;
}

/* Says why an endpoint here isn't started. */
static char *ask_about_start(const struct refused_address *refused)
{
	struct json_object *status = *refused->endpoint ? ask_beside(refused, "status all", "") : NULL;
	const char *domain = refused->domain;
	bool is_here = *domain && (!strcmp(domain, "self") || !strcmp(domain, text_of(status, "domid")) ||
				   !strcmp(domain, text_of(status, "name")));
	struct json_object *endpoint = is_here ? find_in(at(status, "endpoints"), "name", refused->endpoint)
					       : NULL,
			   *activation = at(endpoint, "activation");
	char *why = NULL;

	if (*text_of(activation, "reason"))
		why = fields_printed(
			"that endpoint is started on demand, which failed: %s; the next try is in %d s",
			text_of(activation, "reason"),
			(int)((number_at(activation, "pause_ms") + 999) / 1000));
	json_object_put(status);
	return why;
}

/* Names the nearest endpoint of that domain that this program can see. */
static char *ask_about_names(const struct refused_address *refused)
{
	struct nearest nearest = nearest_to(refused->endpoint);
	struct json_object *endpoints =
		*refused->endpoint ? ask_beside(refused, "endpoints ", refused->place) : NULL;
	char *why = NULL;

	fields_foreach(endpoints, entry)
		nearest_try(&nearest, text_of(entry, "name"));
	if (find_in(endpoints, "name", refused->endpoint))
		why = strdup(
			"that domain lists it, but no program has it now: if it is started on demand, that has "
			"failed, and 'xenmsg status' there says why; it is tried again within a minute");
	else if (nearest.meant)
		why = fields_printed("no such endpoint there; did you mean %s:%s?", refused->place,
				     nearest.meant);
	json_object_put(endpoints);
	return why;
}

/* Says who has bound an endpoint here, to those that may know. */
static char *ask_about_binder(const struct refused_address *refused)
{
	struct json_object *endpoints = ask_beside(refused, "endpoints self", "");
	struct json_object *entry = find_in(endpoints, "name", refused->address);
	const struct passwd *user = at(entry, "pid") ? getpwuid((uid_t)number_at(entry, "uid")) : NULL;
	char *why = NULL;

	if (at(entry, "pid"))
		why = fields_printed("%s (pid %s, user %s) has bound this endpoint already",
				     text_or(entry, "comm", "a program"), text_of(entry, "pid"),
				     user ? user->pw_name : text_of(entry, "uid"));
	json_object_put(endpoints);
	return why;
}

/* Names the nearest domain, where one is typed by a name that isn't known. */
static char *ask_about_domains(const struct refused_address *refused)
{
	const char *typed = refused->domain;
	struct nearest nearest = nearest_to(typed);
	struct json_object *peers;
	char *why = NULL;

	if (*refused->host || strspn(typed, "0123456789") == strlen(typed))
		return NULL;
	peers = ask_beside(refused, "peers", "");
	fields_foreach(peers, peer)
		nearest_try(&nearest, text_of(peer, "name"));
	if (nearest.meant && !find_in(peers, "name", typed)) /* else no daemon runs there */
		why = fields_printed("no domain of that name is known here; did you mean %s%s?",
				     nearest.meant, refused->address + strlen(typed));
	json_object_put(peers);
	return why;
}

const struct cli_kind *cli_kind(const char *name)
{
	static const struct cli_kind kinds[] = {
		{"message", "messages", "send", ""},
		{"call", "calls", "call", ""},
		{"topic", "subscribers", "subscribe", ""},
		{"stream", "streams", "connect", ", or run if 'xenmsg listen --run' serves it"},
		{"any", "messages and calls", "send or call", ""},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(name, kinds[i].name))
			return &kinds[i];
	return NULL;
}

/* Names the command for what the endpoint takes, where that is known. */
static char *ask_about_kind(const struct refused_address *refused)
{
	struct json_object *endpoints =
		*refused->endpoint ? ask_beside(refused, "endpoints ", refused->place) : NULL;
	const struct cli_kind *takes =
		cli_kind(text_of(find_in(endpoints, "name", refused->endpoint), "kind"));

	json_object_put(endpoints);
	return takes ? fields_printed("that endpoint takes %s: xenmsg %s %s%s", takes->takes, takes->command,
				      refused->address, takes->or_else)
		     : NULL;
}

char *cli_why_refused(struct xenmsg *conn, const char *address, int error)
{
	size_t size = strcspn(address, ", ");
	struct address_parts parts = address_split(address, size);
	struct refused_address refused = {.conn = conn, .error = error};
	bool is_remote = parts.host.data;
	char *why;

	if (size >= sizeof(refused.address) ||
	    !address_part_copy(parts.endpoint, refused.endpoint, sizeof(refused.endpoint)) ||
	    !address_part_copy(parts.host, refused.host, sizeof(refused.host)))
		return NULL;
	snprintf(refused.address, sizeof(refused.address), "%.*s", (int)size, address);
	snprintf(refused.place, sizeof(refused.place), "%.*s",
		 (int)(parts.domain.data + parts.domain.size - address), address);
	refused.domain = refused.place + (parts.domain.data - address);
	switch (-error) {
	case EPROTOTYPE:
		return ask_about_kind(&refused);
	case EHOSTDOWN:
		return ask_about_domains(&refused);
	case EEXIST:
		return ask_about_binder(&refused);
	case EHOSTUNREACH:
		return is_remote ? ask_about_host(&refused) : NULL;
	case EACCES:
		return is_remote ? ask_about_host(&refused) : ask_there(&refused);
	case ENOENT:
		why = is_remote ? NULL : ask_about_start(&refused);
		return why || is_remote ? why : ask_about_names(&refused);
	default:
		return NULL;
	}
}

/* ---- links ----------------------------------------------------------------------------------- */

/* Returns what the status says by this key of the link with the domain; "": nothing. */
static const char *word_of_link(struct json_object *status, const char *address, const char *key)
{
	static const char *const lists[] = {"links", "failures"};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		fields_foreach(at(status, lists[i]), link)
			if (link_is_meant(at(link, "peer"), address) && *text_of(link, key))
				return text_of(link, key);
	return "";
}

char *cli_why_no_link(struct xenmsg *conn, const char *address)
{
	struct json_object *status = cli_query(conn, "status all", XENMSG_WITHIN(CLI_ASIDE_MS), NULL);
	const char *why = word_of_link(status, address, "last_error");
	char *copy = *why ? strdup(why) : NULL;

	json_object_put(status);
	return copy;
}

bool cli_is_away(struct xenmsg *conn, const char *address)
{
	struct json_object *status = cli_query(conn, "status all", XENMSG_WITHIN(CLI_ASIDE_MS), NULL);
	bool is_away = !strcmp(word_of_link(status, address, "state"), "away");

	json_object_put(status);
	return is_away;
}

/* ---- what is said ---------------------------------------------------------------------------- */

#define STATUS(number, status, words)                                                                        \
	case number:                                                                                         \
		return EXIT_##status;

static enum exit_code code_of(int error)
{
	switch (-error) {
		OUTCOMES(STATUS)
	}
	return EXIT_OTHER;
}

static enum exit_code code_of_opening(int error)
{
	switch (-error) {
		OPENINGS(STATUS)
	}
	return EXIT_OTHER;
}

/* Returns the daemon's words if it is the domain that isn't known, else NULL. The error itself doesn't say
 * whether it is the domain or the endpoint. */
static const char *why_unknown(struct xenmsg *conn, const char *address)
{
	struct address_parts parts = address_split(address, strlen(address));
	size_t size = parts.domain.size;
	char question[sizeof("endpoints ") + DOMAIN_NAME_MAX], *json;
	int r;

	if (parts.host.data || !domain_name_is_valid(address, size) || strspn(address, "0123456789") == size)
		return NULL;
	snprintf(question, sizeof(question), "endpoints %.*s", (int)size, address);
	r = xenmsg_query(conn, question, NULL, &json);
	if (r == 0)
		free(json);
	return r == -EHOSTDOWN ? xenmsg_reason(conn, r) : NULL;
}

/* Returns what a time-out of what was tried means, which the caller frees. */
static char *why_timed_out(struct xenmsg *conn, const char *what, const char *subject)
{
	static const struct {
		const char *what, *undone;
	} tries[] = {
		{"send", "; it was not delivered"},
		{"call", "; it was not delivered"},
		{"connect", "; there is no stream"},
		{"run", "; the command was not run"},
		{"bench", ""},
	};
	size_t size = strcspn(what, " ");

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		if (strlen(tries[i].what) == size && !strncmp(tries[i].what, what, size))
			return fields_printed(
				"timed out%s%s",
				conn && cli_is_away(conn, subject) ? ", since its domain is away" : "",
				tries[i].undone);
	return fields_printed("timed out: the local xenmsgd doesn't answer");
}

const char *cli_said(const char *reason, int error)
{
	return strcmp(reason, xenmsg_error_text(error)) ? reason : "";
}

int cli_error_because(const char *reason, const char *what, const char *subject, int error)
{
	/* The daemon's own words say more. */
	cli_complain("%s%s%s: %s", what, *subject ? " " : "", subject,
		     *reason ? reason : xenmsg_error_text(error));
	return (int)code_of(error);
}

const char *cli_why_broken(struct xenmsg *conn, int stream)
{
	return xenmsg_process(conn) < 0 ? "the stream broke, since the xenmsgd of this domain has ended"
					: xenmsg_break_reason(stream);
}

/* Says what the error means of the address before a comma or blank. */
static bool explain(struct xenmsg *conn, const char *subject, int error, char *words, size_t size)
{
	char address[2 * ADDRESS_MAX];

	snprintf(address, sizeof(address), "%.*s", (int)strcspn(subject, ", "), subject);
	return address_words(error, xenmsg_domid(conn), address, words, size);
}

int cli_error(struct xenmsg *conn, const char *what, const char *subject, int error)
{
	/* An error that is about messages alone is said in words of what was tried. */
	const char *reason = conn ? cli_said(xenmsg_reason(conn, 0), error) : "";
	char said[512]; /* since the next question clears it */
	const char *text;
	/* What the daemon says leaves out which domain is meant, who has bound it, and what else it takes. */
	bool asks = !*reason || error == -EHOSTDOWN || error == -EEXIST || error == -EPROTOTYPE;
	char *why;
	int code;

	snprintf(said, sizeof(said), "%s", reason);
	reason = said;
	why = conn && asks ? cli_why_refused(conn, subject, error) : NULL;
	if (conn && !why && !*reason && error == -EHOSTUNREACH)
		why = cli_why_no_link(conn, subject);
	else if (!why && !*reason && error == -ETIMEDOUT)
		why = why_timed_out(conn, what, subject);
	if (why)
		reason = why;
	else if (conn && !*reason && error == -EHOSTDOWN && (text = why_unknown(conn, subject)))
		reason = text;
	else if (conn && !*reason && explain(conn, subject, error, said, sizeof(said)))
		reason = said;
	code = cli_error_because(reason, what, subject, error);
	free(why);
	return code;
}

/* ---- sessions ------------------------------------------------------------------------------- */

const char *cli_socket_path(const struct cli *cli)
{
	const char *path = secure_getenv("XENMSG_SOCKET");

	if (cli->socket)
		return cli->socket;
	return path && *path ? path : CLI_UNITS_SOCKET;
}

int cli_no_session(struct cli *cli, int error)
{
	enum exit_code code = code_of_opening(error);

	cli_complain("%s: %s%s", cli_socket_path(cli), xenmsg_reason(NULL, error),
		     code == EXIT_NO_DAEMON ? " by --socket or XENMSG_SOCKET" : "");
	return code;
}

int cli_opened(struct cli *cli, struct xenmsg *conn, int error)
{
	if (error < 0)
		return cli_no_session(cli, error);
	if (cli->verbose)
		cli_note(cli, "connected to the xenmsgd of domain %u at %s", xenmsg_domid(conn),
			 cli_socket_path(cli));
	return 0;
}

int cli_open(struct cli *cli, struct xenmsg **conn)
{
	return cli_open_timed(cli, conn, &(int){-1});
}

int cli_open_timed(struct cli *cli, struct xenmsg **conn, int *timeout_ms)
{
	int64_t deadline = deadline_in(*timeout_ms);
	int r = xenmsg_open(conn, cli_socket_path(cli),
			    XENMSG_WITHIN(*timeout_ms > 0 ? *timeout_ms : XENMSG_USUAL_MS));

	if (*timeout_ms > 0)
		*timeout_ms = interrupt_left(deadline);
	return cli_opened(cli, *conn, r);
}

int cli_ask(struct cli *cli, const char *question, const char *subject, int timeout_ms,
	    struct json_object **answer)
{
	struct xenmsg *conn;
	int code = cli_open_timed(cli, &conn, &timeout_ms), r;

	if (code)
		return code;
	*answer = cli_query(conn, question, NULL, &r);
	if (r < 0)
		code = cli_error(conn, cli->command, subject, r);
	xenmsg_close(conn);
	return code;
}

struct json_object *cli_find_domain(struct xenmsg *conn, const char *domain)
{
	struct json_object *peers = cli_query(conn, "peers", NULL, NULL), *found = NULL;
	const struct address_part named = address_part_of(domain);

	fields_foreach(peers, peer)
		if (!found && cli_is_domain(peer, named))
			found = json_object_get(peer);
	json_object_put(peers);
	if (found || !(found = cli_query(conn, "status", NULL, NULL)) || !strcmp(domain, "self") ||
	    cli_is_domain(found, named))
		return found;
	json_object_put(found);
	return NULL;
}

static void note_answer(void *userdata, const struct xenmsg_result *result)
{
	struct cli_asked *asked = userdata;

	asked->error = result->error;
	asked->reason = *result->reason ? strdup(result->reason) : NULL;
	asked->json = result->json;
	asked->round_trip_ns = result->round_trip_ns;
	asked->is_over = true;
}

void cli_ask_all(struct xenmsg *conn, struct cli_asked *asked, size_t count, size_t at_once, int timeout_ms,
		 int (*begin)(struct xenmsg *conn, struct cli_asked *asked,
			      const struct xenmsg_options *options, xenmsg_done done),
		 void (*tell)(void *userdata, struct cli_asked *asked), void *userdata)
{
	for (size_t i = 0, begun = 0; i < count; i++) {
		for (int r; begun < count && begun < i + at_once; begun++)
			if ((r = begin(conn, &asked[begun], XENMSG_WITHIN(timeout_ms), note_answer)) != 0) {
				asked[begun].error = r < 0 ? r : 0;
				asked[begun].is_over = true;
			}
		while (!asked[i].is_over) {
			int r = xenmsg_wait(conn, -1);

			if (r < 0 && r != -EINTR && !asked[i].is_over) { /* it ends all that is asked first */
				asked[i].error = r;
				asked[i].is_over = true;
			}
		}
		tell(userdata, &asked[i]);
		free(asked[i].reason);
		free(asked[i].json);
	}
}

/* Returns whether no rule shows the endpoint of this domain to another one; "!3" leaves one out of others
 * that follow. */
static bool is_for_this_domain_alone(struct xenmsg *conn, const char *endpoint)
{
	struct json_object *endpoints = cli_query(conn, "endpoints self", XENMSG_WITHIN(CLI_ASIDE_MS), NULL);
	struct json_object *shown = at(find_in(endpoints, "name", endpoint), "visible_to");
	bool is = json_object_is_type(shown, json_type_array);

	fields_foreach(shown, domain)
		is = is && *json_object_get_string(domain) == '!';
	json_object_put(endpoints);
	return is;
}

void cli_note_bound(const struct cli *cli, struct xenmsg *conn, const char *endpoint)
{
	if (cli->verbose || cli_is_watched(cli))
		cli_note(cli, "bound %u:%s%s", xenmsg_domid(conn), endpoint,
			 is_for_this_domain_alone(conn, endpoint)
				 ? "; no rule lets another domain of this host in: 'xenmsg policy check "
				   "DOMAIN ENDPOINT' prints one that would"
				 : "");
}
