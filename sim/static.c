/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A static program and all that it starts have a filter of system calls, which lets those that name a file or
 * a socket wait for an answer of the attendant, a process of ours that ends with the last of them. Most of
 * them it lets go on.
 *
 *	xensim exec ──fork──► attendant ◄── listener ── filter
 *	     └── execve ──► the program
 *
 * What the library does for other programs (lib_path.c, lib_device.c) it does for these, with two exceptions.
 * Pages of others can't be mapped so, since an answer can't change what a descriptor is mapped from, and
 * nothing would tell of the munmap by which libxenvchan ends a grant. So devices but xenbus aren't there
 * (ENODEV).
 */
#include "config.h"

#include "sim/static.h"

#include "sim/proto.h"
#include "sim/xen_path.h"

#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#if defined(__x86_64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define OUR_ARCHITECTURE 0
#endif

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

struct attendant {
	int listener;
	const char *root, *store; /* of the domain */
};

/* ---- the memory of the program
 * --------------------------------------------------------------------------------- */

static bool copy_in(pid_t pid, uint64_t from, void *to, size_t size)
{
	struct iovec ours = {to, size}, theirs = {(void *)(uintptr_t)from, size};

	return process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)size;
}

static bool copy_out(pid_t pid, uint64_t to, void *from, size_t size)
{
	struct iovec ours = {from, size}, theirs = {(void *)(uintptr_t)to, size};

	return process_vm_writev(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)size;
}

/* Copies a string, page by page, since the next one may not be there. */
static bool copy_string_in(pid_t pid, uint64_t from, char text[PATH_MAX])
{
	size_t done = 0;

	while (done < PATH_MAX) {
		size_t piece = 4096 - (from + done) % 4096;

		if (piece > PATH_MAX - done)
			piece = PATH_MAX - done;
		if (!copy_in(pid, from + done, text + done, piece))
			return false;
		if (memchr(text + done, 0, piece))
			return true;
		done += piece;
	}
	return false;
}

/* ---- answers
 * --------------------------------------------------------------------------------------------------- */

/* What a system call returns; LET_GO_ON: it is none of ours, or it has been answered. */
#define LET_GO_ON INT64_MIN
#define ANSWERED  (INT64_MIN + 1)

static int connect_to(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

/* Gives the program a descriptor, as what its call returns, and takes it from us. */
static int64_t give(const struct attendant *attendant, const struct seccomp_notif *call, int fd, bool cloexec)
{
	struct seccomp_notif_addfd given = {.id = call->id,
					    .flags = SECCOMP_ADDFD_FLAG_SEND,
					    .srcfd = (uint32_t)fd,
					    .newfd_flags = cloexec ? O_CLOEXEC : 0};
	int r = fd < 0								    ? -errno
		: ioctl(attendant->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &given) < 0 ? -errno
										    : 0;

	if (fd >= 0)
		close(fd);
	/* A signal has ended its wait, and it asks again. */
	return r == 0 || r == -ENOENT ? ANSWERED : r;
}

static int64_t answer_open(const struct attendant *attendant, const struct seccomp_notif *call,
			   const char *path, int flags, mode_t mode)
{
	char there[PATH_MAX + 256];
	int fd, r;

	snprintf(there, sizeof(there), "%s%s", attendant->root, path);
	if (sim_is_xenbus(path)) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0),
			    0);
		r = fd < 0 ? -errno : connect_to(fd, attendant->store);
		if (r < 0 && fd >= 0)
			close(fd);
		return r < 0 ? r : give(attendant, call, fd, flags & O_CLOEXEC);
	}
	if (strncmp(path, "/dev/xen/", 9) == 0 && !(flags & O_PATH))
		return access(there, F_OK) < 0 ? -errno : -ENODEV;
	return give(attendant, call, open(there, flags | O_CLOEXEC | O_NOCTTY, mode), flags & O_CLOEXEC);
}

/* Of a thread; pidfd_open() takes a process. */
static pid_t process_of(pid_t thread)
{
	char path[64], line[128];
	pid_t pid = thread;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	if (file)
		fclose(file);
	return pid;
}

static int64_t answer_connect(const struct attendant *attendant, const struct seccomp_notif *call)
{
	struct sockaddr_un address = {0};
	size_t length = call->data.args[2] < sizeof(address) ? call->data.args[2] : sizeof(address);
	char there[PATH_MAX + 256], path[sizeof(address.sun_path) + 1];
	int pidfd, fd, r;

	if (!copy_in((pid_t)call->pid, call->data.args[1], &address, length) || address.sun_family != AF_UNIX)
		return LET_GO_ON;
	snprintf(path, sizeof(path), "%.*s", (int)sizeof(address.sun_path), address.sun_path);
	if (!sim_is_xen_path(path))
		return LET_GO_ON;
	snprintf(there, sizeof(there), "%s%s", attendant->root, path);
	if (access(there, F_OK) < 0)
		return -errno;
	pidfd = pidfd_open(process_of((pid_t)call->pid), 0);
	fd = pidfd < 0 ? -1 : pidfd_getfd(pidfd, (int)call->data.args[0], 0);
	r = fd < 0 ? -errno : connect_to(fd, strstr(path, "/xenstored/") ? attendant->store : there);
	if (fd >= 0)
		close(fd);
	if (pidfd >= 0)
		close(pidfd);
	return r == -EISCONN ? 0 : r; /* after a signal it asks again */
}

/* Writes what a path's status is where the program wants it. */
static int64_t answer_stat(const struct seccomp_notif *call, const char *there, uint64_t to, int flags)
{
	struct stat status;

	if (fstatat(AT_FDCWD, there, &status, flags) < 0)
		return -errno;
	return copy_out((pid_t)call->pid, to, &status, sizeof(status)) ? 0 : -EFAULT;
}

static int64_t answer_statx(const struct seccomp_notif *call, const char *there)
{
	struct statx status;

	if (statx(AT_FDCWD, there, (int)call->data.args[2], (unsigned)call->data.args[3], &status) < 0)
		return -errno;
	return copy_out((pid_t)call->pid, call->data.args[4], &status, sizeof(status)) ? 0 : -EFAULT;
}

static int64_t answer(const struct attendant *attendant, const struct seccomp_notif *call)
{
	const __u64 *args = call->data.args;
	char path[PATH_MAX], there[PATH_MAX + 256];
	bool at = true; /* the path is the second argument */

	if (call->data.nr == SYS_connect)
		return answer_connect(attendant, call);
#ifdef SYS_open
	at = call->data.nr != SYS_open && call->data.nr != SYS_stat && call->data.nr != SYS_lstat &&
	     call->data.nr != SYS_access;
#endif
	if (!copy_string_in((pid_t)call->pid, args[at ? 1 : 0], path) || !sim_is_xen_path(path))
		return LET_GO_ON;
	snprintf(there, sizeof(there), "%s%s", attendant->root, path);
	switch (call->data.nr) {
#ifdef SYS_open
	case SYS_open:
		return answer_open(attendant, call, path, (int)args[1], (mode_t)args[2]);
	case SYS_stat:
		return answer_stat(call, there, args[1], 0);
	case SYS_lstat:
		return answer_stat(call, there, args[1], AT_SYMLINK_NOFOLLOW);
	case SYS_access:
		return access(there, (int)args[1]) < 0 ? -errno : 0;
#endif
	case SYS_openat:
		return answer_open(attendant, call, path, (int)args[2], (mode_t)args[3]);
	case SYS_newfstatat:
		return answer_stat(call, there, args[2], (int)args[3]);
	case SYS_statx:
		return answer_statx(call, there);
	default: /* faccessat and faccessat2 */
		return access(there, (int)args[2]) < 0 ? -errno : 0;
	}
}

static void attend(const struct attendant *attendant)
{
	struct pollfd pollfd = {.fd = attendant->listener, .events = POLLIN};

	for (;;) {
		struct seccomp_notif call = {0};
		struct seccomp_notif_resp response = {0};
		int64_t value;

		if (poll(&pollfd, 1, -1) < 0 && errno != EINTR)
			return;
		if (pollfd.revents & POLLHUP)
			return; /* the last of them has ended */
		if (!(pollfd.revents & POLLIN) ||
		    ioctl(attendant->listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
			continue;
		value = answer(attendant, &call);
		if (value == ANSWERED)
			continue;
		response.id = call.id;
		if (value == LET_GO_ON)
			response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		else
			response.error = (int)value;
		ioctl(attendant->listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
	}
}

/* ---- the beginning
 * --------------------------------------------------------------------------------------------- */

static int install_filter(void)
{
	static const int calls[] = {
#ifdef SYS_open
		SYS_open,   SYS_stat,  SYS_lstat,      SYS_access,
#endif
		SYS_openat, SYS_statx, SYS_newfstatat, SYS_faccessat, SYS_faccessat2, SYS_connect,
	};
	const unsigned count = sizeof(calls) / sizeof(calls[0]);
	struct sock_filter filter[sizeof(calls) / sizeof(calls[0]) + 5];
	struct sock_fprog program = {.filter = filter};
	unsigned n = 0;
	int fd;

	filter[n++] =
		(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCHITECTURE, 0,
						   (uint8_t)(count + 1));
	filter[n++] =
		(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < count; i++)
		filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i],
							   (uint8_t)(count - i), 0);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	program.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Signals, which Go sends to its threads all the time, wait then until the answer has come. */
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			  SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			  &program);
	if (fd < 0)
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
				  &program);
	return fd < 0 ? -errno : fd;
}

static void send_descriptor(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec data = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	sendmsg(socket, &message, MSG_NOSIGNAL);
}

static int receive_descriptor(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec data = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header;
	int fd = -1;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && (header = CMSG_FIRSTHDR(&message)))
		memcpy(&fd, CMSG_DATA(header), sizeof(int));
	return fd;
}

/* It has nothing of the program's: no parent, no terminal, no descriptors, and nothing that says that it
 * lives in the domain. */
static void become_attendant(int socket)
{
	struct attendant attendant = {.root = strdup(getenv(SIM_ENV_ROOT)),
				      .store = strdup(getenv("XENSTORED_PATH"))};
	int null = open("/dev/null", O_RDWR);

	if (fork() != 0)
		_exit(0);
	setsid();
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	attendant.listener = receive_descriptor(socket);
	if (attendant.listener < 0 || !attendant.root || !attendant.store)
		_exit(1);
	attendant.listener = dup2(attendant.listener, 3);
	close_range(4, UINT_MAX, 0);
	for (char **entry = environ; *entry; entry++)
		memset(*entry, 0, strlen(*entry));
	if (chdir("/") == 0)
		attend(&attendant);
	_exit(0);
}

void sim_exec_static(const char *path, char **words)
{
	int ends[2], listener;
	pid_t pid;

	if (!OUR_ARCHITECTURE || !getenv(SIM_ENV_ROOT) || !getenv("XENSTORED_PATH")) {
		syscall(SYS_execve, path, words, environ);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
		return;
	if (pid == 0)
		become_attendant(ends[1]);
	waitpid(pid, NULL, 0);
	close(ends[1]);
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* our attendant isn't its parent */
	listener = install_filter();
	if (listener < 0) {
		errno = -listener;
		return;
	}
	send_descriptor(ends[0], listener);
	close(listener);
	close(ends[0]);
	/* Where the library is loaded, it would come here again by execv(). */
	syscall(SYS_execve, path, words, environ);
}
