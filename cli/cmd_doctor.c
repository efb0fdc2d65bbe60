/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * doctor: tries each step of a message's way by itself, from the device nodes to the other domain's daemon,
 * and says what was tried, what came back, and how to mend it. A step that depends on one that failed is left
 * out.
 */

#include <errno.h>
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

#define DESCRIPTORS	12 /* at most open at once: devices, sessions, the store */
#define STORE_ANSWER_MS 5000
#define ANSWER_MS	5000

static const char help[] =
	"Usage: xenmsg doctor [OPTIONS] [DOMAIN | ADDRESS]...\n"
	"       xenmsg doctor --host\n"
	"\n"
	"Tries each step from the device nodes to the daemon of DOMAIN (of all that are\n"
	"there, if none is named), and says what came back and how to mend what failed.\n"
	"To an ADDRESS it goes on: host, domain, link, endpoint, kind and rule, up to the\n"
	"first that is wrong. As root it can try everything. Exit status 0: nothing\n"
	"failed.\n"
	"\n"
	"      --json          one JSON object a line: step, result (ok, warning, failed\n"
	"                      or left out), text, mend\n"
	"      --host          in domain 0, for its administrators: what the daemon of\n"
	"                      each domain says of itself, as far as its host-sight\n"
	"                      lets domain 0 see\n"
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
	else if (getenv("XENSTORED_PATH")) /* libxenstore looks nowhere else then */
		ill(doctor, EXIT_OTHER, "xenstore",
		    "is xenstored's socket there, or the device xenbus? else name the right place, or unset XENSTORED_PATH",
		    "it can't be read at %s, which XENSTORED_PATH names: %s", getenv("XENSTORED_PATH"),
		    strerror(error));
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
		ill(doctor, EXIT_OTHER, "xenstore", "end some processes", "can't try it: %s%s",
		    strerror(errno), cli_limit_of(errno));
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
		     "it lacks LSE (ARMv8.1): a program that writes without end to memory that it shares with a daemon can hold that daemon; see doc/security.md, Known limits");
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
		doctor_check_status(doctor, status);
		json_object_put(status);
		return true;
	}
	ill_without_answer(doctor, r < 0 ? r : -EPROTO);
	xenmsg_close(*conn);
	return false;
}

static int check_argument(const char *text)
{
	if (address_is_meant(text, strlen(text)))
		return cli_check_address("doctor", text);
	if (!domain_name_is_valid(text, strlen(text)))
		return cli_usage("doctor",
				 "'%s' can't be a domain; write a domid, a name, self or an address", text);
	return EXIT_DONE;
}

/* Tries each step from the devices to the daemons of these domains. */
static void check_all(struct doctor *doctor, char **named, int count)
{
	struct xenmsg *conn;

	check_cpu(doctor);
	if (check_xen(doctor)) {
		check_events(doctor);
		check_grants(doctor);
		check_maps(doctor);
		check_store(doctor);
	} else {
		left_out(doctor, "devices", "without Xen there are none");
		left_out(doctor, "xenstore", "without Xen there is none");
	}
	if (check_daemon(doctor, &conn)) {
		doctor_check_peers(doctor, conn, named, count);
		xenmsg_close(conn);
	} else {
		left_out(doctor, "peers", "without a daemon they can't be reached");
	}
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
	struct doctor doctor = {.cli = cli};
	bool json = false, host = false;
	const struct cli_option options[] = {{"json", .flag = &json}, {"host", .flag = &host}, {0}};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	for (int i = optind; i < argc; i++) {
		code = check_argument(argv[i]);
		if (code)
			return code;
	}
	if (host && optind < argc)
		return cli_usage("doctor", "--host looks at all domains, and takes none");
	/* Else it would take its own lack of them for what is wrong with the domain. */
	if (!cli_has_descriptors(DESCRIPTORS)) {
		cli_complain("doctor: %s", xenmsg_error_text(-EMFILE));
		return EXIT_OTHER;
	}
	if (json)
		doctor.json = writer_new(WRITER_JSON_LINES);
	code = host ? doctor_check_host(&doctor) : 0;
	if (!host)
		check_all(&doctor, argv + optind, argc - optind);
	if (json)
		writer_free(doctor.json);
	if (code)
		return code;
	code = cli_flush();
	return code ? code : doctor.code;
}
