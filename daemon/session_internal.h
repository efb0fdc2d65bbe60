/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_SESSION_INTERNAL_H
#define XENMSG_DAEMON_SESSION_INTERNAL_H

/*
 * What the parts of a session know of each other: session.c its life and its greeting, session_memory.c the rings that the
 * program shares, session_pump.c the rings of our own between the hop and the socket of a program that doesn't. A session has
 * the parts of one of them, from when it begins to run.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "daemon/hop.h"
#include "daemon/private_ring.h"
#include "daemon/quota.h"
#include "daemon/session.h"

#define GREETING_FRAME_MAX 256u

enum state {
	GREETING,
	STREAM,
	RUNNING,
	OVER,
};

struct session {
	struct hop hop;
	struct relay *relay;
	struct session_options options;
	const struct session_ops *ops;
	void *userdata;
	enum state state;
	int fd;
	struct ucred credentials;
	struct charge charge; /* of its user, for the program and its descriptors */
	char comm[17];
	struct event *socket_event, *greeting_timer;
	uint8_t greeting[GREETING_FRAME_MAX];
	size_t greeted;
	unsigned unanswered; /* requests */

	/* shared memory */
	uint8_t *memory;
	size_t memory_size;
	int wake_daemon, wake_program; /* eventfds */
	struct event *wake_event;

	/* socket */
	struct private_ring *from_socket, *to_socket;
	struct ring_writer pump_in;
	struct ring_reader pump_out;
	struct event *write_event, *pump_event;
};

/* session_memory.c: makes the memory, says in `welcome` where the rings lie, attaches the hop to them. The descriptor is to be
 * handed over and closed. */
int session_share_memory(struct session *session, struct frame_welcome *welcome, int *memory_fd);

/* session_pump.c: attaches the hop to rings of our own. */
int session_pump_socket(struct session *session);
/* An event callback for the socket, from then on. */
void session_on_pump(int fd, short what, void *userdata);

#endif
