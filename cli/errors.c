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

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/interrupt.h"
#include "cli/nearest.h"
#include "wire/address.h"

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

/* --- other hosts ------------------------------------------------------------------------------ */

static bool is_listed(struct json_object *hosts, struct address_part host)
{
	for (size_t i = 0; i < json_object_array_length(hosts); i++)
		if (address_part_is(host, text_of(json_object_array_get_idx(hosts, i), "host")))
			return true;
	return false;
}

/* Asks the policy of domain 0, in which we are. Returns what it is to be mended by; NULL: it lets that out,
 * or doesn't tell. */
static struct json_object *ask_for_cure(struct xenmsg *conn, const char *address)
{
	struct json_object *answer, *cure = NULL;
	char question[512];

	if (xenmsg_domid(conn) != 0 ||
	    snprintf(question, sizeof(question), "policy 0 %s", address) >= (int)sizeof(question))
		return NULL;
	answer = cli_query(conn, question, NULL, NULL);
	if (json_object_object_get_ex(answer, "cure", &cure))
		json_object_get(cure);
	json_object_put(answer);
	return cure;
}

/* Says why policy denies it: here, where domain 0 lets it leave the host, or there. Guests are told only of
 * the hosts to which an [out] lets them go, and domain 0 of all that it has heard of. */
static char *why_denied(struct xenmsg *conn, struct json_object *hosts, struct address_part host,
			const char *address)
{
	struct json_object *cure = ask_for_cure(conn, address);
	const char *line = text_of(cure, "line");
	int size = (int)host.size;
	uint32_t domid = xenmsg_domid(conn);
	char *why = NULL;
	int r;

	if (cure)
		r = asprintf(&why,
			     "no [out] lets it leave this host: add one to %s%s%s, with from = 0, to = %.*s, "
			     "action = allow, as 'xenmsg policy check 0 %s' prints it",
			     text_of(cure, "file"), *line ? ", before line " : "", line, size, host.data,
			     address);
	else if (is_listed(hosts, host))
		r = asprintf(
			&why,
			"denied by policy; an [out] in /etc/xenmsg/policy.d of domain 0 here must let it "
			"leave this host, and there a [rule] of the receiving domain let it in");
	else
		r = asprintf(
			&why,
			"nothing leads to that host: an [out] in /etc/xenmsg/policy.d of domain 0 here must "
			"let it leave this host, with from = %u, to = %.*s, action = allow (there 'xenmsg "
			"policy check %u %s' prints it), and 'xenmsg hosts' list that one",
			domid, size, host.data, domid, address);
	json_object_put(cure);
	return r < 0 ? NULL : why;
}

/* Where nothing leads to any host, the daemon's own words say so. */
static char *ask_about_host(struct xenmsg *conn, struct address_part host, const char *address, int error)
{
	struct json_object *hosts = cli_query(conn, "hosts", NULL, NULL);
	const char *reason = hosts ? "" : xenmsg_reason(conn, 0);
	char *why = NULL;

	if (error == -EACCES && json_object_is_type(hosts, json_type_array))
		why = why_denied(conn, hosts, host, address);
	else if (*reason)
		why = strdup(reason);
	json_object_put(hosts);
	return why;
}

/* --- policy ------------------------------------------------------------------------------------ */

/* Tells where to ask which rule it is. */
static char *ask_there(struct xenmsg *conn, const char *address, const struct address_parts *parts)
{
	uint32_t domid = xenmsg_domid(conn);
	size_t size = parts->domain.size;
	char own[16], *why = NULL;
	bool is_here;
	int r;

	if (!parts->endpoint.data)
		return NULL;
	snprintf(own, sizeof(own), "%u", domid);
	is_here = address_part_is(parts->domain, "self") || address_part_is(parts->domain, own);
	if (is_here)
		snprintf(own, sizeof(own), "self");
	r = asprintf(&why, "denied by policy. Ask %s%.*s: xenmsg policy check %s %.*s",
		     is_here ? "" : "in domain ", is_here ? (int)strlen("here") : (int)size,
		     is_here ? "here" : address, own, (int)strcspn(parts->endpoint.data, ", "),
		     parts->endpoint.data);
	return r < 0 ? NULL : why;
}

/* --- what is started on demand ---------------------------------------------------------------- */

/* Returns how the endpoint is started, or NULL. */
static struct json_object *find_activation(struct json_object *status, const char *name)
{
	return at(find_in(at(status, "endpoints"), "name", name), "activation");
}

static bool is_here(struct json_object *status, struct address_part domain)
{
	return domain.size &&
	       (address_part_is(domain, "self") || address_part_is(domain, text_of(status, "domid")) ||
		address_part_is(domain, text_of(status, "name")));
}

static char *ask_about_start(struct xenmsg *conn, const struct address_parts *parts)
{
	struct json_object *status = parts->endpoint.data ? cli_query(conn, "status all", NULL, NULL) : NULL;
	struct json_object *activation = status && is_here(status, parts->domain)
						 ? find_activation(status, parts->endpoint.data)
						 : NULL;
	char *why = NULL;

	if (activation && *text_of(activation, "reason") &&
	    asprintf(&why, "that endpoint is started on demand, which failed: %s; the next try is in %d s",
		     text_of(activation, "reason"),
		     (int)((number_at(activation, "pause_ms") + 999) / 1000)) < 0)
		why = NULL;
	json_object_put(status);
	return why;
}

/* --- endpoints that aren't there -------------------------------------------------------------- */

/* Names the nearest endpoint of that domain that this program can see. */
static char *ask_about_names(struct xenmsg *conn, const struct address_parts *parts)
{
	char question[sizeof("endpoints ") + DOMAIN_NAME_MAX], typed[ENDPOINT_NAME_MAX + 1];
	int domain_size = (int)parts->domain.size;
	struct json_object *endpoints;
	struct nearest nearest;
	char *why = NULL;

	if (!parts->endpoint.data || domain_size > DOMAIN_NAME_MAX)
		return NULL;
	snprintf(question, sizeof(question), "endpoints %.*s", domain_size, parts->domain.data);
	/* Behind it may be words of whoever complains. */
	snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(parts->endpoint.data, ", "),
		 parts->endpoint.data);
	nearest = nearest_to(typed);
	endpoints = cli_query(conn, question, NULL, NULL);
	for (size_t i = 0; i < length_of(endpoints); i++)
		nearest_try(&nearest, text_of(json_object_array_get_idx(endpoints, i), "name"));
	if (find_in(endpoints, "name", typed))
		why = strdup(
			"that domain lists it, but no program has it now: if it is started on demand, that has "
			"failed, and 'xenmsg status' there says why; it is tried again within a minute");
	else if (nearest.meant && asprintf(&why, "no such endpoint there; did you mean %.*s:%s?", domain_size,
					   parts->domain.data, nearest.meant) < 0)
		why = NULL;
	json_object_put(endpoints);
	return why;
}

/* --- endpoints that are bound already ---------------------------------------------------------- */

/* Says who has bound an endpoint here, to those that may know. */
static char *ask_about_binder(struct xenmsg *conn, const char *endpoint)
{
	struct json_object *endpoints = cli_query(conn, "endpoints self", NULL, NULL);
	struct json_object *entry = find_in(endpoints, "name", endpoint);
	const struct passwd *user = at(entry, "pid") ? getpwuid((uid_t)number_at(entry, "uid")) : NULL;
	char *why = NULL;

	if (at(entry, "pid") && asprintf(&why, "%s (pid %s, user %s) has bound this endpoint already",
					 text_or(entry, "comm", "a program"), text_of(entry, "pid"),
					 user ? user->pw_name : text_of(entry, "uid")) < 0)
		why = NULL;
	json_object_put(endpoints);
	return why;
}

/* --- domains that aren't there ---------------------------------------------------------------- */

/* Names the nearest domain, where one is typed by a name that isn't known. */
static char *ask_about_domains(struct xenmsg *conn, const char *address)
{
	size_t length = strcspn(address, ", "); /* behind it may be words of whoever complains */
	struct address_parts parts = address_split(address, length);
	size_t size = parts.domain.size;
	char typed[DOMAIN_NAME_MAX + 1];
	struct json_object *peers;
	struct nearest nearest;
	char *why = NULL;

	if (parts.host.data || size == 0 || size > DOMAIN_NAME_MAX || strspn(address, "0123456789") >= size)
		return NULL;
	snprintf(typed, sizeof(typed), "%.*s", (int)size, address);
	nearest = nearest_to(typed);
	peers = cli_query(conn, "peers", NULL, NULL);
	for (size_t i = 0; i < length_of(peers); i++) {
		const char *name = text_of(json_object_array_get_idx(peers, i), "name");

		if (!strcmp(name, typed)) { /* it is known, and no daemon runs there */
			nearest.meant = NULL;
			break;
		}
		nearest_try(&nearest, name);
	}
	if (nearest.meant && asprintf(&why, "no domain of that name is known here; did you mean %s%.*s?",
				      nearest.meant, (int)(length - size), address + size) < 0)
		why = NULL;
	json_object_put(peers);
	return why;
}

/* --- endpoints of another kind ---------------------------------------------------------------- */

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
static char *ask_about_kind(struct xenmsg *conn, const char *address, const struct address_parts *parts)
{
	char question[sizeof("endpoints ") + ADDRESS_MAX], typed[ENDPOINT_NAME_MAX + 1];
	int size = (int)strcspn(address, ", "); /* behind it may be words of whoever complains */
	const struct cli_kind *takes;
	struct json_object *endpoints;
	char *why = NULL;

	if (!parts->endpoint.data || size > ADDRESS_MAX)
		return NULL;
	snprintf(question, sizeof(question), "endpoints %.*s", (int)(parts->endpoint.data - 1 - address),
		 address);
	snprintf(typed, sizeof(typed), "%.*s", (int)(address + size - parts->endpoint.data),
		 parts->endpoint.data);
	endpoints = cli_query(conn, question, NULL, NULL);
	takes = cli_kind(text_of(find_in(endpoints, "name", typed), "kind"));
	if (takes && asprintf(&why, "that endpoint takes %s: xenmsg %s %.*s%s", takes->takes, takes->command,
			      size, address, takes->or_else) < 0)
		why = NULL;
	json_object_put(endpoints);
	return why;
}

/* ---------------------------------------------------------------------------------------------- */

char *cli_why_refused(struct xenmsg *conn, const char *address, int error)
{
	struct address_parts parts = address_split(address, strlen(address));
	char *why;

	if (error == -EPROTOTYPE)
		return ask_about_kind(conn, address, &parts);
	if (error == -EHOSTDOWN)
		return ask_about_domains(conn, address);
	if (error == -EEXIST)
		return ask_about_binder(conn, address);
	if (parts.host.data)
		return error == -EACCES || error == -EHOSTUNREACH
			       ? ask_about_host(conn, parts.host, address, error)
			       : NULL;
	if (error == -EACCES)
		return ask_there(conn, address, &parts);
	if (error != -ENOENT)
		return NULL;
	why = ask_about_start(conn, &parts);
	return why ? why : ask_about_names(conn, &parts);
}

/* ---- links ----------------------------------------------------------------------------------- */

/* Returns whether a peer in the daemon's status is the domain before the colon of an address, or the host
 * before its slash. */
static bool link_is_meant(struct json_object *peer, const char *address)
{
	static const char *const ways[] = {"domid", "name", "uuid"};
	struct address_parts parts = address_split(address, strlen(address));
	size_t size = parts.domain.size;

	if (parts.host.data)
		return address_part_is(parts.host, text_or(peer, "host", ""));
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		const char *text = text_or(peer, ways[i], "");

		if (size && strlen(text) == size &&
		    (i == 1 ? !strncmp(text, address, size) : !strncasecmp(text, address, size)))
			return true;
	}
	return false;
}

/* Returns what the status says by this key of the link with the domain, in this list, or NULL. */
static char *word_in(struct json_object *status, const char *list, const char *address, const char *key)
{
	struct json_object *links, *peer, *value;

	if (!json_object_object_get_ex(status, list, &links))
		return NULL;
	for (size_t i = 0; i < json_object_array_length(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i);

		if (json_object_object_get_ex(link, "peer", &peer) && link_is_meant(peer, address) &&
		    json_object_object_get_ex(link, key, &value) && json_object_get_string_len(value))
			return strdup(json_object_get_string(value));
	}
	return NULL;
}

char *cli_why_no_link(struct xenmsg *conn, const char *address)
{
	struct json_object *status = cli_query(conn, "status all", XENMSG_WITHIN(CLI_ASIDE_MS), NULL);
	char *why = word_in(status, "links", address, "last_error");

	if (!why)
		why = word_in(status, "failures", address, "last_error");
	json_object_put(status);
	return why;
}

bool cli_is_away(struct xenmsg *conn, const char *address)
{
	struct json_object *status = cli_query(conn, "status all", XENMSG_WITHIN(CLI_ASIDE_MS), NULL);
	char *state = word_in(status, "links", address, "state");
	bool is_away = state && !strcmp(state, "away");

	free(state);
	json_object_put(status);
	return is_away;
}

/* ---- what is said ---------------------------------------------------------------------------- */

static enum exit_code code_of(int error)
{
	switch (-error) {
	case ENOENT:
		return EXIT_NO_ENDPOINT;
	case EACCES:
		return EXIT_DENIED;
	case ENODATA:
	case EHOSTDOWN:
	case EHOSTUNREACH:
		return EXIT_UNREACHABLE;
	case ETIMEDOUT:
		return EXIT_TIMED_OUT;
	case ENOBUFS:
	case EMSGSIZE:
	case EAGAIN:
		return EXIT_LIMIT;
	case ECONNRESET:
		return EXIT_LOST;
	case ENOTCONN:
	case ECONNREFUSED:
		return EXIT_NO_DAEMON;
	default:
		return EXIT_OTHER;
	}
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

/* Returns what a time-out of what was tried means. */
static const char *why_timed_out(struct xenmsg *conn, const char *what, const char *subject)
{
	static const struct {
		const char *what, *why, *why_away;
	} tries[] = {
		{"send", "timed out; it was not delivered",
		 "timed out, since its domain is away; it was not delivered"},
		{"call", "timed out; it was not delivered",
		 "timed out, since its domain is away; it was not delivered"},
		{"connect", "timed out; there is no stream",
		 "timed out, since its domain is away; there is no stream"},
		{"run", "timed out; the command was not run",
		 "timed out, since its domain is away; the command was not run"},
		{"bench", "timed out", "timed out, since its domain is away"},
	};
	size_t size = strcspn(what, " ");

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++)
		if (strlen(tries[i].what) == size && !strncmp(tries[i].what, what, size))
			return conn && cli_is_away(conn, subject) ? tries[i].why_away : tries[i].why;
	return "timed out: the local xenmsgd doesn't answer";
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

int cli_error(struct xenmsg *conn, const char *what, const char *subject, int error)
{
	/* An error that is about messages alone is said in words of what was tried. */
	const char *reason = conn ? cli_said(xenmsg_reason(conn, 0), error) : "";
	const char *text;
	/* What the daemon says leaves out which domain is meant, who has bound it, and what else it takes. */
	bool asks = !*reason || error == -EHOSTDOWN || error == -EEXIST || error == -EPROTOTYPE;
	char *why = conn && asks ? cli_why_refused(conn, subject, error) : NULL;
	int code;

	if (conn && !why && !*reason && error == -EHOSTUNREACH)
		why = cli_why_no_link(conn, subject);
	if (why)
		reason = why;
	else if (conn && !*reason && error == -EHOSTDOWN && (text = why_unknown(conn, subject)))
		reason = text;
	else if (!*reason && error == -ETIMEDOUT)
		reason = why_timed_out(conn, what, subject);
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
	enum exit_code code = EXIT_OTHER;

	switch (-error) {
	case ENOENT:
	case ECONNREFUSED:
		code = EXIT_NO_DAEMON;
		break;
	case EACCES:
		code = EXIT_DENIED;
		break;
	case ENAMETOOLONG:
		code = EXIT_USAGE;
		break;
	case ETIMEDOUT:
		code = EXIT_TIMED_OUT;
		break;
	case ENOBUFS:
	case EBUSY:
		code = EXIT_LIMIT;
		break;
	}
	cli_complain("%s: %s%s", cli_socket_path(cli), xenmsg_reason(NULL, error),
		     code == EXIT_NO_DAEMON ? " by --socket or XENMSG_SOCKET" : "");
	return code;
}

static int open_as(struct cli *cli, struct xenmsg **conn, const struct xenmsg_options *options)
{
	const char *path = cli_socket_path(cli);
	int r = xenmsg_open(conn, path, options);

	if (r < 0)
		return cli_no_session(cli, r);
	if (cli->verbose)
		cli_note(cli, "connected to the xenmsgd of domain %u at %s", xenmsg_domid(*conn), path);
	return 0;
}

int cli_open(struct cli *cli, struct xenmsg **conn)
{
	return open_as(cli, conn, NULL);
}

int cli_open_timed(struct cli *cli, struct xenmsg **conn, int *timeout_ms)
{
	return cli_open_timed_with(cli, conn, 0, timeout_ms);
}

int cli_open_timed_with(struct cli *cli, struct xenmsg **conn, unsigned flags, int *timeout_ms)
{
	int64_t deadline = interrupt_deadline(*timeout_ms);
	int usual_ms = flags & XENMSG_WAIT ? -1 : XENMSG_USUAL_MS;
	int code = open_as(cli, conn, XENMSG_WITH(*timeout_ms <= 0 ? usual_ms : *timeout_ms, flags));

	if (*timeout_ms > 0)
		*timeout_ms = interrupt_left(deadline);
	return code;
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

/* "!3" leaves one out of others that follow. */
static bool shows_any(struct json_object *shown)
{
	for (size_t i = 0; i < json_object_array_length(shown); i++)
		if (*json_object_get_string(json_object_array_get_idx(shown, i)) != '!')
			return true;
	return false;
}

/* Returns whether no rule shows the endpoint of this domain to another one. */
static bool is_for_this_domain_alone(struct xenmsg *conn, const char *endpoint)
{
	struct json_object *endpoints = cli_query(conn, "endpoints self", XENMSG_WITHIN(CLI_ASIDE_MS), NULL);
	bool is = false;

	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *entry = json_object_array_get_idx(endpoints, i),
				   *shown = at(entry, "visible_to");

		if (!strcmp(text_or(entry, "name", ""), endpoint))
			is = json_object_is_type(shown, json_type_array) && !shows_any(shown);
	}
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
