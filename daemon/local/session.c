/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cost.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/timer.h"
#include "daemon/local/session_internal.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/program_socket.h"
#include "wire/doorbell.h"
#include "wire/text.h"

void session_end(struct session *session)
{
	session->state = OVER;
	session->callbacks->gone(session->userdata, session->hop);
}

/* -1 and errno. */
static ssize_t send_goodbye_on(int fd, int error, const char *why)
{
	struct frame_goodbye goodbye = {.error = (uint32_t)-error, .text = {why, strlen(why)}};
	uint8_t frame[FRAME_HEADER_SIZE + 256 + 8];
	struct frame_header header = {.type = FRAME_GOODBYE};

	if (goodbye.text.size > 240)
		goodbye.text.size = 240;
	header.length = frame_goodbye_encode(&goodbye, frame + FRAME_HEADER_SIZE);
	return send(fd, frame, frame_wrap(frame, &header), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void session_refuse_socket(struct switchboard *board, int fd)
{
	send_goodbye_on(fd, -EBUSY, "the daemon has no memory left");
	program_socket_close(board, fd, NULL);
}

void session_send_goodbye(struct session *session, int error, const char *why)
{
	struct span span;

	/* Don't write into the middle of another frame. */
	if (session->pumped.bytes && ring_reader_ready(&session->pump_out, 1) > 0)
		return;
	span_begin(&span, session->board);
	if (send_goodbye_on(session->fd, error, why) < 0)
		log_debug("no goodbye for pid %d: %s", hop_program(session->hop)->identity.pid,
			  strerror(errno));
	span_end(&span, hop_account(session->hop));
}

/* --- as the owner of the hop ------------------------------------------------------------------ */

static unsigned cost_of_request(uint8_t type)
{
	switch (type) {
	case FRAME_BIND:
	case FRAME_UNBIND:
	case FRAME_DRAIN:
		return COST_BIND;
	default:
		return COST_REQUEST;
	}
}

static int session_on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	struct session *session = owner;

	switch (header->type) {
	case FRAME_HELLO:
		return -EBUSY;
	case FRAME_BIND:
	case FRAME_UNBIND:
	case FRAME_DRAIN:
	case FRAME_SUBSCRIBE:
		if (hop_is_finishing(session->hop))
			return 0; /* no program is there to be answered, and there may be thousands */
		switch_spend(session->board, hop_account(session->hop), cost_of_request(header->type));
		session->unanswered++;
		return session->callbacks->request(session->userdata, session->hop, header, payload);
	case FRAME_GOODBYE:
		hop_note_goodbye(session->hop, 0);
		/* Not at once: what the program has taken is still to be noted. And without waiting for the
		 * end of file, which a program that keeps its socket never sends. */
		hop_finish(session->hop, -ECONNRESET, "the program has taken its leave");
		return 0;
	default:
		return -EPROTO;
	}
}

static int session_on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct session *session = owner;

	if (hop_program(session->hop)->carries_streams && open->kind != CHANNEL_STREAM)
		return -EPROTO;
	return session->callbacks->open(session->userdata, session->hop, channel, open);
}

static void ring_program(struct session *session)
{
	struct kernel_call call;

	hop_begin_call(session->hop, &call);
	doorbell_ring(session->wake_program); /* a program that has spoilt it isn't woken */
	switch_spend_call(session->board, hop_account(session->hop), &call, 0);
}

/* Notifies the program. Neither call can block (session_internal.h). */
static void session_on_notify(void *owner)
{
	struct session *session = owner;

	if (session->pumped.bytes)
		session_pump(session);
	else
		ring_program(session);
}

static bool on_refill(void *owner)
{
	struct session *session = owner;

	return session->pumped.bytes && session_refill(session);
}

static bool on_before_input(void *owner)
{
	struct session *session = owner;

	return session->callbacks->go_on(session->userdata, session->hop, &session->rest);
}

static void leave_some(struct session *session)
{
	if (session->callbacks->leave &&
	    session->callbacks->leave(session->userdata, session->hop, &session->left_at))
		task_due(&session->leaving_turn);
	else
		session_end(session);
}

static void on_leaving_turn(struct task *task)
{
	leave_some((struct session *)((char *)task - offsetof(struct session, leaving_turn)));
}

static void session_on_failed(void *owner, int error, const char *why)
{
	struct session *session = owner;
	const struct frame_identity *who = &hop_program(session->hop)->identity;

	if (session->state >= LEAVING)
		return;
	if (error != -ECONNRESET) {
		account_note_cut_off(hop_account(session->hop));
		log_limited(LOG_CUT_OFF, LOG_BY_UID(who->uid), LOG_LEVEL_WARNING,
			    "%s (pid %d, uid %u) is cut off: %s", session_comm(session->hop), who->pid,
			    who->uid, why);
		if (session->pumped.bytes)
			session_pump(session); /* send the answers so far */
		session_send_goodbye(session, error, why);
	}
	event_del(session->socket_event); /* nothing more comes */
	if (session->wake_event)
		event_del(session->wake_event);
	session->state = LEAVING;
	leave_some(session);
}

static const struct hop_callbacks hop_callbacks = {
	.control = session_on_control,
	.open = session_on_open,
	.notify = session_on_notify,
	.before_input = on_before_input,
	.refill = on_refill,
	.failed = session_on_failed,
};

/* --- socket ----------------------------------------------------------------------------------- */

int session_send_with(struct session *session, uint8_t type, uint8_t *frame, uint32_t length, const int *fds,
		      unsigned count)
{
	struct frame_header header = {.type = type, .length = length};
	size_t size = frame_wrap(frame, &header);
	ssize_t sent = descriptors_send(session->fd, frame, size, fds, count, MSG_DONTWAIT);

	return sent < 0 ? (int)sent : sent == (ssize_t)size ? 0 : -EIO;
}

void session_refuse(struct hop *program, int error, const char *why)
{
	const struct frame_identity *who = &hop_program(program)->identity;
	struct session *session = hop_owner(program);

	if (error != -ECONNRESET && error != -EPIPE) /* a program that has gone isn't a refused one */
		log_limited(LOG_ACCEPTING, LOG_BY_UID(who->uid), LOG_LEVEL_WARNING,
			    "%s (pid %d, uid %u) is refused: %s", session_comm(session->hop), who->pid,
			    who->uid, why);
	session_send_goodbye(session, error, why);
	session_end(session);
}

/* Watches the socket for its end: while memory is shared, the program sends nothing over it. */
static void listen_for_end(struct session *session)
{
	uint8_t bytes[FRAME_HEADER_SIZE];
	struct iovec piece = {bytes, sizeof(bytes)};
	ssize_t size = program_socket_peek(session->fd, &piece, 1);

	if (size == -ENOBUFS)
		session_try_later(session);
	if (size == -EAGAIN || size == -ENOBUFS)
		return;
	if (size <= 0 && size != -EBADMSG && !hop_has_rings(session->hop)) {
		session_use_memory(session,
				   true); /* there may be something of which the daemon wasn't told */
		return;
	}
	/* What it wrote before it went must still be delivered, and what it has taken counts as delivered. */
	if (size == -EBADMSG)
		hop_fail(session->hop, -EPROTO, SESSION_DESCRIPTORS);
	else if (size <= 0)
		hop_finish(session->hop, -ECONNRESET, "the program has gone");
	else if (size == FRAME_HEADER_SIZE && bytes[4] == FRAME_HELLO)
		hop_fail(session->hop, -EBUSY, "a second HELLO");
	else
		hop_fail(session->hop, -EPROTO, "bytes on the socket of a session that shares memory");
}

void session_attached(struct session *session)
{
	hop_woken(session->hop);
	listen_for_end(session); /* which may have come meanwhile */
}

/* Edge-triggered: called again only when more has arrived. */
static void on_socket(int fd, short what, void *userdata)
{
	struct session *session = userdata;

	if (session_is_greeting(session))
		task_due(&session->greeting_turn);
	else if (session->pumped.bytes)
		session_on_socket(session);
	else
		listen_for_end(session);
}

void session_try_later(struct session *session)
{
	timer_start(session->greeting_timer, LACK_MS);
}

static void on_greeting_timeout(int fd, short what, void *userdata)
{
	struct session *session = userdata;

	if (session_is_greeting(session)) {
		session_refuse(session->hop, -ETIMEDOUT, "no HELLO came in time");
		return;
	}
	if (session->offers_memory)
		session_offer_memory(session);
	on_socket(session->fd, EV_TIMEOUT, session);
	if (session->pumped.bytes)
		session_pump(session);
}

/* --- life ------------------------------------------------------------------------------------- */

/* The kernel's part of its end: most of it is nothing that anybody waits for. */
static void close_all(struct session *session)
{
	const int fds[DEFERRED_FDS] = {session->memory_fd, session->wake_daemon, session->wake_program};

	if (session->old_memory_fd >= 0) {
		session_pay_for_memory(session, session->memory_fd); /* which the program may have got */
		close(session->old_memory_fd);
	}
	if (session->memory || session->wake_daemon >= 0)
		work_item_give_back(session->board, session->memory, session->memory_size, fds,
				    &session->charge);
	if (session->fd >= 0)
		program_socket_close(session->board, session->fd, &session->charge);
}

static void free_session(struct session *session)
{
	struct span span;

	span_begin(&span, session->board);
	free_event(session->socket_event);
	free_event(session->greeting_timer);
	free_event(session->wake_event);
	free_event(session->write_event);
	task_cancel(&session->greeting_turn);
	task_cancel(&session->leaving_turn);
	if (session->hop)
		hop_retire(session->hop, ENOENT);
	close_all(session);
	carried_give_back(session->board->rings, &session->pumped);
	span_end(&span, session->charge.account);
	charge_end(&session->charge);
	free(session);
}

int session_new(struct hop **out, struct switchboard *board, int fd, const struct session_options *options,
		const struct session_callbacks *callbacks, void *userdata)
{
	struct session *session = calloc(1, sizeof(*session));
	struct ucred credentials;
	socklen_t size = sizeof(credentials);

	if (!session)
		return -ENOMEM;
	session->fd = fd;
	session->wake_daemon = session->wake_program = session->memory_fd = session->old_memory_fd =
		session->former_memory = -1;
	session->board = board;
	session->options = *options;
	session->callbacks = callbacks;
	session->userdata = userdata;
	session->hop = hop_new(board, HOP_SOCKET, &hop_callbacks, session, 1, options->channels_max);
	if (!session->hop)
		goto fail;
	if (program_socket_init(fd) < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
		goto fail;
	hop_own_program(session->hop)->identity = (struct frame_identity){
		.uid = credentials.uid, .gid = credentials.gid, .pid = (uint32_t)credentials.pid};
	if (board->quota)
		hop_set_account(session->hop, quota_account(board->quota, QUOTA_UID, credentials.uid));
	task_init(&session->greeting_turn, &board->turns, account_line(hop_account(session->hop)),
		  session_on_greeting_turn);
	task_init(&session->leaving_turn, &board->turns, account_line(hop_account(session->hop)),
		  on_leaving_turn);
	charge_init(&session->charge, hop_account(session->hop));
	session->socket_event = event_new(board->base, fd, EV_READ | EV_PERSIST | EV_ET, on_socket, session);
	session->greeting_timer = evtimer_new(board->base, on_greeting_timeout, session);
	if (!session->socket_event || !session->greeting_timer ||
	    event_add(session->socket_event, NULL) < 0 ||
	    timer_set(session->greeting_timer, options->greeting_ms) < 0)
		goto fail;
	*out = session->hop;
	return 0;
fail:
	session->fd = -1;
	free_session(session);
	return -ENOMEM;
}

void session_free(struct hop *program)
{
	if (program)
		free_session(hop_owner(program));
}

int session_admit(struct hop *program, char *why, size_t size)
{
	struct session *session = hop_owner(program);
	int r = charge_add(&session->charge, QUOTA_DESCRIPTORS, 1);

	if (r < 0)
		account_explain(session->charge.account, QUOTA_DESCRIPTORS, 1, why, size);
	return r;
}

/* What the daemon lacks, in words; NULL: something else is wrong. */
static const char *session_lack(int error)
{
	switch (error) {
	case -ENOMEM:
		return "the daemon has no memory left";
	case -EMFILE:
	case -ENFILE:
		return "the daemon has no descriptors left";
	case -ENOBUFS:
		return "the kernel has no buffers left";
	default:
		return NULL;
	}
}

void session_refuse_lacking(struct session *session, int error)
{
	const char *lack = session_lack(error);
	char why[128];

	snprintf(why, sizeof(why), "the daemon can't set up the session: %s%s", strerror(-error),
		 error == -EFBIG ? "; its LimitFSIZE= is smaller than a program's memory" : "");
	session_refuse(session->hop, lack ? -EBUSY : error, lack ? lack : why);
}

void session_cut_off(struct hop *program, int error, const char *why)
{
	hop_fail(program, error, "%s", error == -ENOMEM ? session_lack(error) : why);
}

int session_reply(struct hop *program, uint32_t request, int error, const void *body, size_t size)
{
	uint8_t payload[FRAME_PAYLOAD_MAX];
	size_t most = sizeof(payload) - FRAME_REPLY_HEAD;
	struct frame_reply reply = {.error = (uint32_t)error, .body = {body, size < most ? size : most}};
	struct session *session = hop_owner(program);
	int r;

	session->unanswered--;
	r = hop_send(program, FRAME_REPLY, 0, request, payload, frame_reply_encode(&reply, payload));
	if (r < 0)
		session_cut_off(program, r, "the program doesn't read its answers");
	return r;
}

void session_go_on_later(struct hop *program, uint32_t request, struct frame_text text)
{
	struct session *session = hop_owner(program);

	session->rest = (struct session_rest){.request = request};
	memcpy(session->rest.text, text.data, text.size);
	if (on_before_input(session))
		hop_hold_input(program);
}

bool session_takes_socket(const struct hop *program)
{
	return ((const struct session *)hop_owner(program))->takes_socket;
}

int session_socket(const struct hop *program)
{
	return ((const struct session *)hop_owner(program))->fd;
}

const char *session_comm(struct hop *program)
{
	struct hop_program *who = hop_own_program(program);

	if (!who->comm[0])
		program_name((pid_t)who->identity.pid, who->comm);
	return who->comm;
}

bool session_shares_memory(const struct hop *program)
{
	return ((const struct session *)hop_owner(program))->memory != NULL;
}

unsigned session_unanswered(const struct hop *program)
{
	return ((const struct session *)hop_owner(program))->unanswered;
}

/* --- names of programs ----------------------------------------------------------------------- */

void program_name(pid_t pid, char name[PROGRAM_NAME_SIZE])
{
	char path[64];
	ssize_t size = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		size = read(fd, name, PROGRAM_NAME_SIZE - 1);
		close(fd);
	}
	if (size > 0)
		name[size] = '\0';
	else
		snprintf(name, PROGRAM_NAME_SIZE, "?");
	name[strcspn(name, "\n")] = '\0';
	text_make_ascii(name, strlen(name), ' ');
}
