/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reasons that an error doesn't tell, since who may know them isn't who is told the error: what hinders a
 * program from reaching another host may be its own host's matter, and what hinders an endpoint from being
 * started is this domain's.
 */
#include "cli/why.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>
#include <xenmsg.h>

#include "cli/fields.h"
#include "cli/nearest.h"
#include "wire/address.h"

static struct json_object *ask(struct xenmsg *conn, const char *question)
{
	struct json_object *answer;
	char *json;

	if (xenmsg_query(conn, question, NULL, &json) < 0)
		return NULL;
	answer = json_tokener_parse(json);
	free(json);
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
	answer = ask(conn, question);
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
	struct json_object *hosts = ask(conn, "hosts");
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
	struct json_object *endpoints;

	if (!json_object_object_get_ex(status, "endpoints", &endpoints))
		return NULL;
	for (size_t i = 0; i < json_object_array_length(endpoints); i++) {
		struct json_object *endpoint = json_object_array_get_idx(endpoints, i);

		if (!strcmp(text_of(endpoint, "name"), name))
			return at(endpoint, "activation");
	}
	return NULL;
}

static bool is_here(struct json_object *status, struct address_part domain)
{
	return domain.size &&
	       (address_part_is(domain, "self") || address_part_is(domain, text_of(status, "domid")) ||
		address_part_is(domain, text_of(status, "name")));
}

static char *ask_about_start(struct xenmsg *conn, const struct address_parts *parts)
{
	struct json_object *status = parts->endpoint.data ? ask(conn, "status all") : NULL;
	struct json_object *activation = status && is_here(status, parts->domain)
						 ? find_activation(status, parts->endpoint.data)
						 : NULL;
	char *why = NULL;

	if (activation && *text_of(activation, "reason") &&
	    asprintf(&why, "it is started on demand, which failed: %s; it is tried again in %d s",
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
	bool is_listed = false;
	char *why = NULL;

	if (!parts->endpoint.data || domain_size > DOMAIN_NAME_MAX)
		return NULL;
	snprintf(question, sizeof(question), "endpoints %.*s", domain_size, parts->domain.data);
	/* Behind it may be words of whoever complains. */
	snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(parts->endpoint.data, ", "),
		 parts->endpoint.data);
	nearest = nearest_to(typed);
	endpoints = ask(conn, question);
	if (json_object_is_type(endpoints, json_type_array))
		for (size_t i = 0; i < json_object_array_length(endpoints); i++) {
			const char *name = text_of(json_object_array_get_idx(endpoints, i), "name");

			is_listed |= strcmp(name, typed) == 0;
			nearest_try(&nearest, name);
		}
	if (is_listed)
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
	struct json_object *endpoints = ask(conn, "endpoints self");
	char *why = NULL;

	for (size_t i = 0; !why && i < length_of(endpoints); i++) {
		struct json_object *entry = json_object_array_get_idx(endpoints, i);
		const struct passwd *user;

		if (strcmp(text_of(entry, "name"), endpoint) != 0 || !at(entry, "pid"))
			continue;
		user = getpwuid((uid_t)number_at(entry, "uid"));
		if (asprintf(&why, "%s (pid %s, user %s) has bound this endpoint already",
			     text_or(entry, "comm", "a program"), text_of(entry, "pid"),
			     user ? user->pw_name : text_of(entry, "uid")) < 0)
			why = NULL;
	}
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
	peers = ask(conn, "peers");
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

/* Names the command for what the endpoint takes, where that is known. */
static char *ask_about_kind(struct xenmsg *conn, const char *address, const struct address_parts *parts)
{
	static const struct {
		const char *kind, *takes, *command, *or_else;
	} kinds[] = {
		{"message", "messages", "send", ""},
		{"call", "calls", "call", ""},
		{"topic", "subscribers", "subscribe", ""},
		{"stream", "streams", "connect", ", or run if 'xenmsg listen --run' serves it"},
	};
	char question[sizeof("endpoints ") + ADDRESS_MAX];
	int size = (int)strcspn(address, ", "); /* behind it may be words of whoever complains */
	struct json_object *endpoints;
	char *why = NULL;

	if (!parts->endpoint.data || size > ADDRESS_MAX)
		return NULL;
	snprintf(question, sizeof(question), "endpoints %.*s", (int)(parts->endpoint.data - 1 - address),
		 address);
	endpoints = ask(conn, question);
	for (size_t i = 0; !why && i < length_of(endpoints); i++) {
		struct json_object *endpoint = json_object_array_get_idx(endpoints, i);
		const char *name = text_of(endpoint, "name"), *kind = text_of(endpoint, "kind");

		if (strncmp(name, parts->endpoint.data, strlen(name)) != 0 ||
		    parts->endpoint.data + strlen(name) != address + size)
			continue;
		for (size_t j = 0; kind && j < sizeof(kinds) / sizeof(kinds[0]); j++)
			if (!strcmp(kind, kinds[j].kind) &&
			    asprintf(&why, "it takes %s: xenmsg %s %.*s%s", kinds[j].takes, kinds[j].command,
				     size, address, kinds[j].or_else) < 0)
				why = NULL;
	}
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
