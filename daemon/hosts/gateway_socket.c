/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hosts/gateway_socket.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/base/log.h"
#include "daemon/base/timer.h"
#include "daemon/base/unix_listener.h"
#include "wire/gateway.h"

#define BACKLOG	     16
#define PACKETS_MAX  64 /* in a turn */
#define NO_SUCH_USER ((uid_t)-1)

struct gateway_socket {
	struct event_base *base;
	char *path;
	uid_t user;
	const struct gateway_callbacks *callbacks;
	void *userdata;
	int listener, fd; /* -1: none */
	bool greeted;
	struct event *accepting, *reading;
};

static int send_on(int fd, const struct gateway_packet *packet, int passed)
{
	char text[GATEWAY_PACKET_MAX];
	struct iovec piece = {text, gateway_encode(packet, text)};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

	if (!piece.iov_len)
		return -ENOMEM;
	if (passed >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.head), &passed, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* --- the gateway ------------------------------------------------------------------------------ */

static void let_go(struct gateway_socket *socket, const char *why)
{
	bool had_come = socket->greeted;

	event_free(socket->reading);
	socket->reading = NULL;
	close(socket->fd);
	socket->fd = -1;
	socket->greeted = false;
	if (had_come)
		socket->callbacks->gone(socket->userdata, why);
}

static void refuse(int fd, const char *why)
{
	struct gateway_packet packet = {.type = GATEWAY_REFUSED};

	snprintf(packet.why, sizeof(packet.why), "%s", why);
	(void)send_on(fd, &packet, -1); /* it is closed in any case */
}

static void take_hello(struct gateway_socket *socket, const struct gateway_packet *packet)
{
	if (packet->type != GATEWAY_HELLO || packet->version != GATEWAY_VERSION) {
		refuse(socket->fd, "this daemon speaks version 1");
		let_go(socket, "");
		return;
	}
	socket->greeted = true;
	socket->callbacks->came(socket->userdata);
}

static void on_readable(int fd, short what, void *userdata)
{
	struct gateway_socket *socket = userdata;
	char text[GATEWAY_PACKET_MAX + 1];

	for (unsigned i = 0; i < PACKETS_MAX && socket->fd == fd; i++) {
		ssize_t size = recv(fd, text, sizeof(text), MSG_DONTWAIT);
		struct gateway_packet packet;

		if (size < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (size <= 0)
			let_go(socket, "it has closed its connection");
		else if (gateway_decode(text, (size_t)size, &packet) < 0)
			let_go(socket, "it has sent something that can't be read");
		else if (!socket->greeted)
			take_hello(socket, &packet);
		else
			socket->callbacks->packet(socket->userdata, &packet);
	}
}

/* --- who may be it ---------------------------------------------------------------------------- */

static bool may_be_it(const struct gateway_socket *socket, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return false;
	if (peer.uid == 0 || peer.uid == geteuid() ||
	    (peer.uid == socket->user && socket->user != NO_SUCH_USER))
		return true;
	log_limited(LOG_BINDING, LOG_BY_UID(peer.uid), LOG_LEVEL_WARNING,
		    "denied: uid %u may not be the gateway to other hosts", peer.uid);
	return false;
}

static void on_connection(int listener, short what, void *userdata)
{
	struct gateway_socket *socket = userdata;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!may_be_it(socket, fd)) {
		refuse(fd, "this user may not be the gateway: see [hosts] user in xenmsgd.conf(5)");
		close(fd);
	} else if (socket->fd >= 0) {
		refuse(fd, "another gateway is connected");
		close(fd);
	} else {
		socket->reading = event_new(socket->base, fd, EV_READ | EV_PERSIST, on_readable, socket);
		if (socket->reading && event_add(socket->reading, NULL) == 0) {
			socket->fd = fd;
			return;
		}
		free_event(socket->reading);
		socket->reading = NULL;
		close(fd);
	}
}

bool gateway_socket_has_gateway(const struct gateway_socket *socket)
{
	return socket->greeted;
}

int gateway_socket_send(struct gateway_socket *socket, const struct gateway_packet *packet, int fd)
{
	int r = socket->greeted ? send_on(socket->fd, packet, fd) : -ENOTCONN;

	if (r == 0 || r == -ENOMEM || r == -ENOTCONN)
		return r;
	shutdown(socket->fd, SHUT_RDWR); /* which its reader notices */
	return r == -EAGAIN ? -ENOBUFS : -ENOTCONN;
}

/* --- life ------------------------------------------------------------------------------------- */

static int listen_at(struct gateway_socket *socket)
{
	socket->listener = unix_listener_new(socket->path, SOCK_SEQPACKET, 0600, BACKLOG);
	if (socket->listener < 0)
		return socket->listener;
	/* Whoever may not give it away can't let another user in, and is asked by its own users only. */
	if (socket->user != NO_SUCH_USER && chown(socket->path, socket->user, (gid_t)-1) < 0 &&
	    errno != EPERM)
		return -errno;
	return 0;
}

int gateway_socket_new(struct gateway_socket **out, struct event_base *base, const char *path,
		       const char *user, const struct gateway_callbacks *callbacks, void *userdata)
{
	struct gateway_socket *socket = calloc(1, sizeof(*socket));
	const struct passwd *entry = getpwnam(user);
	int r = -ENOMEM;

	if (!socket)
		return -ENOMEM;
	socket->base = base;
	socket->user = entry ? entry->pw_uid : NO_SUCH_USER;
	socket->callbacks = callbacks;
	socket->userdata = userdata;
	socket->listener = socket->fd = -1;
	socket->path = strdup(path);
	if (socket->path)
		r = listen_at(socket);
	if (r == 0) {
		socket->accepting =
			event_new(base, socket->listener, EV_READ | EV_PERSIST, on_connection, socket);
		r = socket->accepting && event_add(socket->accepting, NULL) == 0 ? 0 : -ENOMEM;
	}
	if (r < 0) {
		gateway_socket_free(socket);
		return r;
	}
	*out = socket;
	return 0;
}

void gateway_socket_free(struct gateway_socket *socket)
{
	if (!socket)
		return;
	free_event(socket->reading);
	free_event(socket->accepting);
	if (socket->fd >= 0)
		close(socket->fd);
	if (socket->listener >= 0) {
		close(socket->listener);
		if (socket->accepting) /* it was ours to the end */
			unlink(socket->path);
	}
	free(socket->path);
	free(socket);
}
