/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utlist.h>

#define MAX_REQUEST (sizeof(struct sim_request) + 2 * SIM_MAX_MAP * sizeof(uint32_t))

int hv_heirs_add(struct hv_heirs *heirs, struct hv_client *client)
{
	struct hv_client **more = realloc(heirs->client, (heirs->count + 1) * sizeof(struct hv_client *));

	if (!more)
		return -ENOMEM;
	heirs->client = more;
	heirs->client[heirs->count++] = client;
	return 0;
}

bool hv_heirs_remove(struct hv_heirs *heirs, const struct hv_client *client)
{
	for (size_t i = 0; i < heirs->count; i++) {
		if (heirs->client[i] == client) {
			heirs->client[i] = heirs->client[--heirs->count];
			return true;
		}
	}
	return false;
}

struct hv_client *hv_heirs_take(struct hv_heirs *heirs)
{
	if (heirs->count)
		return heirs->client[--heirs->count];
	free(heirs->client);
	heirs->client = NULL;
	return NULL;
}

int hv_client_inherit(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	for (uint32_t i = 0; i < request->count; i++)
		if (!hv_grant_inherit(client, request->refs[i]))
			hv_evtchn_inherit(client, request->refs[i]);
	return 0;
}

int hv_client_be(struct hv_client *client, const struct sim_request *request, struct hv_answer *answer)
{
	client->pid = (pid_t)request->id;
	return 0;
}

void hv_client_free(struct hv_client *client, bool silent)
{
	hv_evtchn_complete(client);
	hv_libxl_save_abandon(client);
	/* A process ends in this order: first its memory, then its descriptors. */
	hv_grant_client_gone(client, silent);
	hv_evtchn_client_gone(client, silent);
	DL_DELETE(client->domain->clients, client);
	event_free(client->event);
	close(client->fd);
	free(client);
}

/* Returns what the answer says, or -EBADMSG. */
static int handle_request(struct hv_client *client, const struct sim_request *request, ssize_t size,
			  struct hv_answer *answer)
{
	const struct hv_operation *operation =
		size >= (ssize_t)sizeof(*request) && size <= (ssize_t)MAX_REQUEST ? hv_operation(request->op)
										  : NULL;
	int r;

	if (!operation)
		return -EBADMSG;
	r = hv_refused(client->domain, operation->name);
	if (r < 0)
		return r;
	if (operation->words &&
	    (request->count > operation->most ||
	     (size_t)size != sizeof(*request) + operation->words * request->count * sizeof(uint32_t)))
		return -EBADMSG;
	if (operation->of_dom0 && client->domain->type != HV_DOM0)
		return -EPERM;
	return operation->serve(client, request, answer);
}

static bool send_answer(struct hv_client *client, struct hv_answer *answer, uint32_t values)
{
	union {
		char buffer[CMSG_SPACE(sizeof(answer->fds))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = answer->bytes,
			    .iov_len = sizeof(answer->reply) + values * sizeof(uint32_t)};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (answer->fd_count) {
		struct cmsghdr *c;

		message.msg_control = control.buffer;
		message.msg_controllen = CMSG_SPACE(answer->fd_count * sizeof(int));
		c = &control.align; /* CMSG_FIRSTHDR() of it */
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(answer->fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), answer->fds, answer->fd_count * sizeof(int));
	}
	/* A client that doesn't read the answer to its only request is cut off. */
	return sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)iov.iov_len;
}

static void on_request(evutil_socket_t fd, short events, void *userdata)
{
	struct hv_client *client = userdata;
	struct hv *hv = client->domain->hv;
	struct hv_answer answer;
	union {
		struct sim_request request;
		char bytes[MAX_REQUEST];
	} in;
	uint32_t values;
	ssize_t n;
	int r;

	n = recv(fd, in.bytes, sizeof(in.bytes), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hv_client_free(client, false);
		return;
	}
	memset(&answer.reply, 0, sizeof(answer.reply));
	answer.fd_count = 0;
	/* One that asks now finds closed the ports of a process that has ended. */
	hv_orphans_settle(hv);
	r = handle_request(client, &in.request, n, &answer);
	if (r == -EBADMSG) {
		hv_log(hv, "d%u: process %d sent a malformed request, its connection ends",
		       client->domain->domid, (int)client->pid);
		hv_client_free(client, false);
		return;
	}
	answer.reply.error = r;
	hv_record_request(client, &in.request, &answer.reply);
	values = r < 0 ? 0
		       : answer.reply.count *
				 (in.request.op == SIM_OP_MAP || in.request.op == SIM_OP_MAP_FRAMES ? 2 : 1);
	if (!send_answer(client, &answer, values)) {
		hv_log(hv, "d%u: process %d doesn't take its answer: %m", client->domain->domid,
		       (int)client->pid);
		hv_client_free(client, false);
	}
}

void hv_clients_drain(struct hv_domain *domain)
{
	struct hv_client *client, *next;

	/* A process waits for the answer to its request before it makes another. */
	DL_FOREACH_SAFE(domain->clients, client, next)
		on_request(client->fd, EV_READ, client);
}

static void client_on_connect(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
			      int length, void *userdata)
{
	struct hv_domain *domain = userdata;
	struct hv_client *client = calloc(1, sizeof(*client));
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	if (client && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0)
		client->event = event_new(domain->hv->base, fd, EV_READ | EV_PERSIST, on_request, client);
	if (!client || !client->event) {
		close(fd);
		free(client);
		return;
	}
	client->domain = domain;
	client->fd = fd;
	client->pid = credentials.pid;
	DL_APPEND(domain->clients, client);
	event_add(client->event, NULL);
	/* A paused domain may have started the process at the last moment. */
	if (domain->state == HV_PAUSED || domain->state == HV_SUSPENDED)
		kill(client->pid, SIGSTOP);
}

int hv_client_listen(struct hv_domain *domain)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, length, r = -EIO;

	length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/hv.sock", domain->path);
	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 128) < 0) {
		r = -errno;
		goto fail;
	}
	domain->listener = evconnlistener_new(domain->hv->base, client_on_connect, domain,
					      LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!domain->listener)
		goto fail;
	return 0;
fail:
	close(fd);
	return r;
}
