/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Sessions without shared memory: they have rings of our own, and a pump between them and the socket. */

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/descriptors.h"
#include "daemon/switch/program_socket.h"
#include "daemon/local/session_internal.h"

/* bytes read from a program that has shut down only one direction, and may write without end */
#define LAST_WORDS_MAX 1048576u

static void session_pump_spend(struct session *session, const struct kernel_call *call, uint64_t units)
{
	switch_spend_call(session->board, hop_account(session->hop), call, units);
}

/* Ends the input: the program writes no more. What it wrote before must still be delivered, and what it has
 * taken counts as delivered. */
static void end_input(struct session *session)
{
	session->may_have_more = false;
	hop_finish(session->hop, -ECONNRESET, "the program has gone");
}

/* Reads on for what the program wrote before: it reads no more, so it has gone. The amount is limited, since
 * it may have shut down that direction alone and write on. */
static void hear_last_words(struct session *session)
{
	session->is_deaf = session->may_have_more = true;
	session->last_words = LAST_WORDS_MAX;
	hop_look(session->hop);
}

bool session_refill(struct session *session)
{
	struct iovec pieces[2];
	unsigned count;
	struct kernel_call call;
	int space;
	ssize_t size;

	if (!session->may_have_more || hop_is_blocked(session->hop))
		return false;
	space = ring_writer_space(&session->pump_in, PRIVATE_RING_SIZE);
	if (space <= 0)
		return true;
	count = (unsigned)ring_writer_reserve(&session->pump_in, (uint32_t)space, pieces);
	hop_begin_call(session->hop, &call);
	size = program_socket_read(session->fd, pieces, count);
	session_pump_spend(session, &call, 2 * COST_SYSCALL + (size > 0 ? COST_BYTES((uint64_t)size) : 0));
	if (size > 0) {
		ring_writer_advance(&session->pump_in, (uint32_t)size);
		ring_writer_publish(&session->pump_in);
	}
	if (size == -EBADMSG)
		hop_fail(session->hop, -EPROTO, SESSION_DESCRIPTORS);
	if (size == -ENOBUFS)
		session_try_later(session);
	if (size == -EAGAIN || size == -EBADMSG || size == -ENOBUFS)
		session->may_have_more = false;
	else if (size <= 0 || (session->is_deaf && size >= session->last_words))
		end_input(session);
	else if (session->is_deaf && size > 0)
		session->last_words -= size;
	return session->may_have_more;
}

/* Moves with one call all that there is, or all that the socket takes: only this function empties the
 * ring. */
static void pump_out(struct session *session)
{
	struct iovec pieces[2];
	struct msghdr message = {.msg_iov = pieces};
	int ready = ring_reader_ready(&session->pump_out, PRIVATE_RING_SIZE);
	struct kernel_call call;
	ssize_t size;

	if (ready <= 0)
		return;
	message.msg_iovlen = (size_t)ring_reader_peek(&session->pump_out, 0, (uint32_t)ready, pieces);
	hop_begin_call(session->hop, &call);
	size = sendmsg(session->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	session_pump_spend(session, &call, COST_SYSCALL + (size > 0 ? COST_BYTES((uint64_t)size) : 0));
	if (size < 0 && lack_passes(errno)) {
		session_try_later(session);
		return;
	}
	if (size < 0 && errno != EAGAIN && errno != EINTR) {
		hear_last_words(session);
		return;
	}
	if (size > 0)
		ring_reader_consume(&session->pump_out, (uint32_t)size);
	if (size < ready)
		event_add(session->write_event, NULL);
}

void session_pump(struct session *session)
{
	if (session->is_deaf)
		return;
	pump_out(session);
	if (ring_reader_release(&session->pump_out))
		hop_look(session->hop); /* the hop waits for room */
	ring_reader_arm(&session->pump_out, PRIVATE_RING_SIZE + 1);
}

void session_on_socket(struct session *session)
{
	session->may_have_more = true;
	hop_event(session->hop);
}

static void session_pump_on_writable(int fd, short what, void *userdata)
{
	struct session *session = userdata;

	if (hop_calls_are_long(session->hop))
		hop_mark(session->hop, MARK_TO_NOTIFY); /* in its turn */
	else
		session_pump(session);
}

struct event *session_new_write_event(struct session *session)
{
	return event_new(session->board->base, session->fd, EV_WRITE | EV_ET, session_pump_on_writable,
			 session);
}

int session_pump_socket(struct session *session)
{
	struct hop_rings rings = {0};
	struct ring_view in, out;

	session->write_event = session_new_write_event(session);
	if (!session->write_event || carried_take(session->board->rings, &session->pumped) < 0)
		return -ENOMEM;
	in = session_from_socket(session);
	out = session_to_socket(session);
	ring_writer_init(&session->pump_in, &in, false);
	ring_reader_init(&session->pump_out, &out, false);
	ring_reader_arm(&session->pump_out, 1);
	session->may_have_more = true; /* what came behind the HELLO */
	rings.in = in;
	rings.out[OUTLET_MAIN] = out;
	return hop_attach(session->hop, &rings);
}
