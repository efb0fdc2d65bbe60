/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a daemon that isn't there would find where it is to run. */
#include "cli/doctor.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/cli.h"
#include "wire/advice.h"
#include "wire/text.h"

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

bool doctor_check_socket(struct doctor *doctor, const char *socket)
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

void doctor_check_places(struct doctor *doctor, const char *socket)
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

void doctor_check_access(struct doctor *doctor)
{
	static const char *const devices[] = {"/dev/xen/evtchn", "/dev/xen/gntdev", "/dev/xen/gntalloc",
					      "/dev/xen/xenbus"};
	static const char *const settings[] = {"/etc/xenmsg/xenmsgd.conf", "/etc/xenmsg/policy.d"};
	const struct passwd *user = getpwnam("xenmsgd");
	struct stat file;
	char mend[128];

	if (!user)
		return;
	for (size_t i = 0; i < sizeof(devices) / sizeof(*devices); i++)
		if (stat(devices[i], &file) == 0 && !may_use(user, &file, 06))
			ill(doctor, EXIT_OTHER, "access", ADVICE_DEVICES,
			    "the user xenmsgd may not read and write %s", devices[i]);
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

void doctor_check_labels(struct doctor *doctor)
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
			       "SELinux may deny %s: it has the label %s, and /etc has %s", found.gl_pathv[i],
			       type, usual);
	}
	globfree(&found);
}
