/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to an address, step by step, as far as this domain can know: host, domain, link, endpoint, kind,
 * rule. */
#include "cli/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/why.h"
#include "wire/address.h"

#define MEND_SIZE (2 * ADDRESS_MAX + 256)

struct tried_way {
	struct doctor *doctor;
	struct xenmsg *conn;
	const char *text; /* the address */
	struct address address;
	char domain[ADDRESS_MAX + 1]; /* [HOST/]DOMAIN */
	bool is_own;		      /* it is this domain */
	struct json_object *endpoint; /* as listed */
};

static struct json_object *ask(const struct tried_way *way, const char *question)
{
	struct json_object *answer;
	char *json;

	if (xenmsg_query(way->conn, question, NULL, &json) < 0)
		return NULL;
	answer = json_tokener_parse(json);
	free(json);
	return answer;
}

/* Returns the entry of a list in which this member has this value, or NULL. */
static struct json_object *find(struct json_object *list, const char *member, const char *value)
{
	for (size_t i = 0; i < length_of(list); i++) {
		struct json_object *entry = json_object_array_get_idx(list, i);

		if (!strcmp(text_or(entry, member, ""), value))
			return entry;
	}
	return NULL;
}

/* Says that policy lets nothing out, or in. */
static bool denied(struct tried_way *way, const char *mend)
{
	char *why = cli_why_refused(way->conn, way->text, -EACCES);

	ill(way->doctor, EXIT_DENIED, "rule", why ? why : mend, "%s: %s", way->text,
	    *way->address.host
		    ? "policy here lets nothing leave this host for there, or policy there nothing in"
		    : "denied by policy");
	free(why);
	return false;
}

/* ---- the steps: each returns whether the next one is to be tried ----------------------------- */

static bool check_host(struct tried_way *way)
{
	const char *host = way->address.host;
	struct json_object *hosts, *entry;
	bool goes_on = false;
	char *why;

	if (!*host)
		return true;
	hosts = ask(way, "hosts");
	entry = find(hosts, "host", host);
	if (!entry) {
		why = cli_why_refused(way->conn, way->text, -EACCES);
		ill(way->doctor, EXIT_DENIED, "host",
		    why ? why : "see 'xenmsg hosts', and [hosts] in xenmsgd.conf(5)",
		    "%s: nothing that this domain may know of leads to host %s", way->text, host);
		free(why);
	} else if (!json_object_get_boolean(at(entry, "own")) && !json_object_get_boolean(at(entry, "up"))) {
		ill(way->doctor, EXIT_UNREACHABLE, "host", "start xenmsgd and its gateway in domain 0 there",
		    "%s: host %s is down", way->text, host);
	} else {
		well(way->doctor, "host", "%s: host %s is there", way->text, host);
		goes_on = true;
	}
	json_object_put(hosts);
	return goes_on;
}

static bool no_link(struct tried_way *way, int error)
{
	char *why = error == -EHOSTUNREACH ? cli_why_no_link(way->conn, way->text) : NULL;
	char reason[256];

	snprintf(reason, sizeof(reason), "%s", xenmsg_reason(way->conn, 0));
	ill(way->doctor, error == -ETIMEDOUT ? EXIT_TIMED_OUT : EXIT_UNREACHABLE, "link",
	    "run 'xenmsg doctor' in that domain, and see the logs of both daemons", "%s: %s", way->text,
	    why			  ? why
	    : *reason		  ? reason
	    : error == -ETIMEDOUT ? "the daemon there doesn't answer"
				  : xenmsg_error_text(error));
	free(why);
	return false;
}

static bool check_domain(struct tried_way *way)
{
	struct json_object *peers;
	char reason[256];
	uint64_t rtt_ns;
	int r = xenmsg_ping(way->conn, way->domain, XENMSG_WITHIN(DOCTOR_PING_MS), &rtt_ns);

	snprintf(reason, sizeof(reason), "%s", xenmsg_reason(way->conn, r));
	if (r == -EHOSTDOWN) {
		ill(way->doctor, EXIT_UNREACHABLE, "domain",
		    "start xenmsgd in that domain; with presence = private there, its peers must name this domain",
		    "%s: %s", way->text, reason);
		return false;
	}
	if (r == -EACCES)
		return denied(way, "a [relay] in /etc/xenmsg/policy.d of domain 0 must let the two talk");
	well(way->doctor, "domain", "%s: domain %s is there", way->text, way->domain);
	if (r < 0)
		return no_link(way, r);
	well(way->doctor, "link", "%s: the daemon there answers within %.1f us", way->text,
	     (double)rtt_ns / 1e3);
	peers = doctor_peers(way->conn);
	doctor_check_way(way->doctor, peers, way->domain);
	json_object_put(peers);
	return true;
}

static bool no_endpoint(struct tried_way *way)
{
	char *why = cli_why_refused(way->conn, way->text, -ENOENT);
	char mend[MEND_SIZE];

	if (way->is_own)
		snprintf(
			mend, sizeof(mend),
			"bind it: xenmsg recv %s (or serve, listen); who isn't root needs a [rule] with from = self",
			way->address.endpoint);
	else
		snprintf(
			mend, sizeof(mend),
			"in that domain 'xenmsg endpoints self' says whether it is bound, and 'xenmsg policy "
			"check %s%u %s' whether a rule lets this domain in",
			*way->address.host ? "OUR-HOST/" : "", xenmsg_domid(way->conn),
			way->address.endpoint);
	ill(way->doctor, EXIT_NO_ENDPOINT, "endpoint", mend, "%s: %s", way->text,
	    why ? why : "nobody has bound it, or policy there doesn't show it to this domain");
	free(why);
	return false;
}

static bool check_endpoint(struct tried_way *way)
{
	char question[sizeof("endpoints ") + ADDRESS_MAX];
	struct json_object *endpoints;

	snprintf(question, sizeof(question), "endpoints %s", way->domain);
	endpoints = ask(way, question);
	way->endpoint = json_object_get(find(endpoints, "name", way->address.endpoint));
	json_object_put(endpoints);
	if (!way->endpoint)
		return no_endpoint(way);
	if (!strcmp(text_or(way->endpoint, "started", ""), "failed")) {
		ill(way->doctor, EXIT_NO_ENDPOINT, "endpoint",
		    "see the log of its program, then start it again",
		    "%s: it is started on demand, which failed", way->text);
		return false;
	}
	well(way->doctor, "endpoint", "%s: it is bound", way->text);
	return true;
}

static bool check_kind(struct tried_way *way)
{
	static const struct {
		const char *kind, *takes, *command;
	} kinds[] = {
		{"message", "messages", "xenmsg send"},
		{"call", "calls", "xenmsg call"},
		{"topic", "subscribers", "xenmsg subscribe"},
		{"stream", "streams", "xenmsg connect, or run if 'xenmsg listen --run' serves it"},
		{"any", "messages and calls, perhaps streams", "xenmsg send, call"},
	};
	const char *kind = text_or(way->endpoint, "kind", "");

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kind, kinds[i].kind)) {
			well(way->doctor, "kind", "%s: it takes %s (%s)", way->text, kinds[i].takes,
			     kinds[i].command);
			return true;
		}
	left_out(way->doctor, "kind", "%s: the daemon there doesn't tell what it takes", way->text);
	return true;
}

/* Says by which rule of this domain it may be reached, or may leave. */
static void tell_decision(struct tried_way *way, struct json_object *answer)
{
	struct json_object *cure = at(answer, "cure");
	const char *line = text_or(cure, "line", "");
	char mend[MEND_SIZE];

	if (json_object_get_boolean(at(answer, "allow"))) {
		well(way->doctor, "rule", "%s: %s%s%s allows it", way->text,
		     text_or(answer, "file", "policy"), at(answer, "line") ? ":" : "",
		     text_or(answer, "line", ""));
		return;
	}
	snprintf(mend, sizeof(mend),
		 "add to %s%s%s what 'xenmsg policy check' prints, then: xenmsg policy reload",
		 text_or(cure, "file", "/etc/xenmsg/policy.d"), *line ? ", before line " : "", line);
	ill(way->doctor, json_object_get_boolean(at(answer, "undecided")) ? EXIT_UNREACHABLE : EXIT_DENIED,
	    "rule", mend, "%s: %s", way->text, text_or(answer, "reason", "denied"));
}

static bool check_rule(struct tried_way *way)
{
	char question[sizeof("policy 4294967295/4294967295 ") + ADDRESS_MAX];
	struct json_object *answer = NULL;

	if (way->is_own)
		snprintf(question, sizeof(question), "policy self/%u %s", (unsigned)geteuid(),
			 way->address.endpoint);
	else
		snprintf(question, sizeof(question), "policy 0 %s", way->text);
	/* Of what others decide we know that we see it. */
	if (way->is_own || (*way->address.host && xenmsg_domid(way->conn) == 0))
		answer = ask(way, question);
	if (answer)
		tell_decision(way, answer);
	else
		well(way->doctor, "rule",
		     "%s: policy there shows it to this domain; it decides for each user, and 'xenmsg policy check' "
		     "there says how",
		     way->text);
	json_object_put(answer);
	return true;
}

/* ---------------------------------------------------------------------------------------------- */

static bool is_own(const struct tried_way *way)
{
	char domid[16];
	bool is;
	struct json_object *status;

	if (*way->address.host)
		return false;
	snprintf(domid, sizeof(domid), "%u", xenmsg_domid(way->conn));
	if (!strcmp(way->address.domain, "self") || !strcmp(way->address.domain, domid))
		return true;
	status = ask(way, "status");
	is = !strcmp(way->address.domain, text_or(status, "name", ""));
	json_object_put(status);
	return is;
}

void doctor_check_address(struct doctor *doctor, struct xenmsg *conn, const char *address)
{
	static bool (*const steps[])(struct tried_way * way) = {check_host, check_domain, check_endpoint,
								check_kind, check_rule};
	struct tried_way way = {.doctor = doctor, .conn = conn, .text = address};
	size_t i = 0;

	if (address_parse(address, strlen(address), &way.address, NULL) < 0)
		return;
	snprintf(way.domain, sizeof(way.domain), "%s%s%s", way.address.host, *way.address.host ? "/" : "",
		 way.address.domain);
	way.is_own = is_own(&way);
	while (i < sizeof(steps) / sizeof(steps[0]) && steps[i](&way))
		i++;
	json_object_put(way.endpoint);
}
