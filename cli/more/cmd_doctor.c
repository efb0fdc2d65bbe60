/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * doctor: tries each step of a message's way by itself, from the device nodes to the other domain's daemon,
 * and says what was tried, what came back, and how to mend it. A step that depends on one that failed is left
 * out.
 */

#include <endian.h>
#include <errno.h>
#include <glob.h>
#include <grp.h>
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

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
#include <xentoollog.h>

#include "cli/cli.h"
#include "cli/more/more.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/interrupt.h"
#include "cli/json.h"
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
	"                      lets domain 0 see: a line for each domain that is well,\n"
	"                      what isn't of the others, and how many there are of each\n"
	"  -q, --quiet         only what has failed, and warnings\n"
	"\n"
	"Examples:\n"
	"  xenmsg doctor\n"
	"  xenmsg doctor work\n"
	"  xenmsg doctor 5:inbox\n";

/* What `xenmsg doctor` has told so far. */
struct doctor {
	struct cli *cli;
	int code; /* exit code of the first step that failed */
	unsigned failed, warned;
	struct writer *json; /* NULL: prints words */
	struct xenmsg *conn; /* NULL: there is no daemon that answers */
	char of[80];   /* "DOMAIN: " whose daemon is looked at, of those of the host; "": the local one */
	bool only_bad; /* what is well isn't told */
};

/* ---- the tables ------------------------------------------------------------------------------
 *
 * A step finds facts, as members of an object: of the machine, of a way, or what a daemon says of itself. A
 * table puts them into words: each row has the fact, when it is told, and the cure. */

enum result { WELL = 0, LEFT_OUT = -1, WARNED = -2 };

struct check {
	/* The path to what has the facts; "" is all of them. At its end, a * is each entry of a list. Of what
	 * isn't there nothing is told. */
	const char *of;
	/* What must hold (fields_hold()). "else": and no row above it did, up to one without an else. */
	const char *when;
	int result;			/* or an exit code: it has failed */
	const char *step, *text, *mend; /* with facts in them (fields_words()); NULL: there is no cure */
};

static void print_check(struct doctor *doctor, int result, const char *step, const char *text,
			const char *mend)
{
	static const char *const words[] = {"ok", "-", "warn"};
	static const char *const in_json[] = {"ok", "left out", "warning"};
	bool is_narrow = cli_columns() < 60;
	int width = 12 + (*doctor->of ? (int)strlen(doctor->of) - 6 : 0);

	if (doctor->only_bad && (result == WELL || result == LEFT_OUT))
		return;
	if (doctor->json) {
		writer_text(doctor->json, "step", step);
		writer_text(doctor->json, "result", result > 0 ? "failed" : in_json[-result]);
		writer_text(doctor->json, "text", text);
		if (mend)
			writer_text(doctor->json, "mend", mend);
		writer_end_row(doctor->json);
		return;
	}
	cli_print_words(is_narrow ? 6 : 19, "%-5s %-*s %s", result > 0 ? "FAIL" : words[-result], width, step,
			text);
	if (mend)
		cli_print_words(is_narrow ? 6 : 25, "%*s mend: %s", is_narrow ? 5 : 18, "", mend);
}

/* Tells the first of these rows, up to `end`, that holds. */
static void tell_first(struct doctor *doctor, const struct check *check, const struct check *end,
		       struct json_object *facts)
{
	char *step, *text, *mend, full[160];

	while (check < end && !fields_hold(facts, check->when))
		check++;
	if (check == end)
		return;
	step = fields_words(facts, check->step);
	text = fields_words(facts, check->text);
	mend = check->mend ? fields_words(facts, check->mend) : NULL;
	snprintf(full, sizeof(full), "%s%s", doctor->of, step);
	if (check->result > 0 && !doctor->failed++)
		doctor->code = check->result;
	doctor->warned += check->result == WARNED;
	print_check(doctor, check->result, full, text, mend);
	free(step);
	free(text);
	free(mend);
}

/* Tells what a table, which ends with {0}, has to say of these facts. */
static void doctor_tell(struct doctor *doctor, const struct check *checks, struct json_object *facts)
{
	for (const struct check *first = checks, *end; first->of; first = end) {
		const char *each = strchr(first->of, '*');
		struct json_object *of =
			fields_at(facts, first->of, each ? (size_t)(each - first->of) : strlen(first->of));

		for (end = first + 1; end->of && !strncmp(end->when, "else", 4);)
			end++;
		if (of && !each)
			tell_first(doctor, first, end, of);
		fields_foreach(each ? of : NULL, entry)
			tell_first(doctor, first, end, entry);
	}
}

/* A step: what adds to the facts, and the table of what is told of them. */
struct doctor_step {
	void (*find)(struct doctor *doctor, struct json_object *facts);
	const struct check *checks;
};

/* Takes the steps, which end with {0}; those of a way up to the first that has failed. Returns whether none
 * has. */
static bool doctor_take(struct doctor *doctor, const struct doctor_step *steps, bool is_way,
			struct json_object *facts)
{
	unsigned failed = doctor->failed;

	for (; steps->checks && !(is_way && doctor->failed != failed); steps++) {
		if (steps->find)
			steps->find(doctor, facts);
		doctor_tell(doctor, steps->checks, facts);
	}
	return doctor->failed == failed;
}

/* Adds an object to a list of the facts. */
static struct json_object *doctor_add_entry(struct json_object *facts, const char *list)
{
	struct json_object *entry = json_object_new_object();

	if (!at(facts, list))
		json_object_object_add(facts, list, json_object_new_array());
	json_object_array_add(at(facts, list), entry);
	return entry;
}

/* Adds a text, which is freed, or if there is none another one. */
static void add_why(struct json_object *facts, char *why, const char *otherwise)
{
	if (why || otherwise)
		fields_add(facts, "why", "%s", why ? why : otherwise);
	free(why);
}

/* Reads a file's first line. Returns false: it can't be read. */
static bool read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");

	*line = '\0';
	if (!file)
		return false;
	if (!fgets(line, (int)size, file))
		*line = '\0';
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	return true;
}

/* ---- the machine ------------------------------------------------------------------------------ */

static const struct check xen_checks[] = {
	/* It can't be mended, and others have an answer to it (doc/security.md). */
	{"", "!atomics", WELL, "cpu",
	 "this CPU lacks LSE (ARMv8.1): a program that writes without end to memory that it shares with a daemon can hold that daemon; see doc/security.md, Known limits",
	 NULL},
	{"", "type=xen", WELL, "xen", "this is a Xen domain", NULL},
	{"", "else", EXIT_OTHER, "xen", "this is no Xen domain: /sys/hypervisor/type {type}",
	 "run it in a Xen domain, or in a simulated one: xensim start, xensim exec 1 -- ..."},
	{"", "type!=xen", LEFT_OUT, "devices", "without Xen there are none", NULL},
	{"", "type!=xen", LEFT_OUT, "xenstore", "without Xen there is none", NULL},
	{0},
};

static void find_xen(struct doctor *doctor, struct json_object *facts)
{
	char type[32];
	bool is_there = read_line("/sys/hypervisor/type", type, sizeof(type));

	fields_add(facts, "atomics", "%d", cpu_has_bounded_atomics());
	fields_add(facts, "type", "%s%s",
		   !is_there		 ? "isn't there"
		   : strcmp(type, "xen") ? "says "
					 : "",
		   type);
}

/* Xen's libraries would log on standard error what fails, which is told here in other words. */
static void log_nothing(xentoollog_logger *logger, xentoollog_level level, int error, const char *context,
			const char *format, va_list args)
{
}

static xentoollog_logger no_log = {.vmessage = log_nothing};

/* Each tries what links need of a device, and says what came of it, with errno. */

static const char *try_events_with(uint32_t domid, unsigned *port)
{
	xenevtchn_handle *handle = xenevtchn_open(&no_log, 0);
	int r = handle ? xenevtchn_bind_unbound_port(handle, domid) : -1, error = errno;

	*port = (unsigned)r;
	if (r >= 0)
		xenevtchn_unbind(handle, *port);
	if (handle)
		xenevtchn_close(handle);
	errno = error;
	return !handle ? "closed" : r < 0 ? "refused" : "given";
}

static const char *try_events(unsigned *port)
{
	return try_events_with(0, port);
}

static const char *try_grants(unsigned *reference)
{
	xengntshr_handle *handle = xengntshr_open(&no_log, 0);
	void *page = handle ? xengntshr_share_pages(handle, 0, 1, reference, 1) : NULL;
	int error = errno;

	if (page)
		xengntshr_unshare(handle, page, 1);
	if (handle)
		xengntshr_close(handle);
	errno = error;
	return !handle ? "closed" : !page ? "refused" : "given";
}

static const char *try_maps(unsigned *nothing)
{
	xengnttab_handle *handle = xengnttab_open(&no_log, 0);

	if (handle)
		xengnttab_close(handle);
	return handle ? "given" : "closed";
}

static const struct check device_checks[] = {
	{"devices.*", "tried=closed roots", LEFT_OUT, "{step}", "only root may try it", NULL},
	{"devices.*", "else tried=closed missing", EXIT_OTHER, "{step}", "{path}: {error}",
	 "modprobe {module}; a kernel without it, such as Debian's cloud kernel, can't serve"},
	{"devices.*", "else tried=closed", EXIT_OTHER, "{step}", "{path}: {error}",
	 "see dmesg, and whether the hypervisor lets this domain (its flask policy)"},
	{"devices.*", "else tried=refused step=events", EXIT_OTHER, "events",
	 "{path} opens, but the hypervisor gives no event channel: {error}",
	 "too many event channels? 'xl debug-keys e' in domain 0 lists them"},
	{"devices.*", "else tried=refused", EXIT_OTHER, "grants",
	 "{path} opens, but no page can be granted: {error}",
	 "raise /sys/module/xen_gntalloc/parameters/limit, or let links be smaller: ring-size in xenmsgd.conf"},
	{"devices.*", "else step=events", WELL, "events",
	 "{path} opens, the hypervisor gives an event channel (port {given})", NULL},
	{"devices.*", "else step=grants", WELL, "grants",
	 "{path} opens, a page can be granted (reference {given})", NULL},
	{"devices.*", "else", WELL, "{step}", "{path} opens", NULL},
	{0},
};

static bool only_root_may(int error)
{
	return (error == EACCES || error == EPERM) && geteuid() != 0;
}

static void find_devices(struct doctor *doctor, struct json_object *facts)
{
	static const struct {
		const char *step, *path, *module;
		const char *(*try)(unsigned *given);
	} devices[] = {{"events", "/dev/xen/evtchn", "xen-evtchn", try_events},
		       {"grants", "/dev/xen/gntalloc", "xen-gntalloc", try_grants},
		       {"maps", "/dev/xen/gntdev", "xen-gntdev", try_maps}};

	for (size_t i = 0; fields_hold(facts, "type=xen") && i < sizeof(devices) / sizeof(*devices); i++) {
		struct json_object *device = doctor_add_entry(facts, "devices");
		unsigned given = 0;
		int error;

		errno = 0;
		fields_add(device, "tried", "%s", devices[i].try(&given));
		error = errno;
		fields_add(device, "step", "%s", devices[i].step);
		fields_add(device, "path", "%s", devices[i].path);
		fields_add(device, "module", "%s", devices[i].module);
		fields_add(device, "given", "%u", given);
		fields_add(device, "error", "%s", strerror(error));
		fields_add(device, "roots", "%d", only_root_may(error));
		fields_add(device, "missing", "%d", error == ENOENT || access(devices[i].path, F_OK) < 0);
	}
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

static const struct check store_checks[] = {
	{"store", "no_child", EXIT_OTHER, "xenstore", "can't try it: {error}", "end some processes"},
	{"store", "else silent_s", EXIT_OTHER, "xenstore", "XenStore hasn't answered within {silent_s} s",
	 "look at xenstored in domain 0: is it running, or stopped, or busy?"},
	{"store", "else domid!=", WELL, "xenstore", "XenStore answers: this is domain {domid}", NULL},
	{"store", "else roots", LEFT_OUT, "xenstore", "only root may try it", NULL},
	/* libxenstore looks nowhere else then. */
	{"store", "else place", EXIT_OTHER, "xenstore",
	 "XenStore can't be read at {place}, which XENSTORED_PATH names: {error}",
	 "is xenstored's socket there, or the device xenbus? else name the right place, or unset XENSTORED_PATH"},
	{"store", "else", EXIT_OTHER, "xenstore", "XenStore can't be read: {error}",
	 "in domain 0: start xenstored (" ADVICE_START(
		 "xenstored") ", or xen on Debian); in a guest: is there /dev/xen/xenbus, or /proc/xen mounted?"},
	{0},
};

/* Asks XenStore. Returns 0 or an errno, ETIMEDOUT if it is silent. */
static int read_store(char *domid, size_t size, struct json_object *store)
{
	struct pollfd answer = {.events = POLLIN};
	int ends[2], status = 0, polled;
	ssize_t got = 0;
	pid_t pid;

	fflush(stdout);
	if (pipe(ends) < 0 || (pid = fork()) < 0) {
		int error = errno;

		fields_add(store, "no_child", "%d", true);
		return error;
	}
	if (pid == 0)
		ask_store(ends[1]);
	close(ends[1]);
	answer.fd = ends[0];
	do
		polled = poll(&answer, 1, STORE_ANSWER_MS);
	while (polled < 0 && errno == EINTR);
	if (polled > 0)
		got = read(ends[0], domid, size - 1);
	else
		kill(pid, SIGKILL);
	close(ends[0]);
	waitpid(pid, &status, 0);
	if (polled == 0)
		fields_add(store, "silent_s", "%d", STORE_ANSWER_MS / 1000);
	return got > 0 ? 0 : WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EIO;
}

static void find_store(struct doctor *doctor, struct json_object *facts)
{
	struct json_object *store = fields_hold(facts, "type=xen") ? json_object_new_object() : NULL;
	const char *place = getenv("XENSTORED_PATH");
	char domid[16] = "";
	int error = store ? read_store(domid, sizeof(domid), store) : 0;

	json_object_object_add(facts, "store", store);
	fields_add(store, "domid", "%s", domid);
	fields_add(store, "error", "%s%s", strerror(error), cli_limit_of(error));
	fields_add(store, "place", "%s", place ? place : "");
	fields_add(store, "roots", "%d", only_root_may(error));
}

/* ---- where there is no daemon: what one would find ------------------------------------------- */

static const struct check no_daemon_checks[] = {
	{"silent", "socket=file", EXIT_NO_DAEMON, "daemon", "{path} is there and is no socket",
	 "remove it, or listen elsewhere; then: " ADVICE_START("xenmsgd")},
	{"silent", "else pid", EXIT_NO_DAEMON, "daemon",
	 "another program, {program} (process {pid}), listens on {path}",
	 "stop it (kill {pid}), or listen elsewhere; then: " ADVICE_START("xenmsgd")},
	{"silent", "else !answers", EXIT_OTHER, "daemon", "xenmsgd runs, but doesn't answer: {error}",
	 ADVICE_RESTART("xenmsgd") "; before that its log may say why: " ADVICE_LOG("xenmsgd")},
	{"silent", "else denied", EXIT_NO_DAEMON, "daemon", "{path}: {error}",
	 "let users enter the socket's directory"},
	{"silent", "else units", EXIT_NO_DAEMON, "daemon", "{path}: {error}",
	 ADVICE_START("xenmsgd") ", or see its log: " ADVICE_LOG("xenmsgd")},
	{"silent", "else", EXIT_NO_DAEMON, "daemon", "{path}: {error}",
	 "start one that listens there: xenmsgd --socket {path}"},
	{"silent", "read_only", EXIT_OTHER, "access",
	 "{read_only} is read-only, and the daemon makes its socket or its lock there",
	 "mount -o remount,rw $(findmnt -n -o TARGET -T {read_only})"},
	{"silent.devices.*", "", EXIT_OTHER, "access", "the user xenmsgd may not read and write {path}",
	 ADVICE_DEVICES},
	{"silent.settings.*", "", EXIT_OTHER, "access", "the user xenmsgd can't read {path}",
	 "chgrp xenmsgd {path} && chmod g+rX {path}"},
	{"silent.labels.*", "", WARNED, "access",
	 "SELinux may deny {path}, whose label is {label}; that of /etc is {usual}",
	 "restorecon -Rv /etc/xenmsg"},
	{"silent", "", LEFT_OUT, "peers", "without a daemon they can't be reached", NULL},
	{0},
};

/* Returns the process that listens on a socket; 0: it can't be told. */
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

/* Finds what has the place of the daemon's socket instead of it. Returns false: nothing has. */
static bool find_squatter(const char *socket, struct json_object *facts)
{
	struct stat file;
	char path[64], name[32];
	pid_t pid;

	if (stat(socket, &file) < 0)
		return false;
	if (!S_ISSOCK(file.st_mode)) {
		fields_add(facts, "socket", "file");
		return true;
	}
	pid = listener(socket);
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	read_line(path, name, sizeof(name));
	text_make_ascii(name, strlen(name), ' '); /* it is another's word for a terminal */
	/* systemd listens for the daemon, and goes on to while that runs. */
	if (pid <= 1 || !*name || !strcmp(name, "xenmsgd") || !strcmp(name, "systemd"))
		return false;
	fields_add(facts, "pid", "%d", (int)pid);
	fields_add(facts, "program", "%s", name);
	return true;
}

/* Whether nothing can be made there, not even by root. */
static bool is_read_only(const char *directory)
{
	return access(directory, W_OK) < 0 && errno == EROFS;
}

/* Looks whether a daemon could make its lock and its socket. */
static void find_read_only(const char *socket, struct json_object *facts)
{
	char directory[PATH_MAX];
	const char *end = strrchr(socket, '/');

	snprintf(directory, sizeof(directory), "%.*s", end ? (int)(end - socket) : 0, socket);
	if (is_read_only("/run"))
		fields_add(facts, "read_only", "/run");
	else if (is_read_only(directory))
		fields_add(facts, "read_only", "%s", directory);
}

static bool is_member(const struct passwd *user, gid_t gid)
{
	gid_t groups[64];
	int count = sizeof(groups) / sizeof(*groups);

	if (getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
		return false;
	while (count-- > 0)
		if (groups[count] == gid)
			return true;
	return false;
}

/* Returns what a file's ACL says of this very user, as the last digit of a mode; 0: nothing. */
static mode_t mode_by_acl(const char *path, uid_t uid)
{
	struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entries[64];
	} acl;
	ssize_t size = getxattr(path, "system.posix_acl_access", &acl, sizeof(acl));
	const struct posix_acl_xattr_entry *entry = acl.entries;
	mode_t mode = 0, mask = 07;

	for (; (const char *)(entry + 1) <= (const char *)&acl + size; entry++) {

		if (le16toh(entry->e_tag) == ACL_USER && le32toh(entry->e_id) == uid)
			mode = le16toh(entry->e_perm);
		else if (le16toh(entry->e_tag) == ACL_MASK)
			mask = le16toh(entry->e_perm);
	}
	return mode & mask;
}

/* Whether a user may not use a file so: read, write and execute as in the last digit of a mode. */
static bool is_denied(const struct passwd *user, const char *path, bool is_device)
{
	struct stat file;
	mode_t mode, wanted;

	if (stat(path, &file) < 0)
		return false;
	wanted = is_device ? 06 : S_ISDIR(file.st_mode) ? 05 : 04;
	mode = file.st_uid == user->pw_uid    ? file.st_mode >> 6
	       : is_member(user, file.st_gid) ? file.st_mode >> 3
					      : file.st_mode;
	mode |= mode_by_acl(path, user->pw_uid);
	return (mode & wanted) != wanted;
}

/* Looks whether the unit's user may have what it needs; for us, as root, all of it is open. */
static void find_denied(struct json_object *facts)
{
	static const struct {
		const char *list, *path;
	} used[] = {{"devices", "/dev/xen/evtchn"},	      {"devices", "/dev/xen/gntdev"},
		    {"devices", "/dev/xen/gntalloc"},	      {"devices", "/dev/xen/xenbus"},
		    {"settings", "/etc/xenmsg/xenmsgd.conf"}, {"settings", "/etc/xenmsg/policy.d"}};
	const struct passwd *user = getpwnam("xenmsgd");

	for (size_t i = 0; user && i < sizeof(used) / sizeof(*used); i++)
		if (is_denied(user, used[i].path, !strcmp(used[i].list, "devices")))
			fields_add(doctor_add_entry(facts, used[i].list), "path", "%s", used[i].path);
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
static void find_labels(struct json_object *facts)
{
	char usual[128], type[128];
	glob_t found = {0};

	read_line("/sys/fs/selinux/enforce", type, sizeof(type));
	if (*type != '1')
		return;
	label_type("/etc", usual);
	glob("/etc/xenmsg", 0, NULL, &found);
	glob("/etc/xenmsg/*", GLOB_APPEND, NULL, &found);
	glob("/etc/xenmsg/*/*", GLOB_APPEND, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		label_type(found.gl_pathv[i], type);
		if (*type && strcmp(type, usual) != 0) {
			struct json_object *entry = doctor_add_entry(facts, "labels");

			fields_add(entry, "path", "%s", found.gl_pathv[i]);
			fields_add(entry, "label", "%s", type);
			fields_add(entry, "usual", "%s", usual);
		}
	}
	globfree(&found);
}

/* Finds why there is no session with a daemon, or (`is_open`) why it doesn't answer. */
static void find_no_daemon(struct doctor *doctor, struct json_object *facts, bool is_open, int error)
{
	const char *socket = cli_socket_path(doctor->cli);
	struct json_object *silent = json_object_new_object();
	bool is_units = !strcmp(socket, CLI_UNITS_SOCKET), answers = !is_open && error != -ETIMEDOUT;

	json_object_object_add(facts, "silent", silent);
	fields_add(silent, "path", "%s", socket);
	fields_add(silent, "error", "%s", strerror(-error));
	fields_add(silent, "answers", "%d", answers);
	fields_add(silent, "denied", "%d", error == -EACCES);
	fields_add(silent, "units", "%d", is_units);
	if ((!is_open && find_squatter(socket, silent)) || !answers)
		return;
	find_read_only(socket, silent);
	if (is_units)
		find_denied(silent);
	find_labels(silent);
}

/* ---- what a daemon says of itself ----------------------------------------------------------- */

#define RESTS_MANY    10
#define REST_PERIOD_S 60
#define NAMES_THIS    "with presence = private there, its peers must name this domain"

static const struct check status_checks[] = {
	{"status", "", WELL, "daemon", "xenmsgd {version} serves domain {domid} at {socket}", NULL},
	{"status", "uuid", WELL, "daemon", "this domain has the UUID {uuid}{ and the name |name}", NULL},
	{"status", "renewed", WELL, "daemon",
	 "this one took over from xenmsgd {renewed.from} {uptime_s} s ago, and programs went on", NULL},
	{"", "store_domid!=", EXIT_OTHER, "daemon",
	 "xenmsgd takes this for domain {status.domid}, and XenStore says {store_domid}",
	 "restart xenmsgd; was the domain restored?"},
	{"status.store", "connected=false", EXIT_OTHER, "daemon", "xenmsgd has lost XenStore",
	 "look at xenstored in domain 0, then restart xenmsgd"},
	{"status.store", "else stalled_s>1", EXIT_OTHER, "daemon",
	 "xenmsgd has been waiting for XenStore for {stalled_s} s", "look at xenstored in domain 0"},
	{"status.grants", "waiting_links", EXIT_LIMIT, "daemon",
	 "{waiting_links} links wait for pages to grant; {used_pages} of {limit_pages} are in use",
	 "raise /sys/module/xen_gntalloc/parameters/limit, or make ring-size in xenmsgd.conf smaller"},

	{"", "local status.partial", WELL, "policy", "what policy refuses is shown to " WHO_SEES_ALL " only",
	 NULL},
	{"status.policy", "rules=1", WELL, "policy", "1 rule is in force", NULL},
	{"status.policy", "else rules>1", WELL, "policy", "{rules} rules are in force", NULL},
	{"status.policy", "else rules=0 of_host.rules of_host.mode!=ignore", WELL, "policy",
	 "0 rules are in force, so other domains may reach what the host policy allows, and nothing else",
	 NULL},
	{"status.policy", "else rules=0", WELL, "policy",
	 "0 rules are in force, so no other domain may reach anything here", NULL},
	{"status.policy", "error", EXIT_OTHER, "policy",
	 "older rules are in force, since the files have a mistake: {error}",
	 "correct it, then: xenmsg policy reload"},
	{"status.policy", "needs_names names_known=false", EXIT_UNREACHABLE, "policy",
	 "rules name domains, and no names are known: what hangs on them isn't decided, and was refused {undecided} times",
	 "start xenmsgd in domain 0; " NAMES_THIS},
	{"status.policy.of_host", "mode=ignore", WELL, "host policy",
	 "domain 0's rules aren't obeyed here: host-policy = ignore", NULL},
	{"status.policy.of_host", "else rules= mode=require", EXIT_UNREACHABLE, "host policy",
	 "domain 0 hasn't told it, and host-policy = require: nobody comes in from other domains",
	 "start xenmsgd in domain 0, of a version that tells it; " NAMES_THIS},
	{"status.policy.of_host", "else rules=", WELL, "host policy",
	 "domain 0 hasn't told it yet, so this domain's own rules decide alone", NULL},
	{"status.policy.of_host", "else rules directory", WELL, "host policy",
	 "{rules} of domain 0's rules are about this domain, or about others", NULL},
	{"status.policy.of_host", "else rules", WELL, "host policy",
	 "{rules} of domain 0's rules are about this domain", NULL},

	{"status.activation", "error", EXIT_OTHER, "activation",
	 "older files are in force, since the newer ones have a mistake: {error}",
	 "correct it, then: xenmsg policy reload"},
	{"status.endpoints.*", "activation.state=failed", EXIT_OTHER, "activation",
	 "the program for {name} couldn't be started: {activation.reason}",
	 "look at the program's own log; see xenmsg-activation(5)"},

	{"status.hosts", "gateway=missing", EXIT_OTHER, "hosts",
	 "no gateway to other hosts is connected{: |last_error}",
	 ADVICE_START("xenmsg-gateway") ", or see its log: " ADVICE_LOG("xenmsg-gateway")},
	{"status.hosts", "else gateway=waiting", EXIT_OTHER, "hosts",
	 "the gateway has no connection to the network{: |last_error}",
	 "correct /etc/xenmsg/gateway.conf, or start the NATS server that it names"},
	{"status.hosts", "else gateway", WELL, "hosts", "the gateway is connected to {server}", NULL},

	{"resting.*", "kind=uid", WARNED, "time",
	 "{who} had to rest {time.rests} times{now}, since calls into the kernel for it took too long",
	 "end its programs, or mend them: something watches their sockets, doorbells or streams thousands of times (epoll)"},
	{"resting.*", "else", WARNED, "time",
	 "{who} had to rest {time.rests} times{now}, since calls into the kernel for it took too long",
	 "see that domain's programs, and those here that accept its streams"},
	{"status.streams.*", "state=untold", WARNED, "streams",
	 "the stream of {comm} (pid {pid}) with {address}{endpoint} is broken, and the program can't be told: it has lowered its SO_SNDBUF",
	 "end that program, or leave SO_SNDBUF as it was"},
	{"status.streams.*", "else state=stuck", WARNED, "streams",
	 "in the stream of {comm} (pid {pid}) with {address}{endpoint} nothing has moved for a minute, though both sides want it",
	 "'xenmsg trace' and the logs of both daemons say more; end that program if it stays so"},
	{"status", "cut_off", WARNED, "programs", "the daemon has cut off {cut_off} sessions of programs",
	 "its log says which, and why (" ADVICE_LOG("xenmsgd") " | grep 'cut off'): mend or end these"},

	{"status.denied.0", "count=1", WELL, "policy",
	 "some are refused: last domain {from}, uid {uid}, to {to} ({count} time); 'xenmsg policy check {from}/{uid} {to}' says why, and 'xenmsg policy denied' lists them",
	 NULL},
	{"status.denied.0", "else", WELL, "policy",
	 "some are refused: last domain {from}, uid {uid}, to {to} ({count} times); 'xenmsg policy check {from}/{uid} {to}' says why, and 'xenmsg policy denied' lists them",
	 NULL},
	{0},
};

/* Returns the accounts for which calls into the kernel took too long, more often than by chance, such as that
 * of a virtual machine that another one took the CPU from. */
static struct json_object *find_resting(struct json_object *status)
{
	struct json_object *accounts = at(status, "accounts"), *found = json_object_new_array();

	fields_foreach(accounts, account) {
		int64_t rests = number_at(at(account, "time"), "rests");
		bool is_now = json_object_get_boolean(field(account, "time.resting"));

		/* They may be of daemons before this one, and nobody knows in what time. */
		bool is_rare = json_object_is_type(at(status, "renewed"), json_type_object) ||
			       rests < number_at(status, "uptime_s") / REST_PERIOD_S;

		if (rests < RESTS_MANY || (!is_now && is_rare))
			continue;
		fields_name_account(account);
		fields_add(account, "now", "%s", is_now ? ", and does now" : "");
		json_object_array_add(found, json_object_get(account));
	}
	return found;
}

/* Adds what a daemon says of itself. */
static void add_status(struct doctor *doctor, struct json_object *facts, struct json_object *status)
{
	const char *domid = text_or(at(facts, "store"), "domid", "");

	json_object_object_add(facts, "status", json_object_get(status));
	json_object_object_add(facts, "resting", find_resting(status));
	fields_add(facts, "local", "%d", !*doctor->of);
	if (*domid && strcmp(domid, text_or(status, "domid", "")) != 0)
		fields_add(facts, "store_domid", "%s", domid);
}

static void find_daemon(struct doctor *doctor, struct json_object *facts)
{
	int r = xenmsg_open(&doctor->conn, doctor->cli->socket, XENMSG_WITHIN(ANSWER_MS));
	bool is_open = r == 0;
	struct json_object *status = is_open ? cli_query(doctor->conn, "status", NULL, &r) : NULL;

	if (status) {
		add_status(doctor, facts, status);
		json_object_put(status);
		return;
	}
	find_no_daemon(doctor, facts, is_open, r);
	xenmsg_close(doctor->conn);
	doctor->conn = NULL;
}

/* ---- the daemons of this host --------------------------------------------------------------- */

static const struct check entry_checks[] = {
	{"", "denied", LEFT_OUT, "daemon", "that domain tells domain 0 nothing: host-sight = none", NULL},
	{"", "else !status", EXIT_UNREACHABLE, "daemon", "{why}",
	 "run 'xenmsg doctor' in that domain, and see its log"},
	{"status.links.*", "state=away", WARNED, "link",
	 "the one with domain {peer.domid} is away, and waited for",
	 "is that domain saved, paused or very busy? 'xl list' says"},
	{"", "status", WELL, "links", "{up} of {links} are up", NULL},
	{"status.failures.*", "", WARNED, "link", "none could be made with domain {peer.domid}: {last_error}",
	 "the daemon's log there says more, and 'xenmsg doctor' there"},
	{0},
};

/* Adds how many links a domain has, and how many of them are up. */
static void doctor_count_links(struct json_object *entry)
{
	struct json_object *links = at(at(entry, "status"), "links");
	size_t up = 0;

	for (size_t i = 0; i < length_of(links); i++)
		up += !strcmp(text_or(json_object_array_get_idx(links, i), "state", ""), "up");
	fields_add(entry, "up", "%zu", up);
	fields_add(entry, "links", "%zu", length_of(links));
}

/* How many domains are well, have something of which they warn, and something that has failed. */
struct doctor_sum {
	unsigned well, warned, failed;
};

static void check_domain(struct doctor *doctor, struct json_object *entry, struct doctor_sum *sum)
{
	static const struct check well[] = {
		{"", "denied", LEFT_OUT, "daemon", "that domain tells domain 0 nothing: host-sight = none",
		 NULL},
		{"", "else", WELL, "daemon", "xenmsgd {status.version}, {up} of {links} links are up", NULL},
		{0},
	};
	unsigned failed = doctor->failed, warned = doctor->warned;

	snprintf(doctor->of, sizeof(doctor->of), "%s: ", text_or(entry, "name", text_or(entry, "domid", "")));
	add_status(doctor, entry, at(entry, "status"));
	fields_add(entry, "denied", "%d", !at(entry, "status") && number_at(entry, "error") == EACCES);
	doctor_count_links(entry);
	doctor_tell(doctor, status_checks, entry);
	doctor_tell(doctor, entry_checks, entry);
	if (doctor->failed != failed) {
		sum->failed++;
	} else if (doctor->warned != warned) {
		sum->warned++;
	} else {
		sum->well++;
		doctor->only_bad = doctor->json || doctor->cli->quiet;
		doctor_tell(doctor, doctor->json ? well + 2 : well, entry);
	}
}

/* Looks, in domain 0, at the daemons of all domains. Returns 0, or an exit code after a complaint. */
static int check_host(struct doctor *doctor)
{
	struct doctor_sum sum = {0};
	struct json_object *all;
	int code = host_statuses(doctor->cli, ANSWER_MS, &all);

	if (code)
		return code;
	fields_foreach(all, entry) {
		doctor->only_bad = !doctor->json || doctor->cli->quiet;
		check_domain(doctor, entry, &sum);
	}
	if (!doctor->json && !doctor->cli->quiet)
		printf("%zu domains: %u well, %u with warnings, %u failed\n", length_of(all), sum.well,
		       sum.warned, sum.failed);
	doctor->of[0] = '\0';
	json_object_put(all);
	return EXIT_DONE;
}

/* ---- the ways to other domains --------------------------------------------------------------- */

#define NO_NAMES_MEND                                                                                        \
	"start xenmsgd in domain 0, which tells the names of domains, or write the domain's number"
#define LOOK_THERE "run 'xenmsg doctor' in that domain, and see the logs of both daemons"

static const struct check relay_checks[] = {
	{"relays.*", "forbidden", LEFT_OUT, "direct",
	 "there is no link with domain {domid}, domain 0 relays: {why}; the hypervisor refuses an event channel with it",
	 NULL},
	{"relays.*", "else", LEFT_OUT, "direct",
	 "there is no link with domain {domid}, domain 0 relays: {why}", NULL},
	{0},
};

/* Whether the hypervisor forbids event channels with that domain, as XSM does without memory to share. */
static bool is_forbidden(const char *number)
{
	uint32_t domid;
	unsigned port;

	errno = 0;
	return domid_parse(number, strlen(number), &domid) &&
	       !strcmp(try_events_with(domid, &port), "refused") && errno == EPERM;
}

/* Adds that domain, which answers, if what is for it goes through domain 0. */
static void find_relay(struct doctor *doctor, struct json_object *facts)
{
	const char *domain = text_or(facts, "domain", "");

	if (!at(facts, "peers"))
		json_object_object_add(facts, "peers", cli_query(doctor->conn, "peers", NULL, NULL));
	fields_foreach(at(facts, "peers"), peer) {
		const char *number = text_or(peer, "domid", "");
		struct json_object *relay;

		if (!at(peer, "via") || !cli_is_domain(peer, address_part_of(domain)))
			continue;
		relay = doctor_add_entry(facts, "relays");
		fields_add(relay, "domid", "%s", number);
		fields_add(relay, "why", "%s", text_or(peer, "why", "neither may map the other's pages"));
		fields_add(relay, "forbidden", "%d", is_forbidden(number));
	}
}

/* Adds how a daemon has answered. */
static void add_answer(struct json_object *facts, int error, uint64_t rtt_ns)
{
	fields_add(facts, "answer", "%s",
		   error == 0		    ? "came"
		   : error == -EACCES	    ? "denied"
		   : error == -EHOSTDOWN    ? "down"
		   : error == -EHOSTUNREACH ? "unreachable"
		   : error == -ETIMEDOUT    ? "silent"
					    : "other");
	fields_add(facts, "rtt_us", "%.1f", (double)rtt_ns / 1e3);
}

/* ---- the way to an address ------------------------------------------------------------------ */

/* Each step adds to the facts what it finds; these are there before: address, and of it host, domain
 * ([HOST/]DOMAIN) and name (the endpoint); `this` domain, and whether the address is its `own`. */

static const struct check host_checks[] = {
	{"", "host!= !found answer=denied", EXIT_DENIED, "host",
	 "{address}: nothing that this domain may know of leads to host {host}", "{why}"},
	{"", "else host!= !found", EXIT_UNREACHABLE, "host",
	 "{address}: nothing that this domain may know of leads to host {host}", "{why}"},
	{"", "else host!= !up", EXIT_UNREACHABLE, "host", "{address}: host {host} is down",
	 "start xenmsgd and its gateway in domain 0 there"},
	{"", "else host!=", WELL, "host", "{address}: host {host} is there", NULL},
	{0},
};

static void find_host(struct doctor *doctor, struct json_object *facts)
{
	const char *host = text_or(facts, "host", "");
	struct json_object *hosts, *entry;
	uint64_t rtt_ns = 0;

	if (!*host)
		return;
	hosts = cli_query(doctor->conn, "hosts", NULL, NULL);
	entry = find_in(hosts, "host", host);
	fields_add(facts, "found", "%d", entry ? 1 : 0);
	fields_add(facts, "up", "%d",
		   json_object_get_boolean(at(entry, "own")) || json_object_get_boolean(at(entry, "up")));
	if (!entry) {
		int r = xenmsg_ping(doctor->conn, text_or(facts, "domain", ""), XENMSG_WITHIN(ANSWER_MS),
				    &rtt_ns);

		add_answer(facts, r, rtt_ns);
		add_why(facts, cli_why_refused(doctor->conn, text_or(facts, "address", ""), r),
			"see 'xenmsg hosts', and [hosts] in xenmsgd.conf(5)");
	}
	json_object_put(hosts);
}

static const struct check domain_checks[] = {
	{"", "answer=down host!=", EXIT_UNREACHABLE, "domain", "{address}: {why}",
	 "start xenmsgd in that domain, or see with 'xenmsg peers' there which domains it has"},
	{"", "else answer=down named nameless", EXIT_UNREACHABLE, "domain", "{address}: {why}",
	 NO_NAMES_MEND},
	{"", "else answer=down named", EXIT_UNREACHABLE, "domain", "{address}: {why}",
	 "see 'xenmsg peers' for the names that are known; has that domain this name, and a daemon? " NAMES_THIS},
	{"", "else answer=down", EXIT_UNREACHABLE, "domain", "{address}: {why}",
	 "start xenmsgd in that domain; " NAMES_THIS},
	{"", "else answer=denied host!=", EXIT_DENIED, "rule",
	 "{address}: policy here lets nothing leave this host for there, or policy there nothing in",
	 "{why}"},
	{"", "else answer=denied", EXIT_DENIED, "rule", "{address}: denied by policy", "{why}"},
	{"", "else", WELL, "domain", "{address}: domain {domain} is there", NULL},
	{"", "answer=came", WELL, "link", "{address}: the daemon there answers within {rtt_us} us", NULL},
	{"", "else answer=silent", EXIT_TIMED_OUT, "link", "{address}: {why}", LOOK_THERE},
	{"", "else answer!=down answer!=denied", EXIT_UNREACHABLE, "link", "{address}: {why}", LOOK_THERE},
	{0},
};

/* Adds whether a domain is meant by a name, and whether nobody is there that tells names. */
static void add_naming(const struct doctor *doctor, struct json_object *facts, const char *domain)
{
	static const char *const teller = "0";
	bool is_told = xenmsg_domid(doctor->conn) == 0;

	if (!at(facts, "peers"))
		json_object_object_add(facts, "peers", cli_query(doctor->conn, "peers", NULL, NULL));
	fields_foreach(at(facts, "peers"), peer)
		is_told |= !strcmp(text_or(peer, "domid", ""), teller);
	fields_add(facts, "named", "%d", strspn(domain, "0123456789") < strlen(domain));
	fields_add(facts, "nameless", "%d", !is_told);
}

static void find_domain(struct doctor *doctor, struct json_object *facts)
{
	uint64_t rtt_ns = 0;
	int r = xenmsg_ping(doctor->conn, text_or(facts, "domain", ""), XENMSG_WITHIN(ANSWER_MS), &rtt_ns);
	char reason[256];

	snprintf(reason, sizeof(reason), "%s", xenmsg_reason(doctor->conn, r == -EHOSTDOWN ? r : 0));
	add_answer(facts, r, rtt_ns);
	if (r == -EHOSTDOWN)
		add_naming(doctor, facts, text_or(facts, "domain", ""));
	if (r == -EACCES)
		add_why(facts, cli_why_refused(doctor->conn, text_or(facts, "address", ""), r),
			"a [relay] in /etc/xenmsg/policy.d of domain 0 must let the two talk");
	else if (r < 0)
		add_why(facts,
			r == -EHOSTUNREACH ? cli_why_no_link(doctor->conn, text_or(facts, "address", ""))
					   : NULL,
			*reason		  ? reason
			: r == -ETIMEDOUT ? "the daemon there doesn't answer"
					  : xenmsg_error_text(r));
}

static const struct check endpoint_checks[] = {
	{"", "!endpoint own", EXIT_NO_ENDPOINT, "endpoint", "{address}: {why}",
	 "bind it: xenmsg recv {name} (or serve, listen), as root, in the socket's group or by a [bind] rule"},
	{"", "else !endpoint", EXIT_NO_ENDPOINT, "endpoint", "{address}: {why}",
	 "in that domain 'xenmsg endpoints self' says whether it is bound, and 'xenmsg policy check {this} {name}' whether a rule lets this domain in"},
	{"", "else endpoint.started=failed", EXIT_NO_ENDPOINT, "endpoint",
	 "{address}: its start on demand has failed", "see the log of its program, then start it again"},
	{"", "else", WELL, "endpoint", "{address}: a program has bound it", NULL},
	{"", "takes endpoint.started!=failed", WELL, "kind",
	 "{address}: the program takes {takes} (xenmsg {command})", NULL},
	{"", "else endpoint endpoint.started!=failed", LEFT_OUT, "kind",
	 "{address}: the daemon there doesn't tell what it takes", NULL},
	{0},
};

static void find_endpoint(struct doctor *doctor, struct json_object *facts)
{
	char question[sizeof("endpoints ") + ADDRESS_MAX];
	struct json_object *endpoints, *endpoint;
	const struct cli_kind *kind;

	snprintf(question, sizeof(question), "endpoints %s", text_or(facts, "domain", ""));
	endpoints = cli_query(doctor->conn, question, NULL, NULL);
	endpoint = json_object_get(find_in(endpoints, "name", text_or(facts, "name", "")));
	json_object_put(endpoints);
	json_object_object_add(facts, "endpoint", endpoint);
	kind = cli_kind(text_or(endpoint, "kind", ""));
	if (kind) {
		fields_add(facts, "takes", "%s", kind->takes);
		fields_add(facts, "command", "%s%s", kind->command, kind->or_else);
	}
	if (!endpoint)
		add_why(facts, cli_why_refused(doctor->conn, text_or(facts, "address", ""), -ENOENT),
			"nobody has bound it, or policy there doesn't show it to this domain");
}

#define CHECK_POLICY                                                                                         \
	"add to {place}{, before line |rule.cure.line} what 'xenmsg policy check' prints, then: xenmsg policy reload"

/* By which rule of this domain it may be reached, or may leave. */
static const struct check rule_checks[] = {
	{"", "!rule", WELL, "rule",
	 "{address}: policy there shows it to this domain; it decides for each user, and 'xenmsg policy check' there says how",
	 NULL},
	{"", "else rule.allow", WELL, "rule", "{address}: {decides}{:|rule.line} allows it", NULL},
	{"", "else rule.undecided", EXIT_UNREACHABLE, "rule", "{address}: {rule.reason}", CHECK_POLICY},
	{"", "else", EXIT_DENIED, "rule", "{address}: {rule.reason}", CHECK_POLICY},
	{0},
};

static void find_rule(struct doctor *doctor, struct json_object *facts)
{
	char question[sizeof("policy 4294967295/4294967295 ") + ADDRESS_MAX];
	bool is_own = fields_hold(facts, "own");
	struct json_object *rule;

	if (is_own)
		snprintf(question, sizeof(question), "policy self/%u %s", (unsigned)geteuid(),
			 text_or(facts, "name", ""));
	else
		snprintf(question, sizeof(question), "policy 0 %s", text_or(facts, "address", ""));
	/* Of what others decide we know that we see it. */
	if (!is_own && (!*text_or(facts, "host", "") || xenmsg_domid(doctor->conn) != 0))
		return;
	rule = cli_query(doctor->conn, question, NULL, NULL);
	json_object_object_add(facts, "rule", rule);
	fields_add(facts, "decides", "%s", text_or(rule, "file", "policy"));
	fields_add(facts, "place", "%s", text_or(at(rule, "cure"), "file", "/etc/xenmsg/policy.d"));
}

/* Goes the way to an address, and says the first that is wrong. `status` is this domain's. */
static void check_address(struct doctor *doctor, struct json_object *status, const char *address)
{
	static const struct doctor_step steps[] = {
		{find_host, host_checks},	  {find_domain, domain_checks}, {find_relay, relay_checks},
		{find_endpoint, endpoint_checks}, {find_rule, rule_checks},	{0}};
	struct json_object *facts;
	struct address parsed;
	bool is_remote, is_own;
	char domid[16];

	if (address_parse(address, strlen(address), &parsed, NULL) < 0)
		return;
	is_remote = *parsed.host;
	snprintf(domid, sizeof(domid), "%u", xenmsg_domid(doctor->conn));
	is_own = !strcmp(parsed.domain, "self") || cli_is_domain(status, address_part_of(parsed.domain));
	facts = json_object_new_object();
	fields_add(facts, "address", "%s", address);
	fields_add(facts, "host", "%s", parsed.host);
	fields_add(facts, "domain", "%s%s%s", parsed.host, is_remote ? "/" : "", parsed.domain);
	fields_add(facts, "name", "%s", parsed.endpoint);
	fields_add(facts, "this", "%s%s", is_remote ? "OUR-HOST/" : "", domid);
	fields_add(facts, "own", "%d", !is_remote && is_own);
	doctor_take(doctor, steps, true, facts);
	json_object_put(facts);
}

/* ---- the daemons of other domains ----------------------------------------------------------- */

static const struct check peer_checks[] = {
	{"", "answer=came", WELL, "peer {domain}", "the daemon there answers within {rtt_us} us", NULL},
	{"", "else answer=silent", EXIT_TIMED_OUT, "peer {domain}", "no answer within 5 s", LOOK_THERE},
	{"", "else answer=down named nameless", EXIT_UNREACHABLE, "peer {domain}", "{why}", NO_NAMES_MEND},
	{"", "else answer=down named", EXIT_UNREACHABLE, "peer {domain}", "{why}",
	 "see 'xenmsg peers' for the names that are known; they come from xenmsgd in domain 0"},
	{"", "else answer=down", EXIT_UNREACHABLE, "peer {domain}", "{why}",
	 "start xenmsgd in that domain, if there is one; " NAMES_THIS},
	{"", "else", EXIT_UNREACHABLE, "peer {domain}", "{why}", LOOK_THERE},
	{0},
};

#define PINGS_MAX 60 /* at a time; the daemon allows 64 requests of a session */

/* What is told of other domains. */
struct doctor_peers {
	struct doctor *doctor;
	struct json_object *peers;
	struct json_object *status; /* this domain's */
};

static bool is_address(const struct cli_asked *asked)
{
	return address_is_meant(asked->domain, strlen(asked->domain));
}

static int begin_ping(struct xenmsg *conn, struct cli_asked *asked, const struct xenmsg_options *options,
		      xenmsg_done done)
{
	/* An address is tried when it is its turn. */
	return is_address(asked) ? 1 : xenmsg_begin_ping(conn, asked->domain, options, done, asked, NULL);
}

static void check_peer(void *userdata, struct cli_asked *asked)
{
	static const struct doctor_step steps[] = {{NULL, peer_checks}, {find_relay, relay_checks}, {0}};
	const struct doctor_peers *all = userdata;
	const char *domain = asked->domain;
	struct xenmsg *conn = all->doctor->conn;
	struct json_object *facts;
	int error = asked->error;

	if (is_address(asked)) {
		check_address(all->doctor, all->status, domain);
		return;
	}
	facts = json_object_new_object();
	add_answer(facts, error, asked->round_trip_ns);
	fields_add(facts, "domain", "%s", domain);
	json_object_object_add(facts, "peers", json_object_get(all->peers));
	add_naming(all->doctor, facts, domain);
	add_why(facts,
		error == -EHOSTUNREACH ? cli_why_no_link(conn, domain)
		: error == -EHOSTDOWN  ? cli_why_refused(conn, domain, error)
				       : NULL,
		asked->reason ? asked->reason : strerror(-error));
	doctor_take(all->doctor, steps, true, facts);
	json_object_put(facts);
}

static const struct check no_peers_checks[] = {
	{"", "", LEFT_OUT, "peers", "no other domain has a daemon that shows itself here", NULL},
	{0},
};

/* Tries the daemons of these domains, and the ways to these addresses; without any, of all domains. All are
 * asked at once, since each that is silent costs the whole time-out. */
static void check_peers(struct doctor *doctor, struct json_object *status, char **named, int count)
{
	struct json_object *peers = cli_query(doctor->conn, "peers", NULL, NULL);
	struct doctor_peers all = {doctor, peers, status};
	size_t asked_count = 0;
	struct cli_asked *asked = calloc((size_t)count + length_of(peers) + 1, sizeof(*asked));

	if (!asked)
		cli_no_memory();
	for (int i = 0; i < count; i++)
		asked[asked_count++].domain = named[i];
	fields_foreach(count ? NULL : peers, peer)
		asked[asked_count++].domain = text_or(peer, "domid", "");
	if (peers && asked_count == 0)
		doctor_tell(doctor, no_peers_checks, peers);
	cli_ask_all(doctor->conn, asked, asked_count, PINGS_MAX, ANSWER_MS, begin_ping, check_peer, &all);
	free(asked);
	json_object_put(peers);
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
	static const struct doctor_step steps[] = {
		{find_xen, xen_checks},		 {find_devices, device_checks}, {find_store, store_checks},
		{find_daemon, no_daemon_checks}, {NULL, status_checks},		{0}};
	struct json_object *facts = json_object_new_object();

	doctor_take(doctor, steps, false, facts);
	if (doctor->conn)
		check_peers(doctor, at(facts, "status"), named, count);
	xenmsg_close(doctor->conn);
	json_object_put(facts);
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
	struct doctor doctor = {.cli = cli, .only_bad = cli->quiet};
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
	doctor.only_bad = cli->quiet; /* which the options may have said */
	code = host ? check_host(&doctor) : 0;
	if (!host)
		check_all(&doctor, argv + optind, argc - optind);
	if (json)
		writer_free(doctor.json);
	if (code)
		return code;
	code = cli_flush();
	return code ? code : doctor.code;
}
