/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/preload/lib_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock; /* held from a request to its reply */
	pthread_once_t once;
	_Atomic int fd;
	int child_fd; /* between the hooks around a fork; -1: it needs none yet */
} conn = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .fd = -1, .child_fd = -1};

static int connect_new(void);
static int exchange(int fd, const struct sim_request *request, size_t request_size, struct sim_reply *reply,
		    size_t reply_size, struct sim_fds *fds);

bool sim_lib_has(int fd)
{
	return fd >= 0 && fd == atomic_load_explicit(&conn.fd, memory_order_relaxed);
}

int sim_lib_fd(void)
{
	return atomic_load_explicit(&conn.fd, memory_order_relaxed);
}

/* Tells the hypervisor process what the child will have. */
static void bequeath(int fd, const uint32_t *ids, size_t count)
{
	struct {
		struct sim_request request;
		uint32_t ids[2 * SIM_MAX_MAP];
	} out = {.request = {.op = SIM_OP_INHERIT}};
	struct sim_reply reply;

	for (size_t first = 0; first < count; first += out.request.count) {
		size_t part = count - first < 2 * SIM_MAX_MAP ? count - first : 2 * SIM_MAX_MAP;

		out.request.count = (uint32_t)part;
		memcpy(out.ids, ids + first, part * sizeof(*ids));
		if (exchange(fd, &out.request, sizeof(out.request) + part * sizeof(*ids), &reply,
			     sizeof(reply), NULL) < 0)
			return;
	}
}

/* A child must not talk on its parent's connection: replies would go to the first reader, and the hypervisor
 * process would believe the parent alive as long as the child holds the connection. */
static void before_fork(void)
{
	size_t grants, channels;
	uint32_t *ids;

	sim_evtchn_before_fork();
	sim_gnt_before_fork();
	pthread_mutex_lock(&conn.lock);
	grants = sim_gnt_ids(NULL, 0);
	channels = sim_evtchn_ids(NULL, 0);
	ids = grants + channels ? malloc((grants + channels) * sizeof(*ids)) : NULL;
	conn.child_fd = ids ? connect_new() : -1;
	if (conn.child_fd >= 0) {
		sim_gnt_ids(ids, grants);
		sim_evtchn_ids(ids + grants, channels);
		bequeath(conn.child_fd, ids, grants + channels);
	}
	free(ids);
}

static void after_fork_in_parent(void)
{
	if (conn.child_fd >= 0)
		syscall(SYS_close, conn.child_fd);
	conn.child_fd = -1;
	pthread_mutex_unlock(&conn.lock);
	sim_gnt_after_fork(false);
	sim_evtchn_after_fork(false);
}

static void after_fork_in_child(void)
{
	struct sim_request request = {.op = SIM_OP_BE, .id = (uint32_t)getpid()};
	struct sim_reply reply;

	if (conn.fd >= 0)
		syscall(SYS_close, conn.fd);
	conn.fd = conn.child_fd >= 0 ? conn.child_fd : -1;
	conn.child_fd = -1;
	if (conn.fd >= 0)
		exchange(conn.fd, &request, sizeof(request), &reply, sizeof(reply), NULL);
	pthread_mutex_unlock(&conn.lock);
	sim_gnt_after_fork(true);
	sim_evtchn_after_fork(true);
}

static void install_fork_hooks(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
	sim_gnt_expect_restores();
}

/* Returns the descriptor or a negative errno. */
static int connect_new(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = sim_env(SIM_ENV_CONTROL);
	int fd;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return -ENOENT;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;

		if (error == EINTR)
			continue;
		close(fd);
		return -error;
	}
	return fd;
}

static int connect_locked(void)
{
	int fd = conn.fd >= 0 ? conn.fd : connect_new();

	conn.fd = fd < 0 ? -1 : fd;
	return fd < 0 ? fd : 0;
}

int sim_lib_connect(void)
{
	int r;

	pthread_once(&conn.once, install_fork_hooks);
	pthread_mutex_lock(&conn.lock);
	r = connect_locked();
	pthread_mutex_unlock(&conn.lock);
	return r;
}

void sim_fds_close(struct sim_fds *fds)
{
	for (unsigned i = 0; i < fds->count; i++)
		close(fds->fd[i]);
	fds->count = 0;
}

static void take_fds(struct msghdr *message, struct sim_fds *fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		unsigned n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (fds && fds->count < SIM_MAX_MAP)
				fds->fd[fds->count++] = fd;
			else
				close(fd);
		}
	}
}

static int exchange(int fd, const struct sim_request *request, size_t request_size, struct sim_reply *reply,
		    size_t reply_size, struct sim_fds *fds)
{
	union {
		char buffer[CMSG_SPACE(sizeof(int) * SIM_MAX_MAP)];
		struct cmsghdr align;
	} control;
	struct iovec out = {.iov_base = (void *)request, .iov_len = request_size};
	struct iovec in = {.iov_base = reply, .iov_len = reply_size};
	struct msghdr message = {.msg_iov = &out, .msg_iovlen = 1};
	ssize_t n;

	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)request_size)
		return -EIO;

	message = (struct msghdr){.msg_iov = &in,
				  .msg_iovlen = 1,
				  .msg_control = control.buffer,
				  .msg_controllen = sizeof(control.buffer)};
	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < (ssize_t)sizeof(*reply))
		return -EIO;
	take_fds(&message, fds);
	return 0;
}

int sim_lib_call(const struct sim_request *request, size_t request_size, struct sim_reply *reply,
		 size_t reply_size, struct sim_fds *fds)
{
	int r;

	if (fds)
		fds->count = 0;
	pthread_once(&conn.once, install_fork_hooks);
	pthread_mutex_lock(&conn.lock);
	r = connect_locked();
	if (r == 0) {
		r = exchange(conn.fd, request, request_size, reply, reply_size, fds);
		if (r < 0) {
			/* The host has gone, or has closed our connection; a later host may listen at the
			 * same path. */
			syscall(SYS_close, conn.fd);
			conn.fd = -1;
		}
	}
	pthread_mutex_unlock(&conn.lock);
	if (r == 0 && reply->error) {
		r = reply->error;
		if (fds)
			sim_fds_close(fds);
	}
	return r;
}
