/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * doctor: tries each step of a message's way by itself, from the device nodes to the other domain's daemon,
 * and says what was tried, what came back, and how to mend it. A step that depends on one that failed is left
 * out.
 */

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <json-c/json.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/interrupt.h"
#include "cli/writer.h"
#include "wire/address.h"
#include "wire/advice.h"
#include "wire/cpu_atomics.h"
#include "wire/text.h"

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

/* What `xenmsg doctor` has found so far. */
struct doctor {
	struct cli *cli;
	int code; /* exit code of the first step that failed */
	unsigned failed;
	struct writer *json;  /* NULL: prints words */
	char store_domid[16]; /* this domain's number in XenStore; "": unknown */
	const char *domain;   /* whose daemon is looked at, of those of the host; NULL: the local one */
};

enum result { WELL, LEFT_OUT, WARNED, ILL };

#define well(doctor, step, ...)		   doctor_report(doctor, WELL, 0, step, NULL, __VA_ARGS__)
#define left_out(doctor, step, ...)	   doctor_report(doctor, LEFT_OUT, 0, step, NULL, __VA_ARGS__)
#define warned(doctor, step, mend, ...)	   doctor_report(doctor, WARNED, 0, step, mend, __VA_ARGS__)
#define ill(doctor, code, step, mend, ...) doctor_report(doctor, ILL, code, step, mend, __VA_ARGS__)

/* Says what came back in one step, and how to mend it (NULL: that isn't to be told). `code` is the exit code
 * if it is the first one that failed. */
__attribute__((format(printf, 6, 7))) static void doctor_report(struct doctor *doctor, enum result result,
								int code, const char *step, const char *mend,
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

/* Each tries what links need of a device, with errno. */
enum tried { NOT_OPENED, REFUSED, GIVEN };

static enum tried try_events(unsigned *port)
{
	xenevtchn_handle *handle = xenevtchn_open(NULL, 0);
	int r = handle ? xenevtchn_bind_unbound_port(handle, 0) : -1, error = errno;

	*port = (unsigned)r;
	if (r >= 0)
		xenevtchn_unbind(handle, *port);
	if (handle)
		xenevtchn_close(handle);
	errno = error;
	return !handle ? NOT_OPENED : r < 0 ? REFUSED : GIVEN;
}

static enum tried try_grants(unsigned *reference)
{
	xengntshr_handle *handle = xengntshr_open(NULL, 0);
	void *page = handle ? xengntshr_share_pages(handle, 0, 1, reference, 1) : NULL;
	int error = errno;

	if (page)
		xengntshr_unshare(handle, page, 1);
	if (handle)
		xengntshr_close(handle);
	errno = error;
	return !handle ? NOT_OPENED : !page ? REFUSED : GIVEN;
}

static enum tried try_maps(unsigned *nothing)
{
	xengnttab_handle *handle = xengnttab_open(NULL, 0);

	if (handle)
		xengnttab_close(handle);
	return handle ? GIVEN : NOT_OPENED;
}

static const struct xen_device {
	const char *step, *path, *module;
	enum tried (*try)(unsigned *given);
	const char *given, *refused, *mend; /* NULL: it is only opened */
} devices[] = {
	{"events", "/dev/xen/evtchn", "xen-evtchn", try_events, "the hypervisor gives an event channel (port",
	 "the hypervisor gives no event channel",
	 "too many event channels? 'xl debug-keys e' in domain 0 lists them"},
	{"grants", "/dev/xen/gntalloc", "xen-gntalloc", try_grants, "a page can be granted (reference",
	 "no page can be granted",
	 "raise /sys/module/xen_gntalloc/parameters/limit, or let links be smaller: ring-size in xenmsgd.conf"},
	{"maps", "/dev/xen/gntdev", "xen-gntdev", try_maps, NULL, NULL, NULL},
};

static void check_device(struct doctor *doctor, const struct xen_device *device)
{
	unsigned given = 0;
	enum tried tried;

	errno = 0;
	tried = device->try(&given);
	if (tried == NOT_OPENED)
		device_failed(doctor, device->step, device->path, device->module, errno);
	else if (tried == REFUSED)
		ill(doctor, EXIT_OTHER, device->step, device->mend, "%s opens, but %s: %s", device->path,
		    device->refused, strerror(errno));
	else if (device->given)
		well(doctor, device->step, "%s opens, %s %u)", device->path, device->given, given);
	else
		well(doctor, device->step, "%s opens", device->path);
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
		    "XenStore can't be read at %s, which XENSTORED_PATH names: %s", getenv("XENSTORED_PATH"),
		    strerror(error));
	else
		ill(doctor, EXIT_OTHER, "xenstore",
		    "in domain 0: start xenstored (" ADVICE_START(
			    "xenstored") ", or xen on Debian); in a guest: is there /dev/xen/xenbus, or /proc/xen mounted?",
		    "XenStore can't be read: %s", strerror(error));
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
		    "XenStore hasn't answered within %d s", STORE_ANSWER_MS / 1000);
	else if (size > 0)
		well(doctor, "xenstore", "XenStore answers: this is domain %s", doctor->store_domid);
	else
		store_failed(doctor, WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EIO);
}

/* ---- what a daemon that isn't there would find ---------------------------------------------- */

/* The process that listens on a socket; 0: it can't be told. */
static pid_t listener(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred owner = {0};
	socklen_t size = sizeof(owner);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return 0;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &size) < 0)
		owner.pid = 0;
	close(fd);
	return owner.pid;
}

/* Its name, as ps shows it; "": unknown. It is another's word for a terminal: only printable ASCII is
 * kept. */
static void name_process(pid_t pid, char *name, size_t size)
{
	char path[64];
	FILE *file;

	*name = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(name, (int)size, file))
		*name = '\0';
	fclose(file);
	name[strcspn(name, "\n")] = '\0';
	text_make_ascii(name, strlen(name), ' ');
}

/* Says who or what has the place of the daemon's socket instead of it. Returns false: nothing has. */
static bool check_socket(struct doctor *doctor, const char *socket)
{
	struct stat file;
	char mend[96], name[32];
	pid_t pid;

	if (stat(socket, &file) < 0)
		return false;
	if (!S_ISSOCK(file.st_mode)) {
		ill(doctor, EXIT_NO_DAEMON, "daemon",
		    "remove it, or listen elsewhere; then: " ADVICE_START("xenmsgd"),
		    "%s is there and is no socket", socket);
		return true;
	}
	pid = listener(socket);
	name_process(pid, name, sizeof(name));
	/* systemd listens for the daemon, and goes on to while that runs. */
	if (pid <= 1 || !*name || !strcmp(name, "xenmsgd") || !strcmp(name, "systemd"))
		return false;
	snprintf(mend, sizeof(mend), "stop it (kill %d), or listen elsewhere; then: " ADVICE_START("xenmsgd"),
		 (int)pid);
	ill(doctor, EXIT_NO_DAEMON, "daemon", mend, "another program, %s (process %d), listens on %s", name,
	    (int)pid, socket);
	return true;
}

/* Whether a user of its own group alone may use a file so: read, write and execute as in the last digit of a
 * mode. */
static bool may_use(const struct passwd *user, const struct stat *file, mode_t how)
{
	mode_t mode = file->st_uid == user->pw_uid   ? file->st_mode >> 6
		      : file->st_gid == user->pw_gid ? file->st_mode >> 3
						     : file->st_mode;

	return (mode & how) == how;
}

/* Whether nothing can be made there, not even by root. */
static bool is_read_only(const char *directory)
{
	return access(directory, W_OK) < 0 && errno == EROFS;
}

/* Looks whether a daemon could make its lock and its socket. */
static void check_places(struct doctor *doctor, const char *socket)
{
	char directory[PATH_MAX], mend[PATH_MAX + 64];
	const char *end = strrchr(socket, '/');

	snprintf(directory, sizeof(directory), "%.*s", end ? (int)(end - socket) : 0, socket);
	if (is_read_only("/run"))
		strcpy(directory, "/run");
	else if (!is_read_only(directory))
		return;
	snprintf(mend, sizeof(mend), "mount -o remount,rw $(findmnt -n -o TARGET -T %s)", directory);
	ill(doctor, EXIT_OTHER, "access", mend,
	    "%s is read-only, and the daemon makes its socket or its lock there", directory);
}

/* Looks whether the unit's user may have what it needs; for us, as root, all of it is open. */
static void check_access(struct doctor *doctor)
{
	static const char *const used[] = {"/dev/xen/evtchn", "/dev/xen/gntdev", "/dev/xen/gntalloc",
					   "/dev/xen/xenbus"};
	static const char *const settings[] = {"/etc/xenmsg/xenmsgd.conf", "/etc/xenmsg/policy.d"};
	const struct passwd *user = getpwnam("xenmsgd");
	struct stat file;
	char mend[128];

	if (!user)
		return;
	for (size_t i = 0; i < sizeof(used) / sizeof(*used); i++)
		if (stat(used[i], &file) == 0 && !may_use(user, &file, 06))
			ill(doctor, EXIT_OTHER, "access", ADVICE_DEVICES,
			    "the user xenmsgd may not read and write %s", used[i]);
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++)
		if (stat(settings[i], &file) == 0 && !may_use(user, &file, S_ISDIR(file.st_mode) ? 05 : 04)) {
			snprintf(mend, sizeof(mend), "chgrp xenmsgd %s && chmod g+rX %s", settings[i],
				 settings[i]);
			ill(doctor, EXIT_OTHER, "access", mend, "the user xenmsgd can't read %s",
			    settings[i]);
		}
}

static bool selinux_enforces(void)
{
	FILE *file = fopen("/sys/fs/selinux/enforce", "re");
	bool does = file && fgetc(file) == '1';

	if (file)
		fclose(file);
	return does;
}

/* The type in a file's label for SELinux, USER:ROLE:TYPE:LEVEL; "": it has none. */
static void label_type(const char *path, char type[128])
{
	char label[256];
	ssize_t length = lgetxattr(path, "security.selinux", label, sizeof(label) - 1);

	*type = '\0';
	if (length <= 0)
		return;
	label[length] = '\0';
	sscanf(label, "%*[^:]:%*[^:]:%127[^:]", type);
}

/* Looks whether files were brought to /etc/xenmsg with a label for SELinux of elsewhere. */
static void check_labels(struct doctor *doctor)
{
	char usual[128], type[128];
	glob_t found = {0};

	if (!selinux_enforces())
		return;
	label_type("/etc", usual);
	glob("/etc/xenmsg", 0, NULL, &found);
	glob("/etc/xenmsg/*", GLOB_APPEND, NULL, &found);
	glob("/etc/xenmsg/*/*", GLOB_APPEND, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		label_type(found.gl_pathv[i], type);
		if (*type && strcmp(type, usual) != 0)
			warned(doctor, "access", "restorecon -Rv /etc/xenmsg",
			       "SELinux may deny %s, whose label is %s; that of /etc is %s",
			       found.gl_pathv[i], type, usual);
	}
	globfree(&found);
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
		char who[80];

		account_text(account, who, sizeof(who));
		if (rests_again_and_again(status, time))
			warned(doctor, "time",
			       is_uid ? "end its programs, or mend them: something watches their sockets, doorbells or streams thousands of times (epoll)"
				      : "see that domain's programs, and those here that accept its streams",
			       "%s had to rest %s times%s, since calls into the kernel for it took too long",
			       who, text_or(time, "rests", ""),
			       json_object_get_boolean(at(time, "resting")) ? ", and does now" : "");
	}
	if (number_at(status, "cut_off") > 0)
		warned(doctor, "programs",
		       "its log says which, and why (" ADVICE_LOG(
			       "xenmsgd") " | grep 'cut off'): mend or end these",
		       "the daemon has cut off %s sessions of programs", text_or(status, "cut_off", ""));
}

/* Looks at what a daemon says of itself. */
static void doctor_check_status(struct doctor *doctor, struct json_object *status)
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
		r = xenmsg_ping(way->conn, way->domain, XENMSG_WITHIN(ANSWER_MS), &rtt_ns);
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
	int r = xenmsg_ping(way->conn, way->domain, XENMSG_WITHIN(ANSWER_MS), &rtt_ns);

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
	r = xenmsg_begin_ping(conn, asked->domain, XENMSG_WITHIN(ANSWER_MS), on_answer, asked, NULL);

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

/* Tries the daemons of these domains, and the ways to these addresses; without any, of all domains. All are
 * asked at once, since each that is silent costs the whole time-out. */
static void doctor_check_peers(struct doctor *doctor, struct xenmsg *conn, char **named, int count)
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

/* Looks, in domain 0, at the daemons of all domains. Returns 0, or an exit code after a complaint. */
static int doctor_check_host(struct doctor *doctor)
{
	struct json_object *all;
	int code = host_statuses(doctor->cli, ANSWER_MS, &all);

	for (size_t i = 0; code == 0 && i < length_of(all); i++)
		check_entry(doctor, json_object_array_get_idx(all, i));
	if (code == 0)
		json_object_put(all);
	return code;
}

/* ---- the daemon ------------------------------------------------------------------------------ */

/* It can't be mended, and others have an answer to it (doc/security.md). */
static void check_cpu(struct doctor *doctor)
{
	if (!cpu_has_bounded_atomics())
		well(doctor, "cpu",
		     "this CPU lacks LSE (ARMv8.1): a program that writes without end to memory that it shares with a daemon can hold that daemon; see doc/security.md, Known limits");
}

static void ill_without_answer(struct doctor *doctor, int error)
{
	ill(doctor, EXIT_OTHER, "daemon",
	    ADVICE_RESTART("xenmsgd") "; before that its log may say why: " ADVICE_LOG("xenmsgd"),
	    "xenmsgd runs, but doesn't answer: %s", strerror(-error));
}

static bool check_daemon(struct doctor *doctor, struct xenmsg **conn)
{
	const char *socket = cli_socket_path(doctor->cli);
	bool is_units = strcmp(socket, CLI_UNITS_SOCKET) == 0;
	char mend[PATH_MAX + 64] = ADVICE_START("xenmsgd") ", or see its log: " ADVICE_LOG("xenmsgd");
	struct json_object *status;
	int r = xenmsg_open(conn, doctor->cli->socket, XENMSG_WITHIN(ANSWER_MS));

	if (r < 0 && check_socket(doctor, socket))
		return false;
	if (r == -ETIMEDOUT) {
		ill_without_answer(doctor, r);
		return false;
	}
	if (r < 0) {
		if (!is_units)
			snprintf(mend, sizeof(mend), "start one that listens there: xenmsgd --socket %s",
				 socket);
		ill(doctor, EXIT_NO_DAEMON, "daemon",
		    r == -EACCES ? "let users enter the socket's directory" : mend, "%s: %s", socket,
		    strerror(-r));
		check_places(doctor, socket);
		if (is_units)
			check_access(doctor);
		check_labels(doctor);
		return false;
	}
	status = cli_query(*conn, "status", NULL, &r);
	if (status) {
		doctor_check_status(doctor, status);
		json_object_put(status);
		return true;
	}
	ill_without_answer(doctor, r);
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
		for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++)
			check_device(doctor, &devices[i]);
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
	if (!loop_has_descriptors(DESCRIPTORS)) {
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
