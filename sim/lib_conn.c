/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/lib.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock; /* held from a request to its reply */
	pthread_once_t once;
	int fd;
} conn = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .fd = -1};

/* A child must not talk on its parent's connection: replies would go to the first reader, and the hypervisor
 * process would believe the parent alive as long as the child holds the connection. */
static void before_fork(void)
{
	sim_evtchn_before_fork();
	sim_gnt_before_fork();
	pthread_mutex_lock(&conn.lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&conn.lock);
	sim_gnt_after_fork(false);
	sim_evtchn_after_fork(false);
}

static void after_fork_in_child(void)
{
	if (conn.fd >= 0)
		close(conn.fd);
	conn.fd = -1;
	pthread_mutex_unlock(&conn.lock);
	sim_gnt_after_fork(true);
	sim_evtchn_after_fork(true);
}

static void install_fork_hooks(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
	sim_gnt_expect_restores();
}

static int connect_locked(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = sim_env(SIM_ENV_CONTROL);
	int fd;

	if (conn.fd >= 0)
		return 0;
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
	conn.fd = fd;
	return 0;
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

static int exchange(const struct sim_request *request, size_t request_size, struct sim_reply *reply,
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
		n = sendmsg(conn.fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)request_size)
		return -EIO;

	message = (struct msghdr){.msg_iov = &in,
				  .msg_iovlen = 1,
				  .msg_control = control.buffer,
				  .msg_controllen = sizeof(control.buffer)};
	do
		n = recvmsg(conn.fd, &message, MSG_CMSG_CLOEXEC);
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
		r = exchange(request, request_size, reply, reply_size, fds);
		if (r < 0) {
			/* The host has gone, or has closed our connection; a later host may listen at the
			 * same path. */
			close(conn.fd);
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
