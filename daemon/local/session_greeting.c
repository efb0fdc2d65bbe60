/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/session_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/log.h"
#include "base/self.h"
#include "daemon/switch/program_socket.h"

/* two doorbells, and the memory, which the next daemon reads if the program doesn't go on in other memory
 * (session_image.c) */
#define MEMORY_DESCRIPTORS 3

static struct frame_welcome welcome_of(const struct session *session)
{
	const struct self *self = session->options.self;
	struct frame_welcome welcome = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_MINOR,
		.domid = self->domid,
		.max_message = session->board->max_message,
	};

	memcpy(welcome.instance, self->instance, sizeof(welcome.instance));
	return welcome;
}

static int send_welcome(struct session *session, const struct frame_welcome *welcome, int memory_fd)
{
	const int fds[] = {memory_fd, session->wake_daemon, session->wake_program};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];

	return session_send_with(session, FRAME_WELCOME, frame,
				 frame_welcome_encode(welcome, frame + FRAME_HEADER_SIZE), fds,
				 memory_fd >= 0 ? 3 : 0);
}

/* Returns whether its user's share has room for shared memory. The last quarter is for programs that share no
 * memory, which take less than a quarter of what others take. So a user can always run more programs, slower
 * ones, after those that take most. */
static bool may_share_memory(const struct session *session, uint64_t needed)
{
	uint64_t used = account_usage(session->charge.account, QUOTA_MEMORY).used;

	return charge_fits(&session->charge, QUOTA_MEMORY, needed + used / 3);
}

/* Charges the session's user. Returns false if the session was refused. */
static bool pay_for(struct session *session, enum quota_resource resource, uint64_t amount)
{
	char why[160];

	if (charge_add(&session->charge, resource, amount) == 0)
		return true;
	account_explain(session->charge.account, resource, amount, why, sizeof(why));
	session_refuse(session->hop, -ENOBUFS, why);
	return false;
}

/* Pays for the kind of memory that the session can have. Returns false if there is none and the session was
 * refused. */
static bool pay_for_memory(struct session *session, bool *shared)
{
	uint64_t needed = HOP_MEMORY + session_shared_memory(session);

	if (*shared && !may_share_memory(session, needed)) {
		log_limited(
			LOG_LIMIT, LOG_BY_UID(hop_program(session->hop)->identity.uid), LOG_LEVEL_WARNING,
			"%s (pid %d, uid %u) shares no memory with the daemon and is slower: others of its user have most of what he "
			"may have",
			session_comm(session->hop), hop_program(session->hop)->identity.pid,
			hop_program(session->hop)->identity.uid);
		*shared = false;
	}
	if (!*shared)
		needed = HOP_MEMORY + sizeof(struct private_rings);
	return pay_for(session, QUOTA_MEMORY, needed) &&
	       (!*shared || pay_for(session, QUOTA_DESCRIPTORS, MEMORY_DESCRIPTORS));
}

static void start_running(struct session *session, const struct frame_hello_local *hello)
{
	struct frame_welcome welcome = welcome_of(session);
	bool shared = hello->flags & HELLO_SHARED_MEMORY && session->options.can_share_memory;
	int r;

	hop_own_program(session->hop)->carries_streams = hello->flags & HELLO_MUX;
	session_comm(session->hop); /* while the program is there */
	if (!pay_for(session, QUOTA_CLIENTS, 1) || !pay_for_memory(session, &shared))
		return;
	if (shared) {
		welcome.flags = HELLO_SHARED_MEMORY;
		r = session_share_memory(session, &welcome);
	} else {
		session->reports =
			hello->flags & HELLO_REPORTS && !hop_program(session->hop)->carries_streams;
		if (session->reports)
			hop_set_kind(session->hop, HOP_REPORTING);
		r = session_pump_socket(session);
	}
	if (r == 0)
		r = send_welcome(session, &welcome, session->memory_fd);
	if (r < 0) {
		session_refuse_lacking(session, r);
		return;
	}
	session->state = RUNNING;
	hop_own_program(session->hop)->is_known = true;
	hop_own_program(session->hop)->identity.domid = session->options.self->domid;
	evtimer_del(session->greeting_timer);
	/* This asks to be notified of the first frame. */
	hop_event(session->hop);
}

/* Gathers one frame and not a byte more. Returns 1: complete, 0: not yet, or a negative errno: it isn't that
 * frame, or the program has gone. */
static int gather_frame(struct session *session, struct frame_header *header, const char **why)
{
	for (;;) {
		struct iovec piece = {session->greeting + session->greeted,
				      sizeof(session->greeting) - session->greeted};
		ssize_t size = program_socket_peek(session->fd, &piece, 1);
		size_t there, want = FRAME_HEADER_SIZE;

		if (size == -ENOBUFS)
			task_due(&session->greeting_turn);
		if (size == -EAGAIN || size == -ENOBUFS)
			return 0;
		*why = size == -EBADMSG ? SESSION_DESCRIPTORS : "the program has gone";
		if (size <= 0)
			return size == -EBADMSG ? -EPROTO : -ECONNRESET;
		there = session->greeted + (size_t)size;
		if (there >= FRAME_HEADER_SIZE) {
			bool hello = session->state == GREETING;

			*why = hello ? "the first frame must be a HELLO"
				     : "a stream begins with OPEN or ACCEPT";
			if (frame_header_decode(session->greeting, header) < 0 ||
			    (hello ? header->type != FRAME_HELLO
				   : header->type != FRAME_OPEN && header->type != FRAME_ACCEPT))
				return -EINVAL;
			want = frame_size(header->length);
			*why = "the frame is too long";
			if (want > sizeof(session->greeting))
				return -EPROTO;
		}
		size = (ssize_t)((there < want ? there : want) - session->greeted);
		*why = "the program has gone";
		size = program_socket_take(session->fd, (size_t)size);
		if (size <= 0)
			return -ECONNRESET;
		session->greeted += (size_t)size;
		if (there >= FRAME_HEADER_SIZE && session->greeted == want)
			return 1;
	}
}

/* Turns the session into a stream's handshake. Returns false if the session has ended. */
static bool start_stream(struct session *session, bool takes_socket)
{
	struct frame_welcome welcome = welcome_of(session);
	int r;

	session->state = STREAM;
	session->takes_socket = takes_socket;
	session->greeted = 0;
	r = send_welcome(session, &welcome, -1);
	if (r < 0)
		session_refuse_lacking(session, r);
	return r == 0;
}

bool session_is_greeting(const struct session *session)
{
	return session->state == GREETING || session->state == STREAM;
}

static void hand_over_stream(struct session *session, const struct frame_header *header)
{
	int fd = session->fd;

	event_del(session->socket_event);
	session->fd = -1;
	charge_end(&session->charge); /* the stream pays for the socket from here on */
	session->callbacks->stream(session->userdata, session->hop, fd, header,
				   session->greeting + FRAME_HEADER_SIZE);
	session_end(session);
}

/* Takes one step of the greeting. Returns true if the session goes on as something else, or is over. */
static bool greet_once(struct session *session)
{
	struct frame_hello_local hello;
	struct frame_header header;
	const char *why = "";
	char text[80];
	int r = gather_frame(session, &header, &why);

	if (r == 0)
		return false;
	if (r > 0 && session->state == STREAM) {
		hand_over_stream(session, &header);
		return false;
	}
	if (r > 0 &&
	    frame_hello_local_decode(session->greeting + FRAME_HEADER_SIZE, header.length, &hello) < 0) {
		r = -EPROTO;
		why = "the HELLO is too short";
	}
	if (r > 0 && hello.major != PROTOCOL_MAJOR) {
		r = -EPROTONOSUPPORT;
		snprintf(text, sizeof(text), "the program speaks protocol %u, this daemon %u", hello.major,
			 PROTOCOL_MAJOR);
		why = text;
	}
	if (r < 0) {
		session_refuse(session->hop, r, why);
		return false;
	}
	if (hello.flags & HELLO_STREAM)
		return start_stream(session, hello.flags & HELLO_TAKES_SOCKET);
	start_running(session, &hello);
	return false;
}

static void greet(struct session *session)
{
	/* A program may send HELLO and the next frame together. */
	if (greet_once(session))
		greet_once(session);
}

void session_on_greeting_turn(struct task *task)
{
	struct session *session = (struct session *)((char *)task - offsetof(struct session, greeting_turn));
	struct account *account = account_ref(hop_account(session->hop)); /* since the session may end */
	struct span span;

	span_begin(&span, session->board);
	switch_spend(session->board, account, COST_CONNECTION);
	if (session_is_greeting(session))
		greet(session);
	span_end(&span, account);
	account_unref(account);
}
