/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * doctor: tries each step of a message's way by itself, from the device nodes to the other domain's daemon,
 * and says what was tried, what came back, and how to mend it. A step that depends on one that failed is left
 * out.
 */

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
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
#include "cli/doctor.h"
#include "cli/fields.h"
#include "cli/writer.h"
#include "wire/advice.h"
#include "wire/address.h"
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
