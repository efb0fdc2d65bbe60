/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* How a session with the daemon begins and ends. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "libclient/socket_pump.h"
#include "libclient/transport.h"
#include "libclient/transport_internal.h"
#include "wire/doorbell.h"

static int receive_welcome(struct transport *transport, struct frame_welcome *welcome, int64_t deadline)
{
	struct handshake_answer *answer = &transport->hello->answer;
	int r = handshake_read(transport->socket, answer, transport->hello->fds, deadline);

	if (r < 0) {
		if (answer->reason.size)
			transport_keep_reason(transport, answer->reason);
		return r;
	}
	if (answer->header.type != FRAME_WELCOME ||
	    frame_welcome_decode(answer->payload, answer->header.length, welcome) < 0)
		return -EPROTO;
	return welcome->major == PROTOCOL_MAJOR ? 0 : -EPROTONOSUPPORT;
}

static void close_all(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Closes the socket. As long as a child has it too, the epoll would go on to look at it. */
static void close_socket(struct transport *transport)
{
	if (transport->socket >= 0 && transport_is_here(transport))
		epoll_ctl(transport->epoll, EPOLL_CTL_DEL, transport->socket, NULL);
	if (transport->socket >= 0)
		close(transport->socket);
	transport->socket = -1;
}

static int dial(struct transport *transport, int64_t deadline)
{
	const struct hello *hello = transport->hello;
	int r = handshake_connect(transport->path, deadline);

	if (r < 0)
		return r;
	transport->socket = r;
	r = transport_watch(transport, transport->socket, EPOLLIN | EPOLLRDHUP, ON_SOCKET);
	return r < 0 ? r
		     : handshake_hello(transport->socket,
				       hello->flags | (hello->shared ? HELLO_SHARED_MEMORY : 0), NULL, 0);
}

static void forget_hello(struct transport *transport)
{
	if (transport->hello)
		close_all(transport->hello->fds, HANDSHAKE_FDS);
	free(transport->hello);
	transport->hello = NULL;
}

/* Prepares what is said to the daemon. */
static int hello_new(struct transport *transport, uint32_t flags)
{
	const char *without = secure_getenv("XENMSG_NO_SHARED_MEMORY");
	struct hello *hello;

	hello = calloc(1, sizeof(*hello));
	if (!hello)
		return -ENOMEM;
	for (unsigned i = 0; i < HANDSHAKE_FDS; i++)
		hello->fds[i] = -1;
	hello->shared = !without || strcmp(without, "1") != 0;
	hello->flags = flags;
	transport->hello = hello;
	return 0;
}

int transport_make_timer(struct transport *transport)
{
	transport->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return transport->timer < 0
		       ? -errno
		       : transport_watch(transport, transport->timer, EPOLLIN | EPOLLET, ON_TIMER);
}

int transport_init(struct transport *transport, const char *path)
{
	int r = 0;

	*transport = (struct transport){.socket = -1,
					.epoll = -1,
					.wake = -1,
					.kick = -1,
					.poke = -1,
					.timer = -1,
					.alarm = -1,
					.closed = true};
	origin_note(&transport->origin);
	if (strlen(path) >= sizeof(transport->path))
		return -ENAMETOOLONG;
	memcpy(transport->path, path, strlen(path) + 1);
	transport->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	transport->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (transport->poke < 0 || transport->epoll < 0)
		return -errno;
	r = transport_make_timer(transport);
	return r < 0 ? r : transport_watch(transport, transport->poke, EPOLLIN | EPOLLET, ON_RINGS);
}

void transport_join(struct transport *transport, struct transport *first)
{
	*transport = (struct transport){.first = first,
					.socket = -1,
					.epoll = first->epoll,
					.wake = -1,
					.kick = -1,
					.poke = -1,
					.timer = -1,
					.alarm = -1};
	memcpy(transport->path, first->path, sizeof(transport->path));
	origin_note(&transport->origin);
	transport_hang_up(transport);
	first->second = transport;
}

/* Takes what WELCOME says. Returns -ENODATA if the memory that came with it can't be mapped. */
static int take_welcome(struct transport *transport, const struct frame_welcome *welcome)
{
	transport->domid = welcome->domid;
	transport->max_message = welcome->max_message;
	transport->is_mux = transport->hello->flags & HELLO_MUX;
	if (!(welcome->flags & HELLO_SHARED_MEMORY))
		return 0;
	return transport->hello->shared ? transport_map_rings(transport, welcome, transport->hello->fds)
					: -EPROTO;
}

/* Makes the rings fit for use, and the descriptors tell of what happens in them. */
static int begin_session(struct transport *transport)
{
	int r = transport->shared ? transport_watch(transport, transport->wake, EPOLLOUT | EPOLLET, ON_RINGS)
				  : 0;

	if (r == 0 && transport->shared)
		r = doorbell_ring(transport->kick); /* the memory is mapped, so that the daemon can seal it */
	if (r == 0 && !transport->shared)
		r = socket_pump_new(&transport->pump, transport->socket, transport->epoll, &transport->out,
				    &transport->in, &transport->deliveries, transport->is_mux);
	if (r == 0)
		r = transport_arm(transport, true, 0);
	if (r > 0)
		transport_poke(transport);
	return r < 0 ? r : 0;
}

int transport_finish(struct transport *transport, int64_t deadline)
{
	struct frame_welcome welcome;
	int r = receive_welcome(transport, &welcome, deadline);
	bool again = false;

	if (r == -ETIMEDOUT)
		return r;
	if (r == 0) {
		r = take_welcome(transport, &welcome);
		again = r == -ENODATA && transport->hello->shared;
	}
	if (again) { /* once, without shared memory */
		close_socket(transport);
		transport->hello->shared = false;
		close_all(transport->hello->fds, HANDSHAKE_FDS);
		for (unsigned i = 0; i < HANDSHAKE_FDS; i++)
			transport->hello->fds[i] = -1;
		r = dial(transport, deadline);
		if (r == 0)
			return transport_finish(transport, deadline);
		if (r == -ETIMEDOUT && deadline == 0)
			r = -EAGAIN; /* nothing is under way, for which the caller could wait */
	}
	forget_hello(transport);
	if (r == 0)
		r = begin_session(transport);
	if (r == 0) {
		transport->closed = false;
		transport->is_traced = trace_is_wanted();
		TRACE(transport, "connected to domain %u, %s", transport->domid,
		      transport->shared ? "by shared memory" : "by the socket alone");
	}
	return r;
}

/* Frees what is shared with the daemon, and what is about it. */
static void let_go(struct transport *transport)
{
	const int fds[] = {transport->wake, transport->kick};

	forget_hello(transport);
	socket_pump_free(transport->pump);
	mirror_release(transport->out_mirror);
	/* Where it lay, a child may have something else. */
	if (transport->memory && transport_is_here(transport))
		munmap(transport->memory, transport->memory_size);
	close_socket(transport);
	close_all(fds, sizeof(fds) / sizeof(*fds));
}

void transport_leave(struct transport *transport)
{
	transport_hang_up(transport);
	fifo_free(&transport->backlog);
}

void transport_hang_up(struct transport *transport)
{
	struct limbo *limbo = &transport->limbo;
	struct ring_view views[3];

	let_go(transport);
	transport->pump = NULL;
	transport->out_mirror = NULL;
	transport->memory = NULL;
	transport->wake = transport->kick = -1;
	transport->shared = transport->closed = transport->holds = false;
	transport->lent_room = transport->lend_later = 0;
	transport->error = 0;
	transport->is_read = transport->is_unwatched = false;
	*limbo = (struct limbo){.words[0].producer = sizeof(limbo->data)};
	for (unsigned i = 0; i < 3; i++)
		views[i] = ring_words_view(&limbo->words[i], limbo->data, sizeof(limbo->data));
	ring_writer_init(&transport->out, &views[0], true);
	ring_reader_init(&transport->in, &views[1], false);
	ring_reader_init(&transport->deliveries, &views[2], false);
}

int transport_dial(struct transport *transport, uint32_t flags, int64_t deadline)
{
	int r = hello_new(transport, flags);

	transport->reason[0] = '\0';
	return r < 0 ? r : dial(transport, deadline);
}

void transport_close(struct transport *transport)
{
	const int fds[] = {transport->epoll, transport->poke, transport->timer};
	bool here = transport_is_here(transport), blocked;

	/* After GOODBYE this end takes nothing more, so the senders of unread messages needn't be left in
	 * doubt. */
	if (here && !transport->closed) {
		uint8_t payload[4];

		transport_control(transport, FRAME_GOODBYE, 0, payload, frame_u32_encode(0, payload));
		transport_flush_backlog(transport, &blocked);
		transport_publish(transport);
		if (transport->pump)
			socket_pump_out(transport->pump);
	}
	let_go(transport);
	if (transport->first)
		transport->first->second = NULL;
	else
		close_all(fds, sizeof(fds) / sizeof(*fds));
	fifo_free(&transport->backlog);
	origin_forget(&transport->origin);
}
