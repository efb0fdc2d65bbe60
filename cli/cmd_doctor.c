/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * doctor: tries each step of a message's way by itself, from the device nodes to the other domain's daemon,
 * and says what was tried, what came back, and how to mend it. A step that depends on one that failed is left
 * out.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#include "cli/cli.h"
#include "cli/doctor.h"
#include "cli/fields.h"
#include "cli/writer.h"
#include "wire/advice.h"
#include "wire/address.h"
#include "wire/cpu_atomics.h"

#define STORE_ANSWER_MS 5000
#define ANSWER_MS	5000
#define RESTS_MANY	10
#define REST_PERIOD_S	60

static const char help[] =
	"Usage: xenmsg doctor [OPTIONS] [DOMAIN | ADDRESS]...\n"
	"\n"
	"Tries each step from the device nodes to the daemon of DOMAIN (of all that are\n"
	"there, if none is named), and says what came back and how to mend what failed.\n"
	"To an ADDRESS it goes on: host, domain, link, endpoint, kind and rule, up to the\n"
	"first that is wrong. As root it can try everything. Exit status 0: nothing\n"
	"failed.\n"
	"\n"
	"      --json          one JSON object a line: step, result (ok, warning, failed\n"
	"                      or left out), text, mend\n"
	"\n"
	"Examples:\n"
	"  xenmsg doctor\n"
	"  xenmsg doctor work\n"
	"  xenmsg doctor 5:inbox\n";

void doctor_report(struct doctor *doctor, enum result result, int code, const char *step, const char *mend,
		   const char *format, ...)
{
	static const char *const words[] = {"ok", "-", "warn", "FAIL"};
	static const char *const in_json[] = {"ok", "left out", "warning", "failed"};
	char *text = NULL;
	va_list args;

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
		cli_print_line("%-5s %-12s %s", words[result], step, text);
		if (mend)
			cli_print_line("%18s mend: %s", "", mend);
	}
	free(text);
}

/* ---- Xen ------------------------------------------------------------------------------------- */

static bool check_xen(struct doctor *doctor)
{
	FILE *file = fopen("/sys/hypervisor/type", "re");
	char type[32] = "";

	if (file) {
		if (!fgets(type, sizeof(type), file))
			type[0] = '\0';
		fclose(file);
	}
	type[strcspn(type, "\n")] = '\0';
	if (!strcmp(type, "xen")) {
		well(doctor, "xen", "this is a Xen domain");
		return true;
	}
	ill(doctor, EXIT_OTHER, "xen",
	    "run it in a Xen domain, or in a simulated one: xensim start, xensim exec 1 -- ...",
	    "this is no Xen domain: /sys/hypervisor/type %s%s", file ? "says " : "isn't there", type);
	return false;
}

/* Says why a device can't be used. */
static void device_failed(struct doctor *doctor, const char *step, const char *path, const char *module,
			  int error)
{
	char mend[256];

	if ((error == EACCES || error == EPERM) && geteuid() != 0) {
		left_out(doctor, step, "only root may try it");
		return;
	}
	if (error == ENOENT || access(path, F_OK) < 0)
		snprintf(mend, sizeof(mend),
			 "modprobe %s; a kernel without it, such as Debian's cloud kernel, can't serve",
			 module);
	else
		snprintf(mend, sizeof(mend),
			 "see dmesg, and whether the hypervisor lets this domain (its flask policy)");
	ill(doctor, EXIT_OTHER, step, mend, "%s: %s", path, strerror(error));
}

static void check_events(struct doctor *doctor)
{
	xenevtchn_handle *handle;
	int port;

	errno = 0;
	handle = xenevtchn_open(NULL, 0);
	if (!handle) {
		device_failed(doctor, "events", "/dev/xen/evtchn", "xen-evtchn", errno);
		return;
	}
	port = xenevtchn_bind_unbound_port(handle, 0);
	if (port < 0) {
		ill(doctor, EXIT_OTHER, "events",
		    "too many event channels? 'xl debug-keys e' in domain 0 lists them",
		    "/dev/xen/evtchn opens, but the hypervisor gives no event channel: %s", strerror(errno));
	} else {
		well(doctor, "events",
		     "/dev/xen/evtchn opens, the hypervisor gives an event channel (port %d)", port);
		xenevtchn_unbind(handle, (evtchn_port_t)port);
	}
	xenevtchn_close(handle);
}

static void check_grants(struct doctor *doctor)
{
	xengntshr_handle *handle;
	uint32_t reference;
	void *page;

	errno = 0;
	handle = xengntshr_open(NULL, 0);
	if (!handle) {
		device_failed(doctor, "grants", "/dev/xen/gntalloc", "xen-gntalloc", errno);
		return;
	}
	page = xengntshr_share_pages(handle, 0, 1, &reference, 1);
	if (!page) {
		ill(doctor, EXIT_OTHER, "grants",
		    "raise /sys/module/xen_gntalloc/parameters/limit, or let links be smaller: ring-size in xenmsgd.conf",
		    "/dev/xen/gntalloc opens, but no page can be granted: %s", strerror(errno));
	} else {
		well(doctor, "grants", "/dev/xen/gntalloc opens, a page can be granted (reference %u)",
		     reference);
		xengntshr_unshare(handle, page, 1);
	}
	xengntshr_close(handle);
}

static void check_maps(struct doctor *doctor)
{
	xengnttab_handle *handle;

	errno = 0;
	handle = xengnttab_open(NULL, 0);
	if (!handle) {
		device_failed(doctor, "maps", "/dev/xen/gntdev", "xen-gntdev", errno);
		return;
	}
	well(doctor, "maps", "/dev/xen/gntdev opens");
	xengnttab_close(handle);
}

/* Reads this domain's number from XenStore, in a child process, since libxenstore may wait for ever. Its exit
 * status is an errno, its output the number. */
static void ask_store(int out)
{
	struct xs_handle *store;
	char *value;
	unsigned size;

	errno = 0;
	store = xs_open(0);
	if (!store)
		_exit(errno ? errno : EIO);
	value = xs_read(store, XBT_NULL, "domid", &size);
	if (!value)
		_exit(errno ? errno : EIO);
	_exit(write(out, value, size) == (ssize_t)size ? 0 : EIO);
}

static void store_failed(struct doctor *doctor, int error)
{
	if ((error == EACCES || error == EPERM) && geteuid() != 0)
		left_out(doctor, "xenstore", "only root may try it");
	else
		ill(doctor, EXIT_OTHER, "xenstore",
		    "in domain 0: start xenstored (" ADVICE_START(
			    "xenstored") ", or xen on Debian); in a guest: is there /dev/xen/xenbus, or /proc/xen mounted?",
		    "it can't be read: %s", strerror(error));
}

static void check_store(struct doctor *doctor)
{
	struct pollfd answer = {.events = POLLIN};
	int ends[2], status = 0, polled;
	ssize_t size = 0;
	pid_t pid;

	fflush(stdout);
	if (pipe(ends) < 0 || (pid = fork()) < 0) {
		ill(doctor, EXIT_OTHER, "xenstore", "end some processes", "can't try it: %s",
		    strerror(errno));
		return;
	}
	if (pid == 0)
		ask_store(ends[1]);
	close(ends[1]);
	answer.fd = ends[0];
	do
		polled = poll(&answer, 1, STORE_ANSWER_MS);
	while (polled < 0 && errno == EINTR);
	if (polled > 0)
		size = read(ends[0], doctor->store_domid, sizeof(doctor->store_domid) - 1);
	else
		kill(pid, SIGKILL);
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (polled == 0)
		ill(doctor, EXIT_OTHER, "xenstore",
		    "look at xenstored in domain 0: is it running, or stopped, or busy?",
		    "it hasn't answered within %d s", STORE_ANSWER_MS / 1000);
	else if (size > 0)
		well(doctor, "xenstore", "it answers: this is domain %s", doctor->store_domid);
	else
		store_failed(doctor, WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EIO);
}

/* ---- the daemon ------------------------------------------------------------------------------ */

/* It can't be mended, and others have an answer to it (doc/security.md). */
static void check_cpu(struct doctor *doctor)
{
	if (!cpu_has_bounded_atomics())
		well(doctor, "cpu",
		     "it lacks LSE (ARMv8.1): who writes without end to memory that it shares with a daemon can hold that daemon; see doc/security.md, Known limits");
}

static void check_policy(struct doctor *doctor, struct json_object *policy)
{
	int64_t rules = number_at(policy, "rules");

	if (at(policy, "rules"))
		well(doctor, "policy", "%" PRId64 " %s in force%s", rules,
		     rules == 1 ? "rule is" : "rules are",
		     rules ? "" : ", so no other domain may reach anything here");
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

static void check_status(struct doctor *doctor, struct json_object *status)
{
	struct json_object *grants = at(status, "grants"), *store = at(status, "store");
	const char *domid = text_or(status, "domid", "");

	well(doctor, "daemon", "xenmsgd %s serves domain %s at %s", text_or(status, "version", ""), domid,
	     text_or(status, "socket", ""));
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
	if (is_partial(status))
		well(doctor, "policy", "whom it refuses is shown to " WHO_SEES_ALL " only");
	check_policy(doctor, at(status, "policy"));
	check_activation(doctor, status);
	check_hosts(doctor, at(status, "hosts"));
	check_time(doctor, status);
	check_denied(doctor, at(status, "denied"));
}

static void ill_without_answer(struct doctor *doctor, int error)
{
	ill(doctor, EXIT_OTHER, "daemon",
	    ADVICE_RESTART("xenmsgd") "; before that its log may say why: " ADVICE_LOG("xenmsgd"),
	    "it runs, but doesn't answer: %s", strerror(-error));
}

static bool check_daemon(struct doctor *doctor, struct xenmsg **conn)
{
	const char *socket = doctor->cli->socket	      ? doctor->cli->socket
			     : secure_getenv("XENMSG_SOCKET") ? secure_getenv("XENMSG_SOCKET")
							      : "/run/xenmsg/xenmsg.sock";
	struct json_object *status = NULL;
	char *text;
	int r = xenmsg_open(conn, doctor->cli->socket, XENMSG_WITHIN(ANSWER_MS));

	if (r < 0 && doctor_check_socket(doctor, socket))
		return false;
	if (r == -ETIMEDOUT) {
		ill_without_answer(doctor, r);
		return false;
	}
	if (r < 0) {
		ill(doctor, EXIT_NO_DAEMON, "daemon",
		    r == -EACCES ? "let users enter the socket's directory"
				 : ADVICE_START("xenmsgd") ", or see its log: " ADVICE_LOG("xenmsgd"),
		    "%s: %s", socket, strerror(-r));
		doctor_check_places(doctor, socket);
		doctor_check_access(doctor);
		doctor_check_labels(doctor);
		return false;
	}
	r = xenmsg_query(*conn, "status", NULL, &text);
	if (r == 0) {
		status = json_tokener_parse(text);
		free(text);
	}
	if (status) {
		check_status(doctor, status);
		json_object_put(status);
		return true;
	}
	ill_without_answer(doctor, r < 0 ? r : -EPROTO);
	xenmsg_close(*conn);
	return false;
}

/* ---- peers ----------------------------------------------------------------------------------- */

static void check_peer(struct doctor *doctor, struct xenmsg *conn, const char *domain)
{
	char step[160], reason[256], *why;
	uint64_t rtt_ns;
	int r = xenmsg_ping(conn, domain, XENMSG_WITHIN(DOCTOR_PING_MS), &rtt_ns);

	snprintf(step, sizeof(step), "peer %s", domain);
	if (r == 0) {
		well(doctor, step, "its daemon answers within %.1f us", (double)rtt_ns / 1e3);
		doctor_check_way(doctor, conn, domain);
		return;
	}
	snprintf(reason, sizeof(reason), "%s", *xenmsg_reason(conn) ? xenmsg_reason(conn) : strerror(-r));
	why = r == -EHOSTUNREACH ? cli_why_no_link(conn, domain) : NULL;
	if (why)
		snprintf(reason, sizeof(reason), "%s", why);
	free(why);
	ill(doctor, r == -ETIMEDOUT ? EXIT_TIMED_OUT : EXIT_UNREACHABLE, step,
	    r == -EHOSTDOWN
		    ? "start xenmsgd in that domain; with presence = private there, its peers must name this domain"
		    : "run 'xenmsg doctor' in that domain, and see the logs of both daemons",
	    "%s", reason);
}

static void check_peers(struct doctor *doctor, struct xenmsg *conn, char **domains, int count)
{
	struct json_object *peers;
	char *text;

	for (int i = 0; i < count; i++)
		if (address_is_meant(domains[i], strlen(domains[i])))
			doctor_check_address(doctor, conn, domains[i]);
		else
			check_peer(doctor, conn, domains[i]);
	if (count > 0 || xenmsg_query(conn, "peers", NULL, &text) < 0)
		return;
	peers = json_tokener_parse(text);
	free(text);
	if (length_of(peers) == 0)
		left_out(doctor, "peers", "no other domain has a daemon that shows itself here");
	for (size_t i = 0; i < length_of(peers); i++)
		check_peer(doctor, conn, text_or(json_object_array_get_idx(peers, i), "domid", ""));
	json_object_put(peers);
}

static int check_argument(const char *text)
{
	struct address parsed;
	const char *why;

	if (address_is_meant(text, strlen(text)))
		return address_parse(text, strlen(text), &parsed, &why) < 0
			       ? cli_usage("doctor", "bad address '%s': %s", text, why)
			       : EXIT_DONE;
	if (!domain_name_is_valid(text, strlen(text)))
		return cli_usage("doctor",
				 "'%s' can't be a domain; write a domid, a name, self or an address", text);
	return EXIT_DONE;
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
	struct doctor doctor = {.cli = cli};
	struct xenmsg *conn;
	bool json = false;
	const struct cli_option options[] = {{"json", .flag = &json}, {0}};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	for (int i = optind; i < argc; i++) {
		code = check_argument(argv[i]);
		if (code)
			return code;
	}
	if (json)
		doctor.json = writer_new(WRITER_JSON_LINES);
	check_cpu(&doctor);
	if (check_xen(&doctor)) {
		check_events(&doctor);
		check_grants(&doctor);
		check_maps(&doctor);
		check_store(&doctor);
	} else {
		left_out(&doctor, "devices", "without Xen there are none");
		left_out(&doctor, "xenstore", "without Xen there is none");
	}
	if (check_daemon(&doctor, &conn)) {
		check_peers(&doctor, conn, argv + optind, argc - optind);
		xenmsg_close(conn);
	} else {
		left_out(&doctor, "peers", "without a daemon they can't be reached");
	}
	if (json)
		writer_free(doctor.json);
	code = cli_flush();
	return code ? code : doctor.code;
}
