/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A session without shared memory: rings of our own, and a pump between them and the socket. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include <event2/event.h>

#include "daemon/session_internal.h"

#define LAST_WORDS_MAX 1048576 /* more than a socket holds */

/* Reads what there is room for: how many bytes, or below zero at the end of file or for an error. */
static ssize_t pump_in(struct session *session)
{
	struct iovec pieces[2];
	int space = ring_writer_space(&session->pump_in, PRIVATE_RING_SIZE);
	ssize_t size;

	if (space <= 0) {
		ring_writer_arm(&session->pump_in, 1);
		event_del(session->socket_event);
		return 0;
	}
	size = readv(session->fd, pieces, ring_writer_reserve(&session->pump_in, (uint32_t)space, pieces));
	if (size < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (size == 0)
		return -ECONNRESET;
	ring_writer_advance(&session->pump_in, (uint32_t)size);
	ring_writer_publish(&session->pump_in);
	return size;
}

static bool pump_out(struct session *session)
{
	struct iovec pieces[2];
	struct msghdr message = {.msg_iov = pieces};
	int ready;

	while ((ready = ring_reader_ready(&session->pump_out, PRIVATE_RING_SIZE)) > 0) {
		ssize_t size;

		message.msg_iovlen = (size_t)ring_reader_peek(&session->pump_out, 0, (uint32_t)ready, pieces);
		size = sendmsg(session->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
			event_add(session->write_event, NULL);
			break;
		}
		if (size < 0)
			return false;
		ring_reader_consume(&session->pump_out, (uint32_t)size);
		ring_reader_release(&session->pump_out);
	}
	ring_reader_arm(&session->pump_out, PRIVATE_RING_SIZE + 1);
	return true;
}

/* The program has gone: what it wrote before it went is still to be delivered, and what it has taken counts. It may have shut down
 * its other direction alone and write on; so there is an end to it. */
static void hear_last_words(struct session *session)
{
	ssize_t size, left = LAST_WORDS_MAX;

	do {
		hop_finish(&session->hop);
		size = pump_in(session);
		left -= size;
	} while (size > 0 && left > 0);
	hop_finish(&session->hop);
}

void session_on_pump(int fd, short what, void *userdata)
{
	struct session *session = userdata;
	bool alive = true;

	(void)fd;
	if (what & EV_READ)
		alive = pump_in(session) >= 0;
	else if (ring_writer_space(&session->pump_in, 1) > 0)
		event_add(session->socket_event, NULL);
	hop_event(&session->hop);
	if (!pump_out(session))
		alive = false;
	if (ring_reader_ready(&session->pump_out, 1) == 0 || (what & EV_WRITE))
		hop_event(&session->hop);
	if (!alive) {
		hear_last_words(session);
		hop_fail(&session->hop, -ECONNRESET, "the program has gone");
	}
	relay_flush(session->relay);
}

int session_pump_socket(struct session *session)
{
	struct hop_rings rings = {.outlets = 1};
	struct ring_view in, out;

	session->from_socket = calloc(1, sizeof(*session->from_socket));
	session->to_socket = calloc(1, sizeof(*session->to_socket));
	session->write_event = event_new(session->relay->base, session->fd, EV_WRITE, session_on_pump, session);
	session->pump_event = event_new(session->relay->base, -1, 0, session_on_pump, session);
	if (!session->from_socket || !session->to_socket || !session->write_event || !session->pump_event)
		return -ENOMEM;
	in = private_ring_view(session->from_socket);
	out = private_ring_view(session->to_socket);
	ring_writer_init(&session->pump_in, &in, false);
	ring_reader_init(&session->pump_out, &out, false);
	ring_reader_arm(&session->pump_out, 1);
	rings.in = in;
	rings.out[OUTLET_MAIN] = out;
	return hop_attach(&session->hop, &rings);
}
