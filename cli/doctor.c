/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What doctor finds of daemons: what they say of themselves; the steps of the way to an address, as far as
 * this domain can know; whether the daemons of other domains answer, which are all asked at once, since each
 * that is silent costs the whole time-out; and, in domain 0, what the daemons of the host tell.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>
#include <xenevtchn.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/writer.h"
#include "wire/address.h"
#include "wire/advice.h"

void doctor_report(struct doctor *doctor, enum result result, int code, const char *step, const char *mend,
		   const char *format, ...)
{
	static const char *const words[] = {"ok", "-", "warn", "FAIL"};
	static const char *const in_json[] = {"ok", "left out", "warning", "failed"};
	char *text = NULL, of_domain[DOMAIN_NAME_MAX + 80];
	bool is_narrow = cli_columns() < 60;
	int width = 12 + (doctor->domain ? (int)strlen(doctor->domain) - 4 : 0);
	va_list args;

	if (doctor->domain) {
		snprintf(of_domain, sizeof(of_domain), "%s: %s", doctor->domain, step);
		step = of_domain;
	}

	if (result == ILL && !doctor->failed++)
		doctor->code = code;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (text && doctor->json) {
		writer_text(doctor->json, "step", step);
		writer_text(doctor->json, "result", in_json[result]);
		writer_text(doctor->json, "text", text);
		if (mend)
			writer_text(doctor->json, "mend", mend);
		writer_end_row(doctor->json);
	} else if (text) {
		cli_print_words(is_narrow ? 6 : 19, "%-5s %-*s %s", words[result], width, step, text);
		if (mend)
			cli_print_words(is_narrow ? 6 : 25, "%*s mend: %s", is_narrow ? 5 : 18, "", mend);
	}
	free(text);
}

/* ---- what a daemon says of itself ----------------------------------------------------------- */

#define RESTS_MANY    10
#define REST_PERIOD_S 60

/* What follows if it has no rules of its own. */
static const char *without_rules(struct json_object *host)
{
	return number_at(host, "rules") > 0 && strcmp(text_or(host, "mode", "obey"), "ignore")
		       ? ", so other domains may reach what the host policy allows, and nothing else"
		       : ", so no other domain may reach anything here";
}

static void check_policy(struct doctor *doctor, struct json_object *policy, struct json_object *host)
{
	int64_t rules = number_at(policy, "rules");

	if (at(policy, "rules"))
		well(doctor, "policy", "%" PRId64 " %s in force%s", rules,
		     rules == 1 ? "rule is" : "rules are", rules ? "" : without_rules(host));
	if (json_object_get_string_len(at(policy, "error")) > 0)
		ill(doctor, EXIT_OTHER, "policy", "correct it, then: xenmsg policy reload",
		    "older rules are in force, since the files have a mistake: %s",
		    text_or(policy, "error", ""));
	if (json_object_get_boolean(at(policy, "needs_names")) && at(policy, "names_known") &&
	    !json_object_get_boolean(at(policy, "names_known")))
		ill(doctor, EXIT_UNREACHABLE, "policy",
		    "start xenmsgd in domain 0; with presence = private there, its peers must name this domain",
		    "rules name domains, and no names are known: what hangs on them isn't decided, and was refused %s times",
		    text_or(policy, "undecided", "0"));
}

static void check_host_policy(struct doctor *doctor, struct json_object *host)
{
	const char *mode = text_or(host, "mode", "obey");

	if (!strcmp(mode, "ignore"))
		well(doctor, "host policy", "domain 0's rules aren't obeyed here: host-policy = ignore");
	else if (!at(host, "rules") && !strcmp(mode, "require"))
		ill(doctor, EXIT_UNREACHABLE, "host policy",
		    "start xenmsgd in domain 0, of a version that tells it; with presence = private there, its peers must name this domain",
		    "domain 0 hasn't told it, and host-policy = require: nobody comes in from other domains");
	else if (number_at(host, "rules") > 0)
		well(doctor, "host policy", "%" PRId64 " of domain 0's rules are about this domain%s",
		     number_at(host, "rules"), at(host, "directory") ? ", or about others" : "");
}

static void check_denied(struct doctor *doctor, struct json_object *denied)
{
	struct json_object *last = length_of(denied) ? json_object_array_get_idx(denied, 0) : NULL;

	if (last)
		well(doctor, "policy",
		     "some are refused: last domain %s, uid %s, to %s (%s time%s); 'xenmsg policy check %s/%s %s' says why, and 'xenmsg policy denied' lists them",
		     text_or(last, "from", ""), text_or(last, "uid", "0"), text_or(last, "to", ""),
		     text_or(last, "count", ""), number_at(last, "count") == 1 ? "" : "s",
		     text_or(last, "from", ""), text_or(last, "uid", "0"), text_or(last, "to", ""));
}

/* Looks at what is started on demand. */
static void check_activation(struct doctor *doctor, struct json_object *status)
{
	struct json_object *endpoints = at(status, "endpoints");

	if (json_object_get_string_len(at(at(status, "activation"), "error")) > 0)
		ill(doctor, EXIT_OTHER, "activation", "correct it, then: xenmsg policy reload",
		    "older files are in force, since the newer ones have a mistake: %s",
		    text_or(at(status, "activation"), "error", ""));
	for (size_t i = 0; i < length_of(endpoints); i++) {
		struct json_object *endpoint = json_object_array_get_idx(endpoints, i);
		struct json_object *activation = at(endpoint, "activation");

		if (!strcmp(text_or(activation, "state", ""), "failed"))
			ill(doctor, EXIT_OTHER, "activation",
			    "look at the program's own log; see xenmsg-activation(5)",
			    "the program for %s couldn't be started: %s", text_or(endpoint, "name", ""),
			    text_or(activation, "reason", ""));
	}
}

/* Looks at the way to other hosts, where this host has a name for them. */
static void check_hosts(struct doctor *doctor, struct json_object *hosts)
{
	const char *gateway = text_or(hosts, "gateway", ""), *error = text_or(hosts, "last_error", "");

	if (!strcmp(gateway, "missing"))
		ill(doctor, EXIT_OTHER, "hosts",
		    ADVICE_START("xenmsg-gateway") ", or see its log: " ADVICE_LOG("xenmsg-gateway"),
		    "no gateway to other hosts is connected%s%s", *error ? ": " : "", error);
	else if (!strcmp(gateway, "waiting"))
		ill(doctor, EXIT_OTHER, "hosts",
		    "correct /etc/xenmsg/gateway.conf, or start the NATS server that it names",
		    "the gateway has no connection to the network%s%s", *error ? ": " : "", error);
	else if (*gateway)
		well(doctor, "hosts", "the gateway is connected to %s", text_or(hosts, "server", ""));
}

/* Whether it is more than chance, such as that of a virtual machine that another one took the CPU from. */
static bool rests_again_and_again(struct json_object *status, struct json_object *time)
{
	int64_t rests = number_at(time, "rests");

	return rests >= RESTS_MANY && (json_object_get_boolean(at(time, "resting")) ||
				       rests * REST_PERIOD_S >= number_at(status, "uptime_s"));
}

/* Looks for users and domains that keep the daemon in the kernel, and for programs that it has cut off. */
static void check_time(struct doctor *doctor, struct json_object *status)
{
	struct json_object *accounts = at(status, "accounts");

	for (size_t i = 0; i < length_of(accounts); i++) {
		struct json_object *account = json_object_array_get_idx(accounts, i),
				   *time = at(account, "time");
		bool is_uid = !strcmp(text_or(account, "kind", ""), "uid");

		if (rests_again_and_again(status, time))
			warned(doctor, "time",
			       is_uid ? "end its programs, or mend them: something watches their sockets, doorbells or streams thousands of times (epoll)"
				      : "see that domain's programs, and those here that accept its streams",
			       "%s %s had to rest %s times%s, since calls into the kernel for it took too long",
			       at(account, "host") ? "host"
			       : is_uid		   ? "uid"
						   : "domain",
			       text_or(account, at(account, "host") ? "host" : "id", ""),
			       text_or(time, "rests", ""),
			       json_object_get_boolean(at(time, "resting")) ? ", and does now" : "");
	}
	if (number_at(status, "cut_off") > 0)
		warned(doctor, "programs",
		       "its log says which, and why (" ADVICE_LOG(
			       "xenmsgd") " | grep 'cut off'): mend or end these",
		       "the daemon has cut off %s sessions of programs", text_or(status, "cut_off", ""));
}

void doctor_check_status(struct doctor *doctor, struct json_object *status)
{
	struct json_object *grants = at(status, "grants"), *store = at(status, "store"),
			   *renewed = at(status, "renewed");
	const char *domid = text_or(status, "domid", "");

	well(doctor, "daemon", "xenmsgd %s serves domain %s at %s", text_or(status, "version", ""), domid,
	     text_or(status, "socket", ""));
	if (renewed)
		well(doctor, "daemon", "this one took over from xenmsgd %s %s s ago, and programs went on",
		     text_or(renewed, "from", ""), text_or(status, "uptime_s", ""));
	if (doctor->store_domid[0] && strcmp(domid, doctor->store_domid))
		ill(doctor, EXIT_OTHER, "daemon", "restart xenmsgd; was the domain restored?",
		    "xenmsgd takes this for domain %s, and XenStore says %s", domid, doctor->store_domid);
	if (at(store, "connected") && !json_object_get_boolean(at(store, "connected")))
		ill(doctor, EXIT_OTHER, "daemon", "look at xenstored in domain 0, then restart xenmsgd",
		    "xenmsgd has lost XenStore");
	else if (json_object_get_double(at(store, "stalled_s")) > 1)
		ill(doctor, EXIT_OTHER, "daemon", "look at xenstored in domain 0",
		    "xenmsgd has been waiting for XenStore for %.0f s",
		    json_object_get_double(at(store, "stalled_s")));
	if (json_object_get_int64(at(grants, "waiting_links")) > 0)
		ill(doctor, EXIT_LIMIT, "daemon",
		    "raise /sys/module/xen_gntalloc/parameters/limit, or make ring-size in xenmsgd.conf smaller",
		    "%s links wait for pages to grant; %s of %s are in use",
		    text_or(grants, "waiting_links", ""), text_or(grants, "used_pages", ""),
		    text_or(grants, "limit_pages", ""));
	if (is_partial(status) && !doctor->domain)
		well(doctor, "policy", "what policy refuses is shown to " WHO_SEES_ALL " only");
	check_policy(doctor, at(status, "policy"), at(at(status, "policy"), "of_host"));
	check_host_policy(doctor, at(at(status, "policy"), "of_host"));
	check_activation(doctor, status);
	check_hosts(doctor, at(status, "hosts"));
	check_time(doctor, status);
	check_denied(doctor, at(status, "denied"));
}

/* ---- whether domain 0 relays ---------------------------------------------------------------- */

/* Whether the hypervisor forbids event channels with that domain, as XSM does without memory to share. */
static bool is_forbidden(uint32_t domid)
{
	xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
	bool forbidden = false;
	int port;

	if (!handle)
		return false;
	errno = 0;
	port = xenevtchn_bind_unbound_port(handle, domid);
	if (port < 0)
		forbidden = errno == EPERM;
	else
		xenevtchn_unbind(handle, (evtchn_port_t)port);
	xenevtchn_close(handle);
	return forbidden;
}

/* Says why what is for that domain, which answers, goes through domain 0, if it does. */
static void check_way(struct doctor *doctor, struct json_object *peers, const char *domain)
{
	uint32_t domid;

	for (size_t i = 0; i < length_of(peers); i++) {
		struct json_object *peer = json_object_array_get_idx(peers, i);
		const char *number = text_or(peer, "domid", "");

		if (!at(peer, "via") ||
		    (strcmp(number, domain) != 0 && strcmp(text_or(peer, "name", ""), domain) != 0 &&
		     strcmp(text_or(peer, "uuid", ""), domain) != 0))
			continue;
		left_out(doctor, "direct", "there is no link with domain %s, domain 0 relays: %s%s", number,
			 text_or(peer, "why", "neither may map the other's pages"),
			 domid_parse(number, strlen(number), &domid) && is_forbidden(domid)
				 ? "; the hypervisor refuses an event channel with it"
				 : "");
	}
}

/* ---- the way to an address ------------------------------------------------------------------ */

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
	uint64_t rtt_ns;
	char *why;
	int r;

	if (!*host)
		return true;
	hosts = cli_query(way->conn, "hosts", NULL, NULL);
	entry = find_in(hosts, "host", host);
	if (!entry) {
		r = xenmsg_ping(way->conn, way->domain, XENMSG_WITHIN(DOCTOR_PING_MS), &rtt_ns);
		why = cli_why_refused(way->conn, way->text, r);
		ill(way->doctor, r == -EACCES ? EXIT_DENIED : EXIT_UNREACHABLE, "host",
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
	peers = cli_query(way->conn, "peers", NULL, NULL);
	check_way(way->doctor, peers, way->domain);
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
			"bind it: xenmsg recv %s (or serve, listen), as root, in the socket's group or by a [bind] rule",
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
	endpoints = cli_query(way->conn, question, NULL, NULL);
	way->endpoint = json_object_get(find_in(endpoints, "name", way->address.endpoint));
	json_object_put(endpoints);
	if (!way->endpoint)
		return no_endpoint(way);
	if (!strcmp(text_or(way->endpoint, "started", ""), "failed")) {
		ill(way->doctor, EXIT_NO_ENDPOINT, "endpoint",
		    "see the log of its program, then start it again", "%s: its start on demand has failed",
		    way->text);
		return false;
	}
	well(way->doctor, "endpoint", "%s: a program has bound it", way->text);
	return true;
}

static bool check_kind(struct tried_way *way)
{
	const struct cli_kind *kind = cli_kind(text_or(way->endpoint, "kind", ""));

	if (kind)
		well(way->doctor, "kind", "%s: the program takes %s (xenmsg %s%s)", way->text, kind->takes,
		     kind->command, kind->or_else);
	else
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
		answer = cli_query(way->conn, question, NULL, NULL);
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
	status = cli_query(way->conn, "status", NULL, NULL);
	is = !strcmp(way->address.domain, text_or(status, "name", ""));
	json_object_put(status);
	return is;
}

/* Goes the way to an address, and says the first that is wrong. */
static void check_address(struct doctor *doctor, struct xenmsg *conn, const char *address)
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

/* ---- the daemons of other domains ----------------------------------------------------------- */

#define PINGS_MAX 60 /* at a time; the daemon allows 64 requests of a session */

struct asked {
	const char *domain;
	char *reason;
	uint64_t rtt_ns;
	int error;
	bool is_over, is_address; /* an address, which is tried when it is its turn */
};

static void on_answer(void *userdata, const struct xenmsg_result *result)
{
	struct asked *asked = userdata;

	asked->error = result->error;
	asked->rtt_ns = result->round_trip_ns;
	asked->reason = *result->reason ? strdup(result->reason) : NULL;
	asked->is_over = true;
}

static void begin_ping(struct xenmsg *conn, struct asked *asked)
{
	int r;

	if (asked->is_address)
		return;
	r = xenmsg_begin_ping(conn, asked->domain, XENMSG_WITHIN(DOCTOR_PING_MS), on_answer, asked, NULL);

	if (r < 0)
		*asked = (struct asked){.domain = asked->domain, .error = r, .is_over = true};
}

static void tell_peer(struct doctor *doctor, struct xenmsg *conn, struct json_object *peers,
		      const struct asked *asked)
{
	const char *reason = asked->error == -ETIMEDOUT ? "no answer within 5 s"
			     : asked->reason		? asked->reason
							: strerror(-asked->error);
	int error = asked->error;
	char step[160], *why;

	snprintf(step, sizeof(step), "peer %s", asked->domain);
	if (error == 0) {
		well(doctor, step, "the daemon there answers within %.1f us", (double)asked->rtt_ns / 1e3);
		check_way(doctor, peers, asked->domain);
		return;
	}
	why = error == -EHOSTUNREACH ? cli_why_no_link(conn, asked->domain)
	      : error == -EHOSTDOWN  ? cli_why_refused(conn, asked->domain, error)
				     : NULL;
	ill(doctor, error == -ETIMEDOUT ? EXIT_TIMED_OUT : EXIT_UNREACHABLE, step,
	    error == -EHOSTDOWN && strspn(asked->domain, "0123456789") < strlen(asked->domain)
		    ? "see 'xenmsg peers' for the names that are known; they come from xenmsgd in domain 0"
	    : error == -EHOSTDOWN
		    ? "start xenmsgd in that domain, if there is one; with presence = private there, its peers must name this domain"
		    : "run 'xenmsg doctor' in that domain, and see the logs of both daemons",
	    "%s", why ? why : reason);
	free(why);
}

/* Asks all of them, and tells what came back in their order. */
static void ping_all(struct doctor *doctor, struct xenmsg *conn, struct json_object *peers,
		     struct asked *asked, size_t count)
{
	size_t begun = 0;

	for (size_t i = 0; i < count; i++) {
		while (begun < count && begun < i + PINGS_MAX)
			begin_ping(conn, &asked[begun++]);
		while (!asked[i].is_over && !asked[i].is_address) {
			int r = xenmsg_wait(conn, -1);

			if (r < 0 && r != -EINTR && !asked[i].is_over) { /* it ends all that is asked first */
				asked[i].error = r;
				asked[i].is_over = true;
			}
		}
		if (asked[i].is_address)
			check_address(doctor, conn, asked[i].domain);
		else
			tell_peer(doctor, conn, peers, &asked[i]);
	}
	for (size_t i = 0; i < count; i++)
		free(asked[i].reason);
}

void doctor_check_peers(struct doctor *doctor, struct xenmsg *conn, char **named, int count)
{
	struct json_object *peers = cli_query(conn, "peers", NULL, NULL);
	size_t all = count ? (size_t)count : length_of(peers);
	struct asked *asked = calloc(all + 1, sizeof(*asked));

	if (!asked)
		abort();
	for (size_t i = 0; i < all; i++) {
		asked[i].domain =
			count ? named[i] : text_or(json_object_array_get_idx(peers, i), "domid", "");
		asked[i].is_address = count && address_is_meant(named[i], strlen(named[i]));
	}
	if (!count && peers && all == 0)
		left_out(doctor, "peers", "no other domain has a daemon that shows itself here");
	ping_all(doctor, conn, peers, asked, all);
	free(asked);
	json_object_put(peers);
}

/* ---- the daemons of this host --------------------------------------------------------------- */

/* Looks at a domain's links: those that are away, and those that could not be made. */
static void check_links(struct doctor *doctor, struct json_object *status)
{
	struct json_object *links = at(status, "links"), *failures = at(status, "failures");
	size_t up = 0;

	for (size_t i = 0; i < length_of(links); i++) {
		struct json_object *link = json_object_array_get_idx(links, i);
		const char *state = text_or(link, "state", "");

		up += !strcmp(state, "up");
		if (!strcmp(state, "away"))
			warned(doctor, "link", "is that domain saved, paused or very busy? 'xl list' says",
			       "the one with domain %s is away, and waited for",
			       text_at(at(link, "peer"), "domid"));
	}
	well(doctor, "links", "%zu of %zu are up", up, length_of(links));
	for (size_t i = 0; i < length_of(failures); i++) {
		struct json_object *failure = json_object_array_get_idx(failures, i);

		warned(doctor, "link", "the daemon's log there says more, and 'xenmsg doctor' there",
		       "none could be made with domain %s: %s", text_at(at(failure, "peer"), "domid"),
		       text_at(failure, "last_error"));
	}
}

static void check_entry(struct doctor *doctor, struct json_object *entry)
{
	struct json_object *status = at(entry, "status");

	doctor->domain = text_or(entry, "name", text_or(entry, "domid", ""));
	if (status) {
		doctor_check_status(doctor, status);
		check_links(doctor, status);
	} else if (number_at(entry, "error") == EACCES) {
		left_out(doctor, "daemon", "that domain tells domain 0 nothing: host-sight = none");
	} else {
		ill(doctor, EXIT_UNREACHABLE, "daemon", "run 'xenmsg doctor' in that domain, and see its log",
		    "%s", text_or(entry, "why", ""));
	}
	doctor->domain = NULL;
}

int doctor_check_host(struct doctor *doctor)
{
	struct json_object *all;
	int code = host_statuses(doctor->cli, DOCTOR_ANSWER_MS, &all);

	for (size_t i = 0; code == 0 && i < length_of(all); i++)
		check_entry(doctor, json_object_array_get_idx(all, i));
	if (code == 0)
		json_object_put(all);
	return code;
}
