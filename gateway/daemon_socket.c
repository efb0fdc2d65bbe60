/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/daemon_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/timer.h"
#include "wire/retry.h"
#include "wire/ut.h"

#define WELCOME_MS	10000u
#define PACKETS_AT_ONCE 16u
/* Behind a welcome the presence of each host goes out at once, and there are 16384 at most. */
#define WAITING_MAX 40000u

/* A packet that the daemon's socket had no room for. */
struct waiting_packet {
	struct waiting_packet *next;
	size_t size;
	char text[];
};

struct daemon_socket {
	struct event_base *base;
	const char *path;
	const struct daemon_socket_callbacks *callbacks;
	void *userdata;
	int fd;
	struct waiting_packet *waiting; /* in their order */
	struct waiting_packet **last;	/* where the next one goes */
	unsigned waiting_count;
	struct event *writable;		/* only while some wait */
	struct event *readable, *timer; /* timer: to try again, or until the daemon must have answered */
	bool is_welcome;
	/* why a packet couldn't be sent: the connection is let go of soon; "": it is in order */
	char broken[64];
	char told[256]; /* why the last attempt failed: is logged once */
};

/* --- its end, and the next attempt ------------------------------------------------------------ */

static void disconnect(struct daemon_socket *daemon)
{
	struct waiting_packet *packet, *next;

	LL_FOREACH_SAFE(daemon->waiting, packet, next)
		free(packet);
	daemon->waiting = NULL;
	daemon->last = &daemon->waiting;
	daemon->waiting_count = 0;
	daemon->broken[0] = '\0';
	free_event(daemon->readable);
	free_event(daemon->writable);
	daemon->readable = daemon->writable = NULL;
	if (daemon->fd >= 0)
		close(daemon->fd);
	daemon->fd = -1;
}

static void daemon_socket_let_go(struct daemon_socket *daemon, const char *why)
{
	bool was_welcome = daemon->is_welcome;

	disconnect(daemon);
	daemon->is_welcome = false;
	timer_set(daemon->timer, RETRY_EACH_MS);
	if (was_welcome) {
		daemon->told[0] = '\0';
		daemon->callbacks->lost(daemon->userdata, why);
	} else if (strcmp(why, daemon->told)) {
		snprintf(daemon->told, sizeof(daemon->told), "%s", why);
		log_warning("daemon: %s: %s; it is tried again each second", daemon->path, why);
	}
}

/* Lets go soon: a sender is in the midst of something that lost() would take away. */
static void let_go_later(struct daemon_socket *daemon, const char *why)
{
	snprintf(daemon->broken, sizeof(daemon->broken), "%s", why);
	timer_set(daemon->timer, 0);
}

/* --- packets ---------------------------------------------------------------------------------- */

static void wait_to_send(struct daemon_socket *daemon, const char *text, size_t size)
{
	struct waiting_packet *packet = malloc(sizeof(*packet) + size);

	if (!packet || daemon->waiting_count == WAITING_MAX || event_add(daemon->writable, NULL) < 0) {
		free(packet);
		let_go_later(daemon, "the daemon doesn't read what it is told");
		return;
	}
	packet->next = NULL;
	packet->size = size;
	memcpy(packet->text, text, size);
	*daemon->last = packet;
	daemon->last = &packet->next;
	daemon->waiting_count++;
}

static void daemon_socket_on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon_socket *daemon = userdata;
	struct waiting_packet *packet;

	while (!*daemon->broken && (packet = daemon->waiting)) {
		if (send(fd, packet->text, packet->size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
			if (errno != EAGAIN)
				daemon_socket_let_go(daemon, strerror(errno));
			return;
		}
		daemon->waiting = packet->next;
		if (!daemon->waiting)
			daemon->last = &daemon->waiting;
		daemon->waiting_count--;
		free(packet);
	}
	event_del(daemon->writable);
}

void daemon_socket_send(struct daemon_socket *daemon, const struct gateway_packet *packet)
{
	char text[GATEWAY_PACKET_MAX];
	size_t size = gateway_encode(packet, text);

	if (daemon->fd < 0 || *daemon->broken || (!daemon->is_welcome && packet->type != GATEWAY_HELLO))
		return;
	if (daemon->waiting)
		wait_to_send(daemon, text, size);
	else if (send(daemon->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return;
	else if (errno == EAGAIN)
		wait_to_send(daemon, text, size);
	else if (errno != EPIPE) /* which is told by reading, behind why it was refused */
		let_go_later(daemon, strerror(errno));
}

bool daemon_socket_is_welcome(const struct daemon_socket *daemon)
{
	return daemon->is_welcome;
}

static void daemon_socket_take(struct daemon_socket *daemon, const struct gateway_packet *packet,
			       const int *fds, unsigned count)
{
	char why[300];

	/* Without descriptors left here, only some come, or none. */
	if (count < GATEWAY_FDS)
		descriptors_close(fds, count);
	if (daemon->is_welcome) {
		daemon->callbacks->packet(daemon->userdata, packet, count == GATEWAY_FDS ? fds : NULL);
		return;
	}
	if (count == GATEWAY_FDS)
		descriptors_close(fds, count);
	if (packet->type == GATEWAY_WELCOME && packet->version >= GATEWAY_VERSION) {
		daemon->is_welcome = true;
		daemon->told[0] = '\0';
		event_del(daemon->timer);
		daemon->callbacks->welcome(daemon->userdata, packet);
		return;
	}
	if (packet->type == GATEWAY_REFUSED)
		snprintf(why, sizeof(why), "the daemon refuses this gateway: %s", packet->why);
	else
		snprintf(why, sizeof(why), "the daemon's answer isn't what this gateway knows");
	daemon_socket_let_go(daemon, why);
}

_Static_assert(CMSG_SPACE(GATEWAY_FDS * sizeof(int)) == CMSG_LEN(GATEWAY_FDS * sizeof(int)),
	       "padding would be room for one more");

/* Returns how many descriptors came. */
static unsigned descriptors_in(struct msghdr *message, int fds[GATEWAY_FDS])
{
	unsigned count = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
		if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
			count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
			memcpy(fds, CMSG_DATA(part), count * sizeof(int));
		}
	return count;
}

/* Receives one packet. False: there is none, or the connection has ended. */
static bool daemon_socket_receive(struct daemon_socket *daemon)
{
	char text[GATEWAY_PACKET_MAX];
	union {
		struct cmsghdr header;
		/* Of more descriptors than these the kernel closes the rest. */
		char space[CMSG_SPACE(GATEWAY_FDS * sizeof(int))];
	} control;
	struct iovec part = {.iov_base = text, .iov_len = sizeof(text)};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t size = recvmsg(daemon->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct gateway_packet packet;
	int fds[GATEWAY_FDS];
	unsigned count;

	if (size < 0 && errno == EAGAIN)
		return false;
	if (size <= 0) {
		daemon_socket_let_go(daemon,
				     size < 0 ? strerror(errno) : "the daemon has closed the connection");
		return false;
	}
	count = descriptors_in(&message, fds);
	if (message.msg_flags & MSG_TRUNC || gateway_decode(text, (size_t)size, &packet) < 0) {
		descriptors_close(fds, count);
		daemon_socket_let_go(daemon, "the daemon says what this gateway can't read");
		return false;
	}
	daemon_socket_take(daemon, &packet, fds, count);
	return daemon->fd >= 0;
}

static void daemon_socket_on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon_socket *daemon = userdata;

	for (unsigned i = 0; i < PACKETS_AT_ONCE && !*daemon->broken && daemon_socket_receive(daemon); i++)
		;
}

/* --- connecting ------------------------------------------------------------------------------- */

static int connect_to(struct daemon_socket *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	daemon->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (daemon->fd < 0)
		return -errno;
	strncpy(address.sun_path, daemon->path, sizeof(address.sun_path) - 1);
	if (connect(daemon->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	daemon->readable =
		event_new(daemon->base, daemon->fd, EV_READ | EV_PERSIST, daemon_socket_on_readable, daemon);
	daemon->writable =
		event_new(daemon->base, daemon->fd, EV_WRITE | EV_PERSIST, daemon_socket_on_writable, daemon);
	return daemon->readable && daemon->writable && event_add(daemon->readable, NULL) == 0 ? 0 : -ENOMEM;
}

static void daemon_socket_on_timer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon_socket *daemon = userdata;
	int r;

	if (daemon->fd >= 0) {
		char why[sizeof(daemon->broken)];

		memcpy(why, daemon->broken, sizeof(why));
		daemon_socket_let_go(daemon, *why ? why : "the daemon says nothing");
		return;
	}
	r = connect_to(daemon);
	if (r < 0) {
		daemon_socket_let_go(daemon, strerror(-r));
		return;
	}
	timer_set(daemon->timer, WELCOME_MS);
	daemon_socket_send(daemon,
			   &(struct gateway_packet){.type = GATEWAY_HELLO, .version = GATEWAY_VERSION});
}

int daemon_socket_new(struct daemon_socket **out, struct event_base *base, const char *path,
		      const struct daemon_socket_callbacks *callbacks, void *userdata)
{
	struct daemon_socket *daemon = calloc(1, sizeof(*daemon));

	if (!daemon)
		return -ENOMEM;
	daemon->base = base;
	daemon->path = path;
	daemon->callbacks = callbacks;
	daemon->userdata = userdata;
	daemon->fd = -1;
	daemon->last = &daemon->waiting;
	daemon->timer = evtimer_new(base, daemon_socket_on_timer, daemon);
	if (!daemon->timer || timer_set(daemon->timer, 0) < 0) {
		daemon_socket_free(daemon);
		return -ENOMEM;
	}
	*out = daemon;
	return 0;
}

void daemon_socket_free(struct daemon_socket *daemon)
{
	if (!daemon)
		return;
	disconnect(daemon);
	free_event(daemon->timer);
	free(daemon);
}
