/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/hosts/gateway_socket.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/timer.h"
#include "base/unix_listener.h"
#include "base/users.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/program_socket.h"
#include "daemon/switch/work_pool.h"
#include "wire/gateway.h"
#include "wire/retry.h"

#define REFUSED_READ	  4 /* packets: more than it has reason to say */
#define BACKLOG		  16
#define COST_PACKET(size) (1024u + (size))

struct gateway_socket {
	struct switchboard *board;
	char *path; /* of our own; NULL: the service manager's socket, which isn't ours to shut down */
	uid_t user;
	const char *refusal;
	const struct gateway_callbacks *callbacks;
	void *userdata;
	int listener, fd; /* -1: none */
	bool greeted;
	/* While a gateway is connected: */
	struct charge charge; /* what it costs, and its user, who pays */
	struct task turn;     /* packets are there, or were */
	struct call_history calls;
	struct event *reading;
	struct event *accepting, *retry;
};

static int send_on(int fd, const struct gateway_packet *packet, const int *passed, unsigned count)
{
	char text[GATEWAY_PACKET_MAX];
	size_t size = gateway_encode(packet, text);
	ssize_t sent = descriptors_send(fd, text, size, passed, count, MSG_DONTWAIT);

	return sent < 0 ? (int)sent : 0;
}

/* --- the gateway ------------------------------------------------------------------------------ */

/* Closes a connection, with what may lie in it: whether packets have descriptors can't be asked of all of
 * them. The other end sees it at once. */
static void close_connection(struct switchboard *board, int fd, struct charge *charge)
{
	struct span span;

	span_begin(&span, board);
	shutdown(fd, SHUT_RDWR);
	work_pool_close_socket(board, fd, charge);
	span_end(&span, charge->account);
	charge_end(charge);
}

static void gateway_socket_let_go(struct gateway_socket *socket, const char *why)
{
	bool had_come = socket->greeted;

	event_free(socket->reading);
	socket->reading = NULL;
	task_cancel(&socket->turn);
	close_connection(socket->board, socket->fd, &socket->charge);
	socket->fd = -1;
	socket->greeted = false;
	if (had_come)
		socket->callbacks->gone(socket->userdata, why);
}

/* Says why, and reads what was said before: with anything unread, a close makes the other end see an error
 * first. */
static void gateway_socket_refuse(int fd, const char *why)
{
	struct gateway_packet packet = {.type = GATEWAY_REFUSED};
	char text[GATEWAY_PACKET_MAX];
	struct iovec piece = {text, sizeof(text)};

	snprintf(packet.why, sizeof(packet.why), "%s", why);
	(void)send_on(fd, &packet, NULL, 0); /* it is closed in any case */
	shutdown(fd, SHUT_RD);
	for (int i = 0; i < REFUSED_READ && program_socket_read(fd, &piece, 1) > 0; i++)
		;
}

static void gateway_socket_take_hello(struct gateway_socket *socket, const struct gateway_packet *packet)
{
	if (packet->type != GATEWAY_HELLO || packet->version != GATEWAY_VERSION) {
		gateway_socket_refuse(socket->fd, "this daemon speaks version 1");
		gateway_socket_let_go(socket, "");
		return;
	}
	socket->greeted = true;
	socket->callbacks->came(socket->userdata);
}

static void take_packet(struct gateway_socket *socket, const char *text, size_t size)
{
	struct gateway_packet packet;

	if (gateway_decode(text, size, &packet) < 0)
		gateway_socket_let_go(socket, "the gateway has sent something that can't be read");
	else if (!socket->greeted)
		gateway_socket_take_hello(socket, &packet);
	else
		socket->callbacks->packet(socket->userdata, &packet);
}

static void gateway_socket_on_turn(struct task *task)
{
	struct gateway_socket *socket =
		(struct gateway_socket *)((char *)task - offsetof(struct gateway_socket, turn));
	char text[GATEWAY_PACKET_MAX + 1];
	uint64_t units = 0;

	/* What is left makes the socket readable again. */
	while (socket->fd >= 0 && units < TURNS_QUANTUM) {
		struct iovec piece = {text, sizeof(text)};
		struct kernel_call call;
		ssize_t size;
		uint64_t cost;

		call_begin(&call, &socket->calls);
		size = program_socket_read(socket->fd, &piece, 1);
		cost = size == -EAGAIN ? 0 : COST_PACKET(size > 0 ? (uint64_t)size : 0);
		units += cost;
		switch_spend_call(socket->board, socket->charge.account, &call, cost);
		if (size == -EAGAIN || size == -ENOBUFS) /* what is left makes the socket readable again */
			return;
		if (size == -EBADMSG)
			gateway_socket_let_go(socket, "the gateway has sent descriptors");
		else if (size <= 0)
			gateway_socket_let_go(socket, "the gateway has closed its connection");
		else
			take_packet(socket, text, (size_t)size);
	}
}

static void gateway_socket_on_readable(int fd, short what, void *userdata)
{
	struct gateway_socket *socket = userdata;

	task_due(&socket->turn);
}

/* --- who may be it ---------------------------------------------------------------------------- */

static bool may_be_it(const struct gateway_socket *socket, uid_t uid)
{
	if (uid == 0 || uid == geteuid() || (uid == socket->user && socket->user != USERS_NO_UID))
		return true;
	log_limited(LOG_BINDING, LOG_BY_UID(uid), LOG_LEVEL_WARNING,
		    "denied: uid %u may not be the gateway to other hosts", uid);
	return false;
}

/* Whether the gateway has gone, though what it said last is still to be read. */
static bool has_gone(const struct gateway_socket *socket)
{
	struct pollfd poll_fd = {.fd = socket->fd};

	return poll(&poll_fd, 1, 0) > 0 && poll_fd.revents & POLLHUP;
}

/* Makes a connection the gateway's. Returns why not, or NULL. */
static const char *admit(struct gateway_socket *socket, int fd, uid_t uid, struct charge *charge)
{
	if (socket->refusal)
		return socket->refusal;
	if (!may_be_it(socket, uid))
		return "this user may not be the gateway: see [hosts] user in xenmsgd.conf(5)";
	if (socket->fd >= 0 && has_gone(socket)) /* and its successor is quick */
		gateway_socket_let_go(socket, "the gateway has closed its connection");
	if (socket->fd >= 0)
		return "another gateway is connected";
	if (charge_add(charge, QUOTA_DESCRIPTORS, 1) < 0)
		return "its user has too many descriptors in use";
	socket->reading =
		event_new(socket->board->base, fd, EV_READ | EV_PERSIST, gateway_socket_on_readable, socket);
	if (!socket->reading || event_add(socket->reading, NULL) < 0) {
		free_event(socket->reading);
		socket->reading = NULL;
		return "out of memory";
	}
	socket->fd = fd;
	socket->calls = (struct call_history){0};
	charge_move(&socket->charge, charge);
	task_init(&socket->turn, &socket->board->turns, account_line(socket->charge.account),
		  gateway_socket_on_turn);
	return NULL;
}

static uid_t gateway_socket_uid_of(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ? USERS_NO_UID : peer.uid;
}

/* Lets the user pay for a connection. Returns the account, which is the caller's. */
static struct account *begin_charge(struct gateway_socket *socket, struct charge *charge, uid_t uid)
{
	struct quota *quota = socket->board->quota;
	struct account *account = quota ? quota_account(quota, QUOTA_UID, uid) : NULL;

	charge_init(charge, account);
	switch_spend(socket->board, account, COST_CONNECTION);
	return account;
}

static void on_connection(int listener, short what, void *userdata)
{
	struct gateway_socket *socket = userdata;
	struct account *account;
	struct charge charge;
	struct span span;
	const char *why;
	uid_t uid;
	int fd;

	span_begin(&span, socket->board);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* Without descriptors left it would fail again and again. */
		event_del(socket->accepting);
		timer_set(socket->retry, RETRY_EACH_MS);
	}
	if (fd < 0)
		return;
	uid = gateway_socket_uid_of(fd);
	account = begin_charge(socket, &charge, uid);
	why = admit(socket, fd, uid, &charge);
	if (why) {
		gateway_socket_refuse(fd, why);
		close_connection(socket->board, fd, &charge);
	}
	span_end(&span, account);
	account_unref(account);
}

int gateway_socket_fd(const struct gateway_socket *socket)
{
	return socket->greeted ? socket->fd : -1;
}

void gateway_socket_adopt(struct gateway_socket *socket, int fd)
{
	struct charge charge;
	struct account *account = begin_charge(socket, &charge, gateway_socket_uid_of(fd));

	socket->greeted = !admit(socket, fd, gateway_socket_uid_of(fd), &charge);
	if (!socket->greeted)
		close_connection(socket->board, fd, &charge);
	account_unref(account);
}

static void gateway_socket_on_retry(int fd, short what, void *userdata)
{
	struct gateway_socket *socket = userdata;

	event_add(socket->accepting, NULL);
}

struct account *gateway_socket_account(const struct gateway_socket *socket)
{
	return socket ? socket->charge.account : NULL;
}

bool gateway_socket_has_gateway(const struct gateway_socket *socket)
{
	return socket->greeted;
}

int gateway_socket_send(struct gateway_socket *socket, const struct gateway_packet *packet, const int *fds,
			unsigned count)
{
	struct kernel_call call;
	int r;

	if (!socket->greeted)
		return -ENOTCONN;
	call_begin(&call, &socket->calls);
	r = send_on(socket->fd, packet, fds, count);
	switch_spend_call(socket->board, socket->charge.account, &call, COST_SYSCALL);
	if (r == 0 || r == -ENOMEM)
		return r;
	shutdown(socket->fd, SHUT_RDWR); /* which its reader notices */
	return r == -EAGAIN ? -ENOBUFS : -ENOTCONN;
}

/* --- life ------------------------------------------------------------------------------------- */

static int listen_at(struct gateway_socket *socket, const char *path)
{
	socket->path = strdup(path);
	if (!socket->path)
		return -ENOMEM;
	socket->listener = unix_listener_new(socket->path, SOCK_SEQPACKET, 0600, BACKLOG);
	if (socket->listener < 0)
		return socket->listener;
	/* A user that may not give it away can't let another user in, and is asked by its own users only. */
	if (socket->user != USERS_NO_UID && chown(socket->path, socket->user, (gid_t)-1) < 0 &&
	    errno != EPERM)
		return -errno;
	return 0;
}

int gateway_socket_new(struct gateway_socket **out, struct switchboard *board,
		       const struct gateway_socket_options *options,
		       const struct gateway_callbacks *callbacks, void *userdata)
{
	struct gateway_socket *socket = calloc(1, sizeof(*socket));
	int r = 0;

	if (!socket) {
		if (options->handed_over >= 0)
			close(options->handed_over);
		return -ENOMEM;
	}
	socket->board = board;
	socket->user = options->user;
	socket->callbacks = callbacks;
	socket->userdata = userdata;
	socket->refusal = options->refusal;
	socket->listener = options->handed_over;
	socket->fd = -1;
	if (socket->listener < 0)
		r = listen_at(socket, options->path);
	if (r == 0) {
		socket->retry = evtimer_new(board->base, gateway_socket_on_retry, socket);
		socket->accepting =
			event_new(board->base, socket->listener, EV_READ | EV_PERSIST, on_connection, socket);
		r = socket->retry && socket->accepting && event_add(socket->accepting, NULL) == 0 ? 0
												  : -ENOMEM;
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
	free_event(socket->retry);
	if (socket->fd >= 0) {
		task_cancel(&socket->turn);
		close_connection(socket->board, socket->fd, &socket->charge);
	}
	if (socket->listener >= 0 && !socket->path) {
		close(socket->listener);
	} else if (socket->listener >= 0) {
		close_connection(socket->board, socket->listener, &(struct charge){0});
		if (socket->accepting) /* it was ours to the end */
			unlink(socket->path);
	}
	free(socket->path);
	free(socket);
}
