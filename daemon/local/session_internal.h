/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SESSION_INTERNAL_H
#define XENMSG_DAEMON_SESSION_INTERNAL_H

/*
 * No descriptor that the program holds too can make a call of ours block, whatever it does to its flags, its
 * counter, its locks or its size: on those that it gets we only call close() and doorbell_ring(), and wait
 * for them by epoll, which takes none of their locks. Those that it sends are never received, nor closed by
 * the loop.
 *
 *   the socket    each side has an end of its own; ours is only used with MSG_DONTWAIT, and only
 *                 program_socket.h reads and closes it
 *   what is sent  SCM_RIGHTS: the last close of such a descriptor may wait. They stay in the socket's queue,
 *                 and a thread closes it.
 *   the memory    sealed against resizing, and against holes before we touch it (shared_memory.h); mapped
 *   wake_daemon   a doorbell (wire/doorbell.h) that the program rings
 *   wake_program  a doorbell that we ring
 *
 * The parts of a session: session.c has its life, session_greeting.c its greeting, session_memory.c the rings
 * that the program shares, session_pump.c our own rings between the hop and the socket of a program that
 * shares none. A session uses one of the last two, from when it begins to run. session_image.c hands it over
 * to the next daemon.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "daemon/switch/hop.h"
#include "base/carried_memory.h"
#include "daemon/switch/private_ring.h"
#include "base/quota.h"
#include "daemon/local/session.h"

#define GREETING_FRAME_MAX  384u
#define SESSION_DESCRIPTORS "descriptors came over the socket" /* why the session is cut off */

enum session_state {
	GREETING,
	STREAM,
	RUNNING,
	LEAVING, /* it is over, but for what callback `leave` does */
	OVER,
};

struct session {
	struct hop *hop;
	struct switchboard *board;
	struct session_options options;
	const struct session_callbacks *callbacks;
	void *userdata;
	enum session_state state;
	bool reports; /* its HELLO says so */
	int fd;
	struct charge charge; /* of its user, for the program and its descriptors */
	struct event *socket_event, *greeting_timer;
	struct task greeting_turn; /* takes what came before it runs */
	uint8_t greeting[GREETING_FRAME_MAX];
	size_t greeted;
	bool takes_socket;   /* for the stream that it becomes */
	unsigned unanswered; /* requests */
	struct session_rest rest;
	struct task leaving_turn;
	uint32_t left_at;

	/* shared memory */
	uint8_t *memory;
	size_t memory_size;
	int wake_daemon, wake_program; /* doorbells */
	int memory_fd;
	bool uses_memory;	/* the hop is attached to its rings, or can't be */
	struct hop_rings rings; /* to which the hop is attached then */
	struct frame_ring_place places[LOCAL_RINGS];
	/* What the program still uses, while it is to go on in `memory` (session_image.c); -1: nothing. */
	int old_memory_fd;
	bool offers_memory; /* MEMORY is to be sent */
	int former_memory;  /* what the program had before, by its number (memfd_lifetimes.h); -1: nothing */
	struct event *wake_event;

	/* socket */
	struct carried_piece pumped; /* private_ring.h: the bytes of its rings */
	struct ring_words from_socket, to_socket;
	struct ring_writer pump_in;
	struct ring_reader pump_out;
	struct event *write_event;
	bool may_have_more; /* the socket may hold unread bytes */
	bool is_deaf;	    /* the program reads no more */
	ssize_t last_words; /* bytes that are still read from a deaf program */
};

static inline struct ring_view session_from_socket(struct session *session)
{
	struct private_rings *rings = session->pumped.bytes;

	return ring_words_view(&session->from_socket, rings->to_hop, PRIVATE_RING_SIZE);
}

static inline struct ring_view session_to_socket(struct session *session)
{
	struct private_rings *rings = session->pumped.bytes;

	return ring_words_view(&session->to_socket, rings->from_hop, PRIVATE_RING_SIZE);
}

/* session_memory.c: makes the memory, and says in `welcome` where the rings lie. The hop is attached to them
 * when the program has rung, and so has mapped it, and it is sealed; then session_attached() is called.
 * Returns 0 or a negative errno. */
int session_share_memory(struct session *session, struct frame_welcome *welcome);
/* The program has mapped the memory, or `is_gone` and won't any more. */
void session_use_memory(struct session *session, bool is_gone);
/* Has its user pay for memory of the session's, until that is gone. Returns its number, or -1. */
int session_pay_for_memory(struct session *session, int fd);
/* Lets the hop be attached when the program rings. 0 or -ENOMEM. */
int session_await_memory(struct session *session);
/* Finds the rings in the memory. */
void session_find_rings(struct session *session);
/* session.c */
void session_attached(struct session *session);

/* Returns how many bytes it takes at most, with what the daemon notes about it. */
uint64_t session_shared_memory(const struct session *session);

/* session.c: Looks again in a moment at the socket of a session that isn't greeting any more. */
void session_try_later(struct session *session);
/* session_image.c: has the program go on in other memory. */
void session_offer_memory(struct session *session);
/* Sends WELCOME or MEMORY with so many descriptors. 0 or a negative errno. */
int session_send_with(struct session *session, uint8_t type, uint8_t *frame, uint32_t length, const int *fds,
		      unsigned count);
/* The session is over: calls `gone`. */
void session_end(struct session *session);
/* Refuses it for what the daemon lacks, if this error says so. */
void session_refuse_lacking(struct session *session, int error);
/* Sends a GOODBYE, as far as the socket takes it at once. */
void session_send_goodbye(struct session *session, int error, const char *why);

/* session_greeting.c: whether its first frames are still to come, */
bool session_is_greeting(const struct session *session);
/* and takes what there is of them. */
void session_on_greeting_turn(struct task *task);

/* session_pump.c: attaches the hop to rings of our own. Returns 0 or a negative errno. */
int session_pump_socket(struct session *session);
/* Makes the event that the socket takes bytes again. NULL: no memory. */
struct event *session_new_write_event(struct session *session);
/* Called when the socket has become readable. */
void session_on_socket(struct session *session);
/* Reads what there is room for, in the hop's turn. Returns true if there may be more. */
bool session_refill(struct session *session);
/* Called when the hop has written something, or made room. */
void session_pump(struct session *session);

#endif
