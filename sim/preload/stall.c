/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Linux's device for XenStore sends WATCH and UNWATCH inside write(), and waits there for the answer: no
 * signal ends that wait, and neither execve() nor the end of the process comes about before it is over. So
 * here, while XenStore stalls, such a write() waits with all signals blocked, and execve() and exit() wait
 * for it. Only SIGKILL, and signals that nobody handles, still end a process at once.
 */
#include "config.h"

#include "sim/preload/lib_internal.h"
#include "sim/preload/device.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <xenstore.h>
#include <xen/io/xs_wire.h>

#define LOOK_NS 10000000

/* How many threads wait, and their process: one that was forked hasn't got them. That process, while it
 * ends. */
static atomic_uint waiting;
static _Atomic pid_t waits_in, ends;

/* The message that a thread has begun to write. */
static _Thread_local struct {
	int fd;
	size_t left;
	bool waits;
} begun __attribute__((tls_model("initial-exec")));

static bool stalls(void)
{
	return __atomic_load_n(&sim_signs()->store_stalls, __ATOMIC_SEQ_CST);
}

static bool is_store(int fd)
{
	struct sockaddr_un there = {0}, store;
	socklen_t size = sizeof(there);

	return getpeername(fd, (struct sockaddr *)&there, &size) == 0 && there.sun_family == AF_UNIX &&
	       sim_store_address(&store) && strcmp(there.sun_path, store.sun_path) == 0;
}

/* Neither is a point at which a thread may be cancelled. Returns false when the other end has gone. */
static bool look_again(int fd)
{
	struct pollfd end = {.fd = fd, .events = POLLRDHUP};
	struct timespec pause = {.tv_nsec = LOOK_NS};

	syscall(SYS_ppoll, &end, 1, &pause, NULL, 0);
	return !(end.revents & (POLLHUP | POLLRDHUP | POLLERR));
}

static void wait_for_store(int fd)
{
	sigset_t all, before;

	sigfillset(&all);
	sigdelset(&all, SIM_SIGNAL_RESTORED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	waits_in = getpid();
	waiting++;
	while (stalls() && look_again(fd))
		;
	waiting--;
	while (ends == getpid())
		look_again(-1);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void sim_written(int fd, const void *data, size_t size)
{
	struct xsd_sockmsg head;
	int error = errno;

	if (!stalls()) {
		begun.left = 0;
		return;
	}
	if (begun.left == 0 || begun.fd != fd) {
		if (size < sizeof(head) || !is_store(fd)) {
			errno = error;
			return;
		}
		memcpy(&head, data, sizeof(head));
		begun.fd = fd;
		begun.left = sizeof(head) + head.len;
		begun.waits = head.type == XS_WATCH || head.type == XS_UNWATCH;
	}
	begun.left -= size < begun.left ? size : begun.left;
	if (begun.left == 0 && begun.waits)
		wait_for_store(fd);
	errno = error;
}

void sim_end_threads(void)
{
	if (waiting == 0 || waits_in != getpid())
		return;
	ends = getpid();
	while (waiting > 0)
		look_again(-1);
}

void sim_keep_threads(void)
{
	if (ends == getpid())
		ends = 0;
}

static void __attribute__((destructor)) at_exit(void)
{
	sim_end_threads();
}

SIM_EXPORT void _exit(int status)
{
	sim_end_threads();
	for (;;)
		syscall(SYS_exit_group, status);
}

SIM_EXPORT void _Exit(int status)
{
	_exit(status);
}
