/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What a daemon says of itself, for doctor. */

#include "cli/doctor.h"

#include <inttypes.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "wire/advice.h"

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
		well(doctor, "host policy", "it isn't obeyed here: host-policy = ignore");
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
		     "it refuses some: last domain %s, uid %s, to %s (%s time%s); 'xenmsg policy check %s/%s %s' says why, and 'xenmsg policy denied' lists them",
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
		well(doctor, "daemon", "it took over from xenmsgd %s %s s ago, and programs went on",
		     text_or(renewed, "from", ""), text_or(status, "uptime_s", ""));
	if (doctor->store_domid[0] && strcmp(domid, doctor->store_domid))
		ill(doctor, EXIT_OTHER, "daemon", "restart xenmsgd; was the domain restored?",
		    "it takes this for domain %s, and XenStore says %s", domid, doctor->store_domid);
	if (at(store, "connected") && !json_object_get_boolean(at(store, "connected")))
		ill(doctor, EXIT_OTHER, "daemon", "look at xenstored in domain 0, then restart xenmsgd",
		    "it has lost XenStore");
	else if (json_object_get_double(at(store, "stalled_s")) > 1)
		ill(doctor, EXIT_OTHER, "daemon", "look at xenstored in domain 0",
		    "it has been waiting for XenStore for %.0f s",
		    json_object_get_double(at(store, "stalled_s")));
	if (json_object_get_int64(at(grants, "waiting_links")) > 0)
		ill(doctor, EXIT_LIMIT, "daemon",
		    "raise /sys/module/xen_gntalloc/parameters/limit, or make ring-size in xenmsgd.conf smaller",
		    "%s links wait for pages to grant; %s of %s are in use",
		    text_or(grants, "waiting_links", ""), text_or(grants, "used_pages", ""),
		    text_or(grants, "limit_pages", ""));
	if (is_partial(status) && !doctor->domain)
		well(doctor, "policy", "whom it refuses is shown to " WHO_SEES_ALL " only");
	check_policy(doctor, at(status, "policy"), at(at(status, "policy"), "of_host"));
	check_host_policy(doctor, at(at(status, "policy"), "of_host"));
	check_activation(doctor, status);
	check_hosts(doctor, at(status, "hosts"));
	check_time(doctor, status);
	check_denied(doctor, at(status, "denied"));
}
